#!/usr/bin/env bats
# backup-release: a held backup counts once a person has said why, signed, for exactly that manifest.

setup() {
  load helper
  load backup
  backup_store
}

# notes ID: the notes that lie beside a backup in the store (or in the folder $2).
notes() {
  find "${2:-$DISK}/development/releases/$1" -type f 2>/dev/null
}

# judged ID true|false: another verdict on it, of now.
judged() {
  .venv/bin/python - "$@" "$DISK" <<'PY'
import sys
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, "lib")
from keel import forms, manifest, signed, store_file
ident, ok, folder = sys.argv[1:]
store, key = store_file.open_folder(folder), signed.load_key(Path("key"))
digest = manifest.read(store, "development", ident, signed.trusted(Path("backup/signers"))).digest
manifest.write_verdict(store, "development", manifest.Verdict(
    ident, digest, forms.text_of(datetime.now(UTC)), ok == "true", 5, {"restore": 1.5}, (), "verify1"), key)
PY
}

@test "backup-release: a note beside it, which names the manifest; then it counts; the history says so" {
  HELD=$(backup pg:3d:held)
  keel backup-release "$HELD" "the archive job ran, it is really that small"
  exits 0
  is stdout "$output" "$HELD"
  is stderr "$stderr" "backup-release: $STORE: $HELD: released (it was held: a tenth of its predecessors)"
  note=$(notes "$HELD")
  digest=$(sha256sum "$DISK/development/manifests/$HELD" | cut -d ' ' -f 1)
  is note "$(sed '$d' "$note" | jq -r '[.backup, .manifest, .reason, .host, .format] | join("|")')" \
    "$HELD|$digest|the archive job ran, it is really that small|$(hostname)|1"
  is name "$(basename "$note")" "$(sed '$d' "$note" | jq -r '.time | gsub("[-:]"; "")')"
  is signer "$(tail -n 1 "$note" | cut -d ' ' -f 3)" "$(cut -d ' ' -f 2 backup/signers)"
  is history "$(jq -r '[.command, .backup, .reason] | join("|")' var/development/history)" \
    "backup-release|$HELD|the archive job ran, it is really that small"
  keel backup-prune
  has "keep    $HELD" "$output"
  hasnt "held:" "$output"
}

@test "backup-release: again changes nothing; it says why it was released" {
  HELD=$(backup pg:3d:held:released)
  before=$(lies "$DISK")
  keel backup-release "$HELD" "again"
  exits 0
  is stdout "$output" "$HELD"
  is stderr "$stderr" "backup-release: $STORE: $HELD: is released already: looked at it"
  is left "$(lies "$DISK")" "$before"
}

@test "backup-release: one that is not held: exit 1; no such backup, no id at all: exit 65" {
  PLAIN=$(backup pg:3d)
  keel backup-release "$PLAIN" "why not"
  exits 1
  is stdout "$output" ""
  is stderr "$stderr" "backup-release: error: $STORE: $PLAIN: is not held"
  keel backup-release 20260102T031500Z-pg-1a2b3c4d "why not"
  exits 65
  has "warning: $STORE: has no 20260102T031500Z-pg-1a2b3c4d" "$stderr"
  has "error: 20260102T031500Z-pg-1a2b3c4d: is in no store" "$stderr"
  for wrong in "$PLAIN/x" ../x 20261302T031500Z-pg-1a2b3c4d ""; do
    keel backup-release "$wrong" "why not"
    exits 65
    has "is not a backup id" "$stderr"
  done
  [ ! -e "$DISK/development/releases" ]
  [ ! -e var/development ]
}

@test "backup-release: one that is BAD counts in no case: exit 1 says why, nothing written; a newer good verdict makes way" {
  BAD=$(backup pg:3d:held:bad)
  before=$(lies "$DISK")
  keel backup-release "$BAD" "looked at it"
  exits 1
  is stdout "$output" ""
  has "error: $STORE: $BAD: is BAD since " "$stderr"
  has " (events: 3 rows, 5 wanted): released or not, it would not count" "$stderr"
  has "hint: only a restore that goes well makes it count again: restore-verify $BAD" "$stderr"
  is left "$(lies "$DISK")" "$before"
  [ ! -e var/development ]
  judged "$BAD" true
  keel backup-release "$BAD" "looked at it"
  exits 0
  is stdout "$output" "$BAD"
}

