#!/usr/bin/env bats
# restore-verify: what restores is printed, all else is named; the verdict lies beside the backup, and nothing else is left.

setup_file() {
  load helper
  load stack
  load backup
  stack rv
  up
  backup_keys
  rich_database
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

# cleared: only the good backup is left in the store, with no verdict on it.
cleared() {
  local folder
  for folder in "disk/$KEEL_ENV/"{manifests,objects,verdicts}/*; do
    case $folder in */manifests/"$GOOD" | */objects/"$GOOD") ;; *) rm -rf "$folder" ;; esac
  done
}

# refused ID TEXT: it does not restore: exit 1, the reason, a verdict that says so, no handle.
refused() {
  keel restore-verify "$1"
  exits 1
  is stdout "$output" ""
  has "$2" "$stderr"
  has "restore-verify: $1: not well (" "$stderr"
  has "$2" "$(verdict "$1" | jq -r '.findings[]')"
  is left "$(left_over)" ""
}

@test "restore-verify: prints what restores, signs the verdict, and leaves nothing else" {
  keel restore-verify "$GOOD"
  exits 0
  is stdout "$output" "$GOOD"
  [[ $stderr =~ "restore-verify: $GOOD: restores, L5, "[0-9.]+" s (RTO 4h: "[0-9.e-]+" %; 2 times the data about " ]]
  is verdict "$(verdict "$GOOD" | jq -r '[.backup, .ok, .level, (.findings | length), (.seconds | keys | join(" "))] | join("|")')" \
    "$GOOD|true|5|0|amcheck analyze checks download find globals restore start"
  is left "$(left_over)" ""
}

@test "restore-verify: a filter: prints those that restore, and exits 1 when one did not" {
  local bad
  cleared
  bad=$(forge "$GOOD" "$(id 7200)" 'facts.rows={}')
  run --separate-stderr bash -c 'printf "%s\n" "$@" | bin/restore-verify' - "$bad" "$GOOD"
  exits 1
  is stdout "$output" "$GOOD"
  is verdicts "$(verdict "$bad" | jq .ok) $(verdict "$GOOD" | jq .ok)" "false true"
}

@test "restore-verify: --level stops earlier, and the verdict says where" {
  cleared
  for level in 0 1 2 3 4; do
    keel restore-verify --level $level "$GOOD"
    exits 0
    is stdout "$output" "$GOOD"
    is verdict "$(verdict "$GOOD" | jq -r '[.ok, .level] | tostring')" "[true,$level]"
    keel backups
    if [ $level -gt 2 ]; then has "  restores L$level 20" "$output"; else has "  whole L$level 20" "$output"; fi
    [ $level -eq 4 ] || rm -r "disk/$KEEL_ENV/verdicts"
  done
  # nor does a look undo what a restore showed
  keel restore-verify --level 0 "$GOOD"
  exits 0
  keel backups
  has "  restores L4 20" "$output"
}

@test "restore-verify: each level sees what is below the next: damage that only it can see" {
  local bad
  cleared
  # 1: a byte; 0 does not read it
  bad=$(forge "$GOOD" "$(id 7200)")
  printf X | dd of="$(object "$bad" database.dump)" bs=1 seek=70000 conv=notrunc status=none
  keel restore-verify --level 0 "$bad"
  exits 0
  keel restore-verify --level 1 "$bad"
  exits 1
  has "payload: chunk 1 is damaged" "$stderr"
  # 2: a dump that was cut short before it was signed; 1 does not look inside
  bin/restore -q "$GOOD" --object database.dump --output dump
  head -c -100000 dump >shorter
  bad=$(forge "$GOOD" "$(id 7100)" database.dump=@shorter)
  keel restore-verify --level 1 "$bad"
  exits 0
  keel restore-verify --level 2 "$bad"
  exits 1
  has "pg_restore: pg_restore: error: could not read from input file: end of file" "$stderr"
  # 3: SQL that does not load; 2 only reads it
  sed 's/CREATE TRIGGER stamp/CREATE TRIGGGR stamp/' dump >wrong
  bad=$(forge "$GOOD" "$(id 7000)" database.dump=@wrong)
  keel restore-verify --level 2 "$bad"
  exits 0
  keel restore-verify --level 3 "$bad"
  exits 1
  has 'syntax error at or near "TRIGGGR"' "$stderr"
  # 4: another schema; 3 does not compare
  sed 's/coalesce(NEW.amount, 1)/coalesce(NEW.amount, 2)/' dump >other
  bad=$(forge "$GOOD" "$(id 6900)" database.dump=@other)
  keel restore-verify --level 3 "$bad"
  exits 0
  keel restore-verify --level 4 "$bad"
  exits 1
  has "the schema is not the one that was backed up" "$stderr"
  # and what only 4 can see a 1 does not make well again
  keel restore-verify --level 1 "$bad"
  exits 0
  keel backups --json
  is stands "$(jq -c 'select(.id == "'"$bad"'") | [.ok, .level]' <<<"$output")" '[false,4]'
  rm dump shorter wrong other
}

