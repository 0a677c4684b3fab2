#!/usr/bin/env bats
# rollback: back to the standby, or a clear no.

# shellcheck disable=SC2030,SC2031  # each test is a process of its own

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
rollback: hint: releases lists what was; make deploy ENV=$KEEL_ENV IMAGE=… deploys it again"
}

@test "rollback: only one release was ever deployed: there is no standby" {
  bin/swap-upstream -q "$A"
  keel rollback
  exits 1
  is stdout "$output" ""
  has "there is no standby to roll back to" "$stderr"
  is serving "$(serving)" "$A"
}

@test "rollback: the other release never had all of the traffic: its deploy failed in the last step, or it was given nothing" {
  local step
  release "$IMAGE" >B
  bin/swap-upstream -q --share 0 "$(cat B)"
  cp "state/$KEEL_ENV/history" history
  for step in live failed begin; do # of the last one nothing else is known: it was killed
    [ $step = live ] || sed "/\"live\", \"release\": \"$(cat B)\"/s/live/$step/; /\"end\", \"release\": \"$(cat B)\"/d" history \
      >"state/$KEEL_ENV/history"
    keel rollback
    exits 1
    is stdout "$output" ""
    is stderr "$stderr" "rollback: error: $(cat B): never had all of the traffic: rollback does not give it all
rollback: error: nothing was changed
rollback: hint: where that is meant: swap-upstream $(cat B)"
    is serving "$(serving)" "$A"
  done
  cp history "state/$KEEL_ENV/history"
  bin/swap-upstream -q --share 0 "$A" # what A gives up, B has
  bin/swap-upstream -q "$A"
  keel rollback -q
  exits 0
  is stdout "$output" "$(cat B)"
  bin/swap-upstream -q "$A"
  grep -v "$(cat B)" history >"state/$KEEL_ENV/history" # lost: nobody knows better than the traffic file
  keel rollback -q
  exits 0
  is stdout "$output" "$(cat B)"
  bin/swap-upstream -q "$A"
}

@test "rollback: the standby serves when it returns" {
  B=$(cat B)
  bin/swap-upstream -q "$B"
  is serving "$(serving)" "$B"
  keel rollback
  exits 0
  is stdout "$output" "$A"
  has "rollback: live: $A (blue) 100 %, $B (green) 0 % (proven in " "$stderr"
  hasnt drain "$stderr"
  is serving "$(serving)" "$A"
}

# refused: the last `keel rollback` would have put B back, which was rolled back from at the time of that line of the history.
refused() {
  local B since
  B=$(cat B)
  since=$(sed -n 's/^{"time": "\([^"]*\)".*"command": "rollback", .*"left": "'"$B"'"}$/\1/p' "state/$KEEL_ENV/history" | tail -n 1)
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "rollback: error: $B: was rolled back from at $since: rollback does not put it back
rollback: error: nothing was changed
rollback: hint: where that is meant: swap-upstream $B"
  is serving "$(serving)" "$A"
}

@test "rollback: again: what was rolled back from is not put back, until it has served again" {
  local before
  before=$(cat "state/$KEEL_ENV/history" "state/$KEEL_ENV/proxy/traffic.conf")
  for option in --drain --dry-run; do
    keel rollback $option
    refused
  done
  is "state" "$(cat "state/$KEEL_ENV/history" "state/$KEEL_ENV/proxy/traffic.conf")" "$before"
  bin/swap-upstream -q --share 30 "$(cat B)"  # part of the traffic is no sign that it is well: back to A, and no further
  keel rollback -q
  exits 0
  is stdout "$output" "$A"
  keel rollback
  refused
  bin/swap-upstream -q "$(cat B)"
  keel rollback -q --drain
  exits 0
  is stdout "$output" "$A"
  is stderr "$stderr" ""
  keel rollback
  refused
  bin/swap-upstream -q --share 50 "$(cat B)"
  bin/swap-upstream -q --share 0 "$A"  # so B has had all of it
  bin/swap-upstream -q "$A"
  keel rollback -q
  exits 0
  is stdout "$output" "$(cat B)"
  bin/swap-upstream -q "$A"
  bin/swap-upstream -q "$(cat B)"
  keel rollback -q
  exits 0
  is stdout "$output" "$A"
}

