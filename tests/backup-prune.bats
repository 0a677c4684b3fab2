#!/usr/bin/env bats
# backup-prune: what no rule keeps goes, and nothing else, and only when it is confirmed.

setup() {
  load helper
  load backup
  backup_store
}

teardown() {
  [ -z "${HOLDER:-}" ] || kill -KILL "$HOLDER" 2>/dev/null || true
}

# few: backups of which just one, the second of a month (and seconds after the first), goes: $GONE; $KEPT are those that stay.
few() {
  mapfile -t KEPT < <(backup pg:2h:ok pg:26h:ok pg:50h:ok pg:4320000s:ok)
  GONE=$(backup pg:4319990s)
  set_env KEEL_KEEP_DAILY=3 KEEL_KEEP_WEEKLY=0
}

@test "backup-prune: without --confirm it shows each with its reason and deletes nothing" {
  few
  before=$(lies "$DISK")
  keel backup-prune
  exits 0
  is stderr "$stderr" "backup-prune: nothing was deleted: --confirm does it"
  is order "$(awk '{print $2}' <<<"$output")" "$(printf '%s\n' "${KEPT[@]}" "$GONE" | sort -r)"
  has "delete  $GONE  $STORE  first of no kept day, week or month, and not among the newest 3" "$output"
  [[ "$output" =~ keep\ \ \ \ ${KEPT[0]}\ \ $STORE\ \ younger\ than\ 48\ h\;\ daily\ .*among\ the\ newest\ 3\;\ newest\ verified ]]
  is left "$(lies "$DISK")" "$before"
  [ ! -e var/development ]
}

@test "backup-prune: --confirm deletes manifest, verdicts and data of what goes, and writes it down" {
  few
  wanted=$(lies "$DISK" | grep -vF "$GONE")
  keel backup-prune --confirm
  exits 0
  is left "$(lies "$DISK")" "$wanted"
  [ ! -e "$DISK/development/objects/$GONE" ]
  has "backup-prune: $STORE: deleted 1 of 1, kept 4" "$stderr"
  is history "$(jq -r 'select(.delete) | [.command, .store, .delete] | join(" ")' var/development/history)" "backup-prune $STORE $GONE"
  keel backup-prune --confirm
  exits 0
  is left "$(lies "$DISK")" "$wanted"
  hasnt delete "$output"
}

@test "backup-prune: --dry-run rehearses even with --confirm" {
  few
  before=$(lies "$DISK")
  keel backup-prune --confirm --dry-run
  exits 0
  has "backup-prune: would: remove $DISK/development/manifests/$GONE" "$stderr"
  is left "$(lies "$DISK")" "$before"
  [ ! -e var/development ]
}

@test "backup-prune: the manifest goes first: what a killed prune leaves is no backup, and goes later" {
  few
  lock=$DISK/development/objects/$GONE/.data.zst.age.locked
  date -ud tomorrow +%FT%TZ >"$lock"
  keel backup-prune --confirm
  exits 1
  has "warning: $STORE: development/objects/$GONE/data.zst.age is locked until" "$stderr"
  [ ! -e "$DISK/development/manifests/$GONE" ]
  [ -e "$DISK/development/objects/$GONE/data.zst.age" ]
  rm "$lock"
  keel backup-prune --confirm
  exits 0
  [[ "$output" =~ delete\ \ $GONE\ \ $STORE\ \ incomplete,\ (49|50)\ d\ old ]]
  [ ! -e "$DISK/development/objects/$GONE" ]
}

@test "backup-prune: leftovers go once they are older than 48 h: data without a manifest, unfinished uploads" {
  few
  OLD=$(backup pg:60h:bare)
  YOUNG=$(backup pg:3h:bare)
  for age in 60 3; do
    mkdir -p "$DISK/development/objects/$YOUNG"
    touch -d "-$age hours" "$DISK/development/objects/$YOUNG/.more.age.$age.part"
  done
  keel backup-prune
  has "delete  $OLD  $STORE  incomplete, 60 h old" "$output"
  has "keep    $YOUNG  $STORE  younger than 48 h" "$output"
  has "delete  development/objects/$YOUNG/more.age  $STORE  an upload that was begun 20" "$output"
  keel backup-prune --confirm
  exits 0
  [ ! -e "$DISK/development/objects/$OLD" ]
  is left "$(ls -A "$DISK/development/objects/$YOUNG")" ".more.age.3.part
data.zst.age"
}

@test "backup-prune: data of an old id that was written just now may belong to a backup at work: it stays" {
  few
  OLD=$(backup pg:60h:bare)
  touch "$DISK/development/objects/$OLD/data.zst.age"
  keel backup-prune
  has "keep    $OLD  $STORE  younger than 48 h" "$output"
}

