#!/usr/bin/env bats
# prune-images: earlier images go, never one that is used.

setup_file() {
  load helper
  load stack
  stack prune
  TINY=$(image_of NODE)
  export TINY
}

setup() {
  load helper
  load stack
  cd "$TREE" || return
}

teardown_file() {
  load helper
  load stack
  down
}

# an_image N: a tiny image with this environment's name, and the record of a release of it: the smaller N, the newer.
an_image() {
  local id name
  id=$(image "keel-$KEEL_ENV:$1" < <(printf 'FROM %s\nLABEL of=%s-%s\n' "$TINY" "$KEEL_ENV" "$1"))
  name=20260102T03040$((9 - $1))Z-0000000
  mkdir -p "state/$KEEL_ENV/releases"
  printf '%s\n' "id=$name" "env=$KEEL_ENV" "image=keel-$KEEL_ENV@$id" "image_id=$id" colour=blue replicas=1 revision=none \
    >"state/$KEEL_ENV/releases/$name"
  echo "$id"
}

# The whole id has to come back: the engine also answers to the first digits of one.
here() { is "docker image inspect $1" "$(docker image inspect --format '{{.Id}}' "$1" 2>&1)" "$1"; }

gone() { has "No such image: $1" "$(docker image inspect --format '{{.Id}}' "$1" 2>&1)"; }

@test "prune-images: nothing was ever built: nothing to do" {
  keel prune-images
  exits 0
  is stdout "$output" ""
  is stderr "$stderr" "prune-images: kept 0 images"
}

@test "prune-images: a lock that is held, no engine: nothing is removed" {
  refuses_a_lock prune-images
  wants_an_engine prune-images
}

@test "prune-images: keeps the newest KEEL_KEEP_IMAGES and what a container has; prints what it removed" {
  local -a id
  for n in 1 2 3 4 5; do id[n]=$(an_image $n); done
  # The oldest is somebody's container, stopped.
  docker create --name "keel-$KEEL_ENV-holds" --label "keel.env=$KEEL_ENV" "${id[5]}" >/dev/null
  KEEL_KEEP_IMAGES=2 keel prune-images --dry-run
  exits 0
  rehearsed
  has "prune-images: would: remove image ${id[3]}" "$stderr"
  here "${id[3]}"
  KEEL_KEEP_IMAGES=2 keel prune-images
  exits 0
  is stdout "$output" "$(printf '%s\n' "${id[3]}" "${id[4]}" | sort)"
  is stderr "$stderr" "prune-images: kept 3 images"
  here "${id[1]}" && here "${id[2]}" && here "${id[5]}"
  gone "${id[3]}" && gone "${id[4]}"
  docker image inspect "$TINY" >/dev/null
}

@test "prune-images: 0 keeps only what a container has; again there is nothing" {
  KEEL_KEEP_IMAGES=0 keel prune-images -q
  exits 0
  is removed "$(wc -l <<<"$output")" 2
  is stderr "$stderr" ""
  KEEL_KEEP_IMAGES=0 keel prune-images
  exits 0
  is stdout "$output" ""
  is stderr "$stderr" "prune-images: kept 1 images"
  docker rm "keel-$KEEL_ENV-holds" >/dev/null
}

records() { (cd "state/$KEEL_ENV/releases" && printf '%s\n' *); }

@test "prune-images: the standby keeps its image also when its containers were replaced" {
  local id release
  id=$(an_image 8)
  release=20260102T030401Z-0000000
  mkdir -p "state/$KEEL_ENV/proxy"
  echo '# keel: {"generation": 4, "maintenance": false, "shares": [{"release": "'$release'", "colour": "blue", "percent": 100,' \
    '"replicas": ["app-1"]}]}' >"state/$KEEL_ENV/proxy/traffic.conf"
  KEEL_KEEP_IMAGES=0 keel prune-images
  exits 0
  here "$id"
  rm "state/$KEEL_ENV/proxy/traffic.conf"
  KEEL_KEEP_IMAGES=0 keel prune-images
  gone "$id"
}

@test "prune-images: records beyond the newest 100 go, but those whose image is used; the history stays" {
  local id n name before
  echo '{"command": "releases"}' >>"state/$KEEL_ENV/history"
  before=$(cat "state/$KEEL_ENV/history")
  rm "state/$KEEL_ENV/releases/"*
  id=$(an_image 9)
  docker create --name "keel-$KEEL_ENV-holds" --label "keel.env=$KEEL_ENV" "$id" >/dev/null
  for n in {100..202}; do
    name=20260202T030${n}Z-0000000
    printf '%s\n' "id=$name" "image_id=sha256:$(printf '%064d' "$n")" colour=blue >"state/$KEEL_ENV/releases/$name"
  done
  keel prune-images --dry-run
  exits 0
  rehearsed
  is records "$(records | wc -l)" 104
  keel prune-images -q
  docker rm "keel-$KEEL_ENV-holds" >/dev/null
  exits 0
  is records "$(records | head -n 2)" "20260102T030400Z-0000000
20260202T030103Z-0000000"
  is records "$(records | wc -l)" 101
  is history "$(cat "state/$KEEL_ENV/history")" "$before"
}

@test "prune-images: an image of the same name that this environment neither ran nor built is not its own to remove" {
  local id
  id=$(image "keel-$KEEL_ENV:foreign" <<<"FROM $TINY
LABEL of=$KEEL_ENV-other")
  KEEL_KEEP_IMAGES=0 keel prune-images
  exits 0
  [[ $output != *"$id"* ]]
  here "$id"
}

@test "prune-images: a record with the first digits of an image's id removes nothing" {
  local id
  id=$(image "keel-$KEEL_ENV:like" <<<"FROM $TINY
LABEL of=$KEEL_ENV-like")
  printf '%s\n' id=20260302T030405Z-0000000 "image_id=${id:0:13}" colour=blue >"state/$KEEL_ENV/releases/20260302T030405Z-0000000"
  echo '{"command": "build-image", "image": "events@'"${id:0:17}"'"}' >>"state/$KEEL_ENV/history"
  KEEL_KEEP_IMAGES=0 keel prune-images
  exits 0
  is stdout "$output" ""
  here "$id"
}
