#!/usr/bin/env bats
# logs: what a release or a service writes.

setup_file() {
  load helper
  load stack
  stack logs
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

@test "logs: nothing serves yet" {
  keel logs
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "logs: error: $KEEL_ENV: nothing serves yet
logs: hint: make deploy ENV=$KEEL_ENV"
}

@test "logs: a release" {
  keel logs "$A"
  exits 0
  has '"message":"ready"' "$output"
  has "app-1" "$output"
  is stderr "$stderr" ""
}

@test "logs: without a name, the release that serves; --tail" {
  bin/swap-upstream -q "$A"
  keel logs --tail 1
  exits 0
  is lines "$(wc -l <<<"$output")" 1
}

@test "logs: a reader that left: an error, silent" {
  nobody_reads logs "$A"
  exits 255 # what docker makes of a plugin that SIGPIPE ended
  is stderr "$stderr" ""
}

@test "logs: the base services" {
  keel logs postgres
  exits 0
  has "database system is ready to accept connections" "$output"
  keel logs redis
  exits 0
  has "Ready to accept connections" "$output"
  keel logs proxy
  exits 0
  is stderr "$stderr" ""
}

@test "logs: the secrets file is lost: they are shown all the same" {
  mv "secrets/$KEEL_ENV.env" aside
  keel logs redis
  is redis "$status" 0
  has "Ready to accept connections" "$output"
  keel logs "$A"
  mv aside "secrets/$KEEL_ENV.env"
  exits 0
  has '"message":"ready"' "$output"
}

@test "logs: the proxy's access log" {
  # It is written once a second.
  for _ in {1..100}; do
    public /asked-by-us >/dev/null
    keel logs --tail 5 access
    [[ "$output" != *asked-by-us* ]] || return 0
  done
  has asked-by-us "$output"
}

@test "logs: the access log of Caddy is a file beside the traffic file" {
  KEEL_PROXY=caddy keel logs access
  exits 1
  is stdout "$output" ""
  has "proxy/access.log: not there" "$stderr"
  printf '{"n":%s}\n' 1 2 3 >"state/$KEEL_ENV/proxy/access.log"
  KEEL_PROXY=caddy keel logs --tail 2 access
  exits 0
  is stdout "$output" '{"n":2}
{"n":3}'
  KEEL_PROXY=caddy nobody_reads logs access
  exits 141
  is stderr "$stderr" ""
}

@test "logs: another state folder than what runs: services with a warning; releases, which it cannot know, are 78 as in status" {
  local what said="$KEEL_ENV runs on this host with its state in $TREE/state, not in $TREE/elsewhere"
  local hint="KEEL_STATE=$TREE/state is meant, or give this environment another name (compose/NAME.env and compose/NAME.yml)"
  export KEEL_STATE=elsewhere
  keel logs redis
  exits 0
  has "Ready to accept connections" "$output"
  is stderr "$stderr" "logs: warning: $said; $hint"
  for what in "" "$A"; do
    # shellcheck disable=SC2086
    keel logs $what
    exits 78
    is stdout "$output" ""
    is stderr "$stderr" "logs: error: $said
logs: hint: $hint"
  done
  export KEEL_PROXY=caddy
  keel logs access
  exits 78
  has "logs: error: $said" "$stderr"
  mkdir -p "elsewhere/$KEEL_ENV/proxy"
  echo of-another-time >"elsewhere/$KEEL_ENV/proxy/access.log"
  keel logs access
  exits 0
  is stdout "$output" of-another-time
  is stderr "$stderr" "logs: warning: $said; $hint"
  DOCKER_HOST=unix:///no/such.sock keel logs access
  rm -r elsewhere
  exits 0
  is stdout "$output" of-another-time
  is stderr "$stderr" ""
}

@test "logs: --follow goes on until it is interrupted" {
  bin/logs --follow --tail 0 proxy >followed 2>&1 3>&- &
  local follower=$! asked=0
  until grep -q followed-by-us followed; do
    public "/followed-by-us" >/dev/null
    asked=$((asked + 1))
    [ "$asked" -lt 500 ]
  done
  kill -INT "$follower" 2>/dev/null || kill "$follower"
  wait "$follower" || true
}

@test "logs: no release 65, 1; no engine 69" {
  wants_a_release logs
  wants_an_engine logs "$A"
  keel logs one two
  exits 2
}
