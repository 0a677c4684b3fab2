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

# served: the fingerprint of the certificate that a new connection gets; there: of the one that lies in the file.
served() {
  openssl s_client -connect "127.0.0.1:$(port)" -servername events.test </dev/null 2>/dev/null | openssl x509 -noout -fingerprint
}

there() { openssl x509 -in "secrets/tls/$KEEL_ENV/cert.pem" -noout -fingerprint; }

# A certificate that was copied half; mended: it is whole again, and another one.
half() { cp "secrets/tls/$KEEL_ENV/cert.pem" aside.pem && head -c 300 aside.pem >"secrets/tls/$KEEL_ENV/cert.pem"; }

mended() { rm aside.pem "secrets/tls/$KEEL_ENV/cert.pem" && bin/dev-cert -q; }

teardown() {
  [ ! -e "$TREE/aside.pem" ] || mv "$TREE/aside.pem" "$TREE/secrets/tls/$KEEL_ENV/cert.pem"
}

@test "rollback, maintenance, migrate, start-release: nginx: a broken certificate is named; a deploy stops before it touches the standby" {
  local before standby
  docker start "$(replicas "$A")" >/dev/null
  bin/health-wait -q "$A"
  half
  before=$(cat "state/$KEEL_ENV/proxy/traffic.conf")
  standby=$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=app | sort)
  for command in rollback "maintenance on"; do
    # shellcheck disable=SC2086
    keel $command
    exits 1
    is stdout "$output" ""
    has "${command%% *}: error: nginx refuses generation " "$stderr"
    has "${command%% *}: error: $TREE/secrets/tls/$KEEL_ENV/cert.pem: " "$stderr"
    has "${command%% *}: error: nothing was changed" "$stderr"
    has "hint: put a whole certificate and its key into secrets/tls/$KEEL_ENV/; doctor says whether they are a pair" "$stderr"
    hasnt "compose/example.env" "$stderr"
  done
  for command in migrate start-release; do
    keel "$command" "$IMAGE"
    exits 78
    is stdout "$output" ""
    has "$command: error: $TREE/secrets/tls/$KEEL_ENV/cert.pem: " "$stderr"
    has "$command: error: nginx would refuse the switch at the end; nothing was changed" "$stderr"
  done
  is containers "$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=app | sort)" "$standby"
  is "traffic file" "$(cat "state/$KEEL_ENV/proxy/traffic.conf")" "$before"
  mended
  keel rollback
  exits 0
  is served "$(served)" "$(there)"
}

@test "rollback, migrate: Caddy: a broken certificate: a warning, the one before is served; mended, the next switch loads it" {
  local was
  set_env KEEL_PROXY=caddy
  up
  was=$(served)
  half
  keel migrate "$IMAGE"
  exits 0
  keel rollback -q
  exits 0
  is serving "$(serving)" "$output"
  has "rollback: warning: caddy cannot load the certificate and goes on with the one that it has: " "$stderr"
  is served "$(served)" "$was"
  mended
  keel rollback -q
  exits 0
  is stderr "$stderr" ""
  is served "$(served)" "$(there)"
}

@test "rollback, migrate: Caddy: a broken certificate when other settings must be loaded: refused before any traffic moves" {
  local before
  before=$(cat "state/$KEEL_ENV/proxy/traffic.caddy")
  set_env KEEL_BODY_LIMIT=1m
  half
  keel rollback
  exits 1
  has "rollback: error: caddy refuses generation " "$stderr"
  has "rollback: error: $TREE/secrets/tls/$KEEL_ENV/cert.pem: " "$stderr"
  has "rollback: error: nothing was changed" "$stderr"
  hasnt written "$stderr"
  is "traffic file" "$(cat "state/$KEEL_ENV/proxy/traffic.caddy")" "$before"
  keel migrate "$IMAGE"
  exits 78
  has "migrate: error: caddy would refuse the switch at the end; nothing was changed" "$stderr"
  mended
  keel rollback -q
  exits 0
  is served "$(served)" "$(there)"
}