@test "restore-verify: a missing role, an empty database, other facts: fails and says what" {
  local bad
  cleared
  bin/restore -q "$GOOD" --object globals.sql --output roles
  grep -v owner_of_shop roles >fewer
  refused "$(forge "$GOOD" "$(id 7200)" globals.sql=@fewer)" 'role "owner_of_shop" does not exist'
  grep -v 'ROLE "Odd' roles | grep -v '"Odd' >fewer
  refused "$(forge "$GOOD" "$(id 7100)" globals.sql=@fewer)" 'Odd'
  rm roles fewer
  bad=$(forge "$GOOD" "$(id 7000)" 'facts.rows={"shop.customers": 501, "shop.gone": 3}' 'facts.extensions.nowhere="0.1"' \
    facts.large_objects=4 'facts.sequences={"shop.gone_seq": 1}' 'facts.roles=["nobody"]' \
    'facts.not_validated=[]' 'facts.schema_sha256="0"' 'facts.database.ctype="POSIX"')
  refused "$bad" "shop.customers: 500 rows, 501 wanted"
  has "shop.gone is not there; it had 3 rows" "$stderr"
  has "shop.orders_new is there and was not when the backup was made" "$stderr"
  has "extension nowhere is not there" "$stderr"
  has "3 large objects, 4 wanted" "$stderr"
  has "sequence shop.gone_seq is not there" "$stderr"
  has "role nobody is not there" "$stderr"
  has "constraint not validated: shop.long_enough too" "$stderr"
  has "the schema is not the one that was backed up" "$stderr"
  has "the database has the character type 'C.UTF-8', not 'POSIX'" "$stderr"
}

@test "restore-verify: an empty database: fails where an earlier backup had rows, and where nobody said that it may be empty" {
  local empty
  cleared
  sql "CREATE DATABASE empty_one"
  PGDATABASE=empty_one keel pg-backup -q
  exits 0
  empty=$output
  has "pg-backup: warning: no table of empty_one has a row: is it the right database? restore-verify will refuse this backup" "$stderr"
  KEEL_BACKUP_EMPTY=on refused "$empty" "no table has a row; $GOOD had 2502"
  mv "disk/$KEEL_ENV/manifests/$GOOD" aside
  refused "$empty" "no table of the database empty_one has a row: is it the right one? KEEL_BACKUP_EMPTY=on where it is meant to be empty"
  KEEL_BACKUP_EMPTY=on keel restore-verify "$empty"
  mv aside "disk/$KEEL_ENV/manifests/$GOOD"
  exits 0
  sql "DROP DATABASE empty_one"
}

@test "restore-verify: a sequence behind its column, an index that does not hold all rows" {
  local bad
  cleared
  bin/restore -q "$GOOD" --object database.dump --output dump
  sed "s/setval('shop.orders_id_seq', 2000, true)/setval('shop.orders_id_seq', 1000, true)/" dump >behind
  refused "$(forge "$GOOD" "$(id 7200)" database.dump=@behind)" "sequence shop.orders_id_seq is at 1000, shop.orders has 2000"
  rm dump behind
  # A function that is said to be immutable and is not: the index was right when it was built, and is not when it is checked.
  sql "CREATE DATABASE fickle"
  sql fickle "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000);
    CREATE FUNCTION f(i int) RETURNS text IMMUTABLE LANGUAGE sql AS \$\$ SELECT i::text || current_setting('application_name') \$\$;
    CREATE INDEX ON t (f(a))"
  bad=$(PGDATABASE=fickle bin/pg-backup -q)
  keel restore-verify --level 4 "$bad"
  exits 0
  refused "$bad" "lacks matching index tuple"
  sql "DROP DATABASE fickle"
}

