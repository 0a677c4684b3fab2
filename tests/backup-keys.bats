#!/usr/bin/env bats
# backup-keys: keys that age itself takes, never over another, never where they could be committed; and which are still needed.

# shellcheck disable=SC2030,SC2031  # each test is a process of its own

setup() {
  load helper
  load backup
  backup_store
  OUT=$BATS_TEST_TMPDIR/out
  mkdir -m 700 "$OUT"
}

mode() { stat -c %a "$1"; }

# identity NAME [COMMENT]: make one in $OUT; its recipient is in $PUBLIC.
identity() {
  keel backup-keys make identity --output "$OUT/$1" --comment "${2:-}"
  exits 0
  PUBLIC=$(sed -n 's/^# public key: //p' "$OUT/$1")
}

# on_path: the real age and age-keygen.
on_path() {
  local age
  age=$("$CHECKOUT/.venv/bin/python" "$CHECKOUT/tests/age_command.py")
  PATH=$(dirname "$age"):$PATH
}

@test "backup-keys: make signer: a key of mode 0600 whose signature openssl checks, and its line among the trusted ones" {
  set_env KEEL_BACKUP_SIGN_KEY=secrets/backup-sign.pem
  keel backup-keys make signer --comment "db1,  since 2026"
  exits 0
  is stdout "$output" ""
  is mode "$(mode secrets/backup-sign.pem)" 600
  is lines "$(wc -l <backup/signers)" 2
  [[ "$(tail -n 1 backup/signers)" =~ ^ed25519\ ([A-Za-z0-9+/]{43}=)\ db1,\ since\ 2026$ ]]
  is line "$stderr" "backup-keys: $TREE/secrets/backup-sign.pem: a new key; $TREE/backup/signers has its line, which every host that reads \
backups needs: ed25519 ${BASH_REMATCH[1]}"
  is public "$(openssl pkey -in secrets/backup-sign.pem -pubout -outform DER | tail -c 32 | base64)" "${BASH_REMATCH[1]}"
}

@test "backup-keys: make signer: --role: its line says what may be signed, and the list shows it" {
  set_env KEEL_BACKUP_SIGN_KEY=secrets/backup-sign.pem
  keel backup-keys make signer --role release --role backup --comment "db1,  since 2026"
  exits 0
  [[ "$(tail -n 1 backup/signers)" =~ ^ed25519\ ([A-Za-z0-9+/]{43}=)\ role=backup,release\ db1,\ since\ 2026$ ]]
  key=${BASH_REMATCH[1]}
  has "which every host that reads backups needs: ed25519 $key role=backup,release" "$stderr"
  keel backup-keys list
  has "signer     current   HERE  $key  role=backup,release  db1, since 2026" "$output"
  is plain "$(grep -c '  tests$' <<<"$output")" 1
  keel backup-keys list --json
  is roles "$(jq -rs 'map(.roles | join(" ")) | join("|")' <<<"$output")" "backup verify release|backup release"
  rm secrets/backup-sign.pem
  before=$(cat backup/signers)
  keel backup-keys make signer --role restore
  exits 2
  keel backup-keys make signer --comment "role=release"
  exits 2
  has "it would be read as a role" "$stderr"
  [ ! -e secrets/backup-sign.pem ]
  sed -i 's/role=backup,/role=bakup,/' backup/signers
  for command in "backup-keys list" backups; do
    # shellcheck disable=SC2086
    keel $command
    exits 78
    has "backup/signers: line 2: role=bakup,release names no role: role=backup|verify|release" "$stderr"
  done
  is signers "$(cat backup/signers)" "${before/role=backup,/role=bakup,}"
}

@test "backup-keys: make signer: without a comment it is named after the host; secrets/ and backup/ are made where they are not there" {
  set_env KEEL_BACKUP_SIGN_KEY=secrets/backup-sign.pem
  rm -r secrets backup
  umask 000
  keel backup-keys make signer
  exits 0
  is comment "$(cut -d ' ' -f 3- backup/signers)" "$(hostname)"
  is mode "$(mode secrets) $(mode secrets/backup-sign.pem)" "700 600"
}

