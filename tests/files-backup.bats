#!/usr/bin/env bats
# files-backup: configuration, certificates, uploads, in the set of the backups before it; and back again. No engine but for the images.

setup() {
  load helper
  load backup
  load corrupt
  load registry
  load stack
  scratch
  use_host
  some_secrets
  unset "${!AWS_@}"
  backup_keys
  mkdir -p secrets/tls/development state/development/{releases,proxy} up/loads
  echo certificate >secrets/tls/development/cert.pem
  echo '{"command": "made"}' >state/development/history
  echo traffic >state/development/proxy/traffic.conf
  echo requests >state/development/proxy/access.log
  echo image=x >state/development/releases/20260102T030405Z-1a2b3c4
  printf one >up/loads/a
  ln -s a up/loads/b
  set_env KEEL_STATE=state KEEL_BACKUP_FILES=up
  # For the docker client of the tests themselves; the commands find it in var/host.env.
  if [ -n "$(host_value DOCKER_HOST)" ]; then DOCKER_HOST=$(host_value DOCKER_HOST) && export DOCKER_HOST; fi
  if [ -n "$(host_value DOCKER_CONFIG)" ]; then DOCKER_CONFIG=$(host_value DOCKER_CONFIG) && export DOCKER_CONFIG; fi
}

teardown() {
  no_registry
  docker image ls --format '{{.ID}}' --filter "label=keel.tests=$BATS_ROOT_PID" | sort -u |
    xargs --no-run-if-empty docker image rm --force >/dev/null
}

# made [ARG…]: a backup that goes well; its id.
made() { bin/files-backup -q "$@"; }

# all FOLDER: everything that is in it, with owners, times and contents.
all() {
  (cd "$1" && find . -printf '%y %m %U %G %T@ %s %P -> %l\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z |
    xargs -0 --no-run-if-empty sha256sum)
}

# names ID OBJECT: what tar says is in it.
names() { unpacked "$1" "$2" | tar -t | LC_ALL=C sort; }

@test "files-backup: prints its id once the manifest is there; age, zstd and tar open it without us" {
  keel files-backup --new-set
  exits 0
  [[ $output =~ ^[0-9]{8}T[0-9]{6}Z-files-[0-9a-f]{8}$ ]]
  is stored "$(lies disk)" "development/manifests/$output
development/objects/$output/config.tar.zst.age
development/objects/$output/uploads.tar.zst.age"
  is stderr "$(sed -E 's/[0-9]+ (bytes|packed)/N \1/g' <<<"$stderr")" "files-backup: config.tar: 10 files, N bytes
files-backup: uploads.tar: 1 files, N bytes
files-backup: $output: N bytes, N packed, monthly, in file://$TREE/disk"
  is config "$(names "$output" config.tar)" "backup/recipients
backup/signers
compose/development.env
compose/development.yml
compose/images.env
secrets/development.env
secrets/tls/development/
secrets/tls/development/cert.pem
state/history
state/proxy/traffic.conf
state/releases/
state/releases/20260102T030405Z-1a2b3c4"
  is uploads "$(names "$output" uploads.tar)" "up/
up/loads/
up/loads/a
up/loads/b"
  is absent "$(manifest "$output" facts config absent)" '["secrets/acme/development", "state/history.1", "state/proxy/traffic.caddy"]'
  is roots "$(manifest "$output" facts uploads roots)" "{\"up\": \"$TREE/up\"}"
  is lineage "$(manifest "$output" lineage)" '"development"'
  whole "$output"
}

@test "files-backup: the keys of the backups are in none" {
  A=$(made --new-set)
  unpacked "$A" config.tar >all
  unpacked "$A" uploads.tar >>all
  has POSTGRES_PASSWORD=one "$(tr -d '\0' <all)"
  run grep -c -e AGE-SECRET-KEY -e 'PRIVATE KEY' all
  is found "$output" 0
}