@test "restore-verify: what PostgreSQL writes otherwise once loaded, a sequence behind its table already: good; a lost constraint: bad" {
  local good less bad words="('a', 'it''s')"
  cleared
  sql "CREATE DATABASE worded"
  sql worded "CREATE TABLE t (id serial PRIMARY KEY, i int CONSTRAINT over CHECK (i > 0), kind varchar(9) CHECK (kind IN $words),
      other varchar CHECK (other NOT IN $words), is_a text GENERATED ALWAYS AS (CASE WHEN kind IN $words THEN 'x' END) STORED);
    CREATE INDEX ON t (i) WHERE kind IN $words; CREATE VIEW v AS SELECT * FROM t WHERE kind IN $words;
    CREATE MATERIALIZED VIEW m AS SELECT i FROM t WHERE kind IN $words; CREATE POLICY p ON t USING (kind IN $words);
    CREATE STATISTICS s ON (kind IN $words), i FROM t; CREATE DOMAIN d AS varchar CHECK (VALUE IN $words);
    CREATE TABLE never (id serial); INSERT INTO never VALUES (7);
    INSERT INTO t (kind, i) SELECT 'a', 1 + i FROM generate_series(1, 100) i"
  is sequence "$(sql worded "SELECT setval('t_id_seq', 50)")" 50
  good=$(PGDATABASE=worded bin/pg-backup -q)
  keel restore-verify "$good"
  exits 0
  is stdout "$output" "$good"
  has "$good: 7 definitions are written otherwise since they were loaded, and mean the same" "$stderr"
  has "$good: sequence public.t_id_seq is at 50, public.t has 100, as when it was backed up" "$stderr"
  has "$good: sequence public.never_id_seq is at 0, public.never has 7, as when it was backed up" "$stderr"
  is verdict "$(verdict "$good" | jq -r '[.ok, .level, (.findings | length)] | tostring')" "[true,5,0]"
  # a dump that lacks a constraint which the living schema had, and one that has it
  sql worded "ALTER TABLE t DROP CONSTRAINT over"
  less=$(PGDATABASE=worded bin/pg-backup -q)
  bin/restore -q "$less" --object database.dump --output dump
  bad=$(forge "$good" "$(id 7200)" database.dump=@dump)
  refused "$bad" "the schema is not the one that was backed up"
  rm dump
  # a sequence that fell behind since
  bad=$(forge "$good" "$(id 7100)" 'facts.sequences={"public.t_id_seq": 100, "public.never_id_seq": null}')
  refused "$bad" "sequence public.t_id_seq is at 50, public.t has 100"
  sql "DROP DATABASE worded"
}

@test "restore-verify: the newest event must be near the backup's time; the data itself is not called bad" {
  local stale
  cleared
  sql "CREATE DATABASE quiet"
  sql quiet "CREATE TABLE events (at timestamptz); INSERT INTO events VALUES (now() - interval '30 hours')"
  stale=$(PGDATABASE=quiet KEEL_BACKUP_NEWEST="SELECT max(at) FROM events" bin/pg-backup -q)
  KEEL_BACKUP_NEWEST="SELECT max(at) FROM events" refused "$stale" "30 h before the backup: KEEL_BACKUP_RPO is 24 h"
  is "the data is well" "$(verdict "$stale" | jq -c '[.ok, .level]')" "[true,5]"
  KEEL_BACKUP_RPO=31h KEEL_BACKUP_NEWEST="SELECT max(at) FROM events" keel restore-verify "$stale"
  exits 0
  KEEL_BACKUP_NEWEST="SELECT max(at) FROM events WHERE false" keel restore-verify "$stale"
  exits 1
  has "KEEL_BACKUP_NEWEST finds no event at all" "$stderr"
  # as of a schema that did not have it yet: everything else is tried and signed
  KEEL_BACKUP_NEWEST="SELECT max(at) FROM happenings" keel restore-verify "$stale"
  exits 1
  has 'KEEL_BACKUP_NEWEST: ERROR:  42P01: relation "happenings" does not exist' "$stderr"
  is "the data is well" "$(verdict "$stale" | jq -c '[.ok, .level]')" "[true,5]"
  sql "DROP DATABASE quiet"
}

@test "restore-verify: another system's backup is not printed; the data itself is not called bad" {
  local bad
  cleared
  bad=$(forge "$GOOD" "$(id 7200)" 'lineage="7000000000000000001"')
  keel restore-verify --level 3 "$bad"
  exits 1
  is stdout "$output" ""
  has "it is a backup of 7000000000000000001, and PostgreSQL of $KEEL_ENV is 7" "$stderr"
  is verdict "$(verdict "$bad" | jq -r '[.ok, (.findings | length)] | tostring')" "[true,1]"
  keel restore-verify --level 1 --lineage 7000000000000000001 "$bad"
  exits 0
  # where no server runs, the newest earlier backup tells
  docker stop "$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=postgres)" >/dev/null
  keel restore-verify --level 1 "$GOOD"
  bin/start-base -q
  exits 1
  has "it is a backup of 7" "$stderr"
  has ", and $bad is 7000000000000000001" "$stderr"
}