@test "backup-keys: make signer: never over another; one that nobody trusts yet is told how" {
  before=$(sha256sum key backup/signers)
  keel backup-keys make signer
  exits 1
  has "error: $TREE/key: there is a key already: nothing was changed" "$stderr"
  has "hint: to replace it move it away first" "$stderr"
  is files "$(sha256sum key backup/signers)" "$before"
  line=$(cat backup/signers)
  echo '# nobody yet' >backup/signers
  keel backup-keys make signer
  exits 1
  has "hint: it is not trusted yet; to do so: echo '${line% tests} COMMENT' >>$TREE/backup/signers" "$stderr"
  chmod 644 key
  keel backup-keys make signer
  exits 78
  has "$TREE/key: has mode 0644" "$stderr"
}

@test "backup-keys: make signer: a list that cannot be read or written: exit 78, and no key stays" {
  set_env KEEL_BACKUP_SIGN_KEY=secrets/backup-sign.pem
  echo nonsense >>backup/signers
  keel backup-keys make signer
  exits 78
  has "backup/signers: line 2 is not ed25519 BASE64 comment" "$stderr"
  [ ! -e secrets/backup-sign.pem ]
  KEEL_BACKUP_SIGNERS=key/signers keel backup-keys make signer
  exits 78
  has "$TREE/key/signers: not a directory" "$stderr"
  [ ! -e secrets/backup-sign.pem ]
}

@test "backup-keys: make identity: the very form of age-keygen, mode 0600; age opens what is sealed to it, and so do we" {
  on_path
  umask 000
  identity one.txt "operator, in the safe"
  is stdout "$output" ""
  is mode "$(mode "$OUT/one.txt")" 600
  is folder "$(mode "$OUT")" 700
  age-keygen -o "$OUT/theirs.txt" 2>/dev/null
  form='s/: [0-9-]{10}T[0-9:]{8}(Z|[+-][0-9:]{5})$/: TIME/; s/age1[0-9a-z]{58}$/PUBLIC/; s/KEY-1[0-9A-Z]{58}$/KEY/'
  is form "$(sed -E "$form" "$OUT/one.txt")" "$(sed -E "$form" "$OUT/theirs.txt")"
  is public "$(age-keygen -y "$OUT/one.txt")" "$PUBLIC"
  is listed "$(cat backup/recipients)" "# operator, in the safe
$PUBLIC"
  age -R backup/recipients -o "$OUT/sealed" backup/signers
  is ours "$("$TREE/bin/unseal" --identity "$OUT/one.txt" <"$OUT/sealed")" "$(cat backup/signers)"
  "$TREE/bin/seal" --recipients-file backup/recipients <backup/signers >"$OUT/sealed"
  is theirs "$(age -d -i "$OUT/one.txt" "$OUT/sealed")" "$(cat backup/signers)"
}

@test "backup-keys: make identity: says to move it off this host, and to make a second one while it is the only one" {
  identity one.txt
  has "backup-keys: move $OUT/one.txt off this host" "$stderr"
  has "backup-keys: warning: there is one recipient: its loss would be that of every backup" "$stderr"
  has "machine without a network" "$stderr"
  hasnt AGE-SECRET "$stderr"
  printf '# no end of line' >>backup/recipients
  identity two.txt
  hasnt warning "$stderr"
  is order "$(grep -v '^#' backup/recipients | tail -n 1)" "$PUBLIC"
  is lines "$(grep -c ^age1 backup/recipients)" 2
}

@test "backup-keys: make identity: never over another, and that one's recipient is told how to list" {
  on_path
  identity one.txt
  before=$(sha256sum "$OUT/one.txt" backup/recipients)
  keel backup-keys make identity --output "$OUT/one.txt"
  exits 1
  has "error: $OUT/one.txt: exists already: nothing was changed" "$stderr"
  is files "$(sha256sum "$OUT/one.txt" backup/recipients)" "$before"
  rm backup/recipients
  (eval "${stderr##*not listed yet: }")
  is listed "$(cat backup/recipients)" "$PUBLIC"
  ln -s nowhere "$OUT/link"
  keel backup-keys make identity --output "$OUT/link"
  exits 0
  is mode "$(mode "$OUT/nowhere")" 600
}

