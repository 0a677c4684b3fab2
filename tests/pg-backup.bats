#!/usr/bin/env bats
# pg-backup: a snapshot of the database in every store, its manifest last; or nothing at all.

setup_file() {
  load helper
  load stack
  load backup
  stack pgb
  up
  backup_keys
  sql "CREATE ROLE reader; CREATE TABLE seats (id int PRIMARY KEY, name text, made timestamptz DEFAULT now());
       INSERT INTO seats SELECT g, md5(g::text) FROM generate_series(1, 2000) g; GRANT SELECT ON seats TO reader"
}

setup() {
  load helper
  load stack
  load backup
  cd "$TREE" || return
}

teardown() {
  goes_on
}

teardown_file() {
  load helper
  load stack
  down
}

# sql STATEMENT: as the owner of the environment's database.
sql() { docker exec -i "keel-$KEEL_ENV-postgres-1" psql -XAtq -v ON_ERROR_STOP=1 -U events events <<<"$1"; }

ours() { docker ps -aq --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=tools; }

# nothing_left: no container of ours, nothing in the spool, nothing of this backup in the store but what lay there before.
nothing_left() {
  is "tools containers" "$(ours)" ""
  is spool "$(ls "state/$KEEL_ENV/spool")" ""
  is store "$(lies disk)" "${1:-}"
}

# blocked COMMAND…: run pg-backup ($PID) while a table is locked, so that pg_dump waits; then COMMAND; then let the table go.
# What pg-backup wrote is in ./out and ./err, its code in $status.
blocked() {
  local id
  coproc holder { docker exec -i "keel-$KEEL_ENV-postgres-1" psql -XAtq -U events events; }
  # shellcheck disable=SC2154 # coproc sets holder and holder_PID
  echo "BEGIN; LOCK TABLE seats; SELECT 'held';" >&"${holder[1]}"
  read -r _ <&"${holder[0]}"
  # shellcheck disable=SC2086 # words
  ${AROUND:-} bin/pg-backup >out 2>err 3>&- &
  PID=$!
  until id=$(ours) && [ -n "$id" ] && top_of "$id" 2>/dev/null | grep -q ' pg_dump -Fc' && waits; do kill -0 "$PID"; done
  "$@"
  echo "ROLLBACK;" >&"${holder[1]}"
  wait "$PID" && status=0 || status=$?
  eval "exec ${holder[1]}>&-"
  # shellcheck disable=SC2154 # coproc sets it
  wait "$holder_PID" || true
}

# The pids of pg_dump on this host, in the container that pg-backup made.
dumping() { top_of "$(ours)" | awk '/ pg_dump -Fc/ {print $1}'; }

# signal NAME: to pg-backup, and wait until it is gone.
signal() {
  kill "-$1" "$PID"
  tail --pid="$PID" -f /dev/null
}

# stops WORD: stop what runs in PostgreSQL's container with that word in its title, until goes_on; ./stopped holds the pids on this host.
stops() {
  top_of "keel-$KEEL_ENV-postgres-1" | awk -v word="$1" '$2 ~ /^postgres/ && index($0, word) {print $1}' >stopped
  # shellcheck disable=SC2046 # words
  kill -STOP $(<stopped)
}

goes_on() {
  # shellcheck disable=SC2046
  [ ! -s stopped ] || kill -CONT $(<stopped)
  rm -f stopped
}

# The sessions that a backup has at the server.
sessions() { sql "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'evenkeel-%'"; }

# Once both sessions have come to the lock. A hang is what they wait for, however long that takes.
both_wait() { until [ "$(sql "SELECT count(*) FROM pg_locks WHERE NOT granted")" = 2 ]; do kill -0 "$PID"; done; }

# hangs WORD: pg-backup while the processes of that title are stopped, for nothing but that; $left is how many sessions are there then.
hangs() {
  both_wait
  stops "$1"
  echo "ROLLBACK;" >&"${holder[1]}"
  gives_up
  [ "$1" != waiting ] || left=$(sessions)
  goes_on
}

# gives_up: pg-backup ends by itself.
gives_up() { tail --pid="$PID" -f /dev/null; }

# Our sessions end, as the server now can.
sessions_end() {
  local late=$((SECONDS + 120))
  until [ "$(sessions)" = 0 ]; do [ $SECONDS -lt $late ]; done
}

