#!/usr/bin/env bats
# make-secrets: fills in what is missing, keeps what is there, tells nobody.

# shellcheck disable=SC2030,SC2031  # each test is a process of its own

setup() {
  load helper
  scratch
  file=secrets/development.env
  export DOCKER_HOST=unix:///nowhere.sock # what the engine of this machine has is no matter, but for the tests that ask it
}

teardown() {
  [ -z "${volume:-}" ] || docker volume rm "$volume" >/dev/null
}

# An environment whose database is there, and whose secrets have lost its password.
a_database() {
  unset DOCKER_HOST
  use_host
  if [ -n "$(host_value DOCKER_HOST)" ]; then DOCKER_HOST=$(host_value DOCKER_HOST) && export DOCKER_HOST; fi
  export KEEL_ENV=bats-secrets-$$
  cp compose/development.env "compose/$KEEL_ENV.env"
  file=secrets/$KEEL_ENV.env
  (umask 077; printf 'REDIS_PASSWORD=kept\n' >"$file")
  volume=$(docker volume create "keel-${KEEL_ENV}_postgres")
}

mode() { stat -c %a "$1"; }

@test "make-secrets: writes every secret of the schema, mode 0600, and env-check is content" {
  keel make-secrets
  exits 0
  is stdout "$output" ""
  is stderr "$stderr" "make-secrets: secrets/development.env: new: POSTGRES_PASSWORD, REDIS_PASSWORD"
  is mode "$(mode "$file")" 600
  is folder "$(mode secrets)" 700
  [ "$(grep -cE '^[A-Z_]+=[0-9a-f]{48}$' "$file")" -eq 2 ]
  keel env-check
  exits 0
}

@test "make-secrets: is private even under a loose umask, and leaves no other file behind" {
  umask 000
  keel make-secrets
  is mode "$(mode "$file")" 600
  is files "$(ls -A secrets)" development.env
}

@test "make-secrets: no two passwords are alike" {
  keel make-secrets
  KEEL_ENV=production keel make-secrets
  exits 0
  [ "$(grep -h = secrets/*.env | cut -d= -f2 | sort -u | wc -l)" -eq 4 ]
  is mode "$(mode secrets/production.env)" 600
}

@test "make-secrets: again changes nothing" {
  keel make-secrets
  before=$(sha256sum "$file")
  keel make-secrets
  exits 0
  is stderr "$stderr" "make-secrets: secrets/development.env: complete, nothing changed"
  is file "$(sha256sum "$file")" "$before"
}

@test "make-secrets: keeps the value that is there and adds the one that is not" {
  (umask 077; printf '# mine\nREDIS_PASSWORD=kept' >"$file")
  keel make-secrets
  exits 0
  is stderr "$stderr" "make-secrets: secrets/development.env: new: POSTGRES_PASSWORD"
  is first "$(head -2 "$file")" "# mine
REDIS_PASSWORD=kept"
  keel env-check
  exits 0
}

@test "make-secrets: a placeholder or nothing is no value" {
  (umask 077; printf 'POSTGRES_PASSWORD=CHANGE_ME\nOTHER=1\nREDIS_PASSWORD=\n' >"$file")
  keel make-secrets
  exits 0
  is lines "$(sed -E 's/[0-9a-f]{48}/X/' "$file")" "OTHER=1
POSTGRES_PASSWORD=X
REDIS_PASSWORD=X"
}

@test "make-secrets: a file that others could read is closed, with a warning" {
  printf 'POSTGRES_PASSWORD=a\nREDIS_PASSWORD=b\n' >"$file"
  keel make-secrets
  exits 0
  has "warning: secrets/development.env could be read by others" "$stderr"
  is mode "$(mode "$file")" 600
  is file "$(cat "$file")" "POSTGRES_PASSWORD=a
REDIS_PASSWORD=b"
}

@test "make-secrets: a file that cannot be understood is left alone" {
  (umask 077; printf 'POSTGRES_PASSWORD\n' >"$file")
  keel make-secrets
  exits 78
  has "line 1 is not NAME=value" "$stderr"
  is file "$(cat "$file")" POSTGRES_PASSWORD
}

@test "make-secrets: waits for another one that is writing, and then finds it done" {
  exec 9<secrets
  flock 9
  "$TREE/bin/make-secrets" 9<&- 2>said &
  until grep -q -- "-> FLOCK .*:$(stat -c %i secrets) " /proc/locks; do
    kill -0 $! # it may not end before it has waited
    sleep 0.02
  done
  some_secrets
  flock -u 9
  wait $!
  has "complete, nothing changed" "$(cat said)"
  is file "$(grep -c one "$file")" 1
}

@test "make-secrets: --dry-run writes nothing" {
  keel make-secrets --dry-run
  exits 0
  rehearsed
  is stdout "$output" ""
  has "would: write" "$stderr"
  is files "$(ls -A secrets)" ""
}

@test "make-secrets: an unknown environment" {
  export KEEL_ENV=stagin
  keel make-secrets
  exits 78
  has "did you mean staging?" "$stderr"
  is files "$(ls -A secrets)" ""
}

@test "make-secrets: no new password for a database that is there: exit 78, nothing is written" {
  a_database
  keel make-secrets
  exits 78
  is stdout "$output" ""
  has "make-secrets: error: $file: no POSTGRES_PASSWORD, and the database in the volume $volume has one" "$stderr"
  has "make-secrets: hint: put the old line back" "$stderr"
  has "make destroy ENV=$KEEL_ENV" "$stderr"
  is file "$(cat "$file")" REDIS_PASSWORD=kept
  rm "$file"
  keel make-secrets
  exits 78
  [ ! -e "$file" ]
  docker volume rm "$volume" >/dev/null
  volume=$(docker volume create "keel-$KEEL_ENV-other_postgres") # another environment's
  keel make-secrets
  exits 0
}

@test "make-secrets: with the database's password there, a new one for Redis is written" {
  a_database
  (umask 077; printf 'POSTGRES_PASSWORD=kept\n' >"$file")
  keel make-secrets
  exits 0
  is stderr "$stderr" "make-secrets: $file: new: REDIS_PASSWORD"
}

@test "make-secrets: an engine that does not answer, of an environment that has a history: exit 69, nothing is written" {
  mkdir -p var/development
  : >var/development/history
  (umask 077; mkdir -p secrets; printf 'REDIS_PASSWORD=kept\n' >"$file")
  keel make-secrets
  exits 69
  has "the engine does not answer" "$stderr"
  is file "$(cat "$file")" "REDIS_PASSWORD=kept"
}