@test "backup-keys: make identity: not where it could be committed, not through a link either, and not into a folder that is not there" {
  ln -s "$TREE/backup" "$OUT/link"
  for place in one.txt backup/one.txt bin/../one.txt "$OUT/link/one.txt" var/one.txt; do
    keel backup-keys make identity --output "$place"
    exits 78
    has "is in the checkout, where it could be committed: nothing was written" "$stderr"
  done
  KEEL_BACKUP_SIGN_KEY=backup/key.pem keel backup-keys make signer
  exits 78
  has "error: $TREE/backup/key.pem: is in the checkout" "$stderr"
  keel backup-keys make identity --output "$OUT/none/one.txt"
  exits 78
  has "error: $OUT/none: there is no such folder: nothing was written" "$stderr"
  [ ! -e backup/recipients ]
  is secrets "$(grep -rlE --exclude-dir=lib 'AGE-SECRET-KEY-1[A-Z0-9]{58}|BEGIN PRIVATE' "$BATS_TEST_TMPDIR")" "$TREE/key"
  keel backup-keys make identity --output secrets/backup-identity.txt
  exits 0
  is mode "$(mode secrets/backup-identity.txt)" 600
}

@test "backup-keys: make identity: a list that cannot be read or written: exit 78, and no identity stays" {
  echo age1nonsense >backup/recipients
  keel backup-keys make identity --output "$OUT/one.txt"
  exits 78
  has "backup/recipients: line 1 is no key" "$stderr"
  keel backup-keys make identity --output -
  exits 78
  is stdout "$output" ""
  KEEL_BACKUP_RECIPIENTS=key/recipients keel backup-keys make identity --output "$OUT/one.txt"
  exits 78
  is files "$(ls "$OUT")" ""
}

@test "backup-keys: make identity --output -: into a pipe, never onto a screen" {
  on_path
  keel backup-keys make identity --output - --comment safe
  exits 0
  is words "$(sed -E 's/[a-z0-9]{58}$/PUBLIC/; s/[A-Z0-9]{58}$/KEY/; s/: 20.*/: TIME/' <<<"$output")" "# created: TIME
# public key: age1PUBLIC
AGE-SECRET-KEY-1KEY"
  is listed "$(cat backup/recipients)" "# safe
$(age-keygen -y <<<"$output")"
  hasnt "off this host" "$stderr"
  run python3 "$CHECKOUT/tests/terminal.py" 10 bin/backup-keys make identity --output -
  is status "$status" 2
  hasnt AGE-SECRET "$output"
  is lines "$(grep -c ^age1 backup/recipients)" 1
}

@test "backup-keys: make identity --output -: what could not be written is not listed" {
  run --separate-stderr bash -c 'bin/backup-keys make identity --output - >/dev/full'
  exits 78
  has "no space left on device" "$stderr"
  [ ! -e backup/recipients ]
}