@test "restore-verify: --newest: of each kind the newest, and not yesterday's" {
  local old
  cleared
  old=$(forge "$GOOD" "$(id 200000)")
  keel restore-verify --newest --level 1
  exits 0
  is stdout "$output" "$GOOD"
  rm -r "disk/$KEEL_ENV/verdicts"
  mv "disk/$KEEL_ENV/manifests/$GOOD" aside
  keel restore-verify --newest --level 1
  mv aside "disk/$KEEL_ENV/manifests/$GOOD"
  exits 1
  is stdout "$output" ""
  has "$old: is 56 h old, and the newest there is: KEEL_BACKUP_MAX_AGE=52h" "$stderr"
  is verdict "$(verdict "$old" | jq -r '[.ok, (.findings | length)] | tostring')" "[true,1]"
  keel restore-verify --level 1 "$old"
  exits 0
  keel restore-verify --newest "$old"
  exits 2
  mv "disk/$KEEL_ENV" aside
  keel restore-verify --newest
  mv aside "disk/$KEEL_ENV"
  exits 1
  has "restore-verify: error: $KEEL_ENV has no backup in file://$TREE/disk" "$stderr"
}

@test "restore-verify: --newest: one that does not verify is named and exit 65; the kind's real newest is restored all the same" {
  local stray
  cleared
  stray=$(id)
  sed "s/$GOOD/$stray/" "disk/$KEEL_ENV/manifests/$GOOD" >"disk/$KEEL_ENV/manifests/$stray"
  keel restore-verify --newest --level 1
  rm "disk/$KEEL_ENV/manifests/$stray"
  exits 65
  is stdout "$output" "$GOOD"
  has "restore-verify: error: file://$TREE/disk: $KEEL_ENV/manifests/$stray: its signature does not verify" "$stderr"
  is verdict "$(verdict "$GOOD" | jq -r .ok)" true
}

@test "restore-verify: --older: besides the newest an older one in its turn, which is not failed for its age or its server" {
  local first second
  cleared
  first=$(forge "$GOOD" "$(id 16000000)")
  second=$(forge "$GOOD" "$(id 8000000)" 'lineage="7000000000000000001"')
  keel restore-verify --newest --older 1
  exits 0
  is stdout "$output" "$GOOD"$'\n'"$first"
  has "restore-verify: $first: its turn: never restored" "$stderr"
  has "restore-verify: $first: restores, L5, " "$stderr"
  is verdict "$(verdict "$first" | jq -r '[.ok, .level, (.findings | length)] | tostring')" "[true,5,0]"
  [ ! -e "disk/$KEEL_ENV/verdicts/$second" ]
  keel restore-verify --newest --older 1 --level 3
  exits 0
  is stdout "$output" "$GOOD"$'\n'"$second"
  has "$second: it is a backup of 7000000000000000001, and PostgreSQL of $KEEL_ENV is 7" "$stderr"
  is verdict "$(verdict "$second" | jq -r '[.ok, (.findings | length)] | tostring')" "[true,0]"
  # each had its turn: the first is the next again, and it has rotted meanwhile
  printf X | dd of="$(object "$first" database.dump)" bs=1 seek=70000 conv=notrunc status=none
  keel restore-verify --newest --older 1 --level 1
  exits 1
  is stdout "$output" "$GOOD"
  has "restore-verify: $first: its turn: of its kind restored the longest ago, 20" "$stderr"
  has "payload: chunk 1 is damaged" "$stderr"
  is verdict "$(verdict "$first" | jq .ok)" false
  # as is known now
  keel restore-verify --newest --older 5 --level 1
  exits 0
  is stdout "$output" "$GOOD"$'\n'"$second"
  keel restore-verify --older 1 "$GOOD"
  exits 2
}

