#!/usr/bin/env bats
# restore: a backup brought back; what is there is only replaced when it was confirmed, and only by what is whole.

setup_file() {
  load helper
  load stack
  load backup
  stack rs
  up
  backup_keys
  rich_database
  sql "CREATE TABLE public.keel_seen (n int)"
  GOOD=$(bin/pg-backup -q)
  export GOOD
}

setup() {
  load helper
  load stack
  load backup
  cd "$TREE" || return
}

teardown_file() {
  load helper
  load stack
  down
}

databases() {
  sql "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname !~ '^(postgres|template)'"
}

@test "restore: into a new database: every row, its settings and rights, and nothing else is left" {
  keel restore "$GOOD" --to copy
  exits 0
  is stdout "$output" "$GOOD"
  has "restore: $GOOD: 6 tables with 2502 rows restored in " "$stderr"
  has "restore: $GOOD: restored to copy" "$stderr"
  is rows "$(hashes copy)" "$(hashes events)"
  local own="SELECT d.datacl, pg_get_userbyid(d.datdba), d.datcollate, (SELECT array_agg(s.setconfig::text ORDER BY 1)
    FROM pg_db_role_setting s WHERE s.setdatabase = d.oid) FROM pg_database d WHERE d.datname ="
  is "its own" "$(sql "$own 'copy'")" "$(sql "$own 'events'")"
  is sequence "$(sql copy "INSERT INTO shop.orders (customer, at) VALUES (1, now()) RETURNING id")" 2001
  is left "$(left_over)" ""
  is databases "$(databases)" "copy events"
  has '"command": "restore", "step": "end", "backup": "'"$GOOD" "$(tail -n 1 "state/$KEEL_ENV/history")"
  sql "DROP DATABASE copy"
}

@test "restore: what holds anything is replaced only when its name is given again" {
  sql "CREATE DATABASE full_one"
  sql full_one "CREATE TABLE precious (n int)"
  keel restore "$GOOD" --to full_one
  exits 1
  is stdout "$output" ""
  has "restore: error: the database full_one is there and holds 1 tables, views and large objects: nothing was changed" "$stderr"
  has "--confirm full_one" "$stderr"
  keel restore "$GOOD" --to full_one --confirm events
  exits 2
  sql full_one "SELECT n FROM precious"
  # somebody who is connected does not keep it from being replaced
  sql full_one "SELECT pg_sleep(600)" >/dev/null 2>&1 3>&- &
  local sleeper=$!
  until [ "$(sql "SELECT count(*) FROM pg_stat_activity WHERE datname = 'full_one'")" -eq 1 ]; do :; done
  keel restore "$GOOD" --to full_one --confirm full_one
  exits 0
  wait $sleeper && return 1
  is rows "$(hashes full_one)" "$(hashes events)"
  sql "DROP DATABASE full_one"
}

@test "restore: an empty database is filled without more ado" {
  sql "CREATE DATABASE empty_one"
  keel restore "$GOOD" --to empty_one
  exits 0
  is rows "$(hashes empty_one)" "$(hashes events)"
  sql "DROP DATABASE empty_one"
}

@test "restore: a damaged object: exit 65 names it before the target is touched" {
  local file
  file=$(object "$GOOD" database.dump)
  cp "$file" whole
  printf 'X' | dd of="$file" bs=1 seek=100000 conv=notrunc status=none
  sql "CREATE DATABASE safe"
  sql safe "CREATE TABLE precious (n int)"
  keel restore "$GOOD" --to safe --confirm safe
  cp whole "$file"
  exits 65
  is stdout "$output" ""
  has "restore: error: file://$TREE/$file: payload: chunk 1 is damaged" "$stderr"
  has "restore: hint: an older backup may be well: \`backups\` lists them; nothing was changed" "$stderr"
  is there "$(sql safe "SELECT count(*) FROM precious")" 0
  is databases "$(databases)" "events safe"
  is left "$(left_over)" ""
  sql "DROP DATABASE safe"
}