@test "files-backup: joins the set of what it reads, passes that on, and adds its own" {
  A=$(made --new-set)
  later "$A"
  run --separate-stderr bash -c "echo $A | bin/files-backup -q"
  exits 0
  is first "${lines[0]}" "$A"
  is lines "${#lines[@]}" 2
  B=${lines[1]}
  is set "$(manifest "$B" set)" "$(manifest "$A" set)"
  later "$B"
  keel files-backup "$A" "$B"
  exits 0
  is passed "$(head -n 2 <<<"$output")" "$A
$B"
  C=$(tail -n 1 <<<"$output")
  is set "$(manifest "$C" set)" "$(manifest "$A" set)"
  later "$C"
  B=$(made --new-set)
  [ "$(manifest "$B" set)" != "$(manifest "$A" set)" ]
  before=$(lies disk)
  keel files-backup "$A" "$B"
  exits 65
  has "files-backup: error: $B is of the set " "$stderr"
  keel files-backup 20260102T031500Z-pg-1a2b3c4d
  exits 65
  is "passed on, whatever becomes of ours" "$output" 20260102T031500Z-pg-1a2b3c4d
  has "there is no development/manifests/20260102T031500Z-pg-1a2b3c4d" "$stderr"
  keel files-backup "$A" nonsense
  exits 65
  is stdout "$output" ""
  has "files-backup: error: 'nonsense' is not a backup id" "$stderr"
  is stored "$(lies disk)" "$before"
  keel files-backup --new-set "$A"
  exits 2
  has "files-backup: error: give BACKUP or --new-set, not both" "$stderr"
}

@test "files-backup: waits for the backup before it, whose lock it takes only then" {
  A=$(made --new-set)
  later "$A"
  mkfifo in
  bin/files-backup -q <in >out 2>err 3>&- &
  ours=$!
  exec 7>in 8>>state/development/backups.lock
  flock 8
  echo "$A" >&7
  until grep -q pipe_read "/proc/$ours/wchan"; do kill -0 "$ours"; done # it has read the line, and waits for more
  is "before the end of stdin" "$(cat out)" ""
  exec 8>&- # as the end of the command to the left: the lock is free once it is gone
  exec 7>&-
  wait "$ours" || { cat err; false; }
  is stdout "$(head -n 1 out)" "$A"
  is lines "$(wc -l <out)" 2
}

@test "files-backup: what is at work already is not disturbed: exit 75" {
  refuses_backups_lock files-backup --new-set
}

@test "files-backup: --dry-run says what it would store, of backups that are not there yet" {
  before=$(find . -path ./lib -prune -o -print | sort)
  run --separate-stderr bash -c 'echo 20260102T031500Z-pg-1a2b3c4d | bin/files-backup --dry-run'
  exits 0
  is first "${lines[0]}" 20260102T031500Z-pg-1a2b3c4d
  [[ ${lines[1]} =~ ^[0-9]{8}T[0-9]{6}Z-files-[0-9a-f]{8}$ ]]
  has "files-backup: would: store compose/development.env compose/development.yml secrets/development.env " "$stderr"
  has " up as ${lines[1]} in file://$TREE/disk" "$stderr"
  is "what there is" "$(find . -path ./lib -prune -o -print | sort)" "$before"
}

@test "files-backup: without KEEL_BACKUP_FILES the configuration alone" {
  set_env KEEL_BACKUP_FILES=
  A=$(made --new-set)
  is stored "$(ls "disk/development/objects/$A")" config.tar.zst.age
  whole "$A"
}

@test "files-backup: folders that cannot be: every fault at once, nothing is stored" {
  ln -s up same
  mkdir -p "$BATS_TEST_TMPDIR/up"
  set_env "KEEL_BACKUP_FILES=up none up/loads same . / compose/images.env $BATS_TEST_TMPDIR/up"
  keel files-backup --new-set
  exits 78
  has "files-backup: error: KEEL_BACKUP_FILES: $TREE/none: there is no such folder" "$stderr"
  has "files-backup: error: KEEL_BACKUP_FILES: $TREE/compose/images.env: there is no such folder" "$stderr"
  has "files-backup: error: KEEL_BACKUP_FILES: $TREE/up and $TREE/up/loads overlap" "$stderr"
  has "files-backup: error: KEEL_BACKUP_FILES: $TREE/up and $TREE/same overlap" "$stderr"
  has "files-backup: error: KEEL_BACKUP_FILES: $TREE: a folder inside the checkout or an absolute path is wanted" "$stderr"
  has "files-backup: error: KEEL_BACKUP_FILES: /: a folder inside the checkout or an absolute path is wanted" "$stderr"
  has "files-backup: hint: edit compose/development.env" "$stderr"
  set_env "KEEL_BACKUP_FILES=secrets disk/development state/development"
  mkdir -p disk/development
  keel files-backup --new-set
  exits 78
  has "$TREE/secrets holds KEEL_BACKUP_IDENTITY, $TREE/secrets/backup-identity.txt" "$stderr"
  has "$TREE/secrets holds KEEL_BACKUP_SIGN_KEY, $TREE/secrets/backup-sign.pem" "$stderr"
  has "$TREE/disk/development is in a store of KEEL_BACKUP_STORES" "$stderr"
  has "$TREE/state/development is in KEEL_STATE" "$stderr"
  mv secrets/backup-sign.pem secrets/tls/development/
  set_env KEEL_BACKUP_FILES= KEEL_BACKUP_SIGN_KEY=secrets/tls/development/backup-sign.pem
  keel files-backup --new-set
  exits 78
  has "$TREE/secrets/tls/development holds KEEL_BACKUP_SIGN_KEY" "$stderr"
  is stored "$(lies disk)" ""
}

