#!/usr/bin/env bats
# stop-base: everything stops; data goes only by its name.

psql_() {
  docker exec "$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=postgres)" psql -qAtU events -c "$1" events
}

setup_file() {
  load helper
  load stack
  stack stopbase
  up
  IMAGE=$(built)
  export IMAGE
  id=$(release "$IMAGE")
  echo "$id" >id
  psql_ "create table kept (n int); insert into kept values (7)"
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

running() { docker ps -q --filter "label=keel.env=$KEEL_ENV" | wc -l; }

@test "stop-base: the name of another environment: exit 1, nothing is stopped" {
  keel stop-base --destroy production
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "stop-base: error: --destroy production: this is $KEEL_ENV; nothing was stopped
stop-base: hint: stop-base --destroy $KEEL_ENV"
  is running "$(running)" 4
}

@test "stop-base: --ask where nobody can answer: exit 1, nothing is stopped" {
  keel stop-base --ask
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "stop-base: error: nobody is at the terminal to confirm
stop-base: hint: stop-base --destroy $KEEL_ENV"
  is running "$(running)" 4
}

@test "stop-base: --ask at a terminal, and another name is typed: nothing is stopped" {
  run python3 "$CHECKOUT/tests/terminal.py" --type production 10 bin/stop-base --ask
  is status "$status" 1
  has "Delete the data of $KEEL_ENV? Type its name: " "$output"
  has "this is $KEEL_ENV; nothing was stopped" "$output"
  is running "$(running)" 4
}

@test "stop-base: --ask at a terminal, and nothing is typed but Ctrl-D: exit 1, nothing is stopped" {
  run python3 "$CHECKOUT/tests/terminal.py" --type $'\004' 10 bin/stop-base --ask
  is status "$status" 1
  has "stop-base: error: no answer: nothing was done" "$output"
  is running "$(running)" 4
}

@test "stop-base: --dry-run, a lock that is held, no engine: nothing is stopped" {
  keel stop-base --dry-run
  exits 0
  rehearsed
  is stdout "$output" ""
  has "stop-base: would: docker compose " "$stderr"
  refuses_a_lock stop-base
  wants_an_engine stop-base
  is running "$(running)" 4
}

@test "stop-base: stops releases and base, and a container that no backup knows of any more; volumes and state stay" {
  docker create --label "keel.env=$KEEL_ENV" --label "keel.spool=$(realpath state)/$KEEL_ENV/spool/0badcafe" \
    "$(docker inspect --format '{{.Image}}' "keel-$KEEL_ENV-postgres-1")"
  keel stop-base
  exits 0
  is stdout "$output" ""
  is stderr "$stderr" "stop-base: keel-$KEEL_ENV: stopped, its data stays"
  is containers "$(docker ps -aq --filter "label=keel.env=$KEEL_ENV")" ""
  is networks "$(docker network ls -q --filter "name=keel-$KEEL_ENV")" ""
  is volumes "$(docker volume ls -q --filter "name=keel-$KEEL_ENV" | sort | xargs)" "keel-${KEEL_ENV}_postgres keel-${KEEL_ENV}_redis"
  [ -f "state/$KEEL_ENV/releases/$(cat id)" ]
}

@test "stop-base: the secrets file is lost, or open to others: everything stops all the same" {
  up
  chmod 644 "secrets/$KEEL_ENV.env"
  keel stop-base --dry-run
  exits 0
  mv "secrets/$KEEL_ENV.env" aside
  keel stop-base
  mv aside "secrets/$KEEL_ENV.env"
  chmod 600 "secrets/$KEEL_ENV.env"
  exits 0
  is stderr "$stderr" "stop-base: keel-$KEEL_ENV: stopped, its data stays"
  is containers "$(docker ps -aq --filter "label=keel.env=$KEEL_ENV")" ""
}

@test "stop-base: again: nothing to do, exit 0" {
  keel stop-base
  exits 0
  is stderr "$stderr" "stop-base: keel-$KEEL_ENV: stopped, its data stays"
}

@test "stop-base: what was in the database is there after the next start; --destroy with the right name deletes it" {
  up
  is row "$(psql_ "select n from kept")" 7
  keel stop-base --destroy "$KEEL_ENV"
  exits 0
  is stdout "$output" ""
  is stderr "$stderr" "stop-base: keel-$KEEL_ENV: stopped, its data is deleted"
  is volumes "$(docker volume ls -q --filter "name=keel-$KEEL_ENV")" ""
  is state "$(cd "state/$KEEL_ENV" && echo *)" "history lock"
}
