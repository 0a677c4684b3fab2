#!/usr/bin/env bats
# start-release: a new release on the idle colour; no traffic moves.

setup_file() {
  load helper
  load stack
  stack start
  up
  IMAGE=$(built)
  export IMAGE
  bin/migrate -q "$IMAGE"
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

NOWHERE=events@sha256:0000000000000000000000000000000000000000000000000000000000000000

@test "start-release: images that cannot be started: exit code and reason, nothing is started" {
  keel start-release events
  exits 65
  has "start-release: error: events: not an image by digest" "$stderr"
  keel start-release "$NOWHERE"
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "start-release: error: $NOWHERE: there is no such image on this host
start-release: hint: build-image makes one; pull-image fetches one"
  local unchecked
  unchecked=$(variant "$IMAGE" "HEALTHCHECK NONE")
  keel start-release "$unchecked"
  exits 1
  is stdout "$output" ""
  has "start-release: error: $unchecked: has no HEALTHCHECK: " "$stderr"
  keel start-release "$IMAGE" "$IMAGE"
  exits 2
  is stderr "$stderr" "start-release: error: give one HANDLE, not 2
start-release: hint: start-release --help"
  is containers "$(replicas)" ""
  [ ! -e "state/$KEEL_ENV/releases" ]
}

@test "start-release: no proxy, no engine, no disk, no lock: nothing is started" {
  wants_its_proxy start-release "$IMAGE"
  wants_an_engine start-release "$IMAGE"
  wants_disk start-release "$IMAGE"
  refuses_a_lock start-release "$IMAGE"
  is containers "$(replicas)" ""
  [ ! -e "state/$KEEL_ENV/releases" ]
}

@test "start-release: --dry-run prints an id for the rest of the pipe and starts nothing" {
  keel start-release --dry-run "$IMAGE"
  exits 0
  rehearsed
  [[ "$output" =~ ^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{7}$ ]]
  has "start-release: would: docker compose " "$stderr"
  is containers "$(replicas)" ""
  [ ! -e "state/$KEEL_ENV/releases" ]
}

@test "start-release: prints the id; its replicas run with its labels, its record says what it is, no traffic moved" {
  KEEL_REPLICAS=2 keel start-release "$IMAGE"
  exits 0
  local id=$output
  [[ "$id" =~ ^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{7}$ ]]
  is stderr "$stderr" "start-release: $id: 2 replicas started on blue"
  local form='{{.Label "keel.env"}} {{.Label "keel.role"}} {{.Label "keel.colour"}}'
  is labels "$(docker ps --filter "label=keel.release=$id" --format "$form")" \
    "$KEEL_ENV app blue
$KEEL_ENV app blue"
  local record
  record=$(cat "state/$KEEL_ENV/releases/$id")
  for line in "id=$id" "env=$KEEL_ENV" "image=$IMAGE" "image_id=${IMAGE#*@}" colour=blue replicas=2; do has "$line" "$record"; done
  run public /__keel/generation
  has $'1\n\n200' "$output"
}

@test "start-release: what stands on the idle colour is replaced" {
  local before after
  before=$(docker inspect -f '{{index .Config.Labels "keel.release"}}' "$(replicas | head -n 1)")
  run --separate-stderr bin/start-release <<<"$IMAGE"
  after=$output
  exits 0
  has "start-release: replacing $before on blue" "$stderr"
  is "containers of the one before" "$(replicas "$before")" ""
  is "containers of the new one" "$(replicas "$after" | wc -l)" 1
  bin/health-wait -q "$after" | bin/swap-upstream -q >serving
}

@test "start-release: Compose does not take the files: exit 78 while the standby still stands, and rollback finds it" {
  local standing
  release "$IMAGE" >next
  bin/swap-upstream -q <next
  standing=$(replicas | sort)
  for file in compose/app.yml "compose/$KEEL_ENV.yml"; do
    cp "$file" aside
    sed -i 's/^  app:/  app: [/' "$file"
    keel start-release "$IMAGE"
    mv aside "$file"
    exits 78
    is stdout "$output" ""
    has "start-release: error: $KEEL_ENV: Compose does not take the settings" "$stderr"
    has "start-release: error: nothing was changed" "$stderr"
    is containers "$(replicas | sort)" "$standing"
  done
  keel rollback -q
  exits 0
  is stdout "$output" "$(cat serving)"
}

@test "start-release: never on a colour that serves" {
  keel start-release "$IMAGE"
  exits 0
  has "start-release: replacing the standby $(cat next): no rollback until $output is live" "$stderr"
  keel start-release -q "$IMAGE"
  exits 0
  is stderr "$stderr" ""
  is colour "$(sed -n 's/^colour=//p' "state/$KEEL_ENV/releases/$output")" green
  bin/health-wait -q "$output" | bin/swap-upstream -q --share 50
  local command before
  before=$(wc -l <"state/$KEEL_ENV/history")
  for command in start-release migrate; do
    keel $command "$IMAGE"
    exits 1
    is stdout "$output" ""
    has "$command: error: both colours serve: " "$stderr"
    has "$command: hint: end the canary first" "$stderr"
  done
  is "lines of history" "$(wc -l <"state/$KEEL_ENV/history")" "$before"
  is containers "$(replicas | wc -l)" 2
}
