#!/usr/bin/env bats
# smoke-test: the critical journeys, before any user.

setup_file() {
  load helper
  load stack
  stack smoke
  up
  IMAGE=$(built)
  export IMAGE
  A=$(release "$IMAGE")
  export A
}

setup() {
  load helper
  load stack
  cd "$TREE" || return
}

teardown_file() {
  load helper
  load stack
  down
}

@test "smoke-test: a release whose journeys go well is passed on" {
  run --separate-stderr bin/smoke-test <<<"$A"
  exits 0
  is stdout "$output" "$A"
  has "smoke-test: $A: keel-$KEEL_ENV-blue-app-1: smoke test passed" "$stderr"
  has "\"command\": \"smoke-test\", \"release\": \"$A\", \"passed\": true" "$(tail -n 1 "state/$KEEL_ENV/history")"
}

@test "smoke-test: -q is silent when all is well" {
  keel smoke-test -q "$A"
  exits 0
  is stdout "$output" "$A"
  is stderr "$stderr" ""
}

@test "smoke-test: the command knows the replica's address and the release" {
  # And an http_proxy of the shell, which has no way to a container, is not in its way.
  # shellcheck disable=SC2016
  local asks='python3 -c "import os, urllib.request as u; print(u.urlopen(os.environ[\"KEEL_URL\"] + \"/version\").read())"'
  http_proxy=http://127.0.0.1:9 KEEL_SMOKE_COMMAND="sh -c 'test \"\$KEEL_RELEASE\" = $A && $asks | grep -q $A'" keel smoke-test "$A"
  exits 0
}

@test "smoke-test: a journey that fails: exit 1, what it said, the container's last lines; the release is not passed on" {
  KEEL_SMOKE_COMMAND="sh -c 'echo GET /events answered 500 >&2; exit 3'" keel smoke-test "$A"
  exits 1
  is stdout "$output" ""
  has "smoke-test: error: $A: keel-$KEEL_ENV-blue-app-1: smoke test failed (3)
smoke-test: GET /events answered 500
smoke-test: last " "$stderr"
  has '"passed": false' "$(tail -n 1 "state/$KEEL_ENV/history")"
}

@test "smoke-test: a program or an application's folder that is not there: exit 78, nothing is noted" {
  local before
  before=$(cat "state/$KEEL_ENV/history")
  for program in no-such-program ./Dockerfile; do
    KEEL_SMOKE_COMMAND=$program keel smoke-test "$A"
    exits 78
    is stdout "$output" ""
    program=${program/#./$CHECKOUT/examples/events}
    is stderr "$stderr" "smoke-test: error: KEEL_SMOKE_COMMAND: $program: there is no such program, or it is not executable
smoke-test: hint: edit compose/$KEEL_ENV.env; a path is relative to KEEL_APP_DIR"
  done
  KEEL_APP_DIR=$TREE/none keel smoke-test "$A"
  exits 78
  is stderr "$stderr" "smoke-test: error: KEEL_APP_DIR: there is no folder $TREE/none
smoke-test: hint: edit compose/$KEEL_ENV.env"
  is history "$(cat "state/$KEEL_ENV/history")" "$before"
}

@test "smoke-test: no release: 65, 1; no engine: 69" {
  wants_a_release smoke-test
  wants_an_engine smoke-test "$A"
}

@test "smoke-test: --dry-run passes on and tries nothing" {
  KEEL_SMOKE_COMMAND="touch tried" keel smoke-test --dry-run "$A"
  exits 0
  rehearsed
  is stdout "$output" "$A"
  [ ! -e tried ]
}
