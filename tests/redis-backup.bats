#!/usr/bin/env bats
# redis-backup: a checked dump in every store, in the set of the backups before it; and back again.

setup_file() {
  load helper
  load stack
  load backup
  stack rb
  up
  backup_keys
}

setup() {
  load helper
  load stack
  load backup
  load corrupt
  cd "$TREE" || return
  docker start "$(redis)" >/dev/null
  until_it_answers
  cli config set repl-diskless-sync-delay 0 >/dev/null # a dump begins at once
  rm -rf disk/*
}

teardown_file() {
  load helper
  load stack
  down
}

redis() { docker ps -aq --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=redis; }

# cli WORD…: redis-cli in the environment's Redis; the last word on stdin with -x.
cli() { docker exec -i "$(redis)" redis-cli "$@"; }

# until_it_answers: it has loaded everything; with another password it never will.
until_it_answers() {
  local said
  until said=$(cli ping 2>&1) && [ "$said" = PONG ]; do [[ $said != *NOAUTH* ]]; done
}

# lua NAME: run tests/NAME.lua there.
lua() { cli evalsha "$(cli -x script load <"$CHECKOUT/tests/$1.lua")" 0; }

made() { bin/redis-backup -q "$@"; }

# slow: Redis takes a second and more for the next dump of a few keys.
slow() {
  cli eval "for i = 1, 20000 do redis.call('SET', 'slow:' .. i, string.rep('x', 100) .. i) end" 0 >/dev/null
  cli config set rdb-key-save-delay 200 >/dev/null
}

fast() { cli config set rdb-key-save-delay 0 >/dev/null; }

# dumping: wait until a dump is on its way to us.
dumping() {
  until compgen -G "state/$KEEL_ENV/spool/*/dump.rdb" >/dev/null; do kill -0 "$1"; done
}

@test "redis-backup: prints its id once the manifest is there; age, zstd and redis-check-rdb open it without us" {
  cli flushall
  cli set one 1
  cli set two 2 ex 90000
  keel redis-backup --new-set
  exits 0
  [[ $output =~ ^[0-9]{8}T[0-9]{6}Z-redis-[0-9a-f]{8}$ ]]
  is stored "$(lies disk)" "$KEEL_ENV/manifests/$output
$KEEL_ENV/objects/$output/dump.rdb.zst.age"
  has "redis-backup: dumping 2 keys" "$stderr"
  has "redis-backup: $output: " "$stderr"
  is keys "$(manifest "$output" facts keys) $(manifest "$output" facts expires) $(manifest "$output" facts expired)" "2 1 0"
  is version "$(manifest "$output" facts version)" "\"$(cli info server | sed -n 's/^redis_version:\(.*\)\r$/\1/p')\""
  is lineage "$(manifest "$output" lineage)" "\"$KEEL_ENV\""
  [ "$(manifest "$output" facts used_memory)" -gt 100000 ]
  [ "$(manifest "$output" facts rdb_version)" -ge 9 ]
  [[ $(manifest "$output" facts time) > "\"$(date -u -d '1 minute ago' +%FT%TZ)" ]]
  unpacked "$output" dump.rdb >copy.rdb
  docker run --rm --network none -v "$PWD:/here:ro" "$(image_of REDIS)" redis-check-rdb /here/copy.rdb | grep -F '2 keys read'
  is "left behind" "$(left_behind)" ""
  whole "$output"
  is "left behind" "$(left_behind)" ""
}

@test "redis-backup: joins the set of what it reads, passes that on, and adds its own" {
  set_env KEEL_BACKUP_FILES=
  A=$(bin/files-backup -q --new-set)
  run --separate-stderr bash -c "echo $A | bin/redis-backup -q"
  exits 0
  is first "${lines[0]}" "$A"
  is lines "${#lines[@]}" 2
  is set "$(manifest "${lines[1]}" set)" "$(manifest "$A" set)"
  keel redis-backup nonsense
  exits 65
  is stdout "$output" ""
  keel redis-backup 20260102T031500Z-pg-1a2b3c4d
  exits 65
  is stdout "$output" 20260102T031500Z-pg-1a2b3c4d
  keel redis-backup --new-set "$A"
  exits 2
}