@test "rollback: one that was cut short is finished by the next, and is then one that was done" {
  local moved
  bin/swap-upstream -q "$(cat B)"
  for moved in no yes; do
    cp "state/$KEEL_ENV/history" history
    keel rollback -q
    exits 0
    grep '"command": "rollback"' "state/$KEEL_ENV/history" | tail -n 1 >>history
    cp history "state/$KEEL_ENV/history"
    if [ $moved = no ]; then
      keel swap-upstream -q "$(cat B)"
      cp history "state/$KEEL_ENV/history"
    fi
    keel rollback
    exits 0
    is stdout "$output" "$A"
    is serving "$(serving)" "$A"
    keel rollback
    refused
    bin/swap-upstream -q "$(cat B)"
  done
}

@test "rollback: one that failed, and so left nothing, is no reason to refuse" {
  bin/swap-upstream -q "$A"
  printf '{"time": "2026-01-02T03:04:05Z", "command": "%s", %s}\n' rollback "\"release\": \"$A\", \"left\": \"$(cat B)\"" \
    swap-upstream "\"step\": \"failed\", \"release\": \"$A\", \"share\": 100" \
    swap-upstream "\"step\": \"live\", \"release\": \"$A\", \"share\": 100" >>"state/$KEEL_ENV/history"
  keel rollback -q
  exits 0
  is stdout "$output" "$(cat B)"
  is serving "$(serving)" "$(cat B)"
}

# ill needed|other: makes each setting that a switch needs, or each other one, a faulty line; those that take anything are left out.
ill() {
  PYTHONPATH=lib .venv/bin/python -c '
import pathlib, sys
from keel import schema, switch
for name, v in schema.load(pathlib.Path("compose/example.env")).items():
    if (name in switch.NEEDS) == (sys.argv[1] == "needed") and v.fault("?\" !"):
        print(f"{name}=?\" !")' "$1"
}

