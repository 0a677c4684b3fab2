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

# sql [DATABASE] SQL: what the environment's PostgreSQL answers.
sql() {
  local database=events
  [ $# -eq 1 ] || { database=$1; shift; }
  docker exec "$(docker ps -q --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=postgres)" \
    psql -XAtqw -v ON_ERROR_STOP=1 -U events -d "$database" -c "$1"
}

# rich_database: what a dump could lose: roles, extensions, large objects, partitions, generated and identity columns, other collations.
rich_database() {
  sql "$(cat "$CHECKOUT/tests/rich.sql")"
}

# a backup's object in the store, by its name in the manifest.
object() {
  echo "disk/$KEEL_ENV/objects/$1/$2.zst.age"
}

# verdict ID: the newest verdict on it, as JSON.
verdict() {
  local file
  file=$(printf '%s\n' "disk/$KEEL_ENV/verdicts/$1/"* | tail -n 1)
  sed '$d' "$file"
}

# left_over: the containers and folders that no run may leave.
left_over() {
  docker ps -aq --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=scratch
  docker ps -aq --filter "label=keel.env=$KEEL_ENV" --filter label=keel.role=tools
  find "state/$KEEL_ENV/spool" -mindepth 1 2>/dev/null || true
}

# forge ID NEWID CHANGE…: another backup made from one, signed and sealed as if it were true (tests/forge.py); NEWID.
forge() {
  .venv/bin/python "$CHECKOUT/tests/forge.py" disk "$KEEL_ENV" "$@"
}

# id [SECONDS]: the id of a pg backup made so long ago.
id() {
  printf '%s-pg-%08x\n' "$(date -u -d "${1:-0} seconds ago" +%Y%m%dT%H%M%SZ)" "$RANDOM$RANDOM"
}

# hashes DATABASE: a line for each table with a hash over all its rows, whatever their order; and one over all large objects.
hashes() {
  local table
  sql "$1" "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relname <> 'stale' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1" |
    while read -r table; do
      sql "$1" "SELECT '${table//\'/\'\'}', count(*), md5(coalesce(string_agg(md5(t::text), '' ORDER BY md5(t::text)), ''))
        FROM $table t" </dev/null
    done
  sql "$1" "SELECT 'large objects', count(*), md5(coalesce(string_agg(md5(lo_get(oid)), '' ORDER BY oid), '')) FROM pg_largeobject_metadata"
}