@test "restore-verify: --older: of a retired identity: exit 65, which one is needed, no verdict; with it all is well" {
  local old new
  cleared
  old=$(head -n 1 backup/recipients)
  cp secrets/backup-identity.txt first.identity
  cp backup/recipients first.recipients
  rm secrets/backup-identity.txt
  bin/backup-keys make identity -q --output secrets/backup-identity.txt --comment "from 2027 on"
  sed -i "s/^$old$/# retired & operator until 2027/" backup/recipients
  new=$(bin/pg-backup -q)
  keel restore-verify --newest --older 1 --level 1
  exits 65
  is stdout "$output" "$new"
  has "error: $GOOD: database.dump.zst.age, globals.sql.zst.age, server.json.zst.age: no identity of " "$stderr"
  has "hint: add the identity of $old (retired, operator until 2027) or age1" "$stderr"
  [ ! -e "disk/$KEEL_ENV/verdicts/$GOOD" ]
  cat first.identity >>secrets/backup-identity.txt
  keel restore-verify --newest --older 1 --level 1
  mv first.identity secrets/backup-identity.txt
  mv first.recipients backup/recipients
  exits 0
  is stdout "$output" "$new"$'\n'"$GOOD"
}

@test "restore-verify: an image with other versions of extensions and collations: said, the backup is good" {
  local old
  cleared
  old=$(forge "$GOOD" "$(id 8000000)" 'facts.extensions.hstore="0.1"' 'facts.database.collation_version="1.0"' \
    'facts.collations={"shop.german": "1.0"}')
  keel restore-verify "$old"
  exits 0
  is stdout "$output" "$old"
  has "$old: extension hstore: version '1." "$stderr"
  has "$old: collation of the database: version " "$stderr"
  has "$old: collation shop.german: version " "$stderr"
  is verdict "$(verdict "$old" | jq -r '[.ok, .level, (.findings | length)] | tostring')" "[true,5,0]"
}

@test "restore-verify: of an older major version: restored into today's image, as it would be; its versions are said and no fault" {
  local old
  cleared
  old=$(forge "$GOOD" "$(id 8000000)" facts.server.version_num=160004 'facts.server.version="16.4"' 'facts.extensions.hstore="0.1"' \
    'facts.database.collation_version="1.0"' 'facts.client="pg_dump (PostgreSQL) 16.4"')
  keel restore-verify "$old"
  exits 0
  is stdout "$output" "$old"
  has "the backup is of PostgreSQL 16.4: it is restored into postgres (PostgreSQL) 17" "$stderr"
  has "$old: extension hstore: version '1." "$stderr"
  has "$old: collation of the database: version " "$stderr"
  has "$old: schema not compared" "$stderr"
  is verdict "$(verdict "$old" | jq -r '[.ok, .level, (.findings | length)] | tostring')" "[true,5,0]"
  # all else is held against it
  refused "$(forge "$old" "$(id 7900000)" 'facts.large_objects=4')" "3 large objects, 4 wanted"
}

@test "restore-verify: the scratch server has KEEL_RESTORE_MEMORY and no more; where that is too little: exit 69, no verdict" {
  local hungry first box
  cleared
  KEEL_RESTORE_MEMORY=300m bin/restore-verify -q "$GOOD" >out 3>&- &
  first=$!
  until box=$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=scratch | grep .); do kill -0 $first; done
  is limits "$(docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.OomScoreAdj}}' "$box")" \
    "$((300 << 20)) $((300 << 20)) 1000"
  wait $first
  # An index whose making takes 400 MB for a moment: the server itself may have 1 GB.
  sql "CREATE DATABASE hungry"
  sql hungry "CREATE TABLE t (a int); INSERT INTO t VALUES (1);
    CREATE FUNCTION big(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN length(repeat(''x'', 400000000)) + i; END';
    CREATE INDEX ON t (big(a))"
  hungry=$(PGDATABASE=hungry bin/pg-backup -q)
  KEEL_RESTORE_MEMORY=200m keel restore-verify "$hungry"
  exits 69
  is stdout "$output" ""
  [[ $stderr =~ "restore-verify: error: keel-$KEEL_ENV-scratch-"[0-9a-f]+": out of memory: it may have 200 MiB" ]]
  has "hint: a larger KEEL_RESTORE_MEMORY, or fewer KEEL_RESTORE_JOBS" "$stderr"
  [ ! -e "disk/$KEEL_ENV/verdicts/$hungry" ]
  is left "$(left_over)" ""
  keel restore-verify "$hungry"
  exits 0
  sql "DROP DATABASE hungry"
}

# short SQL: a backup of a database with a check that does this, but not in the living server.
short() {
  sql "CREATE DATABASE short"
  sql short "CREATE FUNCTION f(i int) RETURNS bool LANGUAGE plpgsql AS \$\$ BEGIN
      IF current_setting('listen_addresses') = '' THEN $1; END IF; RETURN true; END \$\$;
    CREATE TABLE t (i int CHECK (f(i))); INSERT INTO t VALUES (1)"
  PGDATABASE=short bin/pg-backup -q
  sql "DROP DATABASE short"
}

