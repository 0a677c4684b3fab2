#!/usr/bin/env bats
# swap-upstream: traffic moves, proven live, or nothing changes.

setup_file() {
  load helper
  load stack
  stack swap
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

# Each release in the traffic file and its percent.
shares() {
  sed -n 's/^# keel: //p' "state/$KEEL_ENV/proxy/traffic.conf" | python3 -c '
import json, sys
shares = json.load(sys.stdin)["shares"]
print(*sorted(s["release"] + " " + str(s["percent"]) for s in shares) or ["nobody"], sep="\n")'
}

@test "swap-upstream: no release 65, 1; two of them, or an impossible share: usage; nothing changes" {
  wants_a_release swap-upstream
  keel swap-upstream "$A" "$A"
  exits 2
  has "swap-upstream: error: give one HANDLE, not 2" "$stderr"
  keel swap-upstream --share 101 "$A"
  exits 2
  is stdout "$output" ""
  is shares "$(shares)" nobody
}

# The window in which users would feel it is its whole run: measured with 32 busy connections on two cores.
@test "swap-upstream: a lower priority from its start, so that users go first" {
  local own waiting code=0 end=$((SECONDS + 20))
  own=$(nice)
  mkfifo waits
  bin/swap-upstream -q <waits 2>/dev/null 3>&- &
  waiting=$!
  exec 5>waits
  # A bare machine has no ps; of /proc/PID/stat (proc(5)) this is nice.
  until [ "$(sed 's/.*) //' "/proc/$waiting/stat" | cut -d' ' -f17)" = $((own + 10)) ]; do [ "$SECONDS" -lt "$end" ]; done
  exec 5>&-
  wait "$waiting" || code=$?
  is "exit code" "$code" 66
}

@test "swap-upstream: no proxy, no engine, no lock: nothing changes" {
  wants_its_proxy swap-upstream "$A"
  wants_an_engine swap-upstream "$A"
  refuses_a_lock swap-upstream "$A"
  is shares "$(shares)" nobody
}

@test "swap-upstream: --dry-run says what it would do, prints the release, changes nothing" {
  local before
  before=$(cat "state/$KEEL_ENV/proxy/traffic.conf" "state/$KEEL_ENV/history")
  keel swap-upstream --dry-run "$A"
  exits 0
  rehearsed
  is stdout "$output" "$A"
  is stderr "$stderr" "swap-upstream: would: give $A 100 % of the traffic, prove it, drain the old release"
  is state "$(cat "state/$KEEL_ENV/proxy/traffic.conf" "state/$KEEL_ENV/history")" "$before"
}

@test "swap-upstream: the first release: served when it returns, and proven" {
  http_proxy=http://127.0.0.1:9 run --separate-stderr bin/swap-upstream <<<"$A"  # which has no way to a container
  exits 0
  is stdout "$output" "$A"
  has "swap-upstream: live: $A (blue) 100 % (proven in " "$stderr"
  is shares "$(shares)" "$A 100"
  run public /version
  has "\"release\":\"$A\"" "$output"
}

@test "swap-upstream: killed between the file that has a new colour and the reload of nginx: the same command again finishes" {
  local release
  release=$(release "$IMAGE")
  "$CHECKOUT/.venv/bin/python" - "$release" <<'END'
import dataclasses, sys
sys.path.insert(0, "lib")
from keel import proxy, releases, settings, state, switch, traffic
s = settings.load()
found, before = releases.replicas(s, sys.argv[1]), proxy.current(s)
share = traffic.Share(sys.argv[1], found[0].colour, 0, tuple(r.name for r in found))
new = dataclasses.replace(switch._introduced(before, share), generation=before.generation + 1)
state.write(proxy.path(s), proxy._render(s, new))
END
  keel swap-upstream "$release"
  exits 0
  is shares "$(shares | sort -k2)" "$A 0
$release 100"
  bin/swap-upstream -q "$A"
  bin/stop-release -q "$release"
}

@test "swap-upstream: a share: both serve, in that proportion; nobody lost its last share, so nobody is waited for" {
  B=$(release "$IMAGE")
  echo "$B" >B
  public '/slow?seconds=8' >slow 3>&- &
  local slow=$!
  keel swap-upstream --share 5 "$B"
  exits 0
  hasnt drain "$stderr"
  kill "$slow"
  is stdout "$output" "$B"
  has "swap-upstream: live: $A (blue) 95 %, $B (green) 5 % (proven in " "$stderr"
  is shares "$(shares)" "$(printf '%s\n' "$A 95" "$B 5" | sort)"
}

@test "swap-upstream: the last share is taken away again: what is in flight is waited for" {
  B=$(cat B)
  keel swap-upstream --share 0 "$B"
  exits 0
  has "swap-upstream: live: $A (blue) 100 %, $B (green) 0 % (proven in " "$stderr"
  has "swap-upstream: drained in " "$stderr"
}

@test "swap-upstream: all of it: the release before is the standby; what was in flight is waited for" {
  B=$(cat B)
  public '/slow?seconds=2' >slow 3>&- &
  local slow=$!
  keel swap-upstream "$B"
  exits 0
  is stdout "$output" "$B"
  has "swap-upstream: drained in " "$stderr"
  is shares "$(shares)" "$(printf '%s\n' "$A 0" "$B 100" | sort)"
  run public /version
  has "\"release\":\"$B\"" "$output"
  wait "$slow"
  has 200 "$(tail -n 1 slow)"
  local step='s/.*"command": "swap-upstream", "step": "\([a-z]*\)", "release": "\([^"]*\)".*/\1 \2/p'
  is history "$(tail -n 3 "state/$KEEL_ENV/history" | sed -n "$step")" \
    "begin $B
live $B
end $B"
}

@test "swap-upstream: --no-drain does not wait; -q is silent" {
  keel swap-upstream --no-drain "$A"
  exits 0
  hasnt drain "$stderr"
  keel swap-upstream -q "$(cat B)"
  exits 0
  is stderr "$stderr" ""
}

@test "swap-upstream: a release whose containers are stopped: exit 1, the old one serves" {
  docker stop "$(replicas "$A")" >/dev/null
  keel swap-upstream "$A"
  exits 1
  is stdout "$output" ""
  has "swap-upstream: error: $A: not running: keel-$KEEL_ENV-blue-app-1
swap-upstream: error: last " "$stderr"
  has '"message":"stopped"' "$stderr"
  has "swap-upstream: hint: logs $A" "$stderr"
  run public /version
  has "\"release\":\"$(cat B)\"" "$output"
}