@test "restore: a damaged copy is named, and the next store is asked; with --store none but that: exit 65" {
  local file key two=$BATS_TEST_TMPDIR/two
  cp -R disk "$two"
  key=$(object "$GOOD" database.dump)
  file=$two/${key#disk/}
  local both="file://$two file://$TREE/disk"
  printf 'X' | dd of="$file" bs=1 seek=100000 conv=notrunc status=none
  sql "CREATE DATABASE safe"
  sql safe "CREATE TABLE precious (n int)"
  KEEL_BACKUP_STORES=$both keel restore "$GOOD" --to safe --confirm safe --store "file://$two"
  exits 65
  has "restore: hint: without --store the other stores are asked too; nothing was changed" "$stderr"
  is there "$(sql safe "SELECT count(*) FROM precious")" 0
  KEEL_BACKUP_STORES=$both keel restore "$GOOD" --to safe --confirm safe
  exits 0
  is stdout "$output" "$GOOD"
  has "restore: warning: file://$file: payload: chunk 1 is damaged: the next store is asked" "$stderr"
  has "restore: database.dump: taken from file://$TREE/disk, where it is well" "$stderr"
  # the dump, which is fetched first, is from the second store, the rest from the one that it began with
  is history "$(tail -n 2 "state/$KEEL_ENV/history" | jq -r '"\(.step) \(.store)"')" "begin file://$two
end file://$TREE/disk file://$two"
  is rows "$(hashes safe)" "$(hashes events)"
  KEEL_BACKUP_STORES=$both keel restore "$GOOD" --object database.dump --output dump
  exits 0
  bin/restore -q "$GOOD" --object database.dump --output - --store "file://$TREE/disk" | cmp - dump
  # of what is streamed bytes may be out by then
  KEEL_BACKUP_STORES=$both run ! --separate-stderr bin/restore "$GOOD" --object database.dump --output -
  is code "$status" 65
  is left "$(left_over)" ""
  # one that is cut short is passed over before anything is read
  truncate -s 1000 "$file"
  KEEL_BACKUP_STORES=$both keel restore "$GOOD" --to safe --confirm safe
  exits 0
  has "restore: warning: file://$file: has 1000 bytes, " "$stderr"
  rm dump
  sql "DROP DATABASE safe"
}

@test "restore: a dump that does not load: exit 1, PostgreSQL's words, the target as before" {
  local bad
  bin/restore -q "$GOOD" --object database.dump --output dump
  sed -i 's/CREATE TRIGGER stamp/CREATE TRIGGGR stamp/' dump
  bad=$(forge "$GOOD" "$(id 3600)" database.dump=@dump)
  rm dump
  sql "CREATE DATABASE safe"
  sql safe "CREATE TABLE precious (n int)"
  keel restore "$bad" --to safe --confirm safe
  exits 1
  has "syntax error at or near \"TRIGGGR\"" "$stderr"
  has "restore: hint: the half-made database was dropped; what was there is as before" "$stderr"
  is there "$(sql safe "SELECT count(*) FROM precious")" 0
  is databases "$(databases)" "events safe"
  # rows that are not those of the manifest
  bad=$(forge "$GOOD" "$(id 3500)" 'facts.rows={"shop.customers": 501}' 'held="a tenth of those before"')
  keel restore "$bad" --to safe --confirm safe
  exits 1
  has "restore: warning: $bad was held when it was made: a tenth of those before; \`backups\` tells" "$stderr"
  has "restore: error: shop.customers: 500 rows, 501 wanted" "$stderr"
  has "restore: error: shop.orders_new is there and was not when the backup was made" "$stderr"
  is databases "$(databases)" "events safe"
  sql "DROP DATABASE safe"
}

@test "restore: a role that is there with other rights is named, and left as it is; no password is told" {
  local rights="SELECT rolcreatedb, rolconnlimit, rolpassword, ARRAY(SELECT roleid::regrole::text FROM pg_auth_members
    WHERE member = a.oid ORDER BY 1) FROM pg_authid a WHERE rolname = 'owner_of_shop'" before secret
  sql "CREATE ROLE auditors; GRANT auditors TO owner_of_shop WITH ADMIN OPTION; ALTER ROLE owner_of_shop CREATEDB CONNECTION LIMIT 9;
    ALTER ROLE owner_of_shop SET statement_timeout = '9s'"
  before=$(sql "$rights")
  keel restore "$GOOD" --to copy
  exits 0
  is warnings "$(grep -F warning: <<<"$stderr")" "restore: warning: the role owner_of_shop is there with other rights or settings, and \
stays so: here CONNECTION LIMIT 9, CREATEDB, SET statement_timeout TO …, member of auditors with ADMIN OPTION; \
in the backup CONNECTION LIMIT 7, NOCREATEDB, SET statement_timeout TO …"
  is kept "$(sql "$rights")" "$before"
  secret=$(bin/restore -q "$GOOD" --object globals.sql --output - | sed -n "s/.*PASSWORD '\\([^']*\\)'.*/\\1/p" | head -n 1)
  [ "$secret" ]
  hasnt "$secret" "$stderr"
  hasnt SCRAM "$stderr"
  sql "DROP ROLE auditors; ALTER ROLE owner_of_shop NOCREATEDB CONNECTION LIMIT 7;
    ALTER ROLE owner_of_shop SET statement_timeout = '7s'"
  sql "DROP DATABASE copy"
  keel restore "$GOOD" --to copy
  exits 0
  hasnt warning "$stderr"
  sql "DROP DATABASE copy"
}