@test "restore-verify: a scratch server that lacks disk, locks or what else it needs: exit 69, no verdict; only its data makes it bad" {
  local what bad
  local -A lacking=(
    ["could not .*: No space left on device"]="EXECUTE format('COPY (SELECT 1) TO %L', '/dev/full')"
    ["out of shared memory"]="PERFORM pg_advisory_xact_lock(g) FROM generate_series(1, 1000000) g"
    ["temporary file size exceeds temp_file_limit \(64kB\)"]="PERFORM set_config('temp_file_limit', '64', true),
      set_config('work_mem', '64', true); PERFORM count(DISTINCT g) FROM generate_series(1, 100000) g")
  cleared
  for what in "${!lacking[@]}"; do
    bad=$(short "${lacking[$what]}")
    keel restore-verify "$bad"
    exits 69
    is stdout "$output" ""
    grep -qE "error: the scratch PostgreSQL lacks something: $what" <<<"$stderr"
    has "the backup may be well" "$stderr"
    [ ! -e "disk/$KEEL_ENV/verdicts/$bad" ]
    is left "$(left_over)" ""
  done
  refused "$(short "RAISE EXCEPTION 'No space left on device'")" "No space left on device"
}

# preloaded TEXT: the environment's PostgreSQL, started again with these shared_preload_libraries.
preloaded() {
  sql "ALTER SYSTEM SET shared_preload_libraries = $1"
  docker restart "$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=postgres)" >/dev/null
  bin/start-base -q
}

@test "restore-verify: what the server preloads is preloaded, and starts nothing by itself; what the image lacks is named" {
  local good bad first box
  cleared
  preloaded "pg_stat_statements, auto_explain, pg_prewarm"
  sql "CREATE DATABASE watched"
  sql watched "CREATE EXTENSION pg_stat_statements;
    CREATE MATERIALIZED VIEW seen AS SELECT count(*) >= 0 AS some FROM pg_stat_statements; CREATE TABLE one AS SELECT 1 AS n"
  box=$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=postgres)
  is "workers of the server" "$(top_of "$box" | grep -cE 'autoprewarm|logical replication')" 2
  good=$(PGDATABASE=watched bin/pg-backup -q)
  sql "DROP DATABASE watched"
  preloaded DEFAULT
  is fact "$(sed '$d' "disk/$KEEL_ENV/manifests/$good" | jq -r .facts.server.preload)" "pg_stat_statements, auto_explain, pg_prewarm"
  bin/restore-verify "$good" >out 2>log 3>&- &
  first=$!
  until box=$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=scratch | grep .) &&
    docker exec "$box" psql -XAtq -U events -c 'SHOW shared_preload_libraries' >seen 2>/dev/null &&
    top_of "$box" >processes; do kill -0 $first; done
  wait $first
  is stdout "$(cat out)" "$good"
  is loaded "$(cat seen)" pg_stat_statements,auto_explain,pg_prewarm
  grep -q checkpointer processes
  is workers "$(grep -E 'autoprewarm|logical replication' processes)" ""
  hasnt warning "$(cat log)"
  # backups of before do not say what was preloaded: this one does not restore without
  bad=$(forge "$good" "$(id 7200)" facts.server.preload=null)
  refused "$bad" "pg_stat_statements must be loaded via"
  # where the image has not all of it: said; and when it does not restore then, that is no verdict on the backup
  bad=$(forge "$good" "$(id 7100)" 'facts.server.preload="pg_stat_statements, \"no-where\""')
  keel restore-verify "$bad"
  exits 0
  has " has no no-where, which the backed-up server preloads" "$stderr"
  bad=$(forge "$good" "$(id 7000)" 'facts.server.preload="nowhere,pglogical"')
  keel restore-verify "$bad"
  exits 78
  has "$bad: pg_restore: " "$stderr"
  has "hint: it is tried without nowhere, which its server preloads: pin an image that can" "$stderr"
  [ ! -e "disk/$KEEL_ENV/verdicts/$bad" ]
  is left "$(left_over)" ""
}

