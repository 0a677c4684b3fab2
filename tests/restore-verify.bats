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

@test "restore-verify: prints what restores, signs the verdict, and leaves nothing else" {
  keel restore-verify "$GOOD"
  exits 0
  is stdout "$output" "$GOOD"
  [[ $stderr =~ "restore-verify: $GOOD: restores, L5, "[0-9.]+" s (RTO 4h: "[0-9.e-]+" %; 2 times the data about " ]]
  is verdict "$(verdict "$GOOD" | jq -r '[.backup, .ok, .level, (.findings | length), (.seconds | keys | join(" "))] | join("|")')" \
    "$GOOD|true|5|0|amcheck analyze checks download find globals restore start"
  is left "$(left_over)" ""
}
