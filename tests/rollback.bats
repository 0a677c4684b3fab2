#!/usr/bin/env bats
# rollback: back to the standby, or a clear no.

setup_file() {
  load helper
  load stack
  stack rollback
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

serving() { public /version | sed -n 's/.*"release":"\([^"]*\)".*/\1/p'; }

@test "rollback: nothing serves yet: there is no standby" {
  keel rollback
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "rollback: error: $KEEL_ENV: there is no standby to roll back to
rollback: hint: releases lists what was; make deploy IMAGE=… deploys it again"
}

@test "rollback: only one release was ever deployed: there is no standby" {
  bin/swap-upstream -q "$A"
  keel rollback
  exits 1
  is stdout "$output" ""
  has "there is no standby to roll back to" "$stderr"
  is serving "$(serving)" "$A"
}

@test "rollback: the standby serves when it returns; again goes forward" {
  B=$(release "$IMAGE")
  echo "$B" >B
  bin/swap-upstream -q "$B"
  is serving "$(serving)" "$B"
  keel rollback
  exits 0
  is stdout "$output" "$A"
  has "rollback: live: $A (blue) 100 %, $B (green) 0 % (proven in " "$stderr"
  hasnt drain "$stderr"
  is serving "$(serving)" "$A"
  keel rollback -q --drain
  exits 0
  is stdout "$output" "$B"
  is stderr "$stderr" ""
  is serving "$(serving)" "$B"
}

@test "rollback: two releases share the traffic: back to the one that last had all of it, whatever its share" {
  for share in 20 70; do
    bin/swap-upstream -q --share $share "$A"
    keel rollback
    exits 0
    is stdout "$output" "$(cat B)"
    has "rollback: live: $(cat B) (green) 100 %, $A (blue) 0 % (proven in " "$stderr"
    is serving "$(serving)" "$(cat B)"
  done
}

@test "rollback: --dry-run names the standby and changes nothing" {
  keel rollback --dry-run
  exits 0
  rehearsed
  is stdout "$output" "$A"
  has "rollback: would: " "$stderr"
  is serving "$(serving)" "$(cat B)"
}

@test "rollback: a lock that is held, no engine: nothing changes" {
  refuses_a_lock rollback
  wants_an_engine rollback
  is serving "$(serving)" "$(cat B)"
}

@test "rollback: a standby that is not healthy: exit 1 says why, nothing changes" {
  docker pause "$(replicas "$A")" >/dev/null
  keel rollback
  exits 1
  is stdout "$output" ""
  has "rollback: error: $A: the standby is not healthy: keel-$KEEL_ENV-blue-app-1: " "$stderr"
  docker unpause "$(replicas "$A")" >/dev/null
  docker stop "$(replicas "$A")" >/dev/null
  keel rollback
  exits 1
  has "keel-$KEEL_ENV-blue-app-1: exited, exit code 0" "$stderr"
  is serving "$(serving)" "$(cat B)"
}