@test "backup-prune: a stale store, a clock that went back, nothing restored: exit 1, nothing deleted, not even leftovers" {
  backup pg:60h:ok pg:70h:ok pg:80h:ok pg:1200h:ok pg:100h:bare >/dev/null
  before=$(lies "$DISK")
  keel backup-prune --confirm
  exits 1
  has "the newest good pg backup of development is 60 h old, more than 52 h" "$stderr"
  has "backup-prune: hint: a new good backup first" "$stderr"
  is left "$(lies "$DISK")" "$before"
  A=$(backup pg:-2h:ok)
  keel backup-prune --confirm
  exits 1
  has "$A: is 2 h in the future: did a clock go back?" "$stderr"
  rm -rf "$DISK/development"
  backup pg:1h pg:26h pg:50h pg:4320000s >/dev/null
  gone=$(backup pg:4319990s)
  KEEL_KEEP_DAILY=3 KEEL_KEEP_WEEKLY=0 keel backup-prune --confirm
  exits 1
  has "no pg backup that has been restored would be left" "$stderr"
  [ -e "$DISK/development/manifests/$gone" ]
}

@test "backup-prune: too much at once is refused; --skip-share-limit lifts that and nothing else, and its reason is written down" {
  mapfile -t IDS < <(backup pg:2h:ok pg:26h:ok pg:50h:ok pg:{10..20}d)
  set_env KEEL_KEEP_DAILY=3 KEEL_KEEP_WEEKLY=0 KEEL_KEEP_MONTHLY=0
  keel backup-prune --confirm
  exits 1
  has "backup-prune: error: $STORE: refused: 11 of 14 backups would go, more than 3 at once" "$stderr"
  has "--skip-share-limit" "$stderr"
  is left "$(find "$DISK/development/manifests" -type f | wc -l)" 14
  keel backup-prune --confirm --skip-share-limit ""
  exits 2
  keel backup-prune --confirm --skip-share-limit "fewer days wanted"
  exits 0
  is left "$(find "$DISK/development/manifests" -type f -printf '%f\n' | sort -r)" "$(printf '%s\n' "${IDS[@]:0:3}")"
  is history "$(jq -r 'select(.skipped) | [.skipped, .reason] | join(": ")' var/development/history)" "share-limit: fewer days wanted"
  backup pg:-2h >/dev/null
  keel backup-prune --confirm --skip-share-limit "again"
  exits 1
  has "in the future" "$stderr"
}

@test "backup-prune: what does not verify is named, kept, and takes no other's place" {
  few
  SPOILED=$(backup pg:51h:spoiled)
  ALIEN=$(backup pg:1300h:alien)
  keel backup-prune --confirm
  exits 0
  has "warning: $STORE: development/manifests/$SPOILED: its signature does not verify" "$stderr"
  has "keep    $ALIEN  $STORE  held: its manifest does not verify" "$output"
  has "delete  $GONE" "$output"
  [ -e "$DISK/development/manifests/$SPOILED" ]
  [ -e "$DISK/development/objects/$ALIEN" ]
}

@test "backup-prune: without the right signers nothing is good, and nothing goes" {
  few
  before=$(lies "$DISK")
  .venv/bin/python -c 'import sys; sys.path.insert(0, "lib"); from keel import signed; print(signed.new_key()[1], end="")' >backup/signers
  keel backup-prune --confirm
  exits 1
  has "development: has no good pg backup" "$stderr"
  is left "$(lies "$DISK")" "$before"
}

@test "backup-prune: data that is missing or short makes a backup bad: it is named, and is no newest good one" {
  few
  CUT=$(backup pg:1h:ok:cut)
  NONE=$(backup pg:0h:ok:gone)
  keel backup-prune
  exits 0
  has "development/objects/$CUT/data.zst.age: has 63 bytes, 64 are wanted" "$stderr"
  has "development/objects/$NONE/data.zst.age: is not there, 64 are wanted" "$stderr"
  is reason "$(grep -F "$CUT" <<<"$output")" "keep    $CUT  $STORE  younger than 48 h"
  has "newest verified" "$(grep -F "${KEPT[0]}" <<<"$output")"
}

@test "backup-prune: a verdict that only read it is no restore; one on another manifest is none" {
  backup pg:1h:young pg:26h:young pg:50h:young pg:4320000s:young pg:4319990s >/dev/null
  KEEL_KEEP_DAILY=3 KEEL_KEEP_WEEKLY=0 keel backup-prune
  exits 1
  has "no pg backup that has been restored would be left" "$stderr"
}

@test "backup-prune: locked and held ones stay" {
  few
  LOCKED=$(backup pg:1198h:locked)
  HELD=$(backup pg:1197h:held)
  keel backup-prune --confirm
  exits 0
  has "keep    $LOCKED  $STORE  locked until 20" "$output"
  has "keep    $HELD  $STORE  held: a tenth of its predecessors" "$output"
  [ -e "$DISK/development/manifests/$LOCKED" ]
}

@test "backup-prune: a held one that was released counts again: it takes its place in a period, or goes with its note" {
  few
  FIRST=$(backup pg:4320010s:held:released)
  AGAIN=$(backup pg:4319980s:held:released)
  HELD=$(backup pg:4319970s:held)
  keel backup-prune --confirm
  exits 0
  has "delete  ${KEPT[3]}" "$output"
  has "delete  $AGAIN" "$output"
  has "keep    $HELD  $STORE  held: a tenth of its predecessors" "$output"
  has "  monthly " "$(grep -F "keep    $FIRST" <<<"$output")"
  is gone "$(lies "$DISK" | grep -F "$AGAIN")" ""
  [ ! -e "$DISK/development/releases/$AGAIN" ]
  [ -e "$DISK/development/releases/$FIRST" ]
}