@test "redis-backup: 50,000 keys come back the same: into an empty Redis, which is killed at once, and over another" {
  cli flushall
  is fill "$(lua fill)" filled
  before=$(lua digest)
  has "db0 50010 " "$before"
  has "db3 501 " "$before"
  A=$(made --new-set)
  is keys "$(manifest "$A" facts keys) $(manifest "$A" facts expires) $(manifest "$A" facts subexpires)" "50511 5500 1"
  whole "$A"
  bring_back restore "$A" redis
  exits 1
  has "redis holds 50511 keys: nothing was changed" "$stderr"
  has "--confirm $KEEL_ENV (with make: CONFIRM=$KEEL_ENV): they are replaced" "$stderr"
  cli flushall
  cli config set rdb-key-save-delay 20 # the append-only file takes some seconds too
  bring_back restore "$A" redis
  exits 0
  has "redis holds 50511 keys" "$stderr"
  is digest "$(lua digest)" "$before"
  own_master
  docker kill "$(redis)" >/dev/null # at once: what it has not written by now is lost
  docker start "$(redis)" >/dev/null
  until_it_answers
  is "digest after a restart" "$(lua digest)" "$before"
  cli set mine 1
  cli -n 5 set mine 1
  bring_back restore "$A" redis redis
  exits 1
  bring_back restore "$A" redis "$KEEL_ENV"
  exits 0
  is digest "$(lua digest)" "$before"
  own_master
  bring_back restore "$A" "$TREE/back"
  exits 0
  cmp back/dump.rdb <(unpacked "$A" dump.rdb)
  is mode "$(stat -c %a back/dump.rdb)" 600
  bring_back restore "$A" "$TREE/back"
  exits 1
  is "left behind" "$(left_behind)" ""
}