@test "restore: roles that are missing are made, others keep their passwords" {
  local before
  sql "REVOKE ALL ON DATABASE events FROM \"Odd \"\"role\"; DROP ROLE \"Odd \"\"role\""
  sql "ALTER ROLE owner_of_shop PASSWORD 'changed' CONNECTION LIMIT 3"
  before=$(sql "SELECT rolpassword, rolconnlimit FROM pg_authid WHERE rolname = 'owner_of_shop'")
  keel restore "$GOOD" --to copy
  exits 0
  has 'restore: made the roles Odd "role' "$stderr"
  is kept "$(sql "SELECT rolpassword, rolconnlimit FROM pg_authid WHERE rolname = 'owner_of_shop'")" "$before"
  is made "$(sql "SELECT rolcanlogin, rolpassword LIKE 'SCRAM-SHA-256%', pg_has_role(oid, 'reader', 'member')
    FROM pg_authid WHERE rolname = 'Odd \"role'")" "t|t|t"
  is right "$(sql "SELECT has_database_privilege('Odd \"role', 'copy', 'connect')")" t
  sql "DROP DATABASE copy"
}

@test "restore: --output: one object as it was; to stdout, or into a file of one's own that is not there yet" {
  bin/restore "$GOOD" --object globals.sql --output - >out
  grep -q '^CREATE ROLE reader;' out
  keel restore "$GOOD" --object globals.sql.zst.age --output file
  exits 0
  is stdout "$output" ""
  cmp out file
  is mode "$(stat -c %a file)" 600
  keel restore "$GOOD" --object globals.sql --output nowhere/file
  exits 1
  has "restore: error: nowhere/file cannot be written: nowhere: No such file or directory" "$stderr"
  keel restore "$GOOD" --object globals.sql --output file
  exits 1
  has "restore: error: file is there already: nothing was written" "$stderr"
  keel restore "$GOOD" --output -
  exits 2
  has "restore: hint: --object database.dump|globals.sql|server.json" "$stderr"
  keel restore "$GOOD" --object nothing --output -
  exits 65
  has "$GOOD: has no object nothing" "$stderr"
  rm out file
}

@test "restore: --output of what is damaged: exit 65 after what came out, and no file" {
  local file
  file=$(object "$GOOD" database.dump)
  cp "$file" whole
  truncate -s -1 "$file"
  printf 'X' >>"$file"
  run ! --separate-stderr bin/restore "$GOOD" --object database.dump --output -
  is code "$status" 65
  keel restore "$GOOD" --object database.dump --output file
  cp whole "$file"
  exits 65
  has "database.dump.zst.age: payload: " "$stderr"
  hasnt "came out" "$stderr"
  run ! ls file .file*
  keel restore "$GOOD" --object database.dump --output file
  exits 0
  rm file
}