@test "backup-prune: a lock that only the store knows of: said, exit 1, the rest goes all the same" {
  few
  OTHER=$(backup pg:4319980s)
  date -ud tomorrow +%FT%TZ >"$DISK/development/manifests/.$GONE.locked"
  keel backup-prune --confirm
  exits 1
  has "warning: $STORE: development/manifests/$GONE is locked until" "$stderr"
  [ -e "$DISK/development/objects/$GONE/data.zst.age" ]
  [ ! -e "$DISK/development/manifests/$OTHER" ]
}

@test "backup-prune: each store has its own plan; one that is refused or does not answer stops no other" {
  few
  mkdir "$BATS_TEST_TMPDIR/stale"
  backup "$BATS_TEST_TMPDIR/stale" pg:90h:ok >/dev/null
  stale=$(lies "$BATS_TEST_TMPDIR/stale")
  set_env KEEL_BACKUP_STORES="file://$BATS_TEST_TMPDIR/stale s3://bucket/p?endpoint=http://127.0.0.1:9 $STORE"
  AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=hunter2 KEEL_S3_ATTEMPTS=1 keel backup-prune --confirm
  exits 69
  has "error: file://$BATS_TEST_TMPDIR/stale: refused: " "$stderr"
  has "error: s3://bucket/p" "$stderr"
  [ ! -e "$DISK/development/manifests/$GONE" ]
  is stale "$(lies "$BATS_TEST_TMPDIR/stale")" "$stale"
  hasnt hunter2 "$stderr$output"
}

@test "backup-prune: a backup or another prune at work: exit 75 says who; a deploy is no hindrance" {
  few
  mkfifo held go
  bin/with-lock deploy -- bash -c 'echo >held; read -r _ <go' 3>&- &
  HOLDER=$!
  read -r _ <held
  keel backup-prune --confirm
  exits 0
  echo >go
  wait "$HOLDER"
  backup pg:4319980s >/dev/null
  before=$(lies "$DISK")
  flock var/development/backups.lock bash -c 'echo >held; read -r _ <go' 3>&- &
  HOLDER=$!
  read -r _ <held
  keel backup-prune --confirm
  exits 75
  has "error: the backups of development are locked by " "$stderr"
  is left "$(lies "$DISK")" "$before"
  echo >go
  wait "$HOLDER"
  HOLDER=
}

@test "backup-prune: the plan changed while it was read: exit 75, nothing deleted" {
  few
  backup pg:{100..160}d >/dev/null
  before=$(lies "$DISK" | wc -l)
  # Its output goes into a pipe of one page that is read only after another backup has come: so it waits between plan and lock.
  run --separate-stderr .venv/bin/python - "$TREE" "$CHECKOUT" <<'END'
import fcntl, os, subprocess, sys
tree, checkout = sys.argv[1:]
ours, theirs = os.pipe()
fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
argv = ["bin/backup-prune", "--confirm", "--skip-share-limit", "all"]
command = subprocess.Popen(argv, stdout=theirs, cwd=tree, stdin=subprocess.DEVNULL)
os.close(theirs)
os.read(ours, 1)
disk = os.path.join(os.path.dirname(tree), "disk")
subprocess.run([".venv/bin/python", f"{checkout}/tests/backups.py", "key", disk, "development", "pg:1h:ok"], cwd=tree, check=True)
while os.read(ours, 65536):
    pass
sys.exit(command.wait())
END
  exits 75
  has "the plan changed meanwhile: nothing was deleted there" "$stderr"
  is left "$(lies "$DISK" | wc -l)" $((before + 3))
}

@test "backup-prune: keys that belong to no backup are named and left alone" {
  few
  mkdir -p "$DISK/development/objects/junk" "$DISK/development/other"
  touch -d '-90 days' "$DISK/development/objects/junk/x" "$DISK/development/other/y"
  keel backup-prune --confirm
  exits 0
  has "warning: $STORE: development/objects/junk/x belongs to no backup: left alone" "$stderr"
  [ -e "$DISK/development/other/y" ]
  [ -e "$DISK/development/objects/junk/x" ]
}

@test "backup-prune: another environment's backups are not touched" {
  few
  cp -R "$DISK/development" "$DISK/production"
  before=$(lies "$DISK/production")
  keel backup-prune --confirm
  exits 0
  is other "$(lies "$DISK/production")" "$before"
}

@test "backup-prune: rules that would keep too few are a configuration error" {
  few
  KEEL_KEEP_NEWEST=2 keel backup-prune --confirm
  exits 78
  has "KEEL_KEEP_… and KEEL_BACKUP_MAX_AGE: newest=2: at least 3 is wanted" "$stderr"
  KEEL_KEEP_DAILY=many keel backup-prune --confirm
  exits 78
  has "KEEL_KEEP_DAILY is 'many': a whole number is wanted" "$stderr"
  [ -e "$DISK/development/manifests/$GONE" ]
}
