#!/usr/bin/env bats
# build-image: an image by digest on stdout, and no secret in it.

setup_file() {
  load helper
  load stack
  stack build
}

# A small application of its own for each test.
setup() {
  load helper
  load stack
  cd "$TREE" || return
  APP=$BATS_TEST_TMPDIR/app
  mkdir "$APP"
  cat >"$APP/Dockerfile" <<'END'
ARG NODE_IMAGE
FROM ${NODE_IMAGE}
COPY . /app
HEALTHCHECK CMD ["true"]
ARG REVISION
LABEL org.opencontainers.image.revision=${REVISION}
END
  echo hello >"$APP/hello.txt"
  set_env "KEEL_APP_DIR=$APP"
}

teardown_file() {
  load helper
  load stack
  down
}

@test "build-image: prints the image that is then there, and says what it does" {
  keel build-image
  exits 0
  [[ "$output" =~ ^keel-$KEEL_ENV@sha256:[0-9a-f]{64}$ ]]
  is stderr "$stderr" "build-image: building keel-$KEEL_ENV:unversioned from $APP"
  docker image inspect "${output#*@}" >/dev/null
  has "\"command\": \"build-image\", \"image\": \"$output\"" "$(tail -n 1 "state/$KEEL_ENV/history")"
}

@test "build-image: -q is silent" {
  keel build-image -q
  exits 0
  is stderr "$stderr" ""
}

@test "build-image: the label and the tag are the commit; the same commit is the same image" {
  git -C "$APP" init -q
  git -C "$APP" add .
  git -C "$APP" -c user.name=t -c user.email=t@example.org commit -q -m one
  keel build-image
  exits 0
  local first=$output commit
  commit=$(git -C "$APP" rev-parse HEAD)
  is stderr "$stderr" "build-image: building keel-$KEEL_ENV:${commit:0:12} from $APP"
  is revision "$(docker image inspect -f '{{index .Config.Labels "org.opencontainers.image.revision"}}' "${first#*@}")" "$commit"
  keel build-image
  is stdout "$output" "$first"
  echo more >>"$APP/hello.txt"
  keel build-image
  has "${commit:0:12}-dirty from" "$stderr"
  [ "$output" != "$first" ]
}

@test "build-image: files that look like secrets: all named, exit 1, nothing is built" {
  mkdir "$APP/config"
  echo PASSWORD=x >"$APP/.env"
  echo x >"$APP/config/server.key"
  printf -- '-----BEGIN PRIVATE KEY-----\n' >"$APP/notes.txt"
  echo example >"$APP/.env.example"
  keel build-image
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "build-image: error: $APP/.env: looks like a secret and would enter the image's build context
build-image: error: $APP/config/server.key: looks like a secret and would enter the image's build context
build-image: error: $APP/notes.txt: looks like a secret and would enter the image's build context
build-image: hint: move it away, or add it to $APP/.dockerignore"
}

@test "build-image: a secret that .dockerignore keeps out is no matter" {
  echo PASSWORD=x >"$APP/.env"
  echo .env >"$APP/.dockerignore"
  keel build-image -q
  exits 0
  run docker run --rm "${output#*@}" ls -a /app
  hasnt "$output" "$(printf '\n.env\n')"
  has hello.txt "$output"
}

@test "build-image: a build that fails: exit 1, the last lines of it, what to try" {
  echo 'RUN echo the reason >&2 && false' >>"$APP/Dockerfile"
  keel build-image
  exits 1
  is stdout "$output" ""
  has "build-image: error: $APP: does not build" "$stderr"
  has "the reason" "$stderr"
  has "build-image: hint: try it alone: docker buildx build $APP" "$stderr"
}

@test "build-image: --dry-run builds nothing and still prints a handle for the rest of the pipe" {
  KEEL_APP_NAME=never-built keel build-image --dry-run
  exits 0
  rehearsed
  is stdout "$output" "never-built@sha256:$(printf '%064d' 0)"
  has "build-image: would: docker buildx build " "$stderr"
  is images "$(docker image ls -q never-built)" ""
}

@test "build-image: an application folder that is not there: exit 78, nothing is built" {
  set_env KEEL_APP_DIR=no/such/folder
  keel build-image
  exits 78
  is stdout "$output" ""
  is stderr "$stderr" "build-image: error: KEEL_APP_DIR: there is no folder $TREE/no/such/folder
build-image: hint: edit compose/$KEEL_ENV.env"
}

@test "build-image: not enough disk, or no engine: nothing is built" {
  wants_disk build-image
  wants_an_engine build-image
}

@test "build-image: the sample application: small, without root, labels, health check and nothing of its development" {
  set_env "KEEL_APP_DIR=$CHECKOUT/examples/events"
  keel build-image -q
  exits 0
  local image=${output#*@} node
  node=$(image_of NODE)
  fetched "$node"
  [ "$(docker image inspect -f '{{.Size}}' "$image")" -le $(($(docker image inspect -f '{{.Size}}' "$node") + 60000000)) ]
  is user "$(docker image inspect -f '{{.Config.User}}' "$image")" 1000:1000
  has healthcheck.js "$(docker image inspect -f '{{.Config.Healthcheck.Test}}' "$image")"
  is command "$(docker image inspect -f '{{json .Config.Cmd}}' "$image")" '["node","dist/main.js"]'
  for label in revision version created; do
    [ -n "$(docker image inspect -f "{{index .Config.Labels \"org.opencontainers.image.$label\"}}" "$image")" ]
  done
  run docker run --rm "$image" sh -c 'ls node_modules; ls -a'
  for name in typescript eslint src test .env; do hasnt $'\n'"$name"$'\n' "$output"; done
}
