#!/usr/bin/env bats
# runbooks: every command of docs/restore.md, run as it stands there.

setup_file() {
  load helper
  load stack
  load backup
  stack rb
  up
  backup_keys
  sql "CREATE TABLE registrations (id text PRIMARY KEY, name text);
    INSERT INTO registrations SELECT 'r' || i, 'name ' || i FROM generate_series(1, 1000) i"
  SEEN=$(hashes events)
  GOOD=$(bin/pg-backup -q)
  bin/restore-verify -q "$GOOD" >/dev/null
  export GOOD SEEN
}

setup() {
  load helper
  load stack
  load backup
  cd "$TREE" || return
  PATH=$TREE/bin:$PATH
}

teardown_file() {
  load helper
  load stack
  down
}

# block NAME: the lines of the runbook's block of that name.
block() {
  awk -v name="$1" '$0 == "```sh " name { on = 1; next } /^```/ { on = 0 } on' "$CHECKOUT/docs/restore.md"
}

# follow NAME…: run the first block and then these, exactly as they stand there, as a person would at a shell that stops at an error.
follow() {
  local name
  for name in first "$@"; do
    [ -n "$(block "$name")" ] || { echo "docs/restore.md has no block $name"; return 1; }
    block "$name"
  done >steps
  run --separate-stderr bash -eu -o pipefail steps
  # shellcheck disable=SC2154
  [ "$status" -eq 0 ] || { printf '%s\n' "$output" "$stderr"; return 1; }
}

# There is no `db` to speak to before the server is up; the block says what it needs itself.
follow_server() {
  { block server-files; block whole-server; block server-rest; } >steps
  run --separate-stderr bash -eu -o pipefail steps
  [ "$status" -eq 0 ] || { printf '%s\n' "$output" "$stderr"; return 1; }
}

@test "runbooks: each block is run by a test here" {
  local name
  while read -r name; do
    grep -qE "(follow|block) .*\b$name\b" "$BATS_TEST_FILENAME" || { echo "no test runs the block $name"; return 1; }
  done < <(sed -n 's/^```sh //p' "$CHECKOUT/docs/restore.md" | grep -v '^first$')
  is plain "$(grep -cE '^```(sh)?$' "$CHECKOUT/docs/restore.md")" "$(grep -cE '^```sh [a-z-]+$' "$CHECKOUT/docs/restore.md")"
}

@test "runbooks: a table" {
  sql "DELETE FROM registrations WHERE id < 'r5'"
  sql "INSERT INTO registrations VALUES ('new', 'since the backup'); UPDATE registrations SET name = 'changed' WHERE id = 'r77'"
  follow one-table
  is rows "$(sql "SELECT count(*), count(*) FILTER (WHERE id IN ('new', 'r77') AND name ~ 'since|changed') FROM registrations")" "1001|2"
  is databases "$(sql "SELECT count(*) FROM pg_database WHERE datname = 'rescue'")" 0
}

@test "runbooks: a database" {
  sql "DROP TABLE registrations; CREATE TABLE rubbish (n int)"
  follow one-database
  is rows "$(hashes events)" "$SEEN"
}

@test "runbooks: a lost password" {
  local before file=secrets/$KEEL_ENV.env
  before=$(grep ^POSTGRES_PASSWORD= "$file")
  bin/files-backup -q --new-set | bin/restore-verify -q >/dev/null
  sed -i /^POSTGRES_PASSWORD=/d "$file"
  run bin/make-secrets
  [ "$status" -eq 78 ]
  follow lost-password
  is line "$(grep ^POSTGRES_PASSWORD= "$file")" "$before"
  [ ! -e secrets/rescued ]
  sed -i /^POSTGRES_PASSWORD=/d "$file"
  follow new-password
  is mode "$(stat -c %a "$file")" 600
  [ "$(grep ^POSTGRES_PASSWORD= "$file")" != "$before" ]
  run docker exec -e "PGPASSWORD=$(sed -n 's/^POSTGRES_PASSWORD=//p' "$file")" "keel-$KEEL_ENV-postgres-1" \
    psql -XAtq -h postgres -U events -d events -c 'SELECT 1'
  is answer "$output" 1
}

