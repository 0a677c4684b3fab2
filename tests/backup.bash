# Shared by the .bats files about backups: a folder store of signed backups.
#
#   setup() { load helper; load backup; backup_store; }
#   A=$(backup pg:3d:ok)          # makes one; see tests/backups.py

# backup_store: a scratch checkout with a key to sign with, a list of trusted signers, and an empty store in $DISK.
backup_store() {
  scratch
  some_secrets
  unset "${!AWS_@}"
  DISK=$BATS_TEST_TMPDIR/disk
  STORE=file://$DISK
  mkdir "$DISK" backup
  .venv/bin/python -c 'import sys; sys.path.insert(0, "lib"); from keel import signed
for path, text in zip(sys.argv[1:], signed.new_key("tests")): open(path, "w").write(text)' key backup/signers
  chmod 600 key
  set_env KEEL_BACKUP_STORES="$STORE" KEEL_BACKUP_SIGN_KEY=key
}

# backup SPEC...: make backups in the store (or in $1 when it is a folder); their ids, a line each.
backup() {
  local folder=$DISK
  [ ! -d "$1" ] || { folder=$1; shift; }
  .venv/bin/python "$CHECKOUT/tests/backups.py" key "$folder" "$KEEL_ENV" "$@"
}

# lies FOLDER: what is in a store of backups, by name.
lies() {
  (cd "$1" && find . -type f ! -name '.*' | sed 's,^\./,,' | sort)
}

# backup_keys: in a scratch checkout a signing key, an identity, recipients and an empty store in ./disk, as backup-keys would make them.
backup_keys() {
  mkdir -p disk backup
  .venv/bin/python - <<'PY'
import sys
from pathlib import Path
sys.path.insert(0, "lib")
from keel import age_crypt, signed
pem, line = signed.new_key("tests")
secret, recipient = age_crypt.new_identity()
other, second = age_crypt.new_identity()
for name, text in (("secrets/backup-sign.pem", pem), ("backup/signers", line), ("secrets/backup-identity.txt", f"{secret}\n"),
                   ("backup/recipients", f"{recipient}\n{second}\n")):
    Path(name).write_text(text)
PY
  chmod 600 secrets/backup-*
  set_env KEEL_BACKUP_STORES="file://$TREE/disk"
}