@test "backup-keys: make --dry-run changes nothing" {
  set_env KEEL_BACKUP_SIGN_KEY=secrets/backup-sign.pem
  before=$(find . "$OUT" | sort; sha256sum backup/*)
  keel backup-keys make signer --dry-run
  exits 0
  rehearsed
  has "would: write $TREE/secrets/backup-sign.pem" "$stderr"
  has "would: write $TREE/backup/signers" "$stderr"
  keel backup-keys make identity --dry-run --output "$OUT/one.txt"
  exits 0
  rehearsed
  has "would: write $OUT/one.txt" "$stderr"
  has "would: write $TREE/backup/recipients" "$stderr"
  keel backup-keys make identity --dry-run --output -
  exits 0
  is stdout "$output" ""
  is files "$(find . "$OUT" | sort; sha256sum backup/*)" "$before"
  KEEL_BACKUP_SIGN_KEY=key keel backup-keys make signer --dry-run
  exits 1
}

@test "backup-keys: make: what is no comment, no file, no key is usage" {
  keel backup-keys make signer --comment $'two\nlines'
  exits 2
  keel backup-keys make identity
  exits 2
  has "missing option '--output'" "$stderr"
  keel backup-keys make both
  exits 2
  keel backup-keys
  exits 2
}

@test "backup-keys: two at once: both are listed" {
  for n in 1 2 3 4 5 6; do bin/backup-keys make identity -q --output "$OUT/$n" 2>/dev/null & done
  wait
  is listed "$(sort backup/recipients)" "$(sed -n 's/^# public key: //p' "$OUT"/* | sort)"
}

@test "backup-keys: list: who can open and who may sign, with comments, and what lies here" {
  set_env KEEL_BACKUP_IDENTITY=secrets/backup-identity.txt
  identity one.txt "operator, in the safe"
  ONE=$PUBLIC
  identity two.txt
  sed -i "s/^$PUBLIC/# retired & until spring/" backup/recipients
  SIGNER=$(cut -d ' ' -f 2 backup/signers)
  echo "ed25519 $(head -c 32 /dev/zero | base64) verify1, the drill host" >>backup/signers
  keel backup-keys list
  exits 0
  is list "$output" "recipient  retired   -     $PUBLIC  until spring
recipient  current   -     $ONE  operator, in the safe
signer     current   HERE  $SIGNER  tests
signer     current   -     AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=  verify1, the drill host"
  is stderr "$stderr" "backup-keys: warning: there is one recipient: its loss would be that of every backup; make a second one on a \
machine without a network"
  keel backup-keys list --json
  is json "$(jq -rs 'map([.kind, .state, .here, .comment] | map(tostring) | join(" ")) | join("|")' <<<"$output")" \
    "recipient retired false until spring|recipient current false operator, in the safe|signer current true tests|\
signer current false verify1, the drill host"
}

@test "backup-keys: list: what should not be: an identity beside the signing key, keys in no list" {
  identity one.txt
  identity two.txt
  cp "$OUT/one.txt" secrets/backup-identity.txt
  keel backup-keys list
  exits 0
  has "warning: this host signs backups and can open them" "$stderr"
  cp backup/signers signers
  sed -i 's/ tests$/ role=verify tests/' backup/signers
  keel backup-keys list
  cp signers backup/signers
  hasnt "signs backups" "$stderr"
  sed -i /"$(sed -n 's/^# public key: //p' "$OUT/one.txt")"/d backup/recipients
  echo "ed25519 $(head -c 32 /dev/zero | base64)" >backup/signers
  keel backup-keys list
  has "recipient  unlisted  HERE  age1" "$output"
  has "signer     unlisted  HERE  " "$output"
  is warnings "$(grep -c 'this host has its private half, and no list has it' <<<"$stderr")" 2
  hasnt AGE-SECRET "$output$stderr"
}

@test "backup-keys: list: nothing is there yet; a file that cannot be read is named, the rest is shown" {
  rm backup/signers key
  keel backup-keys list
  exits 0
  is stdout "$output" ""
  has "warning: there is no recipient: nothing can be sealed" "$stderr"
  identity one.txt
  cp "$OUT/one.txt" secrets/backup-identity.txt
  chmod 644 secrets/backup-identity.txt
  keel backup-keys list
  exits 78
  is lines "$(wc -l <<<"$output")" 1
  has "error: $TREE/secrets/backup-identity.txt has mode 0644" "$stderr"
}

@test "backup-keys: needed: how many, the last, until when; a retired one, one that opens nothing" {
  identity one.txt operator
  ONE=$PUBLIC
  identity two.txt
  TWO=$PUBLIC
  identity three.txt
  sed -i "s/^$TWO/# retired & gone in spring/" backup/recipients
  mapfile -t IDS < <(backup "pg:1h:to=$ONE" "pg:30h:to=$ONE+$TWO:locked" "redis:3d:to=$TWO")
  keel backup-keys needed
  exits 0
  is stderr "$stderr" ""
  kept() { date -ud "$(sed -E 's/^(....)(..)(..)T(..)(..).*/\1-\2-\3 \4:\5/' <<<"$1") UTC + 30 days" +%F; }
  is report "$output" "$TWO  retired   -     opens 2, the last ${IDS[1]}, kept until $(kept "${IDS[1]}") at least, locked until \
$(date -ud tomorrow +%F)  gone in spring
$ONE  current   -     opens 2, the last ${IDS[0]}, kept until $(kept "${IDS[0]}") at least, locked until $(date -ud tomorrow +%F)  operator
$PUBLIC  current   -     opens no backup"
  keel backup-keys needed --json
  is json "$(jq -rs 'map([.backups, .last, .state, .here] | map(tostring) | join(" ")) | join("|")' <<<"$output")" \
    "2 ${IDS[1]} retired false|2 ${IDS[0]} current false|0  current false"
}

@test "backup-keys: needed: a backup that no known identity opens is named; one that lies here, or is retired, is known" {
  identity one.txt
  identity two.txt
  ALIEN=$PUBLIC
  sed -i "/^$ALIEN/d" backup/recipients
  mapfile -t IDS < <(backup "pg:1h:to=$(tail -n 1 backup/recipients)" "pg:30h:to=$ALIEN" "redis:3d:to=$ALIEN")
  keel backup-keys needed
  exits 1
  has "$ALIEN  unlisted  -     opens 2, the last ${IDS[1]}" "$output"
  is errors "$(grep -v hint <<<"$stderr")" "backup-keys: error: ${IDS[1]}: NO KNOWN IDENTITY OPENS IT: it is sealed to $ALIEN
backup-keys: error: ${IDS[2]}: NO KNOWN IDENTITY OPENS IT: it is sealed to $ALIEN"
  is hints "$(grep -c hint <<<"$stderr")" 1
  echo "# retired $ALIEN" >>backup/recipients
  keel backup-keys needed
  exits 0
  sed -i '$d' backup/recipients
  cp "$OUT/two.txt" secrets/backup-identity.txt
  keel backup-keys needed
  exits 0
  has "$ALIEN  unlisted  HERE  opens 2" "$output"
  is warning "$stderr" "backup-keys: warning: 1 of 3 backups: no identity on this host opens them"
}

@test "backup-keys: needed: all stores count, a backup once; one that does not answer or verify is named, the rest is shown" {
  identity one.txt
  identity two.txt
  A=$(backup "pg:1h:to=$PUBLIC")
  mkdir "$BATS_TEST_TMPDIR/second"
  cp -R "$DISK/." "$BATS_TEST_TMPDIR/second"
  B=$(backup "$BATS_TEST_TMPDIR/second" "pg:2d:to=$PUBLIC")
  SPOILED=$(backup pg:3d:spoiled)
  set_env KEEL_BACKUP_STORES="$STORE file://$BATS_TEST_TMPDIR/second"
  keel backup-keys needed --json
  exits 65
  # what could not be read may be sealed to either
  is counts "$(jq -rs 'map("\(.backups) \(.last)") | join("|")' <<<"$output")" "null |null $A"
  has "error: $STORE: development/manifests/$SPOILED: its signature does not verify" "$stderr"
  hasnt "$B" "$stderr"
  AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=hunter2 KEEL_S3_ATTEMPTS=1 \
    KEEL_BACKUP_STORES="s3://bucket/p?endpoint=http://127.0.0.1:9 file://$BATS_TEST_TMPDIR/second" keel backup-keys needed
  exits 69
  has "opens 2 or more, the last $A" "$output"
  has "opens none that was read" "$output"
  hasnt hunter2 "$output$stderr"
}

@test "backup-keys: needed: no signers: exit 78; no store: exit 78" {
  rm backup/signers
  keel backup-keys needed
  exits 78
  has "backup/signers: no such file or directory" "$stderr"
  has "hint: backup-keys make signer adds the key that it makes" "$stderr"
  set_env KEEL_BACKUP_STORES=
  echo "ed25519 $(head -c 32 /dev/zero | base64)" >backup/signers
  keel backup-keys needed
  exits 78
  has "KEEL_BACKUP_STORES is empty" "$stderr"
}
