# For the .bats files that want an environment of their own on the real engine: unused name and ports, one for each file.
#
#   setup_file()    { load helper; load stack; stack NAME; up; IMAGE=$(built); export IMAGE; }   # `up` and `built` where they are wanted
#   setup()         { load helper; load stack; cd "$TREE" || return; }
#   teardown_file() { load helper; load stack; down; }
# shellcheck disable=SC2154  # bats sets output, stderr and status

# stack NAME: a scratch checkout with settings, secrets and a certificate that are well; nothing runs yet.
stack() {
  local http https
  BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR scratch
  use_host
  cp -R "$CHECKOUT/proxy" "$CHECKOUT/Makefile" "$TREE/"
  export KEEL_ENV=bats-$1-$$
  # For the docker client of the tests themselves; the commands find it in var/host.env.
  if [ -n "$(host_value DOCKER_HOST)" ]; then DOCKER_HOST=$(host_value DOCKER_HOST) && export DOCKER_HOST; fi
  if [ -n "$(host_value DOCKER_CONFIG)" ]; then DOCKER_CONFIG=$(host_value DOCKER_CONFIG) && export DOCKER_CONFIG; fi
  PATH=$(host_value KEEL_TOOLS):$PATH
  read -r http https < <(free_ports)
  mv "compose/development.yml" "compose/$KEEL_ENV.yml"
  cat >"compose/$KEEL_ENV.env" <<END
KEEL_DOMAIN=events.test
KEEL_HTTP_PORT=$http
KEEL_HTTPS_PORT=$https
KEEL_STATE=state
KEEL_APP_DIR=$CHECKOUT/examples/events
KEEL_APP_NAME=keel-$KEEL_ENV
KEEL_REPLICAS=1
KEEL_HEALTH_PASSES=1
KEEL_SHUTDOWN_TIMEOUT=5s
KEEL_STOP_GRACE=8s
KEEL_DRAIN_TIMEOUT=10s
KEEL_RATE_LIMIT=0
SHUTDOWN_LAMEDUCK=100ms
END
  some_secrets
  bin/dev-cert -q
}

# Two ports that nobody has.
free_ports() {
  python3 -c 'import socket; both = [socket.create_server(("", 0)) for _ in "12"]; print(*(s.getsockname()[1] for s in both))'
}

# image_of NAME: what stands for KEEL_IMAGE_NAME on this machine.
image_of() {
  local pins
  pins=$(host_value KEEL_IMAGES)
  sed -n "s/^KEEL_IMAGE_$1=//p" "${pins:-compose/images.env}"
}

# fetched IMAGE: it is on this machine, wherever from.
fetched() { docker image inspect "$1" >/dev/null 2>&1 || docker pull --quiet "$1" >/dev/null; }

up() { bin/start-base -q; }

# The sample application's image, from the build cache where it was built before.
built() { bin/build-image -q; }

# release IMAGE: a release of it that is ready, without traffic.
release() { bin/migrate -q "$1" | bin/start-release -q | bin/health-wait -q; }

# variant IMAGE LINE…: the same image with further lines of a Dockerfile; its handle.
variant() {
  local tag="keel-$KEEL_ENV:variant" from=$1
  shift
  docker tag "${from#*@}" "$tag-base"
  image "$tag-$RANDOM" < <(printf '%s\n' "FROM $tag-base" "$@") | sed "s/^/keel-$KEEL_ENV@/"
}

# public PATH [--head|--post]: what a visitor gets (its headers alone, or for a POST of stdin), with the status on a last line of its own.
public() {
  python3 "$CHECKOUT/tests/visitor.py" --ca secrets/tls/ca.pem --at "$(port)" "${@:2}" "https://events.test$1"
}

port() { sed -n 's/^KEEL_HTTPS_PORT=//p' "compose/$KEEL_ENV.env"; }

# replicas [RELEASE]: ids of the application's containers of this environment.
replicas() {
  docker ps -aq --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=app ${1:+--filter "label=keel.release=$1"}
}

# refuses_a_lock NAME [ARG…]: while somebody else holds the lock it must say who, exit 75 and do nothing.
refuses_a_lock() {
  local go=$BATS_TEST_TMPDIR/go holder
  mkfifo "$go" "$go.held"
  # shellcheck disable=SC2016
  bin/with-lock "a long job" -- bash -c 'echo >"$0.held"; read -r _ <"$0"' "$go" 3>&- &
  holder=$!
  read -r _ <"$go.held"
  keel "$@"
  echo >"$go"
  wait "$holder"
  exits 75
  is stdout "$output" ""
  has "$1: error: $KEEL_ENV is locked by pid $holder: a long job since 20" "$stderr"
  has "$1: hint: wait for it, or stop it: the lock goes with its processes" "$stderr"
}

# wants_an_engine NAME [ARG…]: where none can be reached it must say so and exit 69.
wants_an_engine() {
  DOCKER_HOST=unix:///no/such.sock keel "$@"
  exits 69
  is stdout "$output" ""
  has "$1: error: the engine does not answer: " "$stderr"
  has "$1: hint: is the engine running? " "$stderr"
}

# wants_disk NAME [ARG…]: with less free disk than is asked for it must say so and exit 1.
wants_disk() {
  KEEL_MIN_FREE_DISK=900000t keel "$@"
  exits 1
  is stdout "$output" ""
  has "$1: error: not enough disk for the state: " "$stderr"
  has "$1: hint: make room: " "$stderr"
}

# wants_its_proxy NAME [ARG…]: with a proxy that does not run it must say so and exit 69; the file has started nginx.
wants_its_proxy() {
  KEEL_PROXY=caddy keel "$@"
  exits 69
  is stdout "$output" ""
  is stderr "$stderr" "$1: error: the proxy (keel-$KEEL_ENV, caddy) does not exist
$1: hint: make up ENV=$KEEL_ENV"
}

# wants_a_release NAME: a malformed id is 65, one that never was is 1, one without containers is 1.
wants_a_release() {
  keel "$1" not-an-id
  exits 65
  is stdout "$output" ""
  has "'not-an-id' is not a release id" "$stderr"
  keel "$1" 20010101T000000Z-0000000
  exits 1
  is stdout "$output" ""
  has "20010101T000000Z-0000000: $KEEL_ENV never had this release" "$stderr"
  mkdir -p "state/$KEEL_ENV/releases"
  local past=20020202T000000Z-0000000
  printf '%s\n' id=$past colour=blue replicas=1 image=events@sha256:0 >"state/$KEEL_ENV/releases/$past"
  keel "$1" $past
  rm "state/$KEEL_ENV/releases/$past"
  exits 1
  is stdout "$output" ""
  has "$past: has no containers: it was stopped or replaced on blue" "$stderr"
}

# Everything that the file made: containers, networks, volumes, images.
down() {
  local image
  cd "$TREE" || return
  bin/stop-base -q --destroy "$KEEL_ENV"
  docker ps -aq --filter "label=keel.env=$KEEL_ENV" | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
  docker image ls --format '{{.Repository}}:{{.Tag}}' "keel-$KEEL_ENV" | while read -r image; do docker image rm "$image" >/dev/null; done
}