@test "restore: --as-of: what was deleted or replaced in a bucket with versions comes back" {
  mkdir s3 pipe
  mkfifo pipe/in
  .venv/bin/python "$CHECKOUT/tests/s3server.py" "$TREE/s3" locked-past <pipe/in >pipe/out 2>pipe/err 3>&- &
  local server=$! before id
  exec 5>pipe/in
  until [ -s pipe/out ]; do kill -0 $server; done
  export AWS_ACCESS_KEY_ID=admin AWS_SECRET_ACCESS_KEY=admin-secret-of-the-tests KEEL_S3_STYLE=path
  export KEEL_S3_ENDPOINT KEEL_BACKUP_STORES=s3://locked-past/keel
  KEEL_S3_ENDPOINT=$(cat pipe/out)
  id=$(bin/pg-backup -q)
  before=$(date -u +%FT%TZ)
  until [ "$(date -u +%FT%TZ)" != "$before" ]; do :; done
  # as an intruder would: the manifest gone, the data replaced
  .venv/bin/python - "$id" <<'PY'
import sys
sys.path.insert(0, "lib")
from keel import settings, stores
s = settings.load()
store = stores.open_all(s)[0]
store.delete(f"{s.env}/manifests/{sys.argv[1]}")
store.put(f"{s.env}/objects/{sys.argv[1]}/database.dump.zst.age", b"nothing")
PY
  keel restore "$id" --to past
  exits 65
  has "s3://locked-past/keel: there is no $KEEL_ENV/manifests/$id" "$stderr"
  keel restore "$id" --to past --as-of 2020-01-01T00:00:00Z
  exits 65
  has "as of 2020-01-01T00:00:00Z: there is no" "$stderr"
  keel restore "$id" --to past --as-of "$before"
  exec 5>&-
  wait $server
  exits 0
  is rows "$(hashes past)" "$(hashes events)"
  sql "DROP DATABASE past"
}

@test "restore: --as-of with a folder says that it has no versions; a time that is none is usage" {
  keel restore "$GOOD" --object globals.sql --output - --as-of 2999-01-01T00:00:00Z
  exits 0
  has "restore: warning: file://$TREE/disk: a folder has no versions" "$stderr"
  keel restore "$GOOD" --object globals.sql --output - --as-of 2020-01-01T00:00:00Z
  exits 65
  keel restore "$GOOD" --to copy --as-of yesterday
  exits 2
  has "--as-of yesterday: a time as 2026-01-02T03:15:00Z is wanted" "$stderr"
}

@test "restore: what it does not do" {
  keel restore "$GOOD"
  exits 2
  keel restore "$GOOD" --to copy --output -
  exits 2
  keel restore "$GOOD" --to template1
  exits 2
  has "template1 is PostgreSQL's own database" "$stderr"
  for word in redis engine; do
    keel restore "$GOOD" --to $word --confirm $word
    exits 2
    has "restore: error: --to $word is for a backup of " "$stderr"
  done
  keel restore "$GOOD" --to copy --confirm out
  exits 2
  has "restore: error: --confirm out is not what would be replaced" "$stderr"
  keel restore "$GOOD" --object globals.sql --output - --confirm copy
  exits 2
  keel restore nonsense --to copy
  exits 65
  has "'nonsense' is not a backup id" "$stderr"
  keel restore 20010101T000000Z-pg-00000000 --to copy
  exits 65
  local newer
  newer=$(forge "$GOOD" "$(id 3400)" facts.server.version_num=180001 'facts.server.version="18.1"')
  keel restore "$newer" --to copy
  exits 78
  has "restore: error: the server is of version 17" "$stderr"
  keel restore -n "$GOOD" --to copy
  exits 0
  is stdout "$output" "$GOOD"
  is stderr "$stderr" "restore: would: restore $GOOD from file://$TREE/disk to copy"
  wants_an_engine restore "$GOOD" --to copy
  KEEL_MIN_FREE_DISK=900000t keel restore "$GOOD" --to copy
  exits 1
  has "not enough disk" "$stderr"
  is databases "$(databases)" events
  is left "$(left_over)" ""
}

