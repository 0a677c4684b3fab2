# Shared by the .bats files about kinds of backups: bringing one back as `restore` and `restore-verify` do, and spoiling what is stored.
# shellcheck disable=SC2154  # bats sets them

# stored ID NAME: the file of an object in ./disk.
stored() { echo "disk/$KEEL_ENV/objects/$1/$2.zst.age"; }

# manifest ID FIELD…: a field of it, as JSON.
manifest() {
  python3 - "disk/$KEEL_ENV/manifests/$1" "${@:2}" <<'PY'
import json, sys
*document, signature = open(sys.argv[1])
found = json.loads("".join(document))
for name in sys.argv[2:]:
    found = found[name]
print(json.dumps(found))
PY
}

# bring_back verify|restore ID [TARGET [CONFIRM]]: see tests/bring_back.py; $status, $output, $stderr.
bring_back() { run --separate-stderr .venv/bin/python "$CHECKOUT/tests/bring_back.py" "$@"; }

# whole ID: it verifies, with nothing found, to level 5.
whole() {
  bring_back verify "$1"
  exits 0
  has '"level": 5' "$output"
  has '"findings": []' "$output"
}

# later ID: wait until a backup made now would be later than that one: ids are of seconds.
later() { until [[ $(date -u +%Y%m%dT%H%M%SZ) > ${1:0:16} ]]; do :; done; }

# unpacked ID NAME: the object as it was, by programs that have never heard of us.
unpacked() {
  "$(.venv/bin/python "$CHECKOUT/tests/age_command.py")" --decrypt --identity secrets/backup-identity.txt "$(stored "$1" "$2")" | zstd -dc
}

# byte FILE OFFSET: change one byte; a negative offset counts from the end.
byte() {
  python3 - "$@" <<'PY'
import os, sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]), os.SEEK_END if sys.argv[2].startswith("-") else os.SEEK_SET)
    old = f.read(1)[0]
    f.seek(-1, os.SEEK_CUR)
    f.write(bytes([old ^ 1]))
PY
}

# refused ID NAME: neither verify nor restore take it: 65, the object is named, nothing is there afterwards.
refused() {
  local what
  for what in verify restore; do
    bring_back "$what" "$1" "$TREE/refused"
    exits 65
    is stdout "$output" ""
    # shellcheck disable=SC2053  # a pattern is wanted
    [[ $stderr == *$KEEL_ENV/objects/$1/$2.zst.age:* ]] || { echo "$2 is not named: $stderr"; return 1; }
    [ ! -e refused ]
  done
}

# spoil ID NAME OTHER: every way to spoil an object is refused, and it is well again afterwards; OTHER is another object sealed to us.
spoil() {
  local file size at
  file=$(stored "$1" "$2")
  size=$(stat -c %s "$file")
  cp "$file" "$BATS_TEST_TMPDIR/good"
  for at in 0 30 $((size / 2)) -20 -1; do
    byte "$file" "$at"
    refused "$1" "$2"
    cp "$BATS_TEST_TMPDIR/good" "$file"
  done
  for at in 0 1 $((size / 2)) $((size - 1)); do
    truncate -s "$at" "$file"
    refused "$1" "$2"
    cp "$BATS_TEST_TMPDIR/good" "$file"
  done
  cat "$BATS_TEST_TMPDIR/good" <(echo more) >"$file"
  refused "$1" "$2"
  cp "$3" "$file"
  refused "$1" "$2"
  if [ "$(stat -c %s "$3")" -gt "$size" ]; then # as long as the right one, so that only its content tells
    truncate -s "$size" "$file"
    refused "$1" "$2"
  fi
  rm "$file"
  refused "$1" "$2"
  cp "$BATS_TEST_TMPDIR/good" "$file"
  mv secrets/backup-identity.txt "$BATS_TEST_TMPDIR/identity"
  PYTHONPATH=lib .venv/bin/python -c 'from keel import age_crypt; print(age_crypt.new_identity()[0])' >secrets/backup-identity.txt
  chmod 600 secrets/backup-identity.txt
  refused "$1" '*' # whichever is read first
  mv "$BATS_TEST_TMPDIR/identity" secrets/backup-identity.txt
  whole "$1"
}

# claim ID FACT… VALUE: rewrite and sign the manifest with another value (JSON) for a fact, as if that were true.
claim() {
  .venv/bin/python - "$KEEL_ENV" "$@" <<'PY'
import dataclasses, json, sys
from pathlib import Path
sys.path.insert(0, "lib")
from keel import manifest, signed
from keel.store_file import open_folder
env, ident, *way, last, value = sys.argv[1:]
store = open_folder(str(Path("disk").resolve()))
old = manifest.read(store, env, ident, signed.trusted(Path("backup/signers")))
facts = json.loads(json.dumps(dict(old.facts)))
inner = facts
for step in way:
    inner = inner[step]
if value:
    inner[last] = json.loads(value)
else:
    del inner[last]
store.delete(f"{env}/manifests/{ident}")
manifest.write(store, dataclasses.replace(old, facts=facts, digest=""), signed.load_key(Path("secrets/backup-sign.pem")))
PY
}

# found TEXT ID: verify finds just this.
found() {
  bring_back verify "$2"
  exits 0
  is findings "$(python3 -c 'import json, sys; print(*json.loads(sys.argv[1])["findings"], sep="\n")' "$output")" "$1"
}

# refuses_backups_lock NAME [ARG…]: while another backup or a prune is at work it must say who, exit 75 and store nothing.
refuses_backups_lock() {
  local before
  mkdir -p "state/$KEEL_ENV"
  before=$(lies disk)
  exec 8>"state/$KEEL_ENV/backups.lock"
  flock 8
  printf '{"pid": %s, "since": "2026-01-02T03:04:05Z", "what": "backup-prune"}' "$$" >&8
  keel "$@" 8>&-
  exec 8>&-
  rm "state/$KEEL_ENV/backups.lock"
  exits 75
  has "$1: error: the backups of $KEEL_ENV are locked by pid $$: backup-prune since 2026-01-02T03:04:05Z" "$stderr"
  is "what is stored" "$(lies disk)" "$before"
}

# left_behind: the containers and folders that no run may leave.
left_behind() {
  docker ps -aq --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=tools
  find "state/$KEEL_ENV/spool" -mindepth 1 2>/dev/null || true
}