# copying [COMMAND…]: a restore into Redis that takes a while, and has begun to copy; its pid is $!. COMMAND is done after the backup.
copying() {
  A=$(made --new-set)
  [ $# -eq 0 ] || cli "$@" >/dev/null
  cli config set key-load-delay 1000 >/dev/null
  .venv/bin/python "$CHECKOUT/tests/bring_back.py" restore "$A" redis "$KEEL_ENV" >out 2>err 3>&- &
  until [ "$(cli role | head -n 1)" = slave ]; do kill -0 $!; done
}

# ended CODE: the last program in the background has this code.
ended() {
  local code=0
  wait $! || code=$?
  cli config set key-load-delay 0 >/dev/null
  [ "$code" = "$1" ] || { echo "exit $code, wanted $1"; cat err; return 1; }
}

@test "redis-backup: a restore that is terminated while Redis copies leaves it its own master" {
  cli eval "for i = 1, 20000 do redis.call('SET', 'copied:' .. i, i) end" 0
  copying
  kill $!
  ended 143
  own_master
  is "left behind" "$(left_behind)" ""
}

# loading: a restore like that, which has come to where Redis loads what it copied, and refuses most commands.
loading() {
  cli config set loading-process-events-interval-bytes 1024 >/dev/null # by default it answers nobody before it has read 2 MiB
  copying set later 1 # it has gone on since: what is no further than the dump copies nothing
  until cli info persistence >seen && grep -q '^loading:1' seen; do kill -0 $!; done
}

@test "redis-backup: a restore that is terminated while Redis loads waits for that and leaves it its own master" {
  cli eval "for i = 1, 20000 do redis.call('SET', 'copied:' .. i, i) end" 0
  loading
  kill $!
  until grep -q "redis loads what it has copied: it is its own master again once it has done so" err; do kill -0 $!; done
  cli config set key-load-delay 100 >/dev/null
  ended 143
  own_master
  is "left behind" "$(left_behind)" ""
}

@test "redis-backup: what a restore that was killed left while Redis loads, the next one mends" {
  cli eval "for i = 1, 20000 do redis.call('SET', 'copied:' .. i, i) end" 0
  before=$(lua digest)
  loading
  kill -9 $!
  wait $! || true
  is loading "$(cli info persistence | grep -c '^loading:1')" 1
  cli config set key-load-delay 300 >/dev/null
  bring_back restore "$A" redis "$KEEL_ENV"
  cli config set key-load-delay 0 >/dev/null
  exits 0
  has "redis is a replica, as a restore that was killed leaves it: it is its own master again" "$stderr"
  is digest "$(lua digest)" "$before"
  own_master
}

@test "redis-backup: restore --to redis asks for the environment's name where Redis holds something; restore-verify passes it on" {
  cli set kept 1 >/dev/null
  local id
  id=$(made --new-set)
  cli set more 1 >/dev/null
  keel restore-verify "$id"
  exits 0
  is stdout "$output" "$id"
  keel restore "$id" --to events
  exits 2
  has "restore: error: 'events' is no path of a folder: nothing was changed" "$stderr"
  [ ! -e events ]
  keel restore "$id" --to redis
  exits 1
  is more "$(cli exists more)" 1
  for target in redis ./dumped; do # also where nothing would have to be confirmed
    keel restore "$id" --to $target --confirm out
    exits 2
    has "restore: error: --confirm out is not what would be replaced" "$stderr"
  done
  is more "$(cli exists more)" 1
  [ ! -e dumped ]
  keel restore "$id" --to redis --confirm "$KEEL_ENV"
  exits 0
  is stdout "$output" "$id"
  is more "$(cli exists more kept)" 1
  cli flushall >/dev/null
}

@test "redis-backup: a restore whose scratch Redis dies says so, and leaves Redis its own master: 69" {
  cli eval "for i = 1, 20000 do redis.call('SET', 'copied:' .. i, i) end" 0
  copying
  docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=tools | head -n 1 | xargs docker kill >/dev/null
  ended 69
  has "redis is not restored, and may hold its old keys, none, or those of the backup" "$(cat err)"
  own_master
  bring_back restore "$A" redis "$KEEL_ENV"
  exits 0
  own_master
  is "left behind" "$(left_behind)" ""
}

@test "redis-backup: what a restore that was killed left, a replica of nobody, the next one mends" {
  cli eval "for i = 1, 20000 do redis.call('SET', 'copied:' .. i, i) end" 0
  before=$(lua digest)
  copying
  kill -9 $!
  ended 137
  is role "$(cli role | head -n 1)" slave
  keel doctor --json
  is doctor "$(jq -r 'select(.check == "redis") | "\(.verdict) \(.said)"' <<<"$output")" \
    "bad is a replica, as a restore that was killed leaves it: it takes no writes, and may hold other keys"
  bring_back restore "$A" redis "$KEEL_ENV"
  exits 0
  has "redis is a replica, as a restore that was killed leaves it: it is its own master again" "$stderr"
  is digest "$(lua digest)" "$before"
  own_master
  keel doctor --json
  is doctor "$(jq -r 'select(.check == "redis").verdict' <<<"$output")" ""
  is "left behind" "$(left_behind)" ""
}

# own_master: Redis is nobody's replica, keeps its append-only file and password, and knows no other.
own_master() {
  has "role:master" "$(cli info replication)"
  is masterauth "$(cli config get masterauth | tail -n 1)" ""
  is appendonly "$(cli config get appendonly | tail -n 1)" yes
  is password "$(cli config get requirepass | tail -n 1)" two
}

@test "redis-backup: what is past its time while it is dumped, or before it is tried, is counted all the same" {
  cli flushall
  cli set stays 1
  cli eval "for i = 1, 500 do redis.call('SET', 'goes:' .. i, i, 'PX', 8000) end" 0
  cli eval "redis.call('HSET', 'h', 'f', 1) redis.call('HPEXPIRE', 'h', 8000, 'FIELDS', 1, 'f')" 0
  A=$(made --new-set)
  keys=$(manifest "$A" facts keys)
  [ "$keys" -gt 1 ]
  until [ "$(cli dbsize)" = 1 ]; do cli get goes:1 >/dev/null; done
  whole "$A"
}

@test "redis-backup: what was spoiled in the store is refused: exit 65, the object is named" {
  A=$(made --new-set)
  set_env KEEL_BACKUP_FILES=
  B=$(bin/files-backup -q --new-set)
  spoil "$A" dump.rdb "$(stored "$B" config.tar)"
}

@test "redis-backup: a damaged copy is named, and restored is that of the next store" {
  local id file two=$BATS_TEST_TMPDIR/two
  cli set kept 1 >/dev/null
  id=$(made --new-set)
  cp -R disk "$two"
  cli flushall >/dev/null
  file=$(stored "$id" dump.rdb)
  byte "$file" -20
  local both="file://$TREE/disk file://$two"
  KEEL_BACKUP_STORES=$both keel restore "$id" --to redis
  exits 0
  has "restore: warning: file://$TREE/$file: payload: " "$stderr"
  is kept "$(cli get kept)" 1
  KEEL_BACKUP_STORES=$both keel restore "$id" --to ./dumped
  exits 0
  cp "$two/${file#disk/}" "$file"
  unpacked "$id" dump.rdb | cmp - dumped/dump.rdb
  rm -r dumped
  cli flushall >/dev/null
}

@test "redis-backup: what a manifest says wrongly is found; a dump of a newer Redis is not tried" {
  cli flushall
  cli set a 1
  A=$(made --new-set)
  claim "$A" keys 7
  found "dump.rdb: keys is 1, the manifest says 7" "$A"
  bring_back restore "$A" "$TREE/no"
  exits 0
  rm -r no
  bring_back restore "$A" redis "$KEEL_ENV"
  exits 65
  has "dump.rdb: keys is 1, the manifest says 7" "$stderr"
  is "what there is" "$(cli get a)" 1
  claim "$A" keys 1
  claim "$A" version '"99.1.0"'
  bring_back verify "$A"
  exits 78
  has "the backup is of Redis 99.1.0, the image of " "$stderr"
}

@test "redis-backup: more than this host has memory for is not tried" {
  A=$(made --new-set)
  claim "$A" used_memory 99000000000000
  bring_back verify "$A"
  exits 1
  has "not enough memory: " "$stderr"
}

@test "redis-backup: the scratch Redis has KEEL_RESTORE_MEMORY and no more; where that is too little: exit 69, no verdict" {
  local box trial
  cli flushall
  cli eval "for i = 1, 100000 do redis.call('SET', 'much:' .. i, string.rep('x', 500) .. i) end" 0
  A=$(made --new-set)
  KEEL_RESTORE_MEMORY=300m bin/restore-verify -q "$A" >out 3>&- &
  trial=$!
  until box=$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=tools | grep .); do kill -0 $trial; done
  is limits "$(docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.OomScoreAdj}}' "$box")" \
    "$((300 << 20)) $((300 << 20)) 1000"
  wait $trial
  rm -r "disk/$KEEL_ENV/verdicts/$A"
  KEEL_RESTORE_MEMORY=40m keel restore-verify "$A"
  exits 69
  is stdout "$output" ""
  [[ $stderr =~ "restore-verify: error: keel-$KEEL_ENV-tools-"[0-9a-f]+": out of memory: it may have 40 MiB" ]]
  has "hint: a larger KEEL_RESTORE_MEMORY; the backup may be well" "$stderr"
  [ ! -e "disk/$KEEL_ENV/verdicts/$A" ]
  is "left behind" "$(left_behind)" ""
  cli flushall
}

