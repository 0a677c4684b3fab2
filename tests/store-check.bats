#!/usr/bin/env bats
# store-check: what each store can do, a line each; the S3 side against a real server is in tests/unit/test_store_s3.py.

setup() {
  load helper
  scratch
  some_secrets
  unset "${!AWS_@}"
  mkdir "$BATS_TEST_TMPDIR/disk"
  STORE=file://$BATS_TEST_TMPDIR/disk
}

@test "store-check: a folder can do all; nothing is left behind" {
  KEEL_BACKUP_STORES=$STORE keel store-check
  exits 0
  is stderr "$stderr" ""
  is checks "$(awk '{print $1, $2}' <<<"$output")" "yes write
yes read
yes list
yes conditional-put
yes abort
yes delete
yes multipart
yes private"
  is left "$(find "$BATS_TEST_TMPDIR/disk" -mindepth 1)" ""
}

@test "store-check: --json is one object a line" {
  keel store-check --json "$STORE"
  exits 0
  is able "$(jq -r 'select(.able) | .check' <<<"$output" | wc -l)" 8
}

@test "store-check: a folder where others may delete is named with its mode, and is no NO: exit 0; with the sticky bit it is well" {
  local mode who
  for mode in "777 everybody here" "775 its group"; do
    who=${mode#* } mode=${mode%% *}
    chmod "$mode" "$BATS_TEST_TMPDIR/disk"
    keel store-check "$STORE"
    exits 0
    is private "$(grep private <<<"$output")" "no   private          $STORE  has mode 0$mode: $who can delete and replace what is in it:\
 chmod go-w $BATS_TEST_TMPDIR/disk"
  done
  chmod 1777 "$BATS_TEST_TMPDIR/disk"
  keel store-check "$STORE"
  has "yes  private" "$output"
}

@test "store-check: a folder that is not there is not made: a NO, exit 1; the others are tried" {
  keel store-check "$STORE/gone" "$STORE"
  exits 1
  is gone "$(grep -F gone <<<"$output")" \
    "NO   write            $STORE/gone  there is no such folder: not made here, for its disk may not be mounted"
  has "yes  multipart        $STORE" "$output"
  [ ! -e "$BATS_TEST_TMPDIR/disk/gone" ]
}

@test "store-check: URLs that are wrong: exit 78; every fault at once" {
  keel store-check "$STORE" "ftp://x/y" "s3://b/p?endpiont=x" "s3://user:hunter2@b/p"
  exits 78
  is stdout "$output" ""
  has "store-check: error: ftp://x/y: file:///DIR or s3://BUCKET/PREFIX is wanted" "$stderr"
  has "store-check: error: s3://b/p: endpiont is unknown" "$stderr"
  has "store-check: error: s3://b/p: credentials do not belong into a URL" "$stderr"
  hasnt hunter2 "$stderr"
}

@test "store-check: no store at all: exit 78 names the variable" {
  keel store-check
  exits 78
  has "store-check: error: KEEL_BACKUP_STORES is empty" "$stderr"
}

@test "store-check: a store that does not answer is a NO, exit 1, and no key is said" {
  AWS_ACCESS_KEY_ID=AKIAsecret AWS_SECRET_ACCESS_KEY=hunter2 KEEL_S3_ATTEMPTS=1 keel store-check \
    "s3://bucket/p?endpoint=http://127.0.0.1:9" "$STORE"
  exits 1
  has "NO   write            s3://bucket/p  store-check/" "$output"
  has "yes  multipart        $STORE" "$output"
  hasnt hunter2 "$output$stderr"
  hasnt AKIAsecret "$output$stderr"
}

@test "store-check: a store whose name is wrong: the host and the cause are said, in words" {
  local url="s3://bucket/p?endpoint=http://no-such-host.invalid:9/path"
  AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b KEEL_S3_ATTEMPTS=1 keel store-check "$url"
  exits 1
  grep -qE 'the store does not answer: no-such-host\.invalid: (name or service not known|temporary failure in name resolution) \(' \
    <<<"$output$stderr"
  AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b KEEL_S3_ATTEMPTS=1 keel store-check "s3://bucket/p?endpoint=http://127.0.0.1:9"
  has "the store does not answer: 127.0.0.1: connection refused (EndpointConnectionError)" "$output$stderr"
}

@test "store-check: what is no URL is usage" {
  keel store-check nonsense
  exits 2
}