# gave_up: exit 69 with the reason and a hint, and nothing published or left on this side.
gave_up() {
  exits 69
  is stdout "$(<out)" ""
  has "error: PostgreSQL has been silent for 12 s: " "$(<err)"
  has "hint: does it hang, or wait for a lock? pg_stat_activity and pg_locks show what it is at" "$(<err)"
  nothing_left
}

waits() { [ "$(sql "SELECT count(*) FROM pg_locks WHERE NOT granted")" != 0 ]; }

@test "pg-backup: prints its id once the manifest is there, which counts the rows of the snapshot; age, zstd and pg_restore open it" {
  local age
  age=$(.venv/bin/python "$CHECKOUT/tests/age_command.py")
  keel pg-backup
  exits 0
  [[ $output =~ ^[0-9]{8}T[0-9]{6}Z-pg-[0-9a-f]{8}$ ]]
  has "pg-backup: $output: " "$stderr"
  is lies "$(lies disk)" "$KEEL_ENV/manifests/$output
$KEEL_ENV/objects/$output/database.dump.zst.age
$KEEL_ENV/objects/$output/globals.sql.zst.age
$KEEL_ENV/objects/$output/server.json.zst.age"
  manifest=disk/$KEEL_ENV/manifests/$output
  is rows "$(sed '$d' "$manifest" | jq -c .facts.rows)" '{"public.seats":2000}'
  is period "$(sed '$d' "$manifest" | jq -r .period)" monthly
  is lineage "$(sed '$d' "$manifest" | jq -r .lineage)" "$(sql 'SELECT system_identifier FROM pg_control_system()')"
  for object in "disk/$KEEL_ENV/objects/$output"/*; do
    "$age" --decrypt --identity secrets/backup-identity.txt "$object" | zstd -dq >"${object##*/}.plain"
  done
  has "CREATE ROLE reader" "$(<globals.sql.zst.age.plain)"
  jq -e '.settings.shared_buffers and .hba' server.json.zst.age.plain
  docker exec -i "keel-$KEEL_ENV-postgres-1" pg_restore -f - <database.dump.zst.age.plain >plain.sql
  is rows "$(sed -n '/^COPY public.seats/,/^\\\.$/p' plain.sql | wc -l)" 2002
  rm ./*.plain plain.sql
  nothing_left "$(lies disk)"
}

@test "pg-backup: a row written while it runs is in neither the dump nor the count: one snapshot" {
  rm -r disk/*
  write() { sql "CREATE TABLE later (id int)" && sql "INSERT INTO later VALUES (1)"; }
  blocked write
  exits 0
  is rows "$(sed '$d' disk/"$KEEL_ENV"/manifests/* | jq -c .facts.rows)" '{"public.seats":2000}'
  sql "DROP TABLE later"
}

@test "pg-backup: --dry-run prints an id and stores nothing" {
  rm -r disk/*
  keel pg-backup --dry-run
  exits 0
  [[ $output =~ ^[0-9]{8}T[0-9]{6}Z-pg-[0-9a-f]{8}$ ]]
  has "pg-backup: would: store the database events as $output in file://$TREE/disk" "$stderr"
  nothing_left
}

@test "pg-backup: two at once: the second is 75 and names the first; secrets are in no argv meanwhile" {
  second() {
    keel pg-backup
    code=$status said=$stderr
    # Our own shell holds the password in no argument either: it comes from the file.
    leaks=$(grep -lF -f <(sed -n 's/^POSTGRES_PASSWORD=//p' "secrets/$KEEL_ENV.env"; sed -n 2p secrets/backup-sign.pem) \
      /proc/[0-9]*/cmdline 2>/dev/null || true)
    seen=$(grep -lF pg_dump /proc/[0-9]*/cmdline 2>/dev/null | wc -l)
  }
  sed -i 's/=one$/=onebutlongenough/' "secrets/$KEEL_ENV.env" # a password that no other argument contains by chance
  sql "ALTER ROLE events PASSWORD 'onebutlongenough'"
  blocked second
  exits 0
  is code "$code" 75
  has "error: the backups of $KEEL_ENV are locked by pid $PID: pg-backup since" "$said"
  [ "$seen" -gt 0 ] # the search does find what is there
  is leaks "$leaks" ""
  hasnt onebutlongenough "$(cat err disk/"$KEEL_ENV"/manifests/* "state/$KEEL_ENV/history")"
}

