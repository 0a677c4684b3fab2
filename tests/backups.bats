#!/usr/bin/env bats
# backups: what is there, newest first, and whether it was restored.

setup() {
  load helper
  load backup
  backup_store
}

@test "backups: newest first, with age, size, period, verdict, lock, stores, and what holds it" {
  mapfile -t IDS < <(backup pg:1h pg:50h:ok redis:3d:bad files:5d:held pg:40d:locked)
  keel backups
  exits 0
  is stderr "$stderr" ""
  is ids "$(awk '{print $1}' <<<"$output")" "$(printf '%s\n' "${IDS[@]}")"
  has "${IDS[0]}  pg       1 h    64 B  daily    never restored                    $STORE" "$output"
  has "${IDS[1]}  pg      50 h    64 B  daily    restores L5 20" "$output"
  has "${IDS[2]}  redis    3 d    64 B  daily    BAD L5 20" "$output"
  has "never restored                    $STORE  HELD: a tenth of its predecessors" "$output"
  [[ "$output" =~ ${IDS[4]}\ \ pg\ +40\ d.*locked\ until\ 20[0-9T:Z-]+\ \ file: ]]
}

@test "backups: --json is one object a line; --limit takes the newest" {
  mapfile -t IDS < <(backup pg:1h:ok pg:2d)
  keel backups --json --limit 1
  exits 0
  local wanted='[.id, .kind, .env, .size, .period, .ok, .level, .held, .stores[0], (.age >= 3600 and .age < 3660)]'
  is json "$(jq -r "$wanted | map(tostring) | join(\" \")" <<<"$output")" \
    "${IDS[0]} pg development 64 daily true 5  $STORE true"
  keel backups --json
  is unverified "$(jq -r 'select(.id == "'"${IDS[1]}"'") | [.ok, .level, .verified] | tostring' <<<"$output")" '[null,null,""]'
}

@test "backups: which stores hold it; a verdict in one counts for both" {
  mkdir "$BATS_TEST_TMPDIR/second"
  A=$(backup pg:1h)
  cp -R "$DISK/." "$BATS_TEST_TMPDIR/second"
  B=$(backup pg:30h)
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/second" keel backups
  exits 0
  has "$A" "${output%%$'\n'*}"
  has "$STORE file://$BATS_TEST_TMPDIR/second" "${output%%$'\n'*}"
  has "$B" "${output#*$'\n'}"
  hasnt "second" "${output#*$'\n'}"
}

@test "backups: what does not verify is named and not listed: exit 65, the others are shown" {
  mapfile -t IDS < <(backup pg:1h pg:2d:spoiled pg:3d:alien)
  keel backups
  exits 65
  has "${IDS[0]}" "$output"
  is lines "$(wc -l <<<"$output")" 1
  has "backups: error: $STORE: development/manifests/${IDS[1]}: its signature does not verify" "$stderr"
  has "backups: error: $STORE: development/manifests/${IDS[2]}: signed by " "$stderr"
}

@test "backups: objects that are gone or cut: marked and named, exit 65; a copy that is whole is told from one that is not" {
  mapfile -t IDS < <(backup pg:1h:ok pg:2d:ok:gone pg:3d:cut pg:4d:ok)
  mkdir "$BATS_TEST_TMPDIR/second"
  cp -R "$DISK/." "$BATS_TEST_TMPDIR/second"
  rm "$DISK/development/objects/${IDS[3]}/data.zst.age"
  keel backups
  exits 65
  has "restores L5 20" "$(grep -F "${IDS[0]}" <<<"$output")"
  is marked "$(grep -F 'daily    OBJECTS MISSING  ' <<<"$output" | awk '{print $1}')" "$(printf '%s\n' "${IDS[@]:1}")"
  is errors "$stderr" "backups: error: $STORE: development/objects/${IDS[1]}/data.zst.age: is not there, 64 are wanted
backups: error: $STORE: development/objects/${IDS[2]}/data.zst.age: has 63 bytes, 64 are wanted
backups: error: $STORE: development/objects/${IDS[3]}/data.zst.age: is not there, 64 are wanted"
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/second" keel backups
  exits 65
  has "restores L5 20" "$(grep -F "${IDS[3]}" <<<"$output")"
  has "OBJECTS MISSING in $STORE" "$(grep -F "${IDS[3]}" <<<"$output")"
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/second" keel backups --json
  is json "$(jq -c '[.ok, (.missing | length), .restores]' <<<"$output")" $'[true,0,true]\n[false,2,false]\n[false,2,false]\n[true,1,true]'
  is copies "$(jq -c '[.copies[] | [.ok, .restores]]' <<<"$output")" '[[true,true],[true,true]]
[[false,false],[false,false]]
[[false,false],[false,false]]
[[false,false],[true,true]]'
  # That the copy which is gone was restored says nothing of the one that was never tried.
  rm -r "$BATS_TEST_TMPDIR/second/development/verdicts/${IDS[3]}"
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/second" keel backups --json
  is untried "$(jq -c "select(.id == \"${IDS[3]}\") | [.ok, .restores]" <<<"$output")" "[null,false]"
}

