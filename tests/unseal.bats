#!/usr/bin/env bats
# unseal: exit 0 only when the last chunk has verified; what is wrong is named, secrets are not.

setup() {
  load helper
  scratch
  umask 077
  KEY=AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX # the example of the format's own page
  TO=age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj
  echo "$KEY" >key.txt
  echo AGE-SECRET-KEY-1QQPQXZQVZC5RZS3WRQQQQQQQQ >bad.txt
  head -c 200000 /dev/urandom >plain # three full chunks and a part of one
  bin/seal --recipient "$TO" <plain >sealed
  SIZE=$(stat -c %s sealed)
}

# try ARG...: unseal ./sealed; stdout goes to ./out.
try() {
  # shellcheck disable=SC2016
  run --separate-stderr bash -c '"$0" "$@" <sealed >out' bin/unseal "$@"
  # shellcheck disable=SC2154
  stderr=$(sed -E 's/^[0-9-]{10}T[0-9:]{8}Z //' <<<"$stderr")
}

AGE() { "$("$CHECKOUT/.venv/bin/python" "$CHECKOUT/tests/age_command.py")" "$@"; }

new_key() { PYTHONPATH=lib .venv/bin/python -c 'from keel import age_crypt; print(age_crypt.new_identity()[0])'; }

# flip OFFSET: change one byte of ./sealed.
flip() {
  python3 - "$1" <<'EOF'
import sys
with open("sealed", "r+b") as f:
    f.seek(int(sys.argv[1]))
    byte = f.read(1)[0]
    f.seek(-1, 1)
    f.write(bytes([byte ^ 1]))
EOF
}

@test "unseal: gives back what was sealed, silently, without an environment or settings" {
  unset KEEL_ENV
  rm -r compose
  try --identity key.txt
  exits 0
  is stderr "$stderr" ""
  cmp out plain
}

@test "unseal: opens what the age command sealed" {
  AGE --recipient "$TO" plain >sealed
  try --identity key.txt
  exits 0
  cmp out plain
}

@test "unseal: any of several --identity files will do" {
  new_key >other.txt
  try --identity other.txt --identity key.txt
  exits 0
  cmp out plain
}

@test "unseal: an empty file inside is well: the age command makes such" {
  AGE --recipient "$TO" /dev/null >sealed
  try --identity key.txt
  exits 0
  [ ! -s out ]
}

@test "unseal: the wrong key: exit 65 says for whom it is" {
  new_key >other.txt
  try --identity other.txt
  exits 65
  is stderr "$stderr" "unseal: error: no identity matches: it is sealed to 1 × X25519"
  [ ! -s out ]
}

@test "unseal: the wrong passphrase, and a key for a passphrase" {
  echo "correct horse" >phrase.txt
  echo "wrong horse" >wrong.txt
  bin/seal --passphrase-file phrase.txt <plain >sealed
  for arguments in "--passphrase-file wrong.txt" "--identity key.txt"; do
    # shellcheck disable=SC2086
    try $arguments
    exits 65
    is stderr "$stderr" "unseal: error: no identity matches: it is sealed to 1 × scrypt"
    [ ! -s out ]
  done
}

@test "unseal: truncated: exit 65, and says that what came out is not to be trusted" {
  truncate -s $((SIZE - 1)) sealed
  try --identity key.txt
  exits 65
  is stderr "$stderr" "unseal: error: payload: chunk 3 is damaged or truncated
unseal: hint: delete what came out before this: it is not to be trusted"
  [ -s out ]
  truncate -s $((SIZE - 200000 + 3 * 65536 - 16)) sealed # the end of the third chunk: each of those that are left is well
  try --identity key.txt
  exits 65
  is stderr "$stderr" "unseal: error: payload: truncated after chunk 2
unseal: hint: delete what came out before this: it is not to be trusted"
  is released "$(stat -c %s out)" $((3 * 65536))
  truncate -s 100 sealed
  try --identity key.txt
  exits 65
  is stderr "$stderr" "unseal: error: header: truncated"
}

