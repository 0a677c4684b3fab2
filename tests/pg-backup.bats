#!/usr/bin/env bats
# pg-backup: a snapshot of the database, in every store, with a manifest last.

setup_file() {
  load helper
  load stack
  load backup
  stack pgb
  up
  backup_keys
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

@test "pg-backup: prints its id once the manifest is there; age, zstd and pg_restore open it without us" {
  keel pg-backup
  exits 0
  [[ $output =~ ^[0-9]{8}T[0-9]{6}Z-pg-[0-9a-f]{8}$ ]]
  lies disk
}
