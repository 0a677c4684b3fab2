#!/usr/bin/env bats
# start-base: PostgreSQL, Redis and the proxy, once and again.

setup_file() {
  load helper
  load stack
  stack startbase
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

@test "start-base: a port that is taken: exit 78 names it, nothing is started" {
  local taken
  taken=$(port)
  coproc TAKER {
    exec python3 -c 'import socket, sys; s = socket.create_server(("", int(sys.argv[1]))); print(flush=True); s.accept()' "$taken" 3>&-
  }
  # shellcheck disable=SC2153
  local pid=$TAKER_PID
  read -r _ <&"${TAKER[0]}"
  keel start-base
  kill "$pid"
  exits 78
  is stdout "$output" ""
  has "start-base: error: KEEL_HTTPS_PORT=$taken is taken by python3 (pid $pid)" "$stderr"
  has "start-base: hint: stop it, or choose another port in compose/$KEEL_ENV.env" "$stderr"
  is containers "$(docker ps -aq --filter "label=keel.env=$KEEL_ENV")" ""
}

@test "start-base: a port that a container has: exit 78 names the container" {
  local taken box
  taken=$(port)
  box=$(docker run --detach --publish "$taken:1" --entrypoint tail "$(image_of REDIS)" -f /dev/null)
  keel start-base
  docker rm --force --volumes "$box" >stopped
  exits 78
  [[ "$stderr" =~ "=$taken is taken by the container "[a-z]+_[a-z]+ ]]
  is containers "$(docker ps -aq --filter "label=keel.env=$KEEL_ENV")" ""
}

@test "start-base: --dry-run says what it would do and does nothing" {
  keel start-base --dry-run
  exits 0
  rehearsed
  is stdout "$output" ""
  has "start-base: would: docker compose " "$stderr"
  is containers "$(docker ps -aq --filter "label=keel.env=$KEEL_ENV")" ""
  [ ! -e "state/$KEEL_ENV/history" ]
}

@test "start-base: the lock is held, the disk is full, no engine: nothing is started" {
  refuses_a_lock start-base
  wants_disk start-base
  wants_an_engine start-base
  is containers "$(docker ps -aq --filter "label=keel.env=$KEEL_ENV")" ""
}

@test "start-base: everything is healthy when it returns, and nobody serves yet" {
  keel start-base
  exits 0
  is stdout "$output" ""
  has "start-base: keel-$KEEL_ENV: up, proxy nginx Up " "$stderr"
  is services "$(docker ps --filter "label=keel.env=$KEEL_ENV" --filter health=healthy --format '{{.Label "keel.role"}}' | sort | xargs)" \
    "postgres proxy redis"
  run public /
  has $'\n503' "$output"
  run public /__keel/generation
  is generation "$output" "1

200"
}

@test "start-base: again: the same containers, the same traffic" {
  local before
  before=$(docker ps -q --no-trunc --filter "label=keel.env=$KEEL_ENV" | sort)
  keel start-base -q
  exits 0
  is stdout "$output" ""
  is stderr "$stderr" ""
  is containers "$(docker ps -q --no-trunc --filter "label=keel.env=$KEEL_ENV" | sort)" "$before"
}

@test "start-base: a service that was stopped is started again" {
  docker stop "$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=redis)" >/dev/null
  keel start-base
  exits 0
  [ -n "$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=redis --filter health=healthy)" ]
}

@test "start-base, stop-base: an environment of this name that keeps its state elsewhere is somebody else's: exit 78, nothing is touched" {
  local before
  before=$(docker ps -q --no-trunc --filter "label=keel.env=$KEEL_ENV" | sort)
  for command in start-base stop-base; do
    KEEL_STATE=$TREE/elsewhere keel $command
    exits 78
    has "error: $KEEL_ENV runs on this host with its state in $TREE/state, not in $TREE/elsewhere" "$stderr"
  done
  is containers "$(docker ps -q --no-trunc --filter "label=keel.env=$KEEL_ENV" | sort)" "$before"
}

@test "start-base, stop-base: a checkout that was moved: exit 78 says how it goes back, and that works; and how it is moved for good" {
  local before hint
  bin/start-base -q
  before=$(docker ps -q --no-trunc --filter "label=keel.env=$KEEL_ENV" | sort)
  mv "$TREE" "$TREE.moved"
  for command in start-base stop-base; do
    run --separate-stderr "$TREE.moved/bin/$command"
    exits 78
    has "error: $KEEL_ENV runs on this host with its state in $TREE/state, not in $TREE.moved/state" "$stderr"
    has "hint: if this checkout was moved, move it back: mv $TREE.moved $TREE; " "$stderr"
    has "to move it for good: make down ENV=$KEEL_ENV there first" "$stderr"
  done
  hint=$(sed -n 's/.*: \(mv [^;]*\);.*/\1/p' <<<"$stderr")
  $hint
  keel start-base
  exits 0
  is containers "$(docker ps -q --no-trunc --filter "label=keel.env=$KEEL_ENV" | sort)" "$before"
  keel stop-base
  mv "$TREE" "$TREE.moved"
  "$TREE.moved/bin/start-base" -q
  "$TREE.moved/bin/stop-base" -q
  mv "$TREE.moved" "$TREE"
  keel start-base
  exits 0
}

@test "start-base: no certificate: exit 78 before anything is started" {
  mv "secrets/tls/$KEEL_ENV/cert.pem" aside.pem
  keel start-base
  mv aside.pem "secrets/tls/$KEEL_ENV/cert.pem"
  exits 78
  has "there is no cert.pem" "$stderr"
  has "make cert ENV=$KEEL_ENV" "$stderr"
}

@test "start-base: a service that is sick: exit 69 with its last words; mended, it comes up" {
  cp compose/base.yml aside
  sed -i 's/^ *appendonly yes$/&\n        no-such-directive 7/' compose/base.yml
  keel start-base
  mv aside compose/base.yml
  exits 69
  is stdout "$output" ""
  has "start-base: error: keel-$KEEL_ENV: does not come up" "$stderr"
  has "start-base: error: last lines of keel-$KEEL_ENV-redis-1:
start-base: error:   | " "$stderr"
  has no-such-directive "$stderr"
  hasnt "last lines of keel-$KEEL_ENV-postgres-1" "$stderr"
  has "start-base: hint: make doctor ENV=$KEEL_ENV; logs postgres|redis|proxy" "$stderr"
  keel start-base
  exits 0
}

@test "start-base: PgBouncer with another password than the volume was made with: exit 69, the hint is migrate's" {
  cp compose/base.yml aside
  # One that is sick is given two minutes, which nobody wants to wait here.
  sed -i 's/^  interval: 10s/  interval: 1s/; s/^  start_period: 120s/  start_period: 5s/' compose/base.yml
  KEEL_PGBOUNCER=on POSTGRES_PASSWORD=of-a-new-checkout keel start-base
  mv aside compose/base.yml
  exits 69
  is stdout "$output" ""
  has "last lines of keel-$KEEL_ENV-pgbouncer-1" "$stderr"
  is hint "$(grep hint: <<<"$stderr")" "start-base: hint: the volumes of keel-$KEEL_ENV were made with another POSTGRES_PASSWORD than that \
of secrets/$KEEL_ENV.env, as by an older checkout: take its secrets/$KEEL_ENV.env back; \
or make destroy ENV=$KEEL_ENV deletes their data (it asks)"
  KEEL_PGBOUNCER=on keel start-base
  exits 0
}