@test "restore-verify: a library with which the server does not start: said, and it is tried without" {
  local image good
  cleared
  # shellcheck disable=SC2016  # for the shell in the image
  image=$(printf '%s\n' "FROM $(image_of POSTGRES)" "USER root" 'RUN echo none >"$(pg_config --pkglibdir)/broken.so"' |
    docker build --quiet --provenance=false --tag "keel-$KEEL_ENV:broken" -)
  sed "s,^KEEL_IMAGE_POSTGRES=.*,KEEL_IMAGE_POSTGRES=keel-$KEEL_ENV:broken," "$(host_value KEEL_IMAGES)" >broken.env
  [ -n "$image" ]
  good=$(forge "$GOOD" "$(id 7200)" 'facts.server.preload="broken"')
  KEEL_IMAGES=broken.env keel restore-verify --level 3 "$good"
  exits 0
  has "warning: the scratch PostgreSQL does not start: " "$stderr"
  has "it is started again, without what the backed-up server preloads: broken" "$stderr"
  is left "$(left_over)" ""
}

@test "restore-verify: a key that may not verify, or is in no list: exit 78 before anything is done" {
  cleared
  sed 's/tests$/role=backup tests/' backup/signers >others
  KEEL_BACKUP_SIGNERS=others keel restore-verify "$GOOD"
  exits 78
  is stdout "$output" ""
  has "secrets/backup-sign.pem: its line in KEEL_BACKUP_SIGNERS says role=backup: what it signs for verify would not count" "$stderr"
  echo "ed25519 $(head -c 32 /dev/zero | base64)" >others
  KEEL_BACKUP_SIGNERS=others keel restore-verify "$GOOD"
  exits 78
  has "is no key of KEEL_BACKUP_SIGNERS" "$stderr"
  [ ! -e "disk/$KEEL_ENV/verdicts/$GOOD" ]
  sed 's/tests$/role=verify,backup tests/' backup/signers >others
  KEEL_BACKUP_SIGNERS=others keel restore-verify --level 0 "$GOOD"
  exits 0
}

@test "restore-verify: longer than the RTO: exit 1, the data is well" {
  cleared
  KEEL_BACKUP_RTO=1ms keel restore-verify --level 1 "$GOOD"
  exits 1
  has "longer than KEEL_BACKUP_RTO=1ms" "$stderr"
  is verdict "$(verdict "$GOOD" | jq -r '[.ok, (.findings | length)] | tostring')" "[true,1]"
}

@test "restore-verify: two stores: the verdict lies in both; a copy that is bad is named, and the other one tried" {
  cleared
  mkdir second
  cp -R disk/. second
  KEEL_BACKUP_STORES="file://$TREE/disk file://$TREE/second" keel restore-verify --level 1 "$GOOD"
  exits 0
  is both "$(cat {disk,second}/"$KEEL_ENV/verdicts/$GOOD/"* | jq -rR 'select(startswith(" \"ok\""))')" $' "ok": true,\n "ok": true,'
  rm -r {disk,second}/"$KEEL_ENV/verdicts"
  printf X | dd of="$(object "$GOOD" database.dump)" bs=1 seek=70000 conv=notrunc status=none
  KEEL_BACKUP_STORES="file://$TREE/disk file://$TREE/second" keel restore-verify --level 1 "$GOOD"
  cp -R second/"$KEEL_ENV"/objects disk/"$KEEL_ENV"
  exits 1
  has "restore-verify: error: $GOOD: file://$TREE/disk/$KEEL_ENV/objects/$GOOD/database.dump.zst.age: payload: chunk 1" "$stderr"
  hasnt "file://$TREE/second" "$stderr"
  is "the bad one" "$(verdict "$GOOD" | jq .ok)" false
  is "the good one" "$(sed '$d' second/"$KEEL_ENV/verdicts/$GOOD/"* | jq .ok)" true
  rm -r second/"$KEEL_ENV/manifests"
  KEEL_BACKUP_STORES="file://$TREE/disk file://$TREE/second" keel restore-verify --level 1 "$GOOD"
  exits 0
  has "restore-verify: warning: $GOOD is not in file://$TREE/second" "$stderr"
  rm -r second
}

@test "restore-verify: a store that does not answer: exit 69, the other copy is tried and printed; alone: no verdict" {
  local gone="s3://bucket/p?endpoint=http://127.0.0.1:9"
  export AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b KEEL_S3_ATTEMPTS=1
  cleared
  KEEL_BACKUP_STORES="$gone file://$TREE/disk" keel restore-verify --level 1 "$GOOD"
  exits 69
  is stdout "$output" "$GOOD"
  has "restore-verify: warning: s3://bucket/p: $KEEL_ENV/manifests/$GOOD: the store does not answer" "$stderr"
  has "restore-verify: error: $GOOD: its copy in s3://bucket/p was not tried" "$stderr"
  is verdict "$(verdict "$GOOD" | jq .ok)" true
  KEEL_BACKUP_STORES="$gone file://$TREE/disk" keel restore-verify --newest --older 1 --level 1
  exits 69
  is stdout "$output" "$GOOD"
  has "restore-verify: warning: s3://bucket/p: " "$stderr"
  KEEL_BACKUP_STORES=$gone keel restore-verify --newest
  exits 69
  is stdout "$output" ""
  KEEL_BACKUP_STORES=$gone keel restore-verify --level 1 "$GOOD"
  exits 69
  is stdout "$output" ""
  has "restore-verify: error: s3://bucket/p: $KEEL_ENV/manifests/$GOOD: the store does not answer" "$stderr"
}

