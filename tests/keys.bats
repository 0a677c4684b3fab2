#!/usr/bin/env bats
# docs/keys.md: every command in it, run as it stands there, in its order; and what each section says of it.

setup() {
  load helper
  load backup
  backup_store
  rm -r backup
  set_env KEEL_BACKUP_SIGN_KEY=secrets/backup-sign.pem
  STICK=$BATS_TEST_TMPDIR/stick DOC=$CHECKOUT/docs/keys.md RAN=()
  mkdir -m 700 "$STICK"
  PATH=$TREE/bin:$(dirname "$(.venv/bin/python "$CHECKOUT/tests/age_command.py")"):$PATH
  export GIT_AUTHOR_NAME=tests GIT_AUTHOR_EMAIL=tests@localhost GIT_COMMITTER_NAME=tests GIT_COMMITTER_EMAIL=tests@localhost
  printf '/.venv\n/secrets/\n/var/\n/key\n__pycache__/\n' >.gitignore
  git init -q
  git add .
  git commit -qm checkout
}

# blocks HEADING: the commands of a section, without their fences.
blocks() {
  awk -v wanted="## $1" '/^## /{here = $0 == wanted} /^```/{inside = here && $0 == "```sh"; next} inside' "$DOC"
}

# section HEADING: run them; $output, $stderr and $status are theirs.
section() {
  RAN+=("$1")
  blocks "$1" >"$BATS_TEST_TMPDIR/commands"
  [ -s "$BATS_TEST_TMPDIR/commands" ]
  sed -i "s,/media/stick,$STICK,g" "$BATS_TEST_TMPDIR/commands"
  run --separate-stderr bash -euo pipefail "$BATS_TEST_TMPDIR/commands" </dev/null
  stderr=$(sed -E 's/^[0-9-]{10}T[0-9:]{8}Z //' <<<"$stderr")
}

# made SPEC: a backup signed with this host's key, sealed to today's recipients.
made() {
  "$CHECKOUT/.venv/bin/python" "$CHECKOUT/tests/backups.py" secrets/backup-sign.pem "$DISK" development \
    "$1:to=$(grep ^age1 backup/recipients | paste -sd+)"
}

@test "docs/keys.md: without an identity nothing is restored: said once, with the command that makes one, however many backups there are" {
  local given ids
  bin/backup-keys make signer -q
  mapfile -t ids < <("$CHECKOUT/.venv/bin/python" "$CHECKOUT/tests/backups.py" secrets/backup-sign.pem "$DISK" development \
    pg:3d pg:2d pg:1d)
  for given in "${ids[*]}" --newest "--level 0 ${ids[*]}"; do
    # shellcheck disable=SC2086 # several words
    keel restore-verify $given
    exits 78
    is stdout "$output" ""
    is stderr "${stderr%, for what is sealed from then on*}" \
      "restore-verify: error: $TREE/secrets/backup-identity.txt: no such file or directory
restore-verify: hint: on a host that restores: backup-keys make identity --output FILE"
  done
  [ ! -e "$DISK/development/verdicts" ]
}

@test "docs/keys.md: one host: what it says there is enough for make backup" {
  awk '/^```/{inside = $0 == "```sh one-host"; next} inside' "$DOC" >"$BATS_TEST_TMPDIR/commands"
  is lines "$(wc -l <"$BATS_TEST_TMPDIR/commands")" 2
  bash -euo pipefail "$BATS_TEST_TMPDIR/commands"
  keel doctor
  has "ok   signer      $TREE/secrets/backup-sign.pem: enough for make backup"$'\n' "$output"
}

