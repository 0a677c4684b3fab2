#!/usr/bin/env bats
# pull-image: images that were built elsewhere, by digest only.

NOWHERE=sha256:0000000000000000000000000000000000000000000000000000000000000000

setup_file() {
  load helper
  load stack
  stack pull
}

setup() {
  load helper
  load registry
  load stack
  cd "$TREE" || return
}

teardown() {
  [ -z "${SERVER:-}" ] || kill "$SERVER"
  no_registry
}

teardown_file() {
  load helper
  load stack
  down
}

@test "pull-image: an image that is here is passed on without asking anybody" {
  local id
  fetched "$(image_of NODE)"
  id=$(docker image inspect -f '{{.Id}}' "$(image_of NODE)")
  keel pull-image "registry.invalid/node@$id"
  exits 0
  is stdout "$output" "registry.invalid/node@$id"
  is stderr "$stderr" ""
  run --separate-stderr bin/pull-image <<<"registry.invalid/node@$id"
  is stdout "$output" "registry.invalid/node@$id"
}

@test "pull-image: not by digest, or a malformed one: exit 65" {
  for handle in events events:latest "events@${NOWHERE}0" "events@sha256:XYZ" "@$NOWHERE" "two words@$NOWHERE"; do
    keel pull-image "$handle"
    exits 65
    is stdout "$output" ""
    is stderr "$stderr" "pull-image: error: $handle: not an image by digest
pull-image: hint: name it NAME@sha256:DIGEST: a tag may be another image tomorrow"
  done
}

@test "pull-image: a registry that does not answer: exit 69" {
  keel pull-image "127.0.0.1:1/events@$NOWHERE"
  exits 69
  is stdout "$output" ""
  has "pull-image: pulling 127.0.0.1:1/events@$NOWHERE" "$stderr"
  has "pull-image: error: 127.0.0.1:1/events@$NOWHERE: cannot be pulled: " "$stderr"
  has "pull-image: hint: does the registry run, and does the network of the engine's host reach it?" "$stderr"
  keel pull-image "no-such-host.invalid/events@$NOWHERE"
  exits 69
  has "pull-image: hint: is the registry's name right, and does the engine's host resolve it?" "$stderr"
}

@test "pull-image: an image that does not exist: exit 1" {
  local port
  coproc REGISTRY { exec python3 "$CHECKOUT/tests/registry.py" 3>&-; }
  SERVER=$REGISTRY_PID
  read -r port <&"${REGISTRY[0]}"
  keel pull-image "127.0.0.1:$port/events@$NOWHERE"
  exits 1
  is stdout "$output" ""
  has "pull-image: error: 127.0.0.1:$port/events@$NOWHERE: cannot be pulled: " "$stderr"
  has "pull-image: hint: is the digest right, and are you logged in to the registry?" "$stderr"
}

@test "pull-image: the first bad one ends it; those before it are printed" {
  local id
  fetched "$(image_of NODE)"
  id=$(docker image inspect -f '{{.Id}}' "$(image_of NODE)")
  keel pull-image "node@$id" events:latest "node@$id"
  exits 65
  is stdout "$output" "node@$id"
}

@test "pull-image: --dry-run pulls nothing" {
  keel pull-image --dry-run "127.0.0.1:1/events@$NOWHERE"
  exits 0
  rehearsed
  is stdout "$output" "127.0.0.1:1/events@$NOWHERE"
  has "pull-image: would: docker pull --quiet 127.0.0.1:1/events@$NOWHERE" "$stderr"
}

@test "pull-image: not enough disk, or no engine: nothing is pulled" {
  wants_disk pull-image "127.0.0.1:1/events@$NOWHERE"
  wants_an_engine pull-image "127.0.0.1:1/events@$NOWHERE"
}

@test "pull-image: what build-image pushed to KEEL_REGISTRY comes back by its handle once it is gone from here, and is deployed" {
  local handle id at
  a_registry
  set_env "KEEL_REGISTRY=$at" KEEL_APP_DIR=app
  mkdir app
  tar -C "$CHECKOUT/examples/events" --exclude=node_modules -cf - . | tar -C app -xf -
  echo "LABEL of=$KEEL_ENV" >>app/Dockerfile  # an image that nobody else has
  keel build-image
  exits 0
  handle=$output
  [[ "$handle" =~ ^$at/keel-$KEEL_ENV@sha256:[0-9a-f]{64}$ ]]
  id=$(docker image inspect -f '{{.Id}}' "$handle")
  docker image rm --force "$id" >/dev/null
  up
  keel start-release "$handle"
  exits 1
  has "start-release: error: $handle: there is no such image on this host" "$stderr"
  keel pull-image "$handle"
  exits 0
  is stdout "$output" "$handle"
  has "pull-image: pulling $handle" "$stderr"
  is id "$(docker image inspect -f '{{.Id}}' "$handle")" "$id"
  release "$handle" | bin/smoke-test -q | bin/swap-upstream -q >served
  run public /version
  has "\"release\":\"$(cat served)\"" "$output"
  bin/stop-base -q
  docker image rm --force "$id" >/dev/null
}
