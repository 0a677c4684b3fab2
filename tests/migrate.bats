#!/usr/bin/env bats
# migrate: the image's migrations, and the image goes on.

setup_file() {
  load helper
  load stack
  stack migrate
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

NOWHERE=events@sha256:0000000000000000000000000000000000000000000000000000000000000000

@test "migrate: no image by digest is 65, one that is not here is 1, and nothing is run" {
  keel migrate events:latest
  exits 65
  is stdout "$output" ""
  has "migrate: error: events:latest: not an image by digest" "$stderr"
  keel migrate "$NOWHERE"
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "migrate: error: $NOWHERE: there is no such image on this host
migrate: hint: build-image makes one; pull-image fetches one"
  hasnt '"command": "migrate"' "$(cat "state/$KEEL_ENV/history")"
}

@test "migrate: what start-release would refuse is refused before anything is run: no HEALTHCHECK, root, another state folder" {
  local image
  for line in "HEALTHCHECK NONE" "USER root"; do
    image=$(variant "$IMAGE" "$line")
    keel migrate "$image"
    exits 1
    is stdout "$output" ""
    has "migrate: error: $image: " "$stderr"
  done
  has "runs as root" "$stderr"
  KEEL_STATE=elsewhere keel migrate "$IMAGE"
  exits 78
  is stdout "$output" ""
  has "migrate: error: $KEEL_ENV runs on this host with its state in $TREE/state, not in $TREE/elsewhere" "$stderr"
  hasnt '"command": "migrate"' "$(cat "state/$KEEL_ENV/history")"
  [ ! -e "elsewhere/$KEEL_ENV/history" ]
}

@test "migrate: what Compose does not take is refused in its words before anything is run, also in a rehearsal" {
  local line rehearsal
  cp "compose/$KEEL_ENV.yml" aside
  # shellcheck disable=SC2016  # Compose's own
  for line in 'hostname: ${MY_NAME:?}' 'mem_limit: lots'; do
    sed "s/^  app:/&\n    $line/" aside >"compose/$KEEL_ENV.yml"
    keel migrate --dry-run "$IMAGE"
    rehearsal=$stderr
    keel migrate "$IMAGE"
    cp aside "compose/$KEEL_ENV.yml"
    exits 78
    is stdout "$output" ""
    is rehearsal "$rehearsal" "$stderr"
    has "migrate: error: $KEEL_ENV: Compose does not take the settings" "$stderr"
    [[ "$stderr" == *"required variable MY_NAME is missing a value"* || "$stderr" == *"mem_limit' invalid size: 'lots'"* ]]
    has "migrate: error: nothing was changed" "$stderr"
    has "migrate: hint: edit compose/$KEEL_ENV.env, or what reads it: compose/app.yml, compose/$KEEL_ENV.yml" "$stderr"
  done
  hasnt '"command": "migrate"' "$(cat "state/$KEEL_ENV/history")"
}

@test "migrate: a lock that is held, no engine: nothing is run" {
  refuses_a_lock migrate "$IMAGE"
  wants_an_engine migrate "$IMAGE"
}

@test "migrate: --dry-run passes the image on and runs nothing" {
  keel migrate --dry-run "$IMAGE"
  exits 0
  rehearsed
  is stdout "$output" "$IMAGE"
  has "migrate: would: docker compose " "$stderr"
  hasnt '"command": "migrate"' "$(cat "state/$KEEL_ENV/history")"
}

@test "migrate: prints the image, what the migrations say goes to stderr; again changes nothing" {
  run --separate-stderr bin/migrate <<<"$IMAGE"
  exits 0
  is stdout "$output" "$IMAGE"
  has '"applied":["001_venues_and_events"' "$stderr"
  keel migrate "$IMAGE"
  exits 0
  is stdout "$output" "$IMAGE"
  has '"applied":[]' "$stderr"
  is history "$(sed -n 's/.*"command": "migrate", "step": "\([a-z]*\)".*/\1/p' "state/$KEEL_ENV/history" | xargs)" "begin end begin end"
  is left "$(docker ps -aq --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=migrate)" ""
}

@test "migrate: one that fails: exit 1 with what it said, the image is not passed on" {
  KEEL_MIGRATE_COMMAND="sh -c 'echo column is missing >&2; exit 3'" keel migrate "$IMAGE"
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "migrate: error: $IMAGE: its migrations failed
migrate: error: column is missing
migrate: hint: the release that serves goes on; mend the migration"
  has '"step": "failed"' "$(tail -n 1 "state/$KEEL_ENV/history")"
  is left "$(docker ps -aq --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=migrate)" ""
}

@test "migrate: what the engine does not start is no failed migration: exit 69 with its words" {
  KEEL_APP_CPUS=999 keel migrate "$IMAGE"
  exits 69
  is stdout "$output" ""
  has "migrate: error: $IMAGE: the engine does not start its migrations
migrate: error: Error response from daemon: Range of CPUs is from 0.01 to " "$stderr"
  has "migrate: hint: is it a setting of compose/$KEEL_ENV.env, as KEEL_APP_CPUS? make doctor ENV=$KEEL_ENV " "$stderr"
  has '"step": "failed"' "$(tail -n 1 "state/$KEEL_ENV/history")"
}

@test "migrate: another password than the volume was made with: the hint names the secrets of then, and make destroy" {
  POSTGRES_PASSWORD=of-a-new-checkout keel migrate "$IMAGE"
  exits 1
  is stdout "$output" ""
  has "migrate: error: $IMAGE: its migrations failed" "$stderr"
  has 'password authentication failed' "$stderr"
  is hint "$(grep hint: <<<"$stderr")" "migrate: hint: the volumes of keel-$KEEL_ENV were made with another POSTGRES_PASSWORD than that of \
secrets/$KEEL_ENV.env, as by an older checkout: take its secrets/$KEEL_ENV.env back; \
or make destroy ENV=$KEEL_ENV deletes their data (it asks)"
}

# running: the container in which migrations run now, or nothing.
running() { docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=migrate; }

# cut: begin a migration that does not end, in a session of its own; returns when it runs. Its pid, and so its session, is $CUT.
cut() {
  KEEL_MIGRATE_COMMAND="sleep 600" setsid bin/migrate "$IMAGE" >said 2>&1 3>&- &
  CUT=$!
  until [ -n "$(running)" ]; do kill -0 "$CUT"; done
}

@test "migrate: SIGTERM while the migration runs: exit 143, its container is stopped, the next one runs" {
  cut
  kill -TERM "$CUT"
  local code=0
  wait "$CUT" || code=$?
  is code "$code" 143
  has "migrate: interrupted by SIGTERM: " "$(cat said)"
  is left "$(docker ps -aq --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=migrate)" ""
  keel migrate -q "$IMAGE"
  exits 0
}

@test "migrate: a container that was made and cut off before it started is removed" {
  docker create --label "keel.env=$KEEL_ENV" --label keel.role=migrate "${IMAGE#*@}" >/dev/null
  keel migrate -q "$IMAGE"
  exits 0
  is left "$(docker ps -aq --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=migrate)" ""
}

@test "migrate: killed while the migration runs: the next one is 75 and names the container that goes on" {
  local pid container
  cut
  for pid in $(session "$CUT"); do kill -KILL "$pid" 2>/dev/null || true; done
  wait "$CUT" || true
  container=$(running)
  keel migrate "$IMAGE"
  exits 75
  is stdout "$output" ""
  is stderr "$stderr" "migrate: error: $KEEL_ENV: a migration that was cut off still runs: container $container
migrate: hint: docker logs --follow $container, then again; or docker stop $container"
  docker stop --time 1 "$container" >/dev/null
  keel migrate -q "$IMAGE"
  exits 0
  is stdout "$output" "$IMAGE"
}