@test "docs/keys.md: its life of a key, from the first to the last command" {
  section "Make them"
  exits 0
  is recipients "$(grep -c ^age1 backup/recipients)" 2
  has "recipient  current   -     $(age-keygen -y "$STICK/operator.txt")  operator, in the password safe" "$output"
  has "recipient  current   -     $(age-keygen -y "$STICK/offline.txt")  offline, in the bank" "$output"
  is listed "$(awk '{print $1, $2, $3}' <<<"$output" | grep signer)" "signer current HERE
signer current -"
  is secrets "$(git grep -lE 'AGE-SECRET-KEY-1[A-Z0-9]{58}|BEGIN PRIVATE' -- ':!lib')" ""
  hasnt "can open them" "$stderr"
  FIRST=$(made pg:3d)

  cp -R "$TREE" "$BATS_TEST_TMPDIR/verify1"
  rm "$BATS_TEST_TMPDIR/verify1/secrets/backup-sign.pem"
  cd "$BATS_TEST_TMPDIR/verify1"
  PATH=$PWD/bin:$PATH section "On the host that restores"
  exits 0
  cd "$TREE"
  git pull -q "$BATS_TEST_TMPDIR/verify1"
  is recipients "$(grep -c ^age1 backup/recipients)" 3
  is signers "$(cut -d ' ' -f 3- backup/signers)" "role=backup db1, since 2026
role=release operator, releases
role=verify verify1"

  section "What a signing key may sign"
  exits 0
  has "role=backup,verify  db1, since 2026" "$output"
  git checkout -q backup/signers # the rest is of a server that only makes backups

  section "Try them"
  exits 0
  is words "$output" "works
works"

  SECOND=$(made pg:2d)
  section "Which are still needed"
  exits 0
  is needed "$(grep -oE 'opens [0-9], the last [^,]*' <<<"$output")" "opens 2, the last $SECOND
opens 2, the last $SECOND
opens 1, the last $SECOND"

  section "Change an identity"
  exits 0
  has "retired   -     opens 2, the last $SECOND" "$output"
  has "operator until 2027" "$output"
  is sealed "$(grep -c ^age1 backup/recipients)" 3
  hasnt "$(age-keygen -y "$STICK/operator.txt")" "$(grep ^age1 backup/recipients)"
  section "Which are still needed"
  has "# retired" "$(cat backup/recipients)"
  hasnt $'\n'"$(age-keygen -y "$STICK/operator.txt")"$'\n' "$output"$'\n'

  section "Change the signing key"
  exits 0
  is signers "$(cut -d ' ' -f 3- backup/signers)" "role=backup db1, since 2026
role=release operator, releases
role=verify verify1
role=backup db1, from 2027 on"
  is secrets "$(ls secrets)" "backup-sign.pem
development.env"
  THIRD=$(made pg:1d)
  keel backups
  exits 0
  is backups "$(awk '{print $1}' <<<"$output")" "$THIRD
$SECOND
$FIRST"

  section "A key was lost"
  exits 0
  is shown "$output" "$(age-keygen -y "$STICK/operator-2027.txt")
$(tail -n 1 backup/signers | cut -d ' ' -f 2)"
  hasnt "$(age-keygen -y "$STICK/offline.txt")" "$(cat backup/recipients)"
  keel backup-keys needed
  exits 0 # the operator's retired one opens what the lost one did
  git commit -qam "the offline key is lost"
  sed -i '/retired/d' backup/recipients
  keel backup-keys needed
  exits 1
  has "error: $FIRST: NO KNOWN IDENTITY OPENS IT" "$stderr"
  hasnt "$SECOND: NO KNOWN" "$stderr"
  git checkout -q backup/recipients

  section "A key was stolen"
  exits 0
  is all "$(grep ^20 <<<"$output" | awk '{print $1}')" "$THIRD
$SECOND
$FIRST"
  keel backups
  exits 65
  is counts "$(awk '{print $1}' <<<"$output")" "$THIRD"
  has "error: $STORE: development/manifests/$SECOND: signed by" "$stderr"
  keel backup-prune
  has "keep    $FIRST  $STORE  held: its manifest does not verify" "$output"

  is "sections with commands that ran" "$(printf '%s\n' "${RAN[@]}" | sort -u)" \
    "$(awk '/^## /{name = substr($0, 4)} /^```sh$/{print name}' "$DOC" | sort -u)"
  is "blocks in no section" "$(sed '/^## /,$d' "$DOC" | grep -c '^```')" 0
  # What is gone can be destroyed: once no backup is left that the retired one opens, it is named.
  rm -r "$DISK/development/manifests/$FIRST" "$DISK/development/manifests/$SECOND"
  section "Which are still needed"
  is destroyed "$(tail -n 1 <<<"$output")" "$(age-keygen -y "$STICK/operator.txt")"
  # Where one cannot be read nobody knows what it is sealed to; the last line alone, in a shell that goes on after a failure.
  blocks "Which are still needed" | tail -n 1 >recipe
  is recipe "$(bash recipe)" "$(age-keygen -y "$STICK/operator.txt")"
  echo junk >"$DISK/development/manifests/$FIRST"
  run --separate-stderr bash recipe
  exits 65
  is "may be destroyed" "$output" ""
  KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/nowhere" run --separate-stderr bash recipe
  exits 69
  is "may be destroyed" "$output" ""
}