@test "redis-backup: a dump that takes more than Redis may use changes nothing" {
  cli eval "for i = 1, 20000 do redis.call('SET', 'much:' .. i, string.rep('x', 100) .. i) end" 0
  A=$(made --new-set)
  cli flushall
  cli config set maxmemory 2mb
  bring_back restore "$A" redis
  cli config set maxmemory 150mb
  exits 1
  has "redis may use 2 MiB: nothing was changed" "$stderr"
  has "a larger KEEL_REDIS_MEMORY in compose/$KEEL_ENV.env" "$stderr"
  is keys "$(cli dbsize)" 0
  own_master
}

@test "redis-backup: a Redis that is killed while it dumps: exit 69, nothing is published, nothing stays behind" {
  slow
  bin/redis-backup --new-set >out 2>err 3>&- &
  dumping $!
  docker kill "$(redis)" >/dev/null
  code=0
  wait $! || code=$?
  docker start "$(redis)" >/dev/null
  is code "$code" 69
  is stdout "$(cat out)" ""
  has "redis-backup: error: redis-cli ended with 1" "$(cat err)"
  is stored "$(lies disk)" ""
  is "left behind" "$(left_behind)" ""
}

@test "redis-backup: a saving process that is killed: exit 69, nothing is published" {
  slow
  bin/redis-backup --new-set >out 2>err 3>&- &
  dumping $!
  docker exec "$(redis)" sh -c \
    'for p in /proc/[0-9]*; do if tr "\0" " " <$p/cmdline | grep -q "[r]edis-rdb-"; then kill -9 "${p#/proc/}"; fi; done'
  code=0
  wait $! || code=$?
  fast
  is code "$code" 69
  is stored "$(lies disk)" ""
  is "left behind" "$(left_behind)" ""
}

# processes WORD: the pids, on this host, of what runs in Redis' container with that word in its arguments.
processes() { top_of "$(redis)" | awk -v word="$1" '$2 ~ /^redis/ && index($0, word) {print $1}'; }