@test "restore-verify: keys that do not open it say nothing against it: exit 65, no verdict" {
  cleared
  .venv/bin/python -c 'import sys; sys.path.insert(0, "lib"); from keel import age_crypt; print(age_crypt.new_identity()[0])' >other
  chmod 600 other
  KEEL_BACKUP_IDENTITY=other keel restore-verify "$GOOD"
  exits 65
  is stdout "$output" ""
  has "$GOOD: database.dump.zst.age, globals.sql.zst.age, server.json.zst.age: no identity of other opens them" "$stderr"
  KEEL_BACKUP_IDENTITY=none keel restore-verify "$GOOD"
  exits 78
  has "hint: on a host that restores: backup-keys make identity --output FILE" "$stderr"
  [ ! -e "disk/$KEEL_ENV/verdicts/$GOOD" ]
  rm other
}

@test "restore-verify: another major version: exit 78, no verdict" {
  local newer
  cleared
  newer=$(forge "$GOOD" "$(id 7200)" facts.server.version_num=180001 'facts.server.version="18.1"')
  keel restore-verify "$newer"
  exits 78
  has "the backup is of PostgreSQL 18.1, " "$stderr"
  has "an image of version 18" "$stderr"
  [ ! -e "disk/$KEEL_ENV/verdicts/$newer" ]
  is left "$(left_over)" ""
}

@test "restore-verify: no disk, no engine, not an id, none there; a rehearsal does nothing" {
  cleared
  KEEL_MIN_FREE_DISK=900000t keel restore-verify "$GOOD"
  exits 1
  is stdout "$output" ""
  has "restore-verify: error: not enough disk: " "$stderr"
  wants_an_engine restore-verify "$GOOD"
  keel restore-verify nonsense
  exits 65
  has "'nonsense' is not a backup id" "$stderr"
  keel restore-verify 20010101T000000Z-pg-00000000
  exits 65
  has "file://$TREE/disk: there is no $KEEL_ENV/manifests/20010101T000000Z-pg-00000000" "$stderr"
  keel restore-verify -n "$GOOD"
  exits 0
  is stdout "$output" "$GOOD"
  has "restore-verify: would: restore $GOOD from file://$TREE/disk" "$stderr"
  [ ! -e "disk/$KEEL_ENV/verdicts/$GOOD" ]
  # a whole pipe can be rehearsed
  local planned=20990102T031500Z-pg-1a2b3c4d
  keel restore-verify -n $planned
  exits 0
  is stdout "$output" $planned
  has "restore-verify: would: restore $planned, which is not there, beside everything" "$stderr"
}

@test "restore-verify: told to end, it ends and cleans up" {
  cleared
  bin/restore-verify "$GOOD" >out 2>log 3>&- &
  local first=$!
  until docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=scratch | grep -q .; do kill -0 $first; done
  kill -TERM $first
  local code=0
  wait $first || code=$?
  is code $code 143
  has "restore-verify: interrupted by SIGTERM" "$(cat log)"
  is stdout "$(cat out)" ""
  is left "$(left_over)" ""
  [ ! -e "disk/$KEEL_ENV/verdicts/$GOOD" ]
  has '"step": "failed"' "$(tail -n 1 "state/$KEEL_ENV/history")"
}

@test "restore-verify: one at a time, beside a backup; what a killed one left goes with the next" {
  cleared
  bin/restore-verify "$GOOD" >out 2>log 3>&- &
  local first=$!
  until docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=scratch | grep -q .; do kill -0 $first; done
  kill -STOP $first
  keel restore-verify --level 0 "$GOOD"
  exits 75
  has "restore-verify: error: restore-verify of $KEEL_ENV is locked by pid $first: restore-verify since 20" "$stderr"
  keel pg-backup
  exits 0
  kill -9 $first
  wait $first || true
  [ -n "$(left_over)" ]
  [ ! -s out ]
  until keel restore-verify "$GOOD"; [ "$status" -ne 75 ]; do :; done
  exits 0
  is left "$(left_over)" ""
}
