#!/usr/bin/env bats
# stop-release: never one that serves.

setup_file() {
  load helper
  load stack
  stack stop
  up
  IMAGE=$(built)
  export IMAGE
  A=$(release "$IMAGE")
  export A
  bin/swap-upstream -q "$A" >/dev/null
  B=$(release "$IMAGE")
  export B
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

@test "stop-release: no release 65, 1; one that serves: exit 1, it goes on" {
  wants_a_release stop-release
  keel stop-release "$A"
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "stop-release: error: $A: serves 100 % of the traffic
stop-release: hint: move the traffic first: swap-upstream OTHER-RELEASE, or deploy"
  is containers "$(replicas | wc -l)" 2
}

@test "stop-release: --dry-run, a lock that is held, no engine: nothing is stopped" {
  keel stop-release --dry-run "$B"
  exits 0
  rehearsed
  is stdout "$output" "$B"
  has "stop-release: would: stop and remove " "$stderr"
  refuses_a_lock stop-release "$B"
  wants_an_engine stop-release "$B"
  is containers "$(replicas "$B" | wc -l)" 1
}

@test "stop-release: a grace that is longer than the engine's other answers may take is waited for" {
  local id
  id=$(docker run --detach --stop-timeout 16 --label "keel.env=$KEEL_ENV" "$(image_of NODE)" \
    sh -c 'trap "" TERM; while :; do sleep 1; done')
  "$CHECKOUT/.venv/bin/python" - "$id" <<'END'
import sys
sys.path.insert(0, "lib")
from keel import engine, settings
settings.load()
engine.client().timeout = 5
assert engine.stop([sys.argv[1]]) == {sys.argv[1]: 137}
END
}

@test "stop-release: the standby: its containers are gone, and its place in the traffic file" {
  bin/swap-upstream -q "$B"
  run --separate-stderr bin/stop-release <<<"$A"
  exits 0
  is stdout "$output" "$A"
  is containers "$(replicas "$A")" ""
  hasnt "$A" "$(cat "state/$KEEL_ENV/proxy/traffic.conf")"
  has "\"command\": \"stop-release\", \"release\": \"$A\"" "$(tail -n 1 "state/$KEEL_ENV/history")"
  run public /version
  has "\"release\":\"$B\"" "$output"
  keel rollback
  exits 1
}

@test "stop-release: again: it has no containers" {
  keel stop-release "$A"
  exits 1
  is stdout "$output" ""
  has "stop-release: error: $A: has no containers" "$stderr"
  has "stop-release: hint: deploy its image again: make deploy ENV=$KEEL_ENV IMAGE=$IMAGE" "$stderr"
}

@test "stop-release: a release that never had traffic; -q is silent" {
  local c
  c=$(bin/start-release -q "$IMAGE")
  keel stop-release -q "$c"
  exits 0
  is stdout "$output" "$c"
  is stderr "$stderr" ""
  is containers "$(replicas "$c")" ""
}
