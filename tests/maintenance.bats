#!/usr/bin/env bats
# maintenance: the page, and back.

setup_file() {
  load helper
  load stack
  stack maintenance
  up
  IMAGE=$(built)
  export IMAGE
  A=$(release "$IMAGE")
  bin/swap-upstream -q "$A"
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

@test "maintenance: on or off, nothing else" {
  keel maintenance
  exits 2
  keel maintenance maybe
  exits 2
  is stdout "$output" ""
  has "'maybe' is not one of 'on', 'off'" "$stderr"
}

@test "maintenance: no proxy, no engine, no lock, a dry run: nothing changes" {
  wants_its_proxy maintenance on
  wants_an_engine maintenance on
  refuses_a_lock maintenance on
  keel maintenance --dry-run on
  exits 0
  rehearsed
  is stdout "$output" ""
  has "maintenance: would: load what it lacks into nginx, switch, and prove generation " "$stderr"
  run public /version
  has $'\n200' "$output"
}

@test "maintenance: on: everybody gets the page, 503, with Retry-After; readiness of the proxy stays" {
  keel maintenance on
  exits 0
  is stdout "$output" ""
  has "maintenance: live: " "$stderr"
  has "maintenance page on" "$stderr"
  run public /version
  has $'\n503' "$output"
  run public / --head
  [[ "${output,,}" == *"retry-after: "* ]]
  run public /__keel/generation
  has $'\n200' "$output"
  keel status
  has "MAINTENANCE  the page is on: maintenance off" "$output"
}

@test "maintenance: on twice is on" {
  keel maintenance on
  exits 0
  is stderr "$stderr" "maintenance: already on"
}

@test "maintenance: off: it is served again" {
  keel maintenance -q off
  exits 0
  is stdout "$output" ""
  is stderr "$stderr" ""
  run public /version
  has $'\n200' "$output"
  has '"command": "maintenance", "wanted": "off"' "$(tail -n 1 "state/$KEEL_ENV/history")"
  keel maintenance off
  is stderr "$stderr" "maintenance: already off"
}