@test "runbooks: a whole server" {
  local secrets
  redis() {
    docker exec -e "REDISCLI_AUTH=$(sed -n 's/^REDIS_PASSWORD=//p' "secrets/$KEEL_ENV.env")" "keel-$KEEL_ENV-redis-1" redis-cli "$@"
  }
  redis SET seat 17 >/dev/null
  bin/redis-backup -q --new-set | bin/files-backup -q | bin/restore-verify -q >/dev/null
  secrets=$(sha256sum "secrets/$KEEL_ENV.env" "secrets/tls/$KEEL_ENV"/*)
  bin/stop-base -q --destroy "$KEEL_ENV"
  rm -r "secrets/$KEEL_ENV.env" secrets/tls
  follow_server
  is rows "$(hashes events)" "$SEEN"
  has "$GOOD" "$output"
  is secrets "$(sha256sum "secrets/$KEEL_ENV.env" "secrets/tls/$KEEL_ENV"/*)" "$secrets"
  is seat "$(redis GET seat)" 17
  [ ! -e secrets/rescued ]
}

@test "runbooks: without evenkeel: age, zstd, psql and pg_restore" {
  local box bin=$TREE/tools age
  mkdir "$bin"
  age=$("$CHECKOUT/.venv/bin/python" "$CHECKOUT/tests/age_command.py")
  ln -sf "$age" "$bin/age"
  box=$(docker run --detach --label "keel.env=$KEEL_ENV" --network none --user postgres --env POSTGRES_PASSWORD=x --volume /tmp:/tmp:ro \
    "$(image_of POSTGRES)")
  until docker exec "$box" pg_isready -q -h 127.0.0.1; do [ "$(docker inspect -f '{{.State.Running}}' "$box")" = true ]; done
  for name in psql pg_restore; do
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nexec docker exec "%s" %s "$@"\n' "$box" $name >"$bin/$name"
    chmod +x "$bin/$name"
  done
  STORE=$TREE/disk KEY=$TREE/secrets/backup-identity.txt PATH=$bin:$PATH follow by-hand
  is rows "$(docker exec "$box" psql -XAtq -d events -c "SELECT count(*), sum(hashtext(r::text)::bigint) FROM registrations r")" \
    "$(sql "SELECT count(*), sum(hashtext(r::text)::bigint) FROM registrations r")"
  docker rm --force --volumes "$box" >/dev/null
  rm -f /tmp/globals.sql /tmp/database.dump
}

@test "runbooks: without evenkeel: is it what was stored" {
  export STORE=$TREE/disk SIGNER
  SIGNER=$(awk '{print $2}' backup/signers)
  follow by-hand-check
  has "Signature Verified Successfully" "$output"
  is whole "$(grep -c ': OK$' <<<"$output")" 3
  # and it says so when it is not
  cp "$(object "$GOOD" globals.sql)" whole
  python3 -c 'import sys; d = bytearray(open(sys.argv[1], "rb").read()); d[-1] ^= 1; open(sys.argv[1], "wb").write(d)' \
    "$(object "$GOOD" globals.sql)"
  run follow by-hand-check
  cp whole "$(object "$GOOD" globals.sql)"
  [ "$status" -ne 0 ]
  has "globals.sql.zst.age: FAILED" "$output"
  rm -f /tmp/key.pem /tmp/body /tmp/signature
}

@test "runbooks: a lost identity" {
  export SAFE=$TREE/safe
  mkdir "$SAFE"
  mv secrets/backup-identity.txt "$SAFE/identity.txt"
  follow lost-identity
  run bin/restore -q "$GOOD" --object globals.sql --output -
  mv "$SAFE/identity.txt" secrets/backup-identity.txt
  [ "$status" -eq 78 ]
}

@test "runbooks: somebody has got in" {
  mkdir s3 pipe
  mkfifo pipe/in
  .venv/bin/python "$CHECKOUT/tests/s3server.py" "$TREE/s3" locked-past <pipe/in >pipe/out 2>pipe/err 3>&- &
  local server=$! id
  exec 5>pipe/in
  until [ -s pipe/out ]; do kill -0 $server; done
  export AWS_ACCESS_KEY_ID=admin AWS_SECRET_ACCESS_KEY=admin-secret-of-the-tests KEEL_S3_STYLE=path BEFORE
  export KEEL_S3_ENDPOINT KEEL_BACKUP_STORES=s3://locked-past/keel
  KEEL_S3_ENDPOINT=$(cat pipe/out)
  id=$(bin/pg-backup -q)
  bin/restore-verify -q --level 3 "$id" >/dev/null
  BEFORE=$(date -u +%FT%TZ)
  until [ "$(date -u +%FT%TZ)" != "$BEFORE" ]; do :; done
  .venv/bin/python - <<'PY'
import sys
sys.path.insert(0, "lib")
from keel import settings, stores
s = settings.load()
store = stores.open_all(s)[0]
for o in list(store.list()):
    store.delete(o.key)
PY
  is "nothing is left" "$(bin/backups -q)" ""
  BACKUP=$id
  export BACKUP
  block somebody-got-in >steps
  run --separate-stderr bash -eu -o pipefail steps
  exec 5>&-
  wait $server
  [ "$status" -eq 0 ] || { printf '%s\n' "$output" "$stderr"; return 1; }
  has "$id  pg " "$output"
  has "restores L3" "$output"
  is rows "$(hashes events_before)" "$SEEN"
}
