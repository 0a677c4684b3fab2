#!/usr/bin/env bats
# The policies of docs/stores.md, given to three users of a real S3 server as they stand there: what the commands do with each.

# shellcheck disable=SC2030,SC2031  # each test is a process of its own

setup_file() {
  export SERVER=$BATS_FILE_TMPDIR/server PYTHON=$BATS_TEST_DIRNAME/../.venv/bin/python
  mkdir "$SERVER"
  mkfifo "$SERVER/hold" "$SERVER/said"
  "$PYTHON" "$BATS_TEST_DIRNAME/s3server.py" "$SERVER" <"$SERVER/hold" >"$SERVER/said" 3>&- &
  exec 8>"$SERVER/hold" # it serves until this is closed, also by a kill of ours
  read -r ENDPOINT <"$SERVER/said"
  export ENDPOINT
}

teardown_file() {
  exec 8>&-
  wait
}

setup() {
  load helper
  load backup
  backup_store
  BUCKET=b$(sha256sum <<<"$BATS_TEST_NAME" | head -c 20)
  STORE=s3://$BUCKET/events
  set_env KEEL_BACKUP_STORES="$STORE" KEEL_S3_ENDPOINT="$ENDPOINT" KEEL_S3_ATTEMPTS=2 KEEL_KEEP_DAILY=3 KEEL_KEEP_WEEKLY=0
  as owner
  "$PYTHON" - "$CHECKOUT" "$ENDPOINT" "$BUCKET" <<'PYTHON'
import sys
checkout, endpoint, bucket = sys.argv[1:]
sys.path.insert(0, f"{checkout}/tests")
import boto3, policies
client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
policies.apply(client, bucket, "development")
PYTHON
}

# as ROLE: from now on with these credentials.
as() {
  case $1 in
    owner) export AWS_ACCESS_KEY_ID=admin AWS_SECRET_ACCESS_KEY=admin-secret-of-the-tests ;;
    *) export AWS_ACCESS_KEY_ID=backup-$1 AWS_SECRET_ACCESS_KEY=backup-$1-secret-of-the-tests ;;
  esac
}

# store PYTHON [ARG...]: run a line of Python with `store`, opened by our own code with the present credentials.
store() {
  "$PYTHON" -c 'import os, pathlib, sys
sys.path.insert(0, "lib")
from keel import settings, stores
(store,) = stores.open_all(settings.gather())
exec(sys.argv[1])' "$@"
}

lies_there() { store 'print(*(o.key for o in store.list("development/")), sep="\n")'; }

# filled: five backups, of which one goes, and one that is held; written by the writer.
filled() {
  mapfile -t KEPT < <(backup pg:2h:ok pg:26h:ok pg:50h:ok pg:4320000s:ok)
  GONE=$(backup pg:4319990s)
  HELD=$(backup pg:3h:held)
  as writer
  store 'for p in sorted(pathlib.Path(sys.argv[2]).rglob("*")):
    p.is_file() and store.put(p.relative_to(sys.argv[2]).as_posix(), p.read_bytes(), absent=True)' "$DISK"
  BEFORE=$(lies_there)
  is filled "$(grep -c manifests/ <<<"$BEFORE")" 6
}

@test "store policies: the writer sees and releases, and its backup-prune fails cleanly: exit 78, nothing is gone" {
  filled
  keel backups
  exits 0
  is listed "$(wc -l <<<"$output")" 6
  keel backup-release "$HELD" "looked at it"
  exits 0
  keel backup-keys needed
  exits 1 # to nobody we know
  has "opens 6, the last ${KEPT[0]}" "$output"
  BEFORE=$(lies_there)
  keel backup-prune
  exits 0
  has "delete  $GONE  $STORE" "$output"
  keel backup-prune --confirm
  exits 78
  is stderr "$stderr" "backup-prune: error: $STORE: development/manifests/$GONE: access is denied (AccessDenied)
backup-prune: hint: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ?profile=NAME: are they right, and may they do this?"
  is left "$(lies_there)" "$BEFORE"
}

@test "store policies: the pruner prunes, and writes nothing" {
  filled
  as pruner
  keel backup-prune --confirm
  exits 0
  has "backup-prune: $STORE: deleted 1 of 1, kept 5" "$stderr"
  is left "$(lies_there)" "$(grep -vF "$GONE" <<<"$BEFORE")"
  keel backup-prune --confirm
  exits 0
  keel backups
  exits 0
  is listed "$(wc -l <<<"$output")" 5
  keel backup-release "$HELD" "looked at it"
  exits 78
  is stdout "$output" ""
  has "error: $STORE: development/releases/$HELD/" "$stderr"
  has "access is denied" "$stderr"
  is left "$(lies_there)" "$(grep -vF "$GONE" <<<"$BEFORE")"
}

@test "store policies: the verifier reads all, and neither prunes nor releases" {
  filled
  as verifier
  keel backups
  exits 0
  is listed "$(wc -l <<<"$output")" 6
  keel backup-prune --confirm
  exits 78
  has "access is denied" "$stderr"
  keel backup-release "$HELD" "looked at it"
  exits 78
  is left "$(lies_there)" "$BEFORE"
}

@test "store policies: a locked backup is hidden by a prune, and stays: the store's word counts, not ours" {
  filled
  set_env KEEL_S3_LOCK=compliance
  OTHER=$(backup pg:4319980s)
  for place in "objects/$OTHER/data.zst.age" "manifests/$OTHER"; do
    store 'import datetime
until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=10)
store.put(sys.argv[3], pathlib.Path(sys.argv[2], sys.argv[3]).read_bytes(), lock_until=until)' "$DISK" "development/$place"
  done
  as pruner
  keel backup-prune --confirm
  exits 0
  hasnt "$OTHER" "$(lies_there)"
  as verifier
  is versions "$(store 'import datetime
print(sum(sys.argv[2] in o.key for o in store.versions("development/", datetime.datetime.now(datetime.UTC))))' "$OTHER")" 2
}

@test "store policies: store-check is for the owner; the writer is told that it may not" {
  keel store-check
  exits 0
  is able "$(grep -c '^yes' <<<"$output")" "$(wc -l <<<"$output")"
  has "yes  object-lock" "$output"
  as writer
  keel store-check
  exits 1
  has "NO   write" "$output"
  has "access is denied" "$output"
}

@test "store policies: credentials that nobody knows: exit 78, and no key is said" {
  AWS_ACCESS_KEY_ID=AKIAsecret AWS_SECRET_ACCESS_KEY=hunter2 keel backups
  exits 78
  has "error: $STORE: development/manifests/: access is denied (InvalidAccessKeyId)" "$stderr"
  hasnt hunter2 "$stderr$output"
  hasnt AKIAsecret "$stderr$output"
}