@test "backup-release: BAD in one store is said though it was released; the good copy in another is released" {
  BAD=$(backup pg:3d:held:bad:released)
  keel backup-release "$BAD" "again"
  exits 1
  hasnt "released already" "$stderr"
  cp -R "$DISK" "$BATS_TEST_TMPDIR/second"
  rm -r "$BATS_TEST_TMPDIR/second/development/"{verdicts,releases}
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/second" keel backup-release "$BAD" "looked at it"
  exits 1
  is stdout "$output" ""
  has "error: $STORE: $BAD: is BAD" "$stderr"
  has "file://$BATS_TEST_TMPDIR/second: $BAD: released" "$stderr"
  is notes "$(notes "$BAD" | wc -l) $(notes "$BAD" "$BATS_TEST_TMPDIR/second" | wc -l)" "1 1"
}

@test "backup-release: a store that has it not is named; in those that have it it is released" {
  HELD=$(backup pg:3d:held)
  mkdir "$BATS_TEST_TMPDIR/second" "$BATS_TEST_TMPDIR/third"
  cp -R "$DISK/." "$BATS_TEST_TMPDIR/second"
  set_env KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/third file://$BATS_TEST_TMPDIR/second"
  keel backup-release "$HELD" "looked at it"
  exits 0
  is stdout "$output" "$HELD"
  has "warning: file://$BATS_TEST_TMPDIR/third: has no $HELD" "$stderr"
  is notes "$(notes "$HELD" | wc -l) $(notes "$HELD" "$BATS_TEST_TMPDIR/second" | wc -l)" "1 1"
  [ ! -e "$BATS_TEST_TMPDIR/third/development" ]
}

@test "backup-release: a store that does not answer: exit 69, no handle; the same command again finishes it" {
  HELD=$(backup pg:3d:held)
  AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=hunter2 KEEL_S3_ATTEMPTS=1 \
    KEEL_BACKUP_STORES="s3://bucket/p?endpoint=http://127.0.0.1:9 $STORE" keel backup-release "$HELD" "looked at it"
  exits 69
  is stdout "$output" ""
  has "error: s3://bucket/p" "$stderr"
  hasnt hunter2 "$stderr"
  is notes "$(notes "$HELD" | wc -l)" 1
  mkdir "$BATS_TEST_TMPDIR/second"
  cp -R "$DISK/." "$BATS_TEST_TMPDIR/second"
  rm -r "$BATS_TEST_TMPDIR/second/development/releases"
  KEEL_BACKUP_STORES="file://$BATS_TEST_TMPDIR/second $STORE" keel backup-release "$HELD" "looked at it"
  exits 0
  is stdout "$output" "$HELD"
  is notes "$(notes "$HELD" | wc -l) $(notes "$HELD" "$BATS_TEST_TMPDIR/second" | wc -l)" "1 1"
}

@test "backup-release: a manifest that does not verify cannot be released: exit 65" {
  mapfile -t IDS < <(backup pg:3d:held:spoiled pg:4d:held:alien)
  for name in "${IDS[@]}"; do
    keel backup-release "$name" "looked at it"
    exits 65
    is stdout "$output" ""
    has "error: $STORE: development/manifests/$name: " "$stderr"
  done
  [ ! -e "$DISK/development/releases" ]
}

@test "backup-release: with a key that nobody trusts, or none: exit 78, nothing written; --key is another's" {
  HELD=$(backup pg:3d:held)
  KEEL_BACKUP_SIGN_KEY=$BATS_TEST_TMPDIR/other.pem KEEL_BACKUP_SIGNERS=none.signers keel backup-keys make signer
  exits 0
  keel backup-release --key "$BATS_TEST_TMPDIR/other.pem" "$HELD" "looked at it"
  exits 78
  has "error: $BATS_TEST_TMPDIR/other.pem: is no key of KEEL_BACKUP_SIGNERS: nobody would trust what it signs" "$stderr"
  keel backup-release --key "$BATS_TEST_TMPDIR/none.pem" "$HELD" "looked at it"
  exits 78
  [ ! -e "$DISK/development/releases" ]
  cat none.signers >>backup/signers
  mv key elsewhere
  keel backup-release --key "$BATS_TEST_TMPDIR/other.pem" "$HELD" "looked at it"
  exits 0
  is signer "$(tail -n 1 "$(notes "$HELD")" | cut -d ' ' -f 3)" "$(cut -d ' ' -f 2 none.signers)"
}

