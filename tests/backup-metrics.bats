#!/usr/bin/env bats
# backup-metrics: what Prometheus is told about the backups, read back with its own parsers.

setup() {
  load helper
  load backup
  backup_store
  NOW=$(date +%s)
}

# parsed: the last output, or the file $1, as lines of `NAME LABEL=VALUE… VALUE`, when it is well-formed.
# shellcheck disable=SC2154
parsed() {
  if [ $# -gt 0 ]; then cat "$1"; else printf '%s\n' "$output"; fi | .venv/bin/python "$CHECKOUT/tests/prometheus.py"
}

# value NAME [LABEL=VALUE…]: the value of one sample in $SAMPLES; nothing where there is none. The environment is left out.
value() {
  local wanted="$1 env=$KEEL_ENV${2:+ ${*:2}} "
  WANTED=$wanted awk 'index($0, ENVIRON["WANTED"]) == 1 && NF == split(ENVIRON["WANTED"], words, " ") + 1 { print $NF }' <<<"$SAMPLES"
}

# near WHAT VALUE WANTED: within a minute.
near() {
  [ -n "$2" ] && [ "$2" -ge "$3" ] && [ "$2" -le "$(($3 + 60))" ] || { echo "$1 is $2, wanted $3"; return 1; }
}

@test "backup-metrics: when, how large, how long, restored when and how far, locked, and what would be lost, for each kind" {
  backup pg:30h:ok pg:1h:locked redis:2h:ok >/dev/null
  keel backup-metrics
  exits 0
  is stderr "$stderr" ""
  SAMPLES=$(parsed)
  pg="store=$STORE kind=pg" redis="store=$STORE kind=redis"
  # shellcheck disable=SC2086
  {
    is up "$(value evenkeel_backup_store_up store="$STORE")" 1
    is faults "$(value evenkeel_backup_faults store="$STORE")" 0
    is backups "$(value evenkeel_backups $pg) $(value evenkeel_backups $redis)" "2 1"
    near success "$(value evenkeel_backup_last_success_timestamp_seconds $pg)" $((NOW - 3600))
    is size "$(value evenkeel_backup_last_size_bytes $pg)" 64
    is duration "$(value evenkeel_backup_last_duration_seconds $pg)" 0
    near lost "$(value evenkeel_backup_rpo_seconds $pg | cut -d. -f1)" 3600
    near locked "$(value evenkeel_backup_locked_until_timestamp_seconds $pg)" $((NOW + 86400))
    is locked "$(value evenkeel_backup_locked_until_timestamp_seconds $redis)" ""
    near verified "$(value evenkeel_backup_last_verified_timestamp_seconds $pg)" $((NOW - 30 * 3600))
    near "lost at worst" "$(value evenkeel_backup_verified_rpo_seconds $pg | cut -d. -f1)" $((30 * 3600))
    near "lost at worst" "$(value evenkeel_backup_verified_rpo_seconds $redis | cut -d. -f1)" 7200
    is level "$(value evenkeel_backup_last_verified_level $pg)" 5
    is phase "$(value evenkeel_restore_verify_seconds $pg phase=restore)" 1.5
  }
  near made "$(value evenkeel_backup_metrics_timestamp_seconds | cut -d. -f1)" "$NOW"
  hasnt kind=files "$SAMPLES"
}

@test "backup-metrics: what is held, bad, cut short, not signed by us, unfinished or to come is no success" {
  backup pg:5h:bad pg:4h:held pg:3h:cut pg:2h:spoiled pg:90s:bare pg:-2h files:1h:young >/dev/null
  keel backup-metrics
  exits 0
  SAMPLES=$(parsed)
  pg="store=$STORE kind=pg"
  # shellcheck disable=SC2086
  {
    is success "$(value evenkeel_backup_last_success_timestamp_seconds $pg)" 0
    is verified "$(value evenkeel_backup_last_verified_timestamp_seconds $pg)" 0
    is lost "$(value evenkeel_backup_rpo_seconds $pg) $(value evenkeel_backup_verified_rpo_seconds $pg)" "inf inf"
    is size "$(value evenkeel_backup_last_size_bytes $pg)" ""
    is backups "$(value evenkeel_backups $pg)" 5
    is held "$(value evenkeel_backups_held $pg)" 1
    is bad "$(value evenkeel_backups_bad $pg)" 2
  }
  is faults "$(value evenkeel_backup_faults store="$STORE")" 2
  is young "$(value evenkeel_backup_last_verified_timestamp_seconds store="$STORE" kind=files)" 0
  is young "$(value evenkeel_backup_last_success_timestamp_seconds store="$STORE" kind=files | cut -c 1-2)" "${NOW:0:2}"
}

@test "backup-metrics: an empty store has no backup of the database, and says so" {
  keel backup-metrics
  exits 0
  SAMPLES=$(parsed)
  is backups "$(value evenkeel_backups store="$STORE" kind=pg)" 0
  is success "$(value evenkeel_backup_last_success_timestamp_seconds store="$STORE" kind=pg)" 0
}

@test "backup-metrics: KEEL_METRICS_DIR: one file, whole, readable by others, replaced; silence" {
  mkdir metrics
  set_env KEEL_METRICS_DIR=metrics
  umask 077
  keel backup-metrics
  exits 0
  is stdout "$output" ""
  is stderr "$stderr" ""
  is files "$(ls -A metrics)" evenkeel_backups_development.prom
  is mode "$(stat -c %a metrics/*)" 644
  SAMPLES=$(parsed metrics/*)
  is backups "$(value evenkeel_backups store="$STORE" kind=pg)" 0
  before=$(stat -c %i metrics/*)
  exec 5<metrics/evenkeel_backups_development.prom
  backup pg:1h >/dev/null
  keel backup-metrics
  SAMPLES=$(parsed metrics/*)
  is backups "$(value evenkeel_backups store="$STORE" kind=pg)" 1
  [ "$before" != "$(stat -c %i metrics/*)" ]
  SAMPLES=$(parsed /dev/fd/5)  # whoever has begun to read sees the old one to its end
  exec 5<&-
  is "the old file" "$(value evenkeel_backups store="$STORE" kind=pg)" 0
}

@test "backup-metrics: each environment has its own file" {
  mkdir metrics
  cp compose/development.env compose/staging.env
  cp -p secrets/development.env secrets/staging.env
  export KEEL_METRICS_DIR=metrics
  keel backup-metrics
  KEEL_ENV=staging keel backup-metrics
  exits 0
  is files "$(ls metrics)" $'evenkeel_backups_development.prom\nevenkeel_backups_staging.prom'
  cat metrics/* >both # node_exporter refuses what two files say differently
  is help "$(grep '^# HELP' both | sort | uniq -c | awk '{print $1}' | sort -u)" 2
}

@test "backup-metrics: a store that does not answer: 0, exit 69, and the others all the same, in the file too" {
  mkdir metrics
  backup pg:1h >/dev/null
  AWS_ACCESS_KEY_ID=AKIAsecret AWS_SECRET_ACCESS_KEY=hunter2 KEEL_S3_ATTEMPTS=1 KEEL_METRICS_DIR=metrics \
    KEEL_BACKUP_STORES="s3://bucket/p?endpoint=http://127.0.0.1:9 $STORE" keel backup-metrics
  exits 69
  has "backup-metrics: error: s3://bucket/p" "$stderr"
  SAMPLES=$(parsed metrics/*)
  is down "$(value evenkeel_backup_store_up store=s3://bucket/p)" 0
  is up "$(value evenkeel_backup_store_up store="$STORE")" 1
  is backups "$(value evenkeel_backups store="$STORE" kind=pg)" 1
  is "none of the other" "$(grep -c s3:// <<<"$SAMPLES")" 1
  hasnt hunter2 "$(cat metrics/*)$stderr"
}

@test "backup-metrics: a store that cannot be used, as one whose disk is not there, or whose URL holds a password" {
  KEEL_BACKUP_STORES="file:///nowhere/at-all s3://me:hunter2@bucket/p s3://[none $STORE" keel backup-metrics
  exits 78
  SAMPLES=$(parsed)
  is down "$(value evenkeel_backup_store_up store=file:///nowhere/at-all)" 0
  is down "$(value evenkeel_backup_store_up store=s3://bucket/p)" 0
  has 'evenkeel_backup_store_up env=development store=no URL 0' "$SAMPLES"
  is up "$(value evenkeel_backup_store_up store="$STORE")" 1
  hasnt hunter2 "$output$stderr"
}

@test "backup-metrics: two stores of one name are two, which no other command takes: exit 78" {
  local same='s3://b/p?endpoint=http://127.0.0.1'
  AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b KEEL_S3_ATTEMPTS=1 KEEL_BACKUP_STORES="$same:9 $same:8" keel backup-metrics
  exits 78
  has "error: s3://b/p: is the name of two stores, at two endpoints" "$stderr"
  SAMPLES=$(parsed)
  has "evenkeel_backup_store_up env=development store=s3://b/p 0" "$SAMPLES"
  has "evenkeel_backup_store_up env=development store=s3://b/p (2) 0" "$SAMPLES"
}

@test "backup-metrics: one store under two names: both are there, exit 78 says it" {
  ln -s "$DISK" "$BATS_TEST_TMPDIR/link"
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/link" keel backup-metrics
  exits 78
  has "error: file://$BATS_TEST_TMPDIR/link: is there twice, also as $STORE" "$stderr"
  SAMPLES=$(parsed)
  is up "$(value evenkeel_backup_store_up "store=file://$BATS_TEST_TMPDIR/link")" 1
}

@test "backup-metrics: labels are escaped" {
  mkdir "$BATS_TEST_TMPDIR/a\\b\"c"
  KEEL_BACKUP_STORES="file://$BATS_TEST_TMPDIR/a\\b\"c" keel backup-metrics
  exits 0
  SAMPLES=$(parsed)
  is up "$(value evenkeel_backup_store_up "store=file://$BATS_TEST_TMPDIR/a\\b\"c")" 1
}

@test "backup-metrics: a folder that is not there, no store, no signers: exit 78, and nothing is written" {
  KEEL_METRICS_DIR=nowhere keel backup-metrics
  exits 78
  has "backup-metrics: error: KEEL_METRICS_DIR: there is no folder $TREE/nowhere" "$stderr"
  has "backup-metrics: hint: mkdir -p $TREE/nowhere" "$stderr"
  [ ! -e nowhere ]
  rm backup/signers
  keel backup-metrics
  exits 78
  set_env KEEL_BACKUP_STORES=
  keel backup-metrics
  exits 78
  has "KEEL_BACKUP_STORES is empty" "$stderr"
  is stdout "$output" ""
}

@test "backup-metrics: --dry-run writes no file" {
  mkdir metrics
  KEEL_METRICS_DIR=metrics keel backup-metrics --dry-run
  exits 0
  is stderr "$stderr" "backup-metrics: would: write $TREE/metrics/evenkeel_backups_development.prom"
  is files "$(ls -A metrics)" ""
}
