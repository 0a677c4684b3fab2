#!/usr/bin/env bats
# releases: what was deployed, newest first.

setup_file() {
  load helper
  load stack
  stack releases
  up
  IMAGE=$(built)
  export IMAGE
  A=$(release "$IMAGE")
  export A
  bin/swap-upstream -q "$A" >/dev/null
  B=$(release "$IMAGE")
  export B
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

@test "releases: newest first, with role, share and image" {
  keel releases
  exits 0
  is stderr "$stderr" ""
  local revision
  revision=$(docker image inspect -f '{{index .Config.Labels "org.opencontainers.image.revision"}}' "${IMAGE#*@}")
  is stdout "$output" "$B  green  running    0 %  ${revision:0:12}  $IMAGE
$A  blue   serving  100 %  ${revision:0:12}  $IMAGE"
}

@test "releases: --json is one object a line; --limit takes the newest" {
  keel releases --json --limit 1
  exits 0
  is said "$(python3 -c 'import json, sys; r = json.load(sys.stdin); print(r["id"], r["role"], r["percent"], r["colour"])' <<<"$output")" \
    "$B running 0 green"
}

@test "releases: a reader that left: exit 141, silent" {
  nobody_reads releases
  exits 141
  is stderr "$stderr" ""
}

@test "releases: a standby, and one that is gone" {
  bin/swap-upstream -q "$B"
  keel releases
  has "$A  blue   standby    0 %" "$output"
  bin/stop-release -q "$A"
  keel releases
  has "$A  blue   gone       0 %" "$output"
  has "$B  green  serving  100 %" "$output"
}

@test "releases: none yet: nothing, exit 0" {
  local name=$KEEL_ENV-new folder
  for folder in compose secrets; do cp -p "$folder/$KEEL_ENV.env" "$folder/$name.env"; done
  KEEL_ENV=$name keel releases
  exits 0
  is stdout "$output" ""
  is stderr "$stderr" ""
  [ ! -e "state/$name" ]
}

@test "releases: another state folder than what runs: exit 78 says which, as status does" {
  KEEL_STATE=elsewhere keel releases
  exits 78
  is stdout "$output" ""
  is stderr "$stderr" "releases: error: $KEEL_ENV runs on this host with its state in $TREE/state, not in $TREE/elsewhere
releases: hint: KEEL_STATE=$TREE/state is meant, or give this environment another name (compose/NAME.env and compose/NAME.yml)"
  [ ! -e elsewhere ]
}

@test "releases: a limit of none is usage; no engine: 69" {
  keel releases --limit 0
  exits 2
  wants_an_engine releases
}

@test "releases: a record that cannot be read: exit 65 names file and line" {
  local broken=state/$KEEL_ENV/releases/20010101T000000Z-0000000
  printf 'id=20010101T000000Z-0000000\nnonsense\n' >"$broken"
  keel releases
  rm "$broken"
  exits 65
  has "releases: error: $TREE/$broken: line 2 is not key=value" "$stderr"
}