@test "backup-release: what a key signs counts in its role alone: a stolen one of the server neither releases nor verifies" {
  local server=$BATS_TEST_TMPDIR/server.pem verify=$BATS_TEST_TMPDIR/verify.pem operator=$BATS_TEST_TMPDIR/operator.pem
  rm backup/signers
  KEEL_BACKUP_SIGN_KEY=$server keel backup-keys make signer --role backup
  KEEL_BACKUP_SIGN_KEY=$verify keel backup-keys make signer --role verify
  KEEL_BACKUP_SIGN_KEY=$operator keel backup-keys make signer --role release
  exits 0
  made() { .venv/bin/python "$CHECKOUT/tests/backups.py" "$1" "$DISK" development "$2"; }
  # all of it by the server
  HELD=$(made "$server" pg:3d:held:ok:released)
  keel backups
  exits 65
  has "never restored" "$output"
  has "HELD: a tenth of its predecessors" "$output"
  has "error: $STORE: development/verdicts/$HELD/" "$stderr"
  has ", which may sign for backup only, not for verify" "$stderr"
  has "error: $STORE: development/releases/$HELD/" "$stderr"
  has ", which may sign for backup only, not for release" "$stderr"
  rm -r "$DISK/development/verdicts" "$DISK/development/releases"
  for key in "$server" "$verify"; do
    keel backup-release --key "$key" "$HELD" "let me"
    exits 78
    is stdout "$output" ""
    has "error: $key: its line in KEEL_BACKUP_SIGNERS says role=" "$stderr"
    has "what it signs for release would not count" "$stderr"
    [ ! -e "$DISK/development/releases" ]
  done
  keel backup-release --key "$operator" "$HELD" "looked at it"
  exits 0
  keel backups
  exits 0
  has "released: looked at it" "$output"
  # a manifest by the others is none, and no release makes it one
  FORGED=$(made "$verify" pg:2d:held)
  keel backups
  exits 65
  hasnt "$FORGED" "$output"
  has "error: $STORE: development/manifests/$FORGED: signed by " "$stderr"
  has ", which may sign for verify only, not for backup" "$stderr"
  keel backup-release --key "$operator" "$FORGED" "looked at it"
  exits 65
  keel restore "$FORGED" --object data --output -
  exits 65
  is stdout "$output" ""
  keel backup-prune
  has "keep    $FORGED  $STORE  held: its manifest does not verify" "$output"
}

@test "backup-release: no reason, a reason of two lines: usage" {
  HELD=$(backup pg:3d:held)
  for reason in "" "  " $'two\nlines' $'\e[2J'; do
    keel backup-release "$HELD" "$reason"
    exits 2
    has "say why, in one line" "$stderr"
  done
  keel backup-release "$HELD"
  exits 2
  [ ! -e "$DISK/development/releases" ]
}

@test "backup-release: --dry-run writes nothing and prints the id" {
  HELD=$(backup pg:3d:held)
  before=$(lies "$DISK")
  keel backup-release --dry-run "$HELD" "looked at it"
  exits 0
  rehearsed
  is stdout "$output" "$HELD"
  has "would: write $STORE/development/releases/$HELD/" "$stderr"
  is left "$(lies "$DISK")" "$before"
  [ ! -e var/development ]
}

@test "backup-release: a forged note beside it is named and does not count as one" {
  HELD=$(backup pg:3d:held:released)
  note=$(notes "$HELD")
  sed -i 's/looked at it/looked at IT/' "$note"
  keel backup-release "$HELD" "really looked at it"
  exits 0
  has "warning: $STORE: development/releases/$HELD/$(basename "$note"): its signature does not verify" "$stderr"
  is notes "$(notes "$HELD" | wc -l)" 2
  keel backups
  exits 65
  has "released: really looked at it" "$output"
}