@test "pg-backup: pg_dump killed midway: exit 69 with its words, nothing is published" {
  rm -r disk/*
  kill_dump() { kill -9 "$(dumping)"; }
  blocked kill_dump
  exits 69
  is stdout "$(<out)" ""
  has "error: pg_dump ended with 137" "$(<err)"
  nothing_left
}

@test "pg-backup: the session that holds the snapshot killed: exit 69, nothing is published" {
  local counting="query LIKE '%count(*) FROM public.seats%' AND pid <> pg_backend_pid()"
  terminate() { is terminated "$(sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $counting")" t; }
  blocked terminate
  exits 69
  is stdout "$(<out)" ""
  has "error: PostgreSQL: " "$(<err)"
  # The dump itself may have been whole, and lies there as data without a manifest: no backup, and backup-prune takes it when it is old.
  is manifests "$(lies disk | grep manifests/)" ""
  keel backups
  is backups "$output" ""
  rm -r disk/*
}

@test "pg-backup: a table that somebody keeps locked: exit 69 in KEEL_PG_TIMEOUT, with who and which, no session of ours waits on" {
  locked() {
    both_wait
    gives_up
    is sessions "$(sessions)" 0
    who=$(sql "SELECT pid FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted")
  }
  # What comes first may be pg_dump's own end: its time for a lock is the same.
  KEEL_PG_TIMEOUT=12s AROUND="timeout 300" blocked locked
  exits 69
  is stdout "$(<out)" ""
  has " waited for a lock on seats, which session $who holds or wants" "$(<err)"
  nothing_left
}

@test "pg-backup: sessions that hang, while the server answers: exit 69, says which of them it could not end" {
  KEEL_PG_TIMEOUT=12s AROUND="timeout 300" blocked hangs waiting
  gave_up
  is left "$left" 2
  [[ $(<err) =~ "warning: PostgreSQL did not end session "[0-9]+", "[0-9]+" (evenkeel-" ]]
  sessions_end
}

@test "pg-backup: a whole server that hangs: exit 69, says that nothing is known of its sessions, which end once it goes on" {
  KEEL_PG_TIMEOUT=12s AROUND="timeout 300" blocked hangs postgres
  gave_up
  has "warning: PostgreSQL does not say whether sessions of this backup are left (" "$(<err)"
  sessions_end
}

@test "pg-backup: SIGTERM: exit 143, nothing is left, and at the server nothing of ours waits for the lock" {
  terminated() {
    both_wait
    signal TERM
    local late=$((SECONDS + 120))
    while waits; do [ $SECONDS -lt $late ]; done
  }
  blocked terminated
  exits 143
  is stdout "$(<out)" ""
  nothing_left
}

@test "pg-backup: kill -9: no manifest, no lock; the next run removes what it left and succeeds" {
  killed() {
    signal KILL
    [ -n "$(dumping)" ] # which is not ours to wait for: the next run ends it
    keel with-lock --backups other -- true
    code=$status said=$stderr
  }
  blocked killed
  exits 137
  is "lock: $said" "$code" 0
  is manifests "$(lies disk)" ""
  [ -n "$(ours)" ]
  keel pg-backup
  exits 0
  is backups "$(lies disk | grep -c manifests/)" 1
  nothing_left "$(lies disk)"
}

@test "pg-backup: a container that was still being made when its process was ended goes with the next run, and no other" {
  local spool lost busy other image
  mkdir -p "state/$KEEL_ENV/spool" && spool=$(realpath "state/$KEEL_ENV/spool")
  image=$(docker inspect --format '{{.Image}}' "keel-$KEEL_ENV-postgres-1")
  made() { docker create --label "keel.env=$KEEL_ENV" --label keel.role=tools --label "keel.spool=$1" "$image"; }
  lost=$(made "$spool/0badcafe")
  busy=$(made "$spool/00000001")
  other=$(made "/elsewhere/$KEEL_ENV/spool/0badcafe")
  exec 8>"$spool/00000001.lock"
  flock 8
  keel pg-backup
  exec 8>&-
  is left "$(docker ps -aq --no-trunc --filter "label=keel.env=$KEEL_ENV" --filter label=keel.spool | sort)" \
    "$(printf '%s\n' "$busy" "$other" | sort)"
  docker rm --volumes "$busy" "$other" >/dev/null
  rm "$spool/00000001.lock"
  exits 0
  [ -n "$lost" ]
}

@test "pg-backup: of two stores one is full: exit 69 says which, the other has the backup, and it is printed" {
  rm -r disk/*
  mkdir small
  set_env KEEL_BACKUP_STORES="file://$TREE/small file://$TREE/disk"
  # shellcheck disable=SC2016
  run --separate-stderr unshare --mount sh -c 'mount -t tmpfs -o size=16k none small && exec bin/pg-backup' </dev/null
  exits 69
  has "error: $output is not in file://$TREE/small: " "$stderr"
  has "no space left on device" "$stderr"
  is backups "$(lies disk | grep -c manifests/)" 1
  [ -e "disk/$KEEL_ENV/manifests/$output" ]
  # A store alone, and full.
  set_env KEEL_BACKUP_STORES="file://$TREE/small"
  run --separate-stderr unshare --mount sh -c 'mount -t tmpfs -o size=16k none small && exec bin/pg-backup' </dev/null
  exits 69
  is stdout "$output" ""
  is small "$(lies small)" ""
  set_env KEEL_BACKUP_STORES="file://$TREE/disk"
}

@test "pg-backup: of two stores one is a folder that is not there: exit 69 says which, the other has the backup" {
  rm -r disk/*
  set_env KEEL_BACKUP_STORES="file://$TREE/nowhere file://$TREE/disk"
  keel pg-backup
  exits 69
  has "error: $output is not in file://$TREE/nowhere: file://$TREE/nowhere: there is no such folder" "$stderr"
  [ -e "disk/$KEEL_ENV/manifests/$output" ]
  # A store alone, and not there.
  set_env KEEL_BACKUP_STORES="file://$TREE/nowhere"
  keel pg-backup
  exits 69
  is stdout "$output" ""
  has "hint: is its disk mounted? where the folder is new: mkdir -p $TREE/nowhere" "$stderr"
  [ ! -e nowhere ]
  set_env KEEL_BACKUP_STORES="file://$TREE/disk"
}

@test "pg-backup: much smaller than its predecessors: exit 1, printed, and held for a person" {
  rm -rf disk/*
  for _ in 1 2 3; do
    bin/pg-backup -q
  done
  sql "CREATE TABLE away AS SELECT * FROM seats; TRUNCATE seats"
  sql "DROP TABLE away"
  keel pg-backup
  exits 1
  has "error: $output is held: " "$stderr"
  has "less than 50 % of the" "$stderr"
  has "hint: look into it; then backup-release $output \"REASON\"" "$stderr"
  is held "$(sed '$d' "disk/$KEEL_ENV/manifests/$output" | jq '.held != ""')" true
  # The key of a server makes backups and releases none: the hint is what can be typed.
  cp backup/signers all.signers
  sed -i '/ tests$/s/ tests$/ role=backup tests/' backup/signers
  keel pg-backup
  exits 1
  has "hint: look into it; then backup-release --key FILE $output \"REASON\", with the key of an operator (role=release)" "$stderr"
  KEEL_BACKUP_SIGN_KEY=$BATS_TEST_TMPDIR/operator.pem bin/backup-keys make signer --role release -q
  bin/backup-release -q --key "$BATS_TEST_TMPDIR/operator.pem" "$output" "we moved house" >/dev/null
  keel pg-backup
  exits 0
  mv all.signers backup/signers
  KEEL_BACKUP_HOLD_BELOW=0 keel pg-backup
  exits 0
}

@test "pg-backup: a clock behind the newest backup: exit 78, nothing stored" {
  local before newest
  rm -r disk/*
  newest=$(.venv/bin/python "$CHECKOUT/tests/backups.py" secrets/backup-sign.pem disk "$KEEL_ENV" pg:-1h)
  before=$(lies disk)
  keel pg-backup
  exits 78
  has "would not be later than $newest, the newest there is" "$stderr"
  nothing_left "$before"
  rm -r disk/*
}

@test "pg-backup: keys and stores that are wrong: exit 78, nothing stored" {
  KEEL_BACKUP_SIGN_KEY=none keel pg-backup
  exits 78
  has "error: $TREE/none: no such file" "$stderr"
  has "hint: backup-keys make signer --role backup makes one" "$stderr"
  KEEL_BACKUP_RECIPIENTS=none keel pg-backup
  exits 78
  has "error: $TREE/none: no such file" "$stderr"
  has "hint: backup-keys make identity --output FILE adds the recipient" "$stderr"
  .venv/bin/python -c 'import sys; sys.path.insert(0, "lib"); from keel import signed; print(signed.new_key("other")[1])' >others
  KEEL_BACKUP_SIGNERS=others keel pg-backup
  exits 78
  has "is no key of KEEL_BACKUP_SIGNERS: nobody would trust what it signs" "$stderr"
  sed 's/tests$/role=verify tests/' backup/signers >others
  KEEL_BACKUP_SIGNERS=others keel pg-backup
  exits 78
  has "its line in KEEL_BACKUP_SIGNERS says role=verify: what it signs for backup would not count" "$stderr"
  # with restore-verify at the end of the pipe: a key, and an identity that opens what is made
  keel pg-backup --restored-here -n
  exits 0
  .venv/bin/python -c 'import sys; sys.path.insert(0, "lib"); from keel import keyring; print(keyring.identity_text()[0], end="")' >stranger
  chmod 600 stranger
  KEEL_BACKUP_IDENTITY=stranger keel pg-backup --restored-here
  exits 78
  has "error: no identity of stranger is of a recipient in $TREE/backup/recipients: nothing could be restored here" "$stderr"
  set_env KEEL_BACKUP_STORES=
  keel pg-backup
  exits 78
  has "KEEL_BACKUP_STORES is empty" "$stderr"
  set_env KEEL_BACKUP_STORES="file://$TREE/disk"
}

@test "pg-backup: KEEL_BACKUP_NEWEST that is no SQL, or names what is not there: exit 78 with PostgreSQL's words, nothing stored" {
  local before newest
  before=$(lies disk)
  sql "INSERT INTO seats VALUES (90001, 'no time'), (90002, 'nor this') ON CONFLICT DO NOTHING" # without rows some are well
  while IFS='|' read -r newest words; do
    KEEL_BACKUP_NEWEST=$newest keel pg-backup
    exits 78
    is stdout "$output" ""
    has "pg-backup: error: KEEL_BACKUP_NEWEST: ERROR:  " "$stderr"
    has "$words" "$stderr"
    hasnt pg_dump "$stderr"
    hasnt LOCATION "$stderr"
    nothing_left "$before"
  done <<'END'
SELECT max(made) FROM seatz|relation "seatz" does not exist
SELECT max(mad) FROM seats|column "mad" does not exist
SELEC max(made) FROM seats|syntax error at or near "max"
SELECT max(made FROM seats|syntax error
SELECT 'x|syntax error
SELECT made FROM seats|more than one row returned by a subquery
SELECT max(name) FROM seats|invalid input syntax for type timestamp
SELECT max(id) FROM seats|cannot cast type integer to timestamp
END
  KEEL_BACKUP_NEWEST="SELECT max(made) FROM seats -- the newest" keel pg-backup
  exits 0
  is newest "$(sed '$d' "disk/$KEEL_ENV/manifests/$output" | jq -r .facts.newest)" \
    "$(sql "SELECT to_char(max(made) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM seats")"
}

@test "pg-backup: a client of another major version: exit 78 before anything is dumped" {
  rm -rf disk/*
  local pins
  pins=$(host_value KEEL_IMAGES)
  docker build --quiet --provenance=false --tag "keel-$KEEL_ENV:oldclient" - >/dev/null < <(printf '%s\n' \
    "FROM $(image_of POSTGRES)" 'USER root' \
    "RUN printf '#!/bin/sh\necho pg_dump \"(PostgreSQL)\" 16.4\n' >/usr/local/bin/pg_dump && chmod 755 /usr/local/bin/pg_dump" \
    'ENV PATH=/usr/local/bin:/usr/lib/postgresql/17/bin:/usr/bin:/bin')
  sed "s,^KEEL_IMAGE_POSTGRES=.*,KEEL_IMAGE_POSTGRES=keel-$KEEL_ENV:oldclient," "${pins:-compose/images.env}" >pins.env
  set_env KEEL_IMAGES="$TREE/pins.env"
  sed -i '/^KEEL_IMAGES=/d' var/host.env
  bin/start-base -q
  keel pg-backup
  exits 78
  has "pg_dump is of version 16 (pg_dump (PostgreSQL) 16.4), the server of 17: nothing was dumped" "$stderr"
  nothing_left
}

@test "pg-backup: PostgreSQL that does not run, no engine: exit 69" {
  docker stop "keel-$KEEL_ENV-postgres-1" >/dev/null
  keel pg-backup
  exits 69
  has "error: postgres is not running" "$stderr"
  wants_an_engine pg-backup
}