# guest NAME DATABASE: a session named so in a database, such as monitoring has, which is there when this returns.
guest() {
  docker exec "$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=postgres)" \
    psql -XAtqw -U events -d "dbname=$2 application_name=$1" -c 'SELECT pg_sleep(600)' >/dev/null 2>&1 3>&- &
  until [ "$(sql "SELECT count(*) FROM pg_stat_activity WHERE application_name = '$1'")" = 1 ]; do kill -0 $!; done
}

@test "restore: sessions in the old database and in the new one end, and lose neither" {
  sql "CREATE DATABASE busy"
  sql busy "CREATE TABLE precious (n int)"
  guest old busy
  bin/restore "$GOOD" --to busy --confirm busy >out 2>log 3>&- &
  local restoring=$! aside=
  until [ "$aside" ]; do
    kill -0 $restoring
    aside=$(sql "SELECT datname FROM pg_database WHERE datname ~ '^keel_restore_'")
  done
  guest new "$aside"
  wait $restoring
  is stdout "$(cat out)" "$GOOD"
  is rows "$(hashes busy)" "$(hashes events)"
  is databases "$(databases)" "busy events"
  is guests "$(sql "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('old', 'new')")" 0
  is left "$(left_over)" ""
  sql "DROP DATABASE busy"
}

@test "restore: a name that somebody takes meanwhile stays theirs" {
  bin/restore "$GOOD" --to late >out 2>log 3>&- &
  local restoring=$! code=0
  until sql "SELECT datname FROM pg_database" | grep -q '^keel_restore_'; do kill -0 $restoring; done
  sql "CREATE DATABASE late"
  sql late "CREATE TABLE precious (n int)"
  wait $restoring || code=$?
  is code "$code" 69
  is stdout "$(cat out)" ""
  has 'database "late" already exists' "$(cat log)"
  has "restore: hint: late is as it was before; again: the backup is well" "$(cat log)"
  is there "$(sql late "SELECT count(*) FROM precious")" 0
  is databases "$(databases)" "events late"
  is left "$(left_over)" ""
  sql "DROP DATABASE late"
}

@test "restore: what was replaced and not dropped yet goes with the next" {
  sql "CREATE DATABASE keel_replaced_0123456789ab"
  keel restore "$GOOD" --to copy
  exits 0
  has "restore: dropped keel_replaced_0123456789ab, which a restore that was killed had left" "$stderr"
  is databases "$(databases)" "copy events"
  sql "DROP DATABASE copy"
}

@test "restore: one at a time; what a killed one left goes with the next" {
  sql "CREATE DATABASE held"
  sql held "CREATE TABLE precious (n int)"
  bin/restore "$GOOD" --to held --confirm held >/dev/null 2>log 3>&- &
  local first=$!
  until sql "SELECT datname FROM pg_database" | grep -q '^keel_restore_'; do kill -0 $first; done
  kill -STOP $first
  keel restore "$GOOD" --to other
  exits 75
  has "restore: error: restore of $KEEL_ENV is locked by pid $first: restore since 20" "$stderr"
  kill -9 $first
  wait $first || true
  [ -n "$(left_over)" ]
  until keel restore "$GOOD" --to copy; [ "$status" -ne 75 ]; do :; done
  exits 0
  has "restore: dropped keel_restore_" "$stderr"
  is databases "$(databases)" "copy events held"
  is there "$(sql held "SELECT count(*) FROM precious")" 0
  is left "$(left_over)" ""
  sql "DROP DATABASE copy"
  sql "DROP DATABASE held"
}

@test "restore: make restore: BACKUP, TO and CONFIRM reach it as they are" {
  run --separate-stderr make -s restore ENV="$KEEL_ENV" BACKUP="$GOOD" TO="odd'; touch injected; '" </dev/null
  exits 0
  [ ! -e injected ]
  sql "DROP DATABASE \"odd'; touch injected; '\""
  run --separate-stderr make -s restore ENV="$KEEL_ENV" BACKUP="$GOOD" TO=made </dev/null
  exits 0
  is stdout "$output" "$GOOD"
  run --separate-stderr make -s restore ENV="$KEEL_ENV" BACKUP="$GOOD" TO=made CONFIRM=made </dev/null
  exits 0
  is databases "$(databases)" "events made"
  sql "DROP DATABASE made"
}
