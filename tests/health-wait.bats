#!/usr/bin/env bats
# health-wait: passes on what becomes healthy, releases and addresses.

setup_file() {
  load helper
  load stack
  stack health
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

teardown() {
  [ -z "${LISTENER:-}" ] || kill "$LISTENER"
}

teardown_file() {
  load helper
  load stack
  down
}

# address SERVICE: its address in the data network.
address() {
  docker inspect -f "{{(index .NetworkSettings.Networks \"keel-${KEEL_ENV}_data\").IPAddress}}" \
    "$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter "label=keel.role=$1" | head -n 1)"
}

@test "health-wait: a release that is ready is passed on" {
  keel health-wait "$A"
  exits 0
  is stdout "$output" "$A"
  [[ "$stderr" =~ ^health-wait:\ $A:\ healthy\ after\ [0-9.]+\ s$ ]]
  http_proxy=http://127.0.0.1:9 run --separate-stderr bin/health-wait -q <<<"$A"  # which has no way to a container
  is stdout "$output" "$A"
  is stderr "$stderr" ""
}

@test "health-wait: no release: 65, 1" {
  wants_a_release health-wait
  wants_an_engine health-wait "$A"
}

@test "health-wait: a release that does not become ready: exit 1 with the replica, the reason and its last lines, in time" {
  KEEL_READY_PATH=/no/such/path keel health-wait --timeout 300ms "$A"
  exits 1
  is stdout "$output" ""
  has "health-wait: error: $A: not healthy: keel-$KEEL_ENV-blue-app-1: 404 " "$stderr"
  has "health-wait: last " "$stderr"
  has '"message":"listening"' "$stderr"
}

@test "health-wait: postgres, redis, tcp and http addresses" {
  local urls
  urls="postgres://$(address postgres) redis://$(address redis) redis://:two@$(address redis):6379 tcp://$(address postgres):5432
    http://$(address app):3000/health"
  # shellcheck disable=SC2086
  keel health-wait -q $urls
  exits 0
  # shellcheck disable=SC2086
  is stdout "$output" "$(printf '%s\n' $urls)"
  is stderr "$stderr" ""
}

@test "health-wait: --dry-run passes on and asks nobody" {
  keel health-wait --dry-run "$A" tcp://127.0.0.1:1
  exits 0
  rehearsed
  is stdout "$output" "$A
tcp://127.0.0.1:1"
}

@test "health-wait: only what is healthy is passed on; one that is not makes exit 1" {
  keel health-wait --timeout 200ms tcp://127.0.0.1:1 "tcp://$(address redis):6379" "http://$(address app):3000/nowhere"
  exits 1
  is stdout "$output" "tcp://$(address redis):6379"
  has "health-wait: error: tcp://127.0.0.1:1: not healthy: connection refused" "$stderr"
  has "health-wait: error: http://$(address app):3000/nowhere: not healthy: 404 " "$stderr"
}

@test "health-wait: a password is never shown" {
  keel health-wait --timeout 100ms "redis://:guessme@$(address redis)"
  exits 1
  hasnt guessme "$stderr"
  has "health-wait: error: redis://…@$(address redis): not healthy: " "$stderr"
}

@test "health-wait: waits for what comes later" {
  local redis url
  redis=$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=redis)
  url=redis://$(address redis)
  docker pause "$redis" >/dev/null
  keel health-wait --timeout 100ms "$url"
  exits 1
  bin/health-wait -q "$url" >said 3>&- &
  docker unpause "$redis" >/dev/null
  wait $!
  is stdout "$(cat said)" "$url"
}

@test "health-wait: neither a release nor an address, a time without a unit: usage" {
  keel health-wait ftp://example.org
  exits 2
  has "health-wait: error: ftp://example.org: neither a release nor an address" "$stderr"
  keel health-wait --timeout 30 "$A"
  exits 2
  is stdout "$output" ""
  has "'30': a duration with its unit, as 30s, 15m or 1h is wanted" "$stderr"
}

# server WHAT: what listens on $PORT: `deaf` takes connections and never answers, `curt` says so and closes. Its words are on ${SERVER[0]}.
server() {
  coproc SERVER { exec python3 -c '
import socket, sys
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
kept = []
while True:
    kept.append(s.accept()[0])
    if sys.argv[1] == "curt":
        kept.pop().close()
        print("asked", flush=True)
' "$1" 3>&-; }
  # shellcheck disable=SC2153
  LISTENER=$SERVER_PID
  read -r PORT <&"${SERVER[0]}"
}

@test "health-wait: interrupted while it waits: 130 or 143, and it says how to go on" {
  local code waiter
  server curt
  for signal in "INT 130" "TERM 143"; do
    bin/health-wait "postgres://127.0.0.1:$PORT" "tcp://127.0.0.1:$PORT" >said 2>words 3>&- &
    waiter=$!
    read -r _ <&"${SERVER[0]}"
    kill "-${signal% *}" "$waiter"
    code=0
    wait "$waiter" || code=$?
    is code "$code" "${signal#* }"
    is stdout "$(cat said)" ""
    is stderr "$(cut -d' ' -f2- words)" \
      "health-wait: interrupted by SIG${signal% *}: \`status\` says what is live, the same command again finishes the work"
  done
}

@test "health-wait: an address that is none: usage, with the reason" {
  local url
  while read -r url words; do
    keel health-wait "$url"
    exits 2
    is stdout "$output" ""
    is "reason for $url" "${stderr%%$'\n'*}" "health-wait: error: $url: $words"
  done <<'END'
tcp://127.0.0.1:70000 port out of range 0-65535
tcp://127.0.0.1:x port could not be cast to integer value as 'x'
tcp://[::1:5432 invalid IPv6 URL
tcp://:5432 names no host
tcp://127.0.0.1 neither a release nor an address
END
}

@test "health-wait: a name that does not resolve: exit 1 says so" {
  for url in tcp://no-such-host.invalid:1 postgres://no-such-host.invalid redis://no-such-host.invalid http://no-such-host.invalid/; do
    keel health-wait --timeout 0s "$url"
    exits 1
    is stdout "$output" ""
    [[ "$stderr" =~ ^"health-wait: error: $url: not healthy: "(name or service not known|temporary failure in name resolution)$ ]]
  done
}

@test "health-wait: who takes the connection and never answers: exit 1, timed out, for all kinds alike" {
  server deaf
  for url in "postgres://127.0.0.1:$PORT" "redis://127.0.0.1:$PORT" "http://127.0.0.1:$PORT/"; do
    keel health-wait --timeout 0s "$url"
    exits 1
    is stdout "$output" ""
    is stderr "$stderr" "health-wait: error: $url: not healthy: timed out"
  done
}

@test "health-wait: a host name that cannot be one: usage, not a bug" {
  for url in tcp://two..dots:1 http://two..dots/ redis://two..dots; do
    keel health-wait "$url"
    exits 2
    is stdout "$output" ""
    is stderr "$stderr" "health-wait: error: $url: 'two..dots' is no host name"
  done
}
