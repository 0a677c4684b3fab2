# Shared by the .bats files: a scratch copy of the checkout, so that a test writes settings and secrets of its own, and pinned streams.
#
#   setup() { load helper; scratch; }
#   keel env-check --show       # runs bin/env-check of the copy; $status, $output (stdout) and $stderr (without the times) are its own
#   set_env KEEL_DOMAIN=x.test  # changes or adds a line of compose/$KEEL_ENV.env in the copy
bats_require_minimum_version 1.5.0

CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# scratch: copy compose/, bin/ and lib/ into the test's own folder, go there, and forget every setting of the caller. Development's
# settings are the defaults there, so that a test does not hang on what a person may edit.
scratch() {
  local name
  while read -r name; do unset "$name"; done < <(compgen -e | grep -E '^(KEEL_|DOCKER_|AWS_|PG|FAULT$|REDIS_|POSTGRES_)')
  umask 022
  export KEEL_ENV=development TREE="$BATS_TEST_TMPDIR/checkout"
  mkdir -p "$TREE/secrets"
  cp -R "$CHECKOUT/bin" "$CHECKOUT/lib" "$CHECKOUT/compose" "$TREE/"
  ln -s "$CHECKOUT/.venv" "$TREE/.venv"
  echo KEEL_DOMAIN=localhost >"$TREE/compose/development.env"
  cd "$TREE" || return
}

# keel NAME [ARG...]: run a command of the copy; $status, $output and $stderr hold what it did. Never reads the caller's stdin.
# shellcheck disable=SC2154  # run sets them
keel() {
  run --separate-stderr "$TREE/bin/$1" "${@:2}" </dev/null
  stderr=$(sed -E 's/^[0-9-]{10}T[0-9:]{8}Z //' <<<"$stderr")
}

# nobody_reads NAME [ARG...]: as keel, with a stdout whose reader has left, as in `releases | head -1`.
# shellcheck disable=SC2154
nobody_reads() {
  local reader writer pipe=$BATS_TEST_TMPDIR/left
  [ -e "$pipe" ] || mkfifo "$pipe"
  # shellcheck disable=SC2094  # that is the trick
  exec {reader}<>"$pipe" {writer}>"$pipe" {reader}<&-
  # shellcheck disable=SC2016
  run --separate-stderr bash -c '"$@" >&"$0"' "$writer" "$TREE/bin/$1" "${@:2}" </dev/null
  exec {writer}>&-
  stderr=$(sed -E 's/^[0-9-]{10}T[0-9:]{8}Z //' <<<"$stderr")
}

# pids_where FIELD VALUE: the processes whose /proc/PID/stat has this in that field, by its number in proc(5), from the third on; a bare
# machine has no ps. The name before it may hold anything.
pids_where() {
  cat /proc/[0-9]*/stat 2>/dev/null |
    awk -v field="$1" -v value="$2" '{ pid = $1; sub(/.*\) /, ""); if ($(field - 2) == value) print pid }'
}

# children PID, session PID: the pids of those that it started, and of all in the session that it leads.
children() { pids_where 4 "$1"; }
session() { pids_where 6 "$1"; }

# top_of CONTAINER: the pid on this host and the words of each of its processes, a line each; 1 when there is none. `docker top` would
# have the engine call ps.
top_of() {
  local id pid none=1
  id=$(docker inspect -f '{{.Id}}' "$1") || return
  while IFS=/ read -r _ _ pid _; do
    { printf '%s %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline")" && none=0; } 2>/dev/null
  done < <(grep -lF "$id" /proc/[0-9]*/cgroup 2>/dev/null)
  return $none
}

# set_env NAME=VALUE...: as a person would edit compose/$KEEL_ENV.env
set_env() {
  local line
  for line in "$@"; do
    sed -i "/^${line%%=*}=/d" "compose/$KEEL_ENV.env"
    printf '%s\n' "$line" >>"compose/$KEEL_ENV.env"
  done
}

# some_secrets: a well secrets file.
some_secrets() {
  (umask 077; printf 'POSTGRES_PASSWORD=one\nREDIS_PASSWORD=two\n' >"secrets/$KEEL_ENV.env")
}

# use_host: let the copy, and the test itself, use the engine and the tools that set-up found.
use_host() {
  local tools
  [ -e "$CHECKOUT/var/host.env" ] || return 0
  mkdir -p var
  cp "$CHECKOUT/var/host.env" var/
  tools=$(host_value KEEL_TOOLS)
  PATH=${tools:+$tools:}$PATH
}

# host_value NAME: one value of what set-up found, or nothing.
host_value() {
  [ ! -e "$CHECKOUT/var/host.env" ] || sed -n "s/^$1=//p" "$CHECKOUT/var/host.env"
}

# image TAG: builds the Dockerfile on stdin; its id, which `docker build --quiet` does not say where containerd stores images.
image() {
  docker build --quiet --provenance=false --tag "$1" - >/dev/null && docker image inspect --format '{{.Id}}' "$1"
}

# is NAME VALUE WANTED: fail with both when they differ.
is() {
  [ "$2" = "$3" ] || { printf '%s is:\n%s\nwanted:\n%s\n' "$1" "$2" "$3"; return 1; }
}

# exits CODE: the status of the last `keel`, with all it said when it is another.
# shellcheck disable=SC2154
exits() {
  [ "$status" -eq "$1" ] || { printf 'exit %s, wanted %s\n--- stdout\n%s\n--- stderr\n%s\n' "$status" "$1" "$output" "$stderr"; return 1; }
}

# has TEXT WHERE: a piece of text is in there.
has() {
  [[ "$2" == *"$1"* ]] || { printf 'not there: %s\nin:\n%s\n' "$1" "$2"; return 1; }
}

# rehearsed: what the last `keel` said under --dry-run is what it would do, what it is about, or a warning; never that something was done.
rehearsed() {
  local rest
  rest=$(sed -E '/^[a-z-]+: (would|warning): /d; /: (building|pulling|replacing|removing|kept|unchanged) ?/d' <<<"$stderr")
  is "said as if it were done" "$rest" ""
}

# hasnt TEXT WHERE: and is not.
hasnt() {
  [[ "$2" != *"$1"* ]] || { printf 'there: %s\nin:\n%s\n' "$1" "$2"; return 1; }
}