@test "backups: a verdict that goes less far changes none; one copy that is bad is bad, whatever the other is" {
  A=$(backup pg:1h:bad)
  mkdir "$BATS_TEST_TMPDIR/second"
  cp -R "$DISK/." "$BATS_TEST_TMPDIR/second"
  judge() { # FOLDER LEVEL: a good verdict of now
    .venv/bin/python - "$1" "$A" "$2" <<'END'
import pathlib, sys
from datetime import UTC, datetime
sys.path.insert(0, "lib")
from keel import forms, manifest, signed
from keel.store_file import open_folder
store, key = open_folder(sys.argv[1]), signed.load_key(pathlib.Path("key"))
m = manifest.read(store, "development", sys.argv[2], signed.trusted(pathlib.Path("backup/signers")))
when = forms.text_of(datetime.now(UTC))
manifest.write_verdict(store, "development", manifest.Verdict(m.id, m.digest, when, True, int(sys.argv[3]), {}, (), "v"), key)
END
  }
  judge "$DISK" 4
  keel backups
  exits 0
  has "BAD L5 20" "$output"
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/second" keel backups
  has "  $STORE file://$BATS_TEST_TMPDIR/second" "$output" # alike, so it is said once
  judge "$BATS_TEST_TMPDIR/second" 5
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/second" keel backups
  has "BAD L5 20" "$output"
  has "  $STORE (BAD L5) file://$BATS_TEST_TMPDIR/second (restores L5)" "$output"
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/second" keel backups --json
  is json "$(jq -c '[.ok, .restores, [.copies[] | [.store, .ok, .level, .restores]], (.copies[1].verified >= .created)]' <<<"$output")" \
    "[false,false,[[\"$STORE\",false,5,false],[\"file://$BATS_TEST_TMPDIR/second\",true,5,true]],true]"
  KEEL_BACKUP_STORES="file://$BATS_TEST_TMPDIR/second" keel backups
  has "restores L5 20" "$output"
}

@test "backups: what was only read is ok and does not restore; a copy that was never tried is told from one that was" {
  mkdir "$BATS_TEST_TMPDIR/second"
  A=$(backup pg:1h:young)
  B=$(backup pg:30h:ok)
  cp -R "$DISK/." "$BATS_TEST_TMPDIR/second"
  rm -r "$BATS_TEST_TMPDIR/second/development/verdicts/$B"
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/second" keel backups
  exits 0
  has "whole L2 20" "$(grep -F "$A" <<<"$output")"
  has "  $STORE file://$BATS_TEST_TMPDIR/second" "$(grep -F "$A" <<<"$output")"
  has "  $STORE (restores L5) file://$BATS_TEST_TMPDIR/second (never restored)" "$(grep -F "$B" <<<"$output")"
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/second" keel backups --json
  is json "$(jq -c '[.ok, .restores, [.copies[] | [.ok, .level, .verified != "", .restores]]]' <<<"$output")" \
    '[true,false,[[true,2,true,false],[true,2,true,false]]]
[true,true,[[true,5,true,true],[null,null,false,false]]]'
}

@test "backups: a manifest under another name is a replay: exit 65" {
  A=$(backup pg:3d)
  cp "$DISK/development/manifests/$A" "$DISK/development/manifests/29990102T031500Z-pg-1a2b3c4d"
  keel backups
  exits 65
  is lines "$(awk '{print $1}' <<<"$output")" "$A"
  has "manifests/29990102T031500Z-pg-1a2b3c4d: its id is $A, not 2999" "$stderr"
}