@test "files-backup: a certificate that is a link to elsewhere is said" {
  ln -s /etc/hostname secrets/tls/development/key.pem
  keel files-backup --new-set
  exits 0
  has "files-backup: warning: secrets/tls/development: key.pem is a link to /etc/hostname, which is left out" "$stderr"
}

@test "files-backup: what the proxy fetched by ACME is in it: certificates, keys, account" {
  local folder=secrets/acme/development/caddy ca=ca.test-9443-acme-local-directory
  mkdir -p $folder/certificates/$ca/events.test $folder/acme/$ca/users/ops@events.test
  echo key >$folder/certificates/$ca/events.test/events.test.key
  echo account >$folder/acme/$ca/users/ops@events.test/ops.key
  echo root >secrets/tls/development/acme-root.pem
  chmod -R go= secrets/acme
  A=$(made --new-set)
  is absent "$(manifest "$A" facts config absent)" '["state/history.1", "state/proxy/traffic.caddy"]'
  for name in $folder/certificates/$ca/events.test/events.test.key \
    $folder/acme/$ca/users/ops@events.test/ops.key secrets/tls/development/acme-root.pem; do
    has "$name" "$(names "$A" config.tar)"
    is "$name" "$(unpacked "$A" config.tar | tar -xO "$name")" "$(cat "$name")"
  done
}

@test "files-backup: sockets and pipes are skipped and named" {
  mkfifo up/pipe
  keel files-backup --new-set
  exits 0
  has "files-backup: warning: uploads: skipped: up/pipe" "$stderr"
  is skipped "$(manifest "$output" facts uploads skipped)" '["up/pipe"]'
  whole "$output"
}

@test "files-backup: a large file that is written to is refused: exit 1, named, nothing is published" {
  truncate -s 96M up/film
  while printf x >>up/film; do :; done 3>&- &
  keel files-backup --new-set
  kill %1
  exits 1
  is stdout "$output" ""
  has "files-backup: error: $TREE/up/film: changed while it was read" "$stderr"
  has "files-backup: hint: nothing was published: " "$stderr"
  [ ! -e disk/development/manifests ]
  is uploads "$(find disk -name 'uploads*')" ""
  is history "$(grep -o '"step": "[a-z]*"' state/development/history | tr '\n' ' ')" '"step": "begin" "step": "failed" '
}

@test "files-backup: terminated: nothing is published" {
  truncate -s 2G up/film
  bin/files-backup --new-set >out 2>err 3>&- &
  ours=$!
  until compgen -G "disk/development/objects/*/.uploads*" >/dev/null; do kill -0 "$ours"; done
  kill "$ours"
  code=0
  wait "$ours" || code=$?
  is code "$code" 143
  is stdout "$(cat out)" ""
  is published "$(find disk -type f -name 'uploads*' -o -path '*/manifests/*')" ""
}