# stands_still PID…: while these are stopped a dump that has begun ends by itself: exit 69, nothing is published, nothing stays behind.
stands_still() {
  local code=0
  kill -STOP "$@"
  wait $! || code=$?
  kill -CONT "$@"
  fast
  is code "$code" 69
  has "redis-backup: error: the dump stands still: for 2 s redis has sent nothing after " "$(cat err)"
  has "KEEL_REDIS_TIMEOUT is how long it may take" "$(cat err)"
  is stored "$(lies disk)" ""
  is "left behind" "$(left_behind)" ""
}

@test "redis-backup: a Redis that is stopped: exit 69 once it has not answered in time, nothing stays behind" {
  local server
  server=$(processes redis-server)
  # shellcheck disable=SC2086 # words
  kill -STOP $server
  run --separate-stderr env KEEL_REDIS_TIMEOUT=2s timeout 60 bin/redis-backup --new-set </dev/null
  # shellcheck disable=SC2086
  kill -CONT $server
  exits 69
  is stdout "$output" ""
  has "redis-backup: error: redis did not answer INFO within 2 s" "$stderr"
  has "redis-backup: hint: is it stopped, or busy with one long command? \`logs redis\` shows its own words; KEEL_REDIS_TIMEOUT" "$stderr"
  is stored "$(lies disk)" ""
  is "left behind" "$(left_behind)" ""
}

@test "redis-backup: a Redis that stops in the middle of a dump" {
  slow
  KEEL_REDIS_TIMEOUT=2s timeout 60 bin/redis-backup --new-set >out 2>err 3>&- &
  dumping $!
  # shellcheck disable=SC2046 # words
  stands_still $(processes redis-)
}

@test "redis-backup: a saving process that stops, while Redis itself answers" {
  slow
  KEEL_REDIS_TIMEOUT=2s timeout 60 bin/redis-backup --new-set >out 2>err 3>&- &
  dumping $!
  # shellcheck disable=SC2046 # words
  stands_still $(processes redis-rdb-)
}

@test "redis-backup: a dump that takes longer than that is waited for while bytes come, or keys go to Redis' own disk first" {
  slow
  cli config set rdb-key-save-delay 500 >/dev/null
  KEEL_REDIS_TIMEOUT=4s keel redis-backup --new-set
  exits 0
  cli config set repl-diskless-sync no >/dev/null
  begun=$SECONDS
  KEEL_REDIS_TIMEOUT=4s keel redis-backup --new-set
  cli config set repl-diskless-sync yes >/dev/null
  fast
  exits 0
  [ $((SECONDS - begun)) -gt 8 ] # so long indeed
}

@test "redis-backup: terminated while Redis dumps: 143, and nothing stays behind" {
  slow
  bin/redis-backup --new-set >out 2>err 3>&- &
  dumping $!
  kill $!
  code=0
  wait $! || code=$?
  fast
  is code "$code" 143
  is stored "$(lies disk)" ""
  is "left behind" "$(left_behind)" ""
}

@test "redis-backup: what kill -9 left, the next one removes" {
  slow
  bin/redis-backup --new-set >out 2>err 3>&- &
  dumping $!
  kill -9 $!
  wait $! || true
  [ -n "$(left_behind)" ]
  # The dump goes on, and nobody waits for it: it is what the next one ends first.
  top_of "$(left_behind | head -n 1)" | grep -F -- '--rdb'
  fast
  keel redis-backup --new-set
  exits 0
  is "left behind" "$(left_behind)" ""
}

@test "redis-backup: the password is in no argv and in no container's description while it works" {
  slow
  secret=two-$RANDOM-$RANDOM
  cli config set requirepass "$secret" >/dev/null
  REDIS_PASSWORD=$secret bin/redis-backup --new-set -v >out 2>err 3>&- &
  dumping $!
  : >seen
  while [ -d "/proc/$!" ] && [ "$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$!/status")" != Z ]; do
    cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' >>seen
    echo >>seen
    docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=tools |
      xargs --no-run-if-empty docker inspect >>seen 2>/dev/null || true
  done
  code=0
  wait $! || code=$?
  docker restart "$(redis)" >/dev/null # which has its old password again
  [ "$code" = 0 ] || { cat err; false; }
  has " -e --rdb /keel/dump.rdb" "$(cat err)"
  has redispass "$(cat seen)"
  hasnt "$secret" "$(cat seen err)"
  run grep -rlF "$secret" disk state/"$KEEL_ENV"
  is "where it is" "$output" ""
}

@test "redis-backup: a wrong password is said in the words of Redis: 69" {
  REDIS_PASSWORD=wrong keel redis-backup --new-set
  exits 69
  is stdout "$output" ""
  has "WRONGPASS" "$stderr"
  hasnt "wrong password" "$stderr"
  is stored "$(lies disk)" ""
}