@test "unseal: trailing data: exit 65" {
  cat sealed sealed >two
  mv two sealed
  try --identity key.txt
  exits 65
  has "unseal: error: payload: chunk 3 is damaged" "$stderr"
}

@test "unseal: a flipped byte in the header, the nonce, the payload: exit 65" {
  local header=$((SIZE - 200000 - 4 * 16 - 16))
  cp sealed whole
  for at in 0 10 30 60 100 $((header - 2)) $((header - 1)) "$header" $((header + 16)) $((header + 70000)) $((SIZE - 1)); do
    cp whole sealed
    flip "$at"
    try --identity key.txt
    exits 65
    [[ "$stderr" =~ ^unseal:\ error:\ (header|payload|no\ identity\ matches):\  ]]
    is "said of what came out" "$(grep -c 'delete what came out' <<<"$stderr")" "$([ ! -s out ]; echo $?)"
  done
  cp whole sealed
  try --identity key.txt
  exits 0
}

@test "unseal: what is no age file, and what is armored" {
  cp plain sealed
  try --identity key.txt
  exits 65
  is stderr "$stderr" "unseal: error: header: this is no age file"
  AGE --armor --recipient "$TO" plain >sealed
  try --identity key.txt
  exits 65
  is stderr "$stderr" "unseal: error: header: a version or form of age that is not v1 in binary"
}

@test "unseal: empty stdin: exit 66" {
  : >sealed
  try --identity key.txt
  exits 66
  is stderr "$stderr" "unseal: error: nothing on stdin: the command to the left failed"
}

@test "unseal: exactly one of the two ways" {
  for arguments in "" "--identity key.txt --passphrase-file key.txt"; do
    # shellcheck disable=SC2086
    try $arguments
    exits 2
    is stderr "$stderr" "unseal: error: give --identity or --passphrase-file: one of the two
unseal: hint: unseal --help"
  done
}

@test "unseal: two passphrases are no way" {
  try --passphrase-file key.txt --passphrase-file key.txt
  exits 2
  has "unseal: error: give --passphrase-file once" "$stderr"
}

@test "unseal: a key that others can read, a bad one, none: exit 78 names file and line, never the key" {
  chmod 644 key.txt
  try --identity key.txt
  exits 78
  is stderr "$stderr" "unseal: error: key.txt has mode 0644, so others can read it
unseal: hint: chmod 600 key.txt"
  try --identity bad.txt
  exits 78
  has "unseal: error: bad.txt: line 1 is no key: " "$stderr"
  hasnt QQPQ "$stderr"
  try --identity none.txt
  exits 78
  is stderr "$stderr" "unseal: error: none.txt: no such file or directory"
  try --identity sealed
  exits 78
  is stderr "$stderr" "unseal: error: sealed: longer than 65536 bytes: no file of keys"
  echo "$TO" >public.txt
  try --identity public.txt
  exits 78
  is stderr "$stderr" "unseal: error: public.txt: line 1 is no key: it is a recipient; here belongs the secret key, AGE-SECRET-KEY-1…"
  [ ! -s out ]
}

@test "unseal: a full disk: exit 78" {
  run --separate-stderr bash -c '"$@" <sealed >/dev/full' bash bin/unseal --identity key.txt
  is status "$status" 78
  has "unseal: error: stdout: no space left on device" "$stderr"
  hasnt hint "$stderr"
}

@test "unseal: a reader that leaves: exit 141, silent" {
  head -c 5000000 /dev/zero | bin/seal --recipient "$TO" >sealed
  run --separate-stderr bash -c '{ bin/unseal --identity key.txt <sealed; echo $? >code; } | true; cat code'
  is code "$output" 141
  is stderr "$stderr" ""
}

@test "unseal: at a terminal without data: usage" {
  run python3 "$CHECKOUT/tests/terminal.py" 10 bin/unseal --identity key.txt
  is status "$status" 2
  has "unseal: error: give the data on stdin: unseal … <FILE" "$output"
}