@test "backups: a store that does not answer: exit 69, the other is shown" {
  A=$(backup pg:1h)
  AWS_ACCESS_KEY_ID=AKIAsecret AWS_SECRET_ACCESS_KEY=hunter2 KEEL_S3_ATTEMPTS=1 \
    KEEL_BACKUP_STORES="s3://bucket/p?endpoint=http://127.0.0.1:9 $STORE" keel backups
  exits 69
  has "$A" "$output"
  has "backups: error: s3://bucket/p" "$stderr"
  hasnt hunter2 "$output$stderr"
}

@test "backups: a held one that was released says so, and counts as not held" {
  mapfile -t IDS < <(backup pg:1h:held:released pg:2d:held pg:3d)
  keel backups
  exits 0
  is stderr "$stderr" ""
  has "never restored                    $STORE  released: looked at it" "$(grep -F "${IDS[0]}" <<<"$output")"
  is held "$(grep -c HELD <<<"$output")" 1
  keel backups --json
  is json "$(jq -r '[.held, .released] | join("|")' <<<"$output")" "|looked at it
a tenth of its predecessors|
|"
}

@test "backups: a release by nobody we trust, for another manifest, or copied from another backup: not honoured, named, exit 65" {
  mapfile -t IDS < <(backup pg:1h:held:released pg:2d:held:released pg:3d:held pg:4d:held:released pg:5d:held:released)
  releases=$DISK/development/releases
  # As whoever has the key could make it: another manifest of that id.
  .venv/bin/python - "$DISK" "${IDS[3]}" <<'END'
import dataclasses, os, pathlib, sys
sys.path.insert(0, "lib")
from keel import manifest, signed
from keel.store_file import open_folder
store, key = open_folder(sys.argv[1]), signed.load_key(pathlib.Path("key"))
old = manifest.read(store, "development", sys.argv[2], signed.trusted(pathlib.Path("backup/signers")))
os.unlink(f"{sys.argv[1]}/development/manifests/{sys.argv[2]}")
manifest.write(store, dataclasses.replace(old, tool="another"), key)
END
  cp -R "$releases/${IDS[0]}" "$releases/${IDS[2]}"
  sed -i 's/looked at it/LOOKED at it/' "$releases/${IDS[1]}/"*
  sed -i "s,^signature ed25519 [^ ]*,signature ed25519 $(head -c 32 /dev/zero | base64)," "$releases/${IDS[4]}/"*
  keel backups
  exits 65
  is released "$(grep -F released: <<<"$output" | awk '{print $1}')" "${IDS[0]}"
  is held "$(grep -F HELD: <<<"$output" | awk '{print $1}')" "$(printf '%s\n' "${IDS[@]:1}")"
  note() { echo "$STORE: development/releases/$1/$(basename "$releases/$1/"*)"; }
  has "error: $(note "${IDS[1]}"): its signature does not verify" "$stderr"
  has "error: $(note "${IDS[2]}"): is the note ${IDS[0]}/" "$stderr"
  has "error: $(note "${IDS[3]}"): releases another manifest, " "$stderr"
  has "error: $(note "${IDS[4]}"): signed by AAAA" "$stderr"
  is errors "$(wc -l <<<"$stderr")" 4
  keel backup-prune
  is kept "$(grep -F "held: a tenth" <<<"$output" | awk '{print $2}')" "$(printf '%s\n' "${IDS[@]:1}")"
  for name in "${IDS[@]:1}"; do has "warning: $(note "$name"): " "$stderr"; done
}

@test "backups: none: nothing, exit 0; another environment's are its own" {
  backup pg:1h >/dev/null
  mv "$DISK/development" "$DISK/production"
  keel backups
  exits 0
  is stdout "$output" ""
  is stderr "$stderr" ""
}

@test "backups: no store, no signers, a limit of none" {
  keel backups --limit 0
  exits 2
  rm backup/signers
  keel backups
  exits 78
  has "backup/signers: no such file or directory" "$stderr"
  KEEL_BACKUP_SIGNERS=/dev/null keel backups
  exits 78
  has "/dev/null: holds no key" "$stderr"
}
