#!/usr/bin/env bats
# seal: stdin becomes an age v1 file for exactly those who were named; a file that has no end never comes with exit 0.

setup() {
  load helper
  scratch
  umask 077
  KEY=AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX # the example of the format's own page
  TO=age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj
  echo "$KEY" >key.txt
  printf '# operator\n%s\n' "$TO" >to.txt
  echo "correct horse" >phrase.txt
  echo "some data" >plain
}

# try ARG...: seal what is in ./plain; stdout goes to ./sealed.
try() {
  # shellcheck disable=SC2016
  run --separate-stderr bash -c '"$0" "$@" <plain >sealed' bin/seal "$@"
  # shellcheck disable=SC2154
  stderr=$(sed -E 's/^[0-9-]{10}T[0-9:]{8}Z //' <<<"$stderr")
}

AGE() { "$("$CHECKOUT/.venv/bin/python" "$CHECKOUT/tests/age_command.py")" "$@"; }

@test "seal: --recipient: the age command opens it; silent; needs no environment and no settings" {
  unset KEEL_ENV
  rm -r compose
  try --recipient "$TO"
  exits 0
  is stderr "$stderr" ""
  is head "$(head -n 1 sealed)" age-encryption.org/v1
  is opened "$(AGE --decrypt --identity key.txt sealed)" "some data"
}

@test "seal: every --recipient and every line of each --recipients-file can open it" {
  for n in 1 2 3; do
    PYTHONPATH=lib .venv/bin/python -c 'from keel import age_crypt; print("\n# ".join(age_crypt.new_identity()))' >"key$n"
  done
  sed -n 's/^# //p' key1 key2 >two.txt
  try --recipient "$(sed -n 's/^# //p' key3)" --recipients-file to.txt --recipients-file two.txt
  exits 0
  is recipients "$(grep -ac '^-> X25519 ' sealed)" 4
  for file in key.txt key1 key2 key3; do is "$file" "$(AGE --decrypt --identity "$file" sealed)" "some data"; done
}

@test "seal: --passphrase-file: unseal opens it with the same one" {
  try --passphrase-file phrase.txt
  exits 0
  is stderr "$stderr" ""
  is kind "$(sed -n 2p sealed | cut -d' ' -f2,4)" "scrypt 18"
  is opened "$(bin/unseal --passphrase-file phrase.txt <sealed)" "some data"
}

@test "seal: exactly one of the two ways" {
  for arguments in "" "--recipient $TO --passphrase-file phrase.txt" "--recipients-file to.txt --passphrase-file phrase.txt"; do
    # shellcheck disable=SC2086
    try $arguments
    exits 2
    is stderr "$stderr" "seal: error: give --recipient and --recipients-file, or --passphrase-file: one of the two ways
seal: hint: seal --help"
    [ ! -s sealed ]
  done
}

@test "seal: two passphrases are no way: the last would win in silence" {
  echo another >other.txt
  try --passphrase-file phrase.txt --passphrase-file other.txt
  exits 2
  has "seal: error: give --passphrase-file once" "$stderr"
}

@test "seal: a bad --recipient is usage and is not repeated: it may be a secret" {
  try --recipient "$KEY"
  exits 2
  is stderr "$stderr" "seal: error: invalid value for '--recipient': it is a secret key; here belongs its recipient, age1…
seal: hint: seal --help"
  try --recipient "${TO%j}q"
  exits 2
  is stderr "$stderr" "seal: error: invalid value for '--recipient': its checksum is wrong: a character is mistyped or missing
seal: hint: seal --help"
  [ ! -s sealed ]
}

@test "seal: a file of keys that cannot be used: exit 78, nothing sealed" {
  printf '\n%s\n' "$KEY" >bad.txt
  try --recipients-file bad.txt
  exits 78
  is stderr "$stderr" "seal: error: bad.txt: line 2 is no key: it is a secret key; here belongs its recipient, age1…"
  try --recipients-file none.txt
  exits 78
  is stderr "$stderr" "seal: error: none.txt: no such file or directory"
  try --recipients-file /dev/null
  exits 78
  is stderr "$stderr" "seal: error: /dev/null: there is no key in it"
  try --passphrase-file /dev/null
  exits 78
  has "seal: error: /dev/null has mode 0666" "$stderr"
  : >empty
  try --passphrase-file empty
  exits 78
  is stderr "$stderr" "seal: error: empty: is empty: a passphrase is one line"
  [ ! -s sealed ]
}