@test "files-backup: 10,000 files come back the same, owners and times too; twice into one place only where that is confirmed" {
  python3 - <<'PY'
import os, random
random.seed(1)
for n in range(10_000):
    folder = f"up/{n % 40}/{n % 7}" if n % 3 else f"up/{n % 40}"
    os.makedirs(folder, exist_ok=True)
    path = os.fsencode(folder) + b"/" + random.choice([b"%d.jpg", b"caf\xe9-%d", b"with space %d", b"line\n%d", b"-%d"]) % n
    with open(path, "wb") as f:
        f.write(random.randbytes(random.choice([0, 1, 500, 4096, 9000])))
    os.chmod(path, random.choice([0o600, 0o644, 0o755, 0o4750, 0o400]))
    if os.geteuid() == 0:
        os.chown(path, random.choice([0, 1000, 33]), 1000)
    os.utime(path, ns=(random.randrange(2 * 10**18),) * 2)
with open("up/film", "wb") as f:
    f.write(random.randbytes(20 << 20))
os.symlink("/no/such", "up/away")
os.makedirs("up/empty/folder")
os.chmod("up/empty", 0o1770)
PY
  A=$(made --new-set)
  is files "$(manifest "$A" facts uploads files)" 10002
  whole "$A"
  bring_back restore "$A" "$TREE/back"
  exits 0
  has "$TREE/back/uploads: 10002 files, " "$stderr"
  all up >before
  all back/uploads/up >after
  cmp before after
  cmp compose/development.env back/config/compose/development.env
  is mode "$(stat -c %a back back/config back/config/secrets/development.env | xargs)" "700 700 600"
  bring_back restore "$A" "$TREE/back"
  exits 1
  has "$TREE/back holds 2 files and folders: nothing was changed" "$stderr"
  has "--confirm $TREE/back" "$stderr"
  keel restore "$A" --to ./back --confirm ./back
  exits 2
  has "restore: hint: that is $TREE/back: is it meant?" "$stderr"
  keel restore "$A" --to engine --confirm engine
  exits 2
  has "into the engine nothing is replaced" "$stderr"
  bring_back restore "$A" ./back ./back
  exits 1
  has "nothing was changed" "$stderr"
  echo mine >back/uploads/up/mine
  echo changed >back/uploads/up/film
  rm -r back/uploads/up/3
  bring_back restore "$A" "$TREE/back" "$TREE/back"
  exits 0
  is "what the backup has not" "$(cat back/uploads/up/mine)" mine
  rm back/uploads/up/mine
  touch -r up back/uploads/up
  all back/uploads/up >after
  cmp before after
  is "left behind" "$(left_behind)" ""
}

@test "files-backup: what was spoiled in the store is refused: exit 65, the object is named" {
  head -c 300000 /dev/urandom >up/film
  A=$(made --new-set)
  spoil "$A" uploads.tar "$(stored "$A" config.tar)"
  spoil "$A" config.tar "$(stored "$A" uploads.tar)"
}

@test "files-backup: damaged copies are named, and each tree is restored from the store that has it well" {
  local two=$BATS_TEST_TMPDIR/two
  head -c 300000 /dev/urandom >up/film
  A=$(made --new-set)
  cp -R disk "$two"
  byte "$(stored "$A" uploads.tar)" -20
  byte "$two/$(stored "$A" config.tar | cut -d / -f 2-)" -20
  KEEL_BACKUP_STORES="file://$TREE/disk file://$two" keel restore "$A" --to "$TREE/back"
  exits 0
  has "restore: warning: file://$TREE/$(stored "$A" uploads.tar): payload: " "$stderr"
  has "restore: uploads.tar: taken from file://$two, where it is well" "$stderr"
  cmp up/film back/uploads/up/film
  cmp compose/development.env back/config/compose/development.env
}

@test "files-backup: what a manifest says wrongly is found" {
  A=$(made --new-set)
  claim "$A" config files 3
  found "config.tar: 10 files were restored, the manifest says 3" "$A"
  claim "$A" config files 10
  claim "$A" uploads sha256 '"00"'
  has "uploads.tar: what was restored has the digest " "$(bring_back verify "$A"; echo "$output")"
  claim "$A" uploads ''
  found "uploads.tar.zst.age: the manifest does not say what is in it" "$A"
}

@test "files-backup: where there is no room for it, a restore says so and writes nothing" {
  A=$(made --new-set)
  claim "$A" uploads bytes 99000000000000000
  bring_back restore "$A" "$TREE/back"
  exits 1
  has "not enough disk: " "$stderr"
  has " MiB free at $TREE/back, " "$stderr"
  [ ! -e back ]
}

# shellcheck disable=SC2030
@test "files-backup: a file is no target" {
  A=$(made --new-set)
  touch file
  bring_back restore "$A" "$TREE/file"
  exits 1
  has "$TREE/file is no folder: nothing was changed" "$stderr"
}

# an_image NAME: a small image of this test's own under the tag NAME; its id.
an_image() {
  fetched "$(image_of REDIS)"
  printf '%s\n' "FROM $(image_of REDIS)" "LABEL keel.tests=$BATS_ROOT_PID keel.name=$1" "RUN : $RANDOM$RANDOM" \
    "RUN head -c 100000 /dev/urandom >/extra" | image "$1"
}