@test "rollback: a fault of the settings that a switch does not need is warned of; one that it needs is 78, and nothing changes" {
  local settings=compose/$KEEL_ENV.env secrets=secrets/$KEEL_ENV.env line count=0
  cp -p "$settings" settings
  cp -p "$secrets" secrets.was
  bin/swap-upstream -q "$A"
  while read -r line; do
    set_env "$line"
    keel rollback
    cp settings "$settings"
    exits 78
    has "rollback: error: ${line%%=*} " "$stderr"
    count=$((count + 1))
  done < <(ill needed)
  [ "$count" -gt 10 ]
  for line in "no setting" KEEL_PROXY=nginx KEEL_HTTPS_PROT=8443; do  # the second one is there twice then
    printf 'KEEL_PROXY=nginx\n%s\n' "$line" >>"$settings"
    keel rollback
    cp settings "$settings"
    exits 78
    is stdout "$output" ""
  done
  is serving "$(serving)" "$A"
  sed -i '/^KEEL_HTTP_PORT=/d' "$settings"
  while read -r line; do set_env "$line"; done < <(ill other)
  printf 'SHUTDOWN_LAMEDUCK=1s\n' >>"$settings"
  printf 'no setting\n' >"$secrets"
  keel rollback
  cp settings "$settings"
  cp -p secrets.was "$secrets"
  exits 0
  is stdout "$output" "$(cat B)"
  for line in "$settings: SHUTDOWN_LAMEDUCK is there twice" "$secrets: line 1 is not NAME=value" "REDIS_PASSWORD (not set) is missing"; do
    has "rollback: warning: $line (not needed for this)" "$stderr"
  done
  hasnt "error" "$stderr"
  is serving "$(serving)" "$(cat B)"
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
  bin/swap-upstream -q "$A"
  bin/swap-upstream -q "$(cat B)"
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

@test "rollback: after a deploy that failed, which has replaced the standby: exit 1, and the hint brings a release back" {
  local B hint next
  B=$(cat B)
  KEEL_SMOKE_COMMAND=false run --separate-stderr bash -o pipefail -c "bin/start-release $IMAGE | bin/smoke-test | bin/swap-upstream"
  [ "$status" -ne 0 ]
  has "replacing the standby $A: no rollback until " "$stderr"
  keel rollback
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "rollback: error: $A: has no containers: it was stopped or replaced on blue
rollback: hint: deploy its image again: make deploy ENV=$KEEL_ENV IMAGE=$IMAGE"
  keel status
  exits 1
  has "status: warning: $A is the standby: rollback cannot use it, because 0 of its 1 replicas run" "$stderr"
  hint=$(sed -n 's/.*: make deploy/make deploy/p' <<<"$(bin/rollback 2>&1)")
  # shellcheck disable=SC2086
  next=$($hint | tail -n 1)
  is serving "$(serving)" "$next"
  keel status
  exits 0
  keel rollback -q
  exits 0
  is serving "$(serving)" "$B"
}

# waiting: the release that has no share.
waiting() {
  local kind=conf
  [ ! -e "state/$KEEL_ENV/proxy/traffic.caddy" ] || kind=caddy
  sed -n 's/^# keel: //p' "state/$KEEL_ENV/proxy/traffic.$kind" | jq -r '.shares[] | select(.percent == 0).release'
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

# $1: the proxy, which is up already.
a_broken_certificate_is_a_warning() {
  local was
  bin/swap-upstream -q "$(waiting)" # so that there is something to go back from
  was=$(served)
  half
  keel migrate "$IMAGE"
  exits 0
  keel rollback -q
  exits 0
  is serving "$(serving)" "$output"
  has "rollback: warning: $1 cannot load the certificate and goes on with the one that it has: " "$stderr"
  is served "$(served)" "$was"
  mended
  keel swap-upstream -q "$(waiting)"
  exits 0
  is stderr "$stderr" ""
  is served "$(served)" "$(there)"
}

what_must_be_loaded_with_a_broken_certificate_is_refused() {
  local before standby file=state/$KEEL_ENV/proxy/traffic.conf
  [ "$1" = nginx ] || file=state/$KEEL_ENV/proxy/traffic.caddy
  before=$(cat "$file")
  standby=$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=app | sort)
  set_env "KEEL_BODY_LIMIT=$2"
  half
  for command in rollback "maintenance on"; do
    # shellcheck disable=SC2086
    keel $command
    exits 1
    is stdout "$output" ""
    has "${command%% *}: error: $1 refuses generation " "$stderr"
    has "${command%% *}: error: $TREE/secrets/tls/$KEEL_ENV/cert.pem: " "$stderr"
    has "${command%% *}: error: nothing was changed" "$stderr"
    has "hint: put a whole certificate and its key into secrets/tls/$KEEL_ENV/; doctor says whether they are a pair" "$stderr"
    hasnt "compose/example.env" "$stderr"
    hasnt written "$stderr"
  done
  for command in migrate start-release; do
    keel "$command" "$IMAGE"
    exits 78
    is stdout "$output" ""
    has "$command: error: $TREE/secrets/tls/$KEEL_ENV/cert.pem: " "$stderr"
    has "$command: error: $1 would refuse the switch at the end; nothing was changed" "$stderr"
  done
  is containers "$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=app | sort)" "$standby"
  is "traffic file" "$(cat "$file")" "$before"
  mended
  keel rollback -q
  exits 0
  is served "$(served)" "$(there)"
}

@test "rollback, migrate: nginx: a broken certificate: a warning, the one before is served; mended, the next switch loads it" {
  a_broken_certificate_is_a_warning nginx
}

@test "rollback, maintenance, migrate, start-release: nginx: a broken certificate when settings must be loaded: refused, nothing moves" {
  what_must_be_loaded_with_a_broken_certificate_is_refused nginx 2m
}

@test "rollback, migrate: Caddy: a broken certificate: a warning, the one before is served; mended, the next switch loads it" {
  set_env KEEL_PROXY=caddy
  up
  a_broken_certificate_is_a_warning caddy
}

@test "rollback, maintenance, migrate, start-release: Caddy: a broken certificate when settings must be loaded: refused, nothing moves" {
  set_env KEEL_PROXY=caddy
  up
  what_must_be_loaded_with_a_broken_certificate_is_refused caddy 1m
}
