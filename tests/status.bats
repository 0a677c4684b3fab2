#!/usr/bin/env bats
# status: what is, and every difference.

setup_file() {
  load helper
  load stack
  stack status
  up
  IMAGE=$(built)
  export IMAGE
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

# other: another environment of this checkout, which was never up; its name.
other() {
  local name=$KEEL_ENV-new
  for folder in compose secrets; do cp -p "$folder/$KEEL_ENV.env" "$folder/$name.env"; done
  cp "compose/$KEEL_ENV.yml" "compose/$name.yml"
  echo "$name"
}

field() { python3 -c 'import json, sys; x = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1" <<<"$output"; }

@test "status: before the first make up: nothing was cut short" {
  KEEL_ENV=$(other) keel status
  exits 1
  has "serving      nothing yet" "$output"
  has "nginx is not running (absent): make up ENV=$KEEL_ENV-new" "$stderr"
  hasnt "cut short" "$stderr"
}

@test "status, doctor and all that changes traffic: another state folder than what runs: says so, and nothing else" {
  local command release=20010101T000000Z-0000000 said="$KEEL_ENV runs on this host with its state in $TREE/state, not in $TREE/elsewhere"
  export KEEL_STATE=elsewhere
  for command in status "maintenance on" reload-proxy rollback "swap-upstream $release" "stop-release $release"; do
    # shellcheck disable=SC2086
    keel $command
    exits 78
    is stdout "$output" ""
    is stderr "$stderr" "${command% *}: error: $said
${command% *}: hint: KEEL_STATE=$TREE/state is meant, or give this environment another name (compose/NAME.env and compose/NAME.yml)"
  done
  keel doctor
  exits 1
  has "bad  state       $said; KEEL_STATE=$TREE/state is meant" "$output"
}

@test "status: up and nothing deployed: exit 0, silent on stderr" {
  keel status
  exits 0
  is stderr "$stderr" ""
  has "environment  $KEEL_ENV
proxy        nginx, generation 1, live 1
serving      nothing yet
postgres     Up " "$output"
}

@test "status: a release that waits for its traffic: exit 1 says what to type" {
  A=$(release "$IMAGE")
  echo "$A" >A
  keel status
  exits 1
  has "status: warning: $A has containers but no place in the traffic file: " "$stderr"
}

@test "status: who serves" {
  A=$(cat A)
  bin/swap-upstream -q "$A"
  keel status
  exits 0
  is stderr "$stderr" ""
  has "serving      $A on blue, 100 %, 1 of 1 running" "$output"
  has "swap-upstream end $A" "$output"
}

@test "status: --json is one object" {
  A=$(cat A)
  keel status --json
  exits 0
  is shares "$(field '[(s["release"], s["percent"], s["running"], s["wanted"]) for s in x["shares"]]')" "[('$A', 100, 1, 1)]"
  is answer "$(field 'x["live"] == x["generation"], x["problems"], x["env"], x["locked"]')" "(True, [], '$KEEL_ENV', '')"
}

@test "status: says who holds the lock" {
  # shellcheck disable=SC2016
  KEEL_TESTED=$PWD/bin/status run bin/with-lock "a long job" -- bash -c 'env -u KEEL_TESTED "$KEEL_TESTED"'
  [ "$status" -eq 0 ]
  has "locked by    pid " "$output"
  has ": a long job since 20" "$output"
}

@test "status: a step that began and never ended" {
  cp "state/$KEEL_ENV/history" history
  echo '{"time": "2026-01-02T03:04:05Z", "command": "swap-upstream", "step": "begin"}' >>"state/$KEEL_ENV/history"
  keel status
  cp history "state/$KEEL_ENV/history"
  exits 1
  has "status: warning: swap-upstream began at 2026-01-02T03:04:05Z and did not end: " "$stderr"
}

@test "status: the proxy serves another generation than the file says" {
  local file=state/$KEEL_ENV/proxy/traffic.conf
  cp "$file" traffic
  sed -i 's/^# keel: .*/# keel: {"generation": 77, "maintenance": false, "shares": []}/' "$file"
  keel status --json
  cp traffic "$file"
  exits 1
  has "the traffic file says generation 77, the proxy answers " "$(field 'x["problems"][0]')"
}

@test "status: a traffic file that cannot be read: exit 65 names its predecessor" {
  local file=state/$KEEL_ENV/proxy/traffic.conf
  cp "$file" traffic
  echo nonsense >"$file"
  keel status
  cp traffic "$file"
  exits 65
  is stdout "$output" ""
  has "status: error: $TREE/$file: " "$stderr"
  has "status: hint: its predecessor: cp $TREE/$file.previous $TREE/$file" "$stderr"
}

@test "status: a replica that runs and is not ready" {
  A=$(cat A)
  local redis
  redis=$(docker ps -q --filter "label=com.docker.compose.project=keel-$KEEL_ENV" --filter label=com.docker.compose.service=redis)
  docker stop "$redis" >/dev/null
  timeout 30 bash -c "until bin/status 2>&1 | grep -q 'is not ready'; do :; done"
  keel status
  docker start "$redis" >/dev/null
  exits 1
  has "serving      $A on blue, 100 %, 1 of 1 running" "$output"
  has " runs and is not ready: 503 " "$stderr"
  has "; logs $A says more" "$stderr"
  timeout 30 bash -c 'until bin/status -q >/dev/null 2>&1; do :; done'
}

@test "status: a replica that does not run" {
  A=$(cat A)
  docker stop "$(replicas)" >/dev/null
  keel status
  exits 1
  has "serving      $A on blue, 100 %, 0 of 1 running" "$output"
  has "status: warning: $A serves 100 %, but 0 of its 1 replicas run" "$stderr"
}

@test "status: nothing runs: exit 1; no engine: exit 69" {
  bin/stop-base -q
  keel status
  exits 1
  has "postgres     absent" "$output"
  hasnt "cut short" "$stderr"
  for name in postgres redis nginx; do has "status: warning: $name is not running (absent): make up ENV=$KEEL_ENV" "$stderr"; done
  wants_an_engine status
}