@test "redis-backup: without disk for the dump: exit 1, before anything is dumped" {
  KEEL_MIN_FREE_DISK=900000t keel redis-backup --new-set
  exits 1
  is stdout "$output" ""
  has "redis-backup: error: not enough disk: " "$stderr"
  has "KEEL_MIN_FREE_DISK=900000t on top" "$stderr"
  hasnt dumping "$stderr"
  is stored "$(lies disk)" ""
}

@test "redis-backup: a disk that fills up while Redis dumps: 69, nothing is published" {
  [ "$EUID" = 0 ] || skip "only root may look into the engine's volumes, and a small disk is made as one"
  volume=keel-$KEEL_ENV-full
  docker volume create --label "keel.env=$KEEL_ENV" --driver local --opt type=tmpfs --opt device=tmpfs --opt o=size=32m "$volume" >/dev/null
  docker run -d --name "$volume" --network none -v "$volume:/full" --entrypoint sleep "$(image_of REDIS)" infinity >/dev/null
  state=$(docker volume inspect --format '{{.Mountpoint}}' "$volume")
  slow
  KEEL_STATE=$state KEEL_MIN_FREE_DISK=0 bin/redis-backup --new-set >out 2>err 3>&- &
  until compgen -G "$state/$KEEL_ENV/spool/*/dump.rdb" >/dev/null; do kill -0 $!; done
  run docker exec "$volume" dd if=/dev/zero of=/full/rest bs=64k
  code=0
  wait $! || code=$?
  fast
  docker rm -f -v "$volume" >/dev/null
  docker volume rm "$volume" >/dev/null
  is code "$code" 69
  has "Error writing data to file" "$(cat err)"
  is stored "$(lies disk)" ""
}

@test "redis-backup: what is at work already is not disturbed: exit 75" {
  refuses_backups_lock redis-backup --new-set
}

@test "redis-backup: --dry-run dumps nothing, for backups that are not there yet" {
  run --separate-stderr bash -c 'echo 20260102T031500Z-pg-1a2b3c4d | bin/redis-backup --dry-run'
  exits 0
  is first "${lines[0]}" 20260102T031500Z-pg-1a2b3c4d
  has "redis-backup: would: store the keys of Redis as ${lines[1]} in file://$TREE/disk" "$stderr"
  is stored "$(lies disk)" ""
}

@test "redis-backup: needs the engine" {
  wants_an_engine redis-backup --new-set
}

@test "redis-backup: needs a Redis that runs" {
  docker stop "$(redis)" >/dev/null
  keel redis-backup --new-set
  exits 69
  is stdout "$output" ""
  has "redis-backup: error: redis is not running" "$stderr"
  has "redis-backup: hint: make up ENV=$KEEL_ENV" "$stderr"
}

# Last: it makes Redis anew from another image.
@test "redis-backup: a dump that is damaged: exit 69 with what redis-check-rdb says, nothing is published" {
  local pins
  docker start "$(redis)" >/dev/null
  pins=$(host_value KEEL_IMAGES)
  # shellcheck disable=SC2016
  docker build --quiet --provenance=false --tag "keel-$KEEL_ENV:cuts" - >/dev/null < <(printf '%s\n' "FROM $(image_of REDIS)" 'USER root' \
    'RUN mv "$(command -v redis-cli)" /usr/local/bin/whole && printf "%s\n" "#!/bin/sh" "/usr/local/bin/whole \"\$@\" || exit" \
      "case \"\$*\" in *--rdb*) truncate -s -1 /keel/dump.rdb ;; esac" >/usr/local/bin/redis-cli && chmod 755 /usr/local/bin/redis-cli')
  sed "s,^KEEL_IMAGE_REDIS=.*,KEEL_IMAGE_REDIS=keel-$KEEL_ENV:cuts," "${pins:-compose/images.env}" >pins.env
  set_env KEEL_IMAGES="$TREE/pins.env"
  sed -i '/^KEEL_IMAGES=/d' var/host.env
  bin/start-base -q
  keel redis-backup --new-set
  exits 69
  is stdout "$output" ""
  has "redis-backup: error: the dump is damaged: redis-check-rdb: --- RDB ERROR DETECTED ---; [offset " "$stderr"
  is stored "$(lies disk)" ""
  is "left behind" "$(left_behind)" ""
}
