#!/usr/bin/env bats
# docs/schedule.md, "Two hosts": a server with the role backup and no identity, and a host that restores what it made; for real.

setup_file() {
  load helper
  load stack
  load backup
  stack two
  up
  sql "CREATE TABLE events AS SELECT 1 AS id" # an empty database would be refused
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

# target NAME: make it, here.
# shellcheck disable=SC2154 # run sets them
target() {
  run --separate-stderr make -s "$1" ENV="$KEEL_ENV" </dev/null
}

# kinds: of the backups whose ids are on stdout.
kinds() {
  cut -d - -f 2 <<<"$output" | paste -sd ' '
}

# shellcheck disable=SC2154
@test "two hosts: the server backs up without being able to restore, the other host restores all of it" {
  local other=$BATS_FILE_TMPDIR/verify1
  mkdir disk
  set_env KEEL_BACKUP_STORES="file://$TREE/disk"
  bin/backup-keys make signer --role backup --comment "db1, since 2026"
  cp -R "$TREE" "$other"
  rm -r "$other/secrets/backup-sign.pem" "$other/state"
  (cd "$other" && bin/backup-keys make identity --output secrets/backup-identity.txt && bin/backup-keys make signer --role verify)
  cp "$other/backup/"* backup/

  target backup # the wrong one here: restore-verify at its end may not, which is known before anything is dumped
  exits 2
  is kinds "$(kinds)" ""
  is stored "$(find disk -type f)" ""
  has "its line in KEEL_BACKUP_SIGNERS says role=backup: what it signs for verify would not count" "$stderr"
  has "a server that is to restore nothing runs make backup-only" "$stderr"
  has "backup] Error 78" "$stderr"

  sed -i '/ db1, since 2026$/s/ role=backup / /' backup/signers # the right to sign, and still no identity
  target backup
  exits 2
  is stored "$(find disk -type f)" ""
  has "pg-backup: error: $TREE/secrets/backup-identity.txt: no such file or directory" "$stderr"
  has "a server that only makes backups needs none, with make backup-only" "$stderr"
  cp "$other/backup/signers" backup/

  target backup-only
  exits 0
  is kinds "$(kinds)" "pg redis files"
  made=$output
  cd "$other"
  target restore-verify
  exits 0
  is restored "$(sort <<<"$output")" "$(sort <<<"$made")"
  has "restores, L5" "$stderr"
}
