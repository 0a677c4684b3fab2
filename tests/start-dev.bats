#!/usr/bin/env bats
# start-dev: development only, and a build that fails says why. What runs then is the image's stage `dev`, in the foreground.

# shellcheck disable=SC2030,SC2031  # each test is a process of its own

setup() {
  load helper
  load stack
  scratch
  use_host
  some_secrets
}

teardown() {
  [ -z "${DEV:-}" ] || kill -KILL -- "-$DEV" || true
  case $KEEL_ENV in bats-*) down ;; esac
}

@test "start-dev: any other environment: exit 78, nothing is built" {
  export KEEL_ENV=staging
  some_secrets
  set_env KEEL_DOMAIN=staging.test
  keel start-dev
  exits 78
  is stdout "$output" ""
  is stderr "$stderr" "start-dev: error: staging: hot reload is for development
start-dev: hint: make dev ENV=development"
}

@test "start-dev: an application without a stage for it: exit 1, what the build said, nothing runs" {
  mkdir app
  printf 'FROM scratch\nCOPY Dockerfile /\n' >app/Dockerfile
  set_env "KEEL_APP_DIR=$TREE/app"
  keel start-dev
  exits 1
  is stdout "$output" ""
  has "start-dev: error: $TREE/app: the dev stage does not build" "$stderr"
  has dev "$stderr"
  has "start-dev: hint: it needs a stage named dev" "$stderr"
}

# answers PORT TEXT: wait until the application that start-dev runs answers with this text; 120 s at most.
answers() {
  local end=$((SECONDS + 120)) said
  until said=$(python3 "$CHECKOUT/tests/visitor.py" "http://127.0.0.1:$1/version" 2>&1) && [[ "$said" == *"$2"* ]]; do
    [ "$SECONDS" -lt "$end" ] || { printf 'answers %s\n' "$said"; cat said; return 1; }
    sleep 0.1
  done
}

@test "start-dev: a source that is changed is served, without another start; Ctrl-C ends it, and nothing of it is left after stop-base" {
  local http _
  stack dev
  read -r http _ < <(free_ports)
  sed -i "s/127.0.0.1:3000:/127.0.0.1:$http:/" "compose/$KEEL_ENV.yml"
  mkdir app
  tar -C "$CHECKOUT/examples/events" --exclude=node_modules -cf - . | tar -C app -xf -
  set_env "KEEL_APP_DIR=$TREE/app"
  up
  set -m  # a process group of its own, and SIGINT not ignored, as at a terminal
  bin/start-dev >said 2>&1 3>&- </dev/null &
  DEV=$!
  set +m
  answers "$http" '"name":"events"'
  sed -i 's/return { name, version,/return { name: name.toUpperCase(), version,/' app/src/health.ts
  answers "$http" '"name":"EVENTS"'
  kill -INT -- "-$DEV"
  wait "$DEV" || true
  DEV=
  is running "$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=app-dev)" ""
  bin/stop-base -q
  docker image rm "keel-$KEEL_ENV-dev" >/dev/null
  is left "$(docker ps -aq --filter "label=keel.env=$KEEL_ENV")" ""
}