@test "seal: a passphrase that others can read: exit 78 says how to close it" {
  chmod 640 phrase.txt
  try --passphrase-file phrase.txt
  exits 78
  is stderr "$stderr" "seal: error: phrase.txt has mode 0640, so others can read it
seal: hint: chmod 600 phrase.txt"
  [ ! -s sealed ]
}

@test "seal: empty stdin: exit 66, and not even a header" {
  : >plain
  try --recipient "$TO"
  exits 66
  is stderr "$stderr" "seal: error: nothing on stdin: the command to the left failed"
  [ ! -s sealed ]
}

@test "seal: closed stdin and closed stdout" {
  run --separate-stderr bash -c '"$@" <&- >sealed' bash bin/seal --recipient "$TO"
  is status "$status" 66
  has "seal: error: stdin is closed" "$stderr"
  run --separate-stderr bash -c '"$@" <plain >&-' bash bin/seal --recipient "$TO"
  is status "$status" 78
  has "seal: error: stdout is closed" "$stderr"
}

@test "seal: stdin that cannot be read: exit 65" {
  run --separate-stderr bash -c '"$@" 0>closed >sealed' bash bin/seal --recipient "$TO"
  is status "$status" 65
  has "seal: error: stdin: bad file descriptor" "$stderr"
  [ ! -s sealed ]
}

@test "seal: a full disk: exit 78; the same with room is well" {
  head -c 3000000 /dev/urandom >plain
  run --separate-stderr bash -c '"$@" <plain >/dev/full' bash bin/seal --recipient "$TO"
  is status "$status" 78
  has "seal: error: stdout: no space left on device" "$stderr"
  hasnt hint "$stderr" # not one byte came out
  # a limit in the middle of a piece: what was written in part counts as not written
  run --separate-stderr bash -c 'ulimit -f 2000; "$@" <plain >sealed' bash bin/seal --recipient "$TO"
  is status "$status" 78
  has "seal: error: stdout: file too large" "$stderr"
  has "seal: hint: delete what came out before this: it is not to be trusted" "$stderr"
  try --recipient "$TO"
  exits 0
}

@test "seal: a reader that leaves: exit 141, silent" {
  # shellcheck disable=SC2016
  run --separate-stderr bash -c '{ "$@" </dev/zero; echo $? >code; } | true; cat code' bash bin/seal --recipient "$TO"
  is code "$output" 141
  is stderr "$stderr" ""
}

@test "seal: a producer that went silent: neither a full disk nor a signal waits for it" {
  mkfifo in
  exec 8<>in # held open: no end comes
  timeout 30 bin/seal --recipient "$TO" <in >/dev/full 2>said 8<&- 3>&- &
  head -c 1100000 /dev/zero >&8 # two pieces, and less than a pipe holds
  code=0
  wait $! || code=$?
  is code "$code" 78
  has "seal: error: stdout: no space left on device" "$(cat said)"
  timeout 30 bin/seal --recipient "$TO" <in >sealed 2>said 8<&- 3>&- &
  head -c 1100000 /dev/zero >&8 # two pieces, and less than a pipe holds
  until [ -s sealed ]; do kill -0 $!; done
  kill -TERM $!
  code=0
  wait $! || code=$?
  is code "$code" 143
  exec 8<&-
}

@test "seal: at a terminal: no data is usage, and nothing binary is shown" {
  run python3 "$CHECKOUT/tests/terminal.py" 10 bin/seal --recipient "$TO"
  is status "$status" 2
  has "seal: error: give the data on stdin: COMMAND | seal …" "$output"
  run python3 "$CHECKOUT/tests/terminal.py" 10 bash -c "bin/seal --recipient $TO <plain"
  is status "$status" 2
  has "seal: error: give stdout a file or a pipe: what comes out is no text" "$output"
  hasnt age-encryption "$output"
}

@test "seal: from any folder, through a symlink" {
  ln -s "$TREE/bin/seal" "$BATS_TEST_TMPDIR/seal"
  cd /
  # shellcheck disable=SC2016
  run --separate-stderr bash -c '"$@" <"$0" | wc -l' "$TREE/plain" env -i PATH=/usr/bin:/bin "$BATS_TEST_TMPDIR/seal" --recipient "$TO"
  is status "$status" 0
  [ "$output" -ge 4 ]
}