# serves HANDLE STANDBY: as the traffic file and the records of releases say it.
serves() {
  local id n=0 shares=""
  for id in 20260102T030405Z-1a2b3c4 20260101T030405Z-1a2b3c5; do
    echo "image=$1" >"state/development/releases/$id"
    shares+="${shares:+, }{\"release\": \"$id\", \"colour\": \"$([ $n = 0 ] && echo blue || echo green)\", "
    shares+="\"percent\": $([ $n = 0 ] && echo 100 || echo 0), \"replicas\": [\"r$n\"]}"
    n=$((n + 1))
    shift
  done
  echo "# keel: {\"generation\": 2, \"maintenance\": false, \"shares\": [$shares]}" >state/development/proxy/traffic.conf
}

# spoil_images ID: what is not the archive that was stored is 65; one without the images that the manifest names is found.
spoil_images() {
  local file
  file=$(stored "$1" images.tar)
  byte "$file" 70000
  bring_back verify "$1"
  exits 65
  # shellcheck disable=SC2031
  has "objects/$1/images.tar.zst.age" "$stderr"
  bring_back restore "$1" engine
  exits 65
  byte "$file" 70000
  claim "$1" images "{\"x@sha256:$(printf %064d 0)\": \"sha256:$(printf %064d 0)\"}"
  found "images.tar: the image x@sha256:$(printf %064d 0) is not in it" "$1"
}

@test "files-backup: --images: the current and the standby image come back without a registry, by their handles" {
  name=keel-bats-fb-$BATS_ROOT_PID
  one=$(an_image "$name:one")
  two=$(an_image "$name:two")
  serves "$name@$one" "$name@$two"
  keel files-backup --new-set --images
  exits 0
  A=$output
  local -a ids
  mapfile -t ids < <(printf '%s\n' "$one" "$two" | sort)
  is images "$(manifest "$A" facts images)" "{\"$name@${ids[0]}\": \"${ids[0]}\", \"$name@${ids[1]}\": \"${ids[1]}\"}"
  whole "$A"
  bring_back restore "$A" "$TREE/back"
  exits 0
  has "its images are not restored: --to engine brings them" "$stderr"
  docker image rm --force "$one" "$two" >/dev/null
  run docker image inspect "$one"
  [ "$status" -ne 0 ]
  bring_back restore "$A" engine
  exits 0
  has "$name@$one: is here" "$stderr"
  hasnt "a registry's digest" "$stderr"
  is tags "$(docker image inspect --format '{{.Id}}' "$name:one" "$name:two")" "$one
$two"
  keel pull-image "$name@$one" "$name@$two" # by the handles that the releases have
  exits 0
  is stderr "$stderr" ""
  spoil_images "$A"
  before=$(lies disk)
  serves "$name@$one" "$name@sha256:$(printf %064d 0)"
  later "$A"
  keel files-backup --new-set --images
  exits 1
  has "there is no such image on this host" "$stderr"
  is stored "$(lies disk)" "$before"
}

@test "files-backup: --images of an image that a registry gave: it comes back under its id, and the handle to use is said" {
  name=keel-bats-fb-$BATS_ROOT_PID
  one=$(an_image "$name:one")
  a_registry # at $at
  # shellcheck disable=SC2154
  docker tag "$one" "$at/$name:one"
  docker push --quiet "$at/$name:one" >/dev/null
  handle=$(docker image inspect --format '{{index .RepoDigests 0}}' "$one")
  docker image rm --force "$one" >/dev/null
  bin/pull-image -q "$handle"
  if [ "${handle#*@}" = "$one" ]; then # where containerd stores images
    docker image rm --force "$one" >/dev/null
    no_registry
    skip "this engine knows an image by the digest that the registry has"
  fi
  serves "$handle" "$handle"
  A=$(made --new-set --images)
  whole "$A"
  no_registry
  docker image rm --force "$one" >/dev/null
  bring_back restore "$A" engine
  exits 0
  has "$handle: is here, as $at/$name@$one: a registry's digest is not kept" "$stderr"
  keel pull-image "$at/$name@$one"
  exits 0
  is tag "$(docker image inspect --format '{{index .RepoTags 0}}' "$one")" "$at/$name:${one:7:12}"
}

@test "files-backup: --images where nothing was deployed: exit 1, nothing is stored; without an engine: 69" {
  rm state/development/proxy/traffic.conf
  keel files-backup --new-set --images
  exits 1
  has "files-backup: error: development has no release: there is no image to save" "$stderr"
  is stored "$(lies disk)" ""
  serves "x@sha256:$(printf %064d 0)" "x@sha256:$(printf %064d 1)"
  wants_an_engine files-backup --new-set --images
}
