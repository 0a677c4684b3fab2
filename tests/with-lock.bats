#!/usr/bin/env bats
# with-lock: one change at a time in an environment; the kernel frees the lock.

setup() {
  load helper
  scratch
  some_secrets
  mkfifo held go
}

teardown() {
  [ -z "${HOLDER:-}" ] || kill -KILL "$HOLDER" 2>/dev/null || true
  [ -z "${LEFT:-}" ] || kill -KILL "$LEFT" 2>/dev/null || true
}

# hold [OPTION]: hold the lock in the background until something is written to ./go; returns when it is held.
hold() {
  # shellcheck disable=SC2016
  bin/with-lock "$@" deploy -- bash -c 'echo >held; read -r _ <go' 3>&- &
  HOLDER=$!
  read -r _ <held
}

let_go() {
  echo >go
  wait "$HOLDER"
  HOLDER=
}

@test "with-lock: becomes the command: its output, its exit code, nothing else" {
  keel with-lock deploy -- bash -c 'echo out; echo err >&2; exit 7'
  exits 7
  is stdout "$output" out
  is stderr "$stderr" err
}

@test "with-lock: the -- may be left out, and the options of the command are its own" {
  keel with-lock deploy printf '%s,' --help -q -v
  exits 0
  is stdout "$output" "--help,-q,-v,"
}

@test "with-lock: hands stdin through" {
  run --separate-stderr bin/with-lock deploy -- cat <<<"a handle"
  is stdout "$output" "a handle"
}

@test "with-lock: held: exit 75 names the holder, what it does and since when; nothing is run" {
  hold
  keel with-lock other -- touch ran
  exits 75
  is stdout "$output" ""
  [[ "$stderr" =~ ^with-lock:\ error:\ development\ is\ locked\ by\ pid\ $HOLDER:\ deploy\ since\ [0-9-]{10}T[0-9:]{8}Z$'\n' ]]
  has "with-lock: hint: wait for it, or stop it: the lock goes with its processes" "$stderr"
  [ ! -e ran ]
  let_go
  keel with-lock other -- touch ran
  exits 0
  [ -e ran ]
}

@test "with-lock: what it starts inherits the lock instead of waiting for it" {
  keel with-lock deploy -- bin/with-lock inner -- echo through
  exits 0
  is stdout "$output" through
}

@test "with-lock: --backups: held: exit 75 names the holder; what wants the other lock does not wait" {
  hold --backups
  keel with-lock --backups other -- touch ran
  exits 75
  [[ "$stderr" =~ ^with-lock:\ error:\ the\ backups\ of\ development\ are\ locked\ by\ pid\ $HOLDER:\ deploy\ since ]]
  [ ! -e ran ]
  keel with-lock other -- touch ran
  exits 0
  [ -e ran ]
  let_go
  keel with-lock --backups other -- true
  exits 0
}

@test "with-lock: what holds both locks hands both down, whichever came first, through programs too" {
  local first second
  while read -r first second; do
    # shellcheck disable=SC2086  # no option is no argument
    keel with-lock $first one -- sh -c \
      "bin/with-lock $second two -- bin/with-lock $first three -- bin/with-lock $second four -- echo through"
    exits 0
    is stdout "$output" through
  done <<'END'
--backups
-- --backups
END
  keel with-lock -- --backups
  exits 2
}

@test "with-lock: what hands the locks down is no setting" {
  keel with-lock one -- bin/with-lock --backups two -- bin/env-check
  hasnt KEEL_LOCK "$stderr"
}

@test "with-lock: another environment has another lock" {
  hold
  cp secrets/development.env secrets/staging.env
  KEEL_ENV=staging KEEL_STATE=var keel with-lock deploy -- echo through
  exits 0
  let_go
}

@test "with-lock: a holder that was killed leaves no lock behind" {
  hold
  kill -KILL "$HOLDER"
  wait "$HOLDER" || true
  HOLDER=
  keel with-lock deploy -- echo through
  exits 0
  is stdout "$output" through
}

@test "with-lock: what a killed holder left running keeps the lock, and is named" {
  # shellcheck disable=SC2016
  bin/with-lock deploy -- bash -c 'sleep 300 & echo $! >held; wait' 3>&- &
  HOLDER=$!
  read -r LEFT <held
  kill -KILL "$HOLDER"
  wait "$HOLDER" || true
  keel with-lock other -- true
  exits 75
  has "pid $HOLDER is gone, what it started still runs: pid $LEFT (sleep)" "$stderr"
}

@test "with-lock: both locks are held from outside, until the last that inherited them has ended" {
  # shellcheck disable=SC2016
  bin/with-lock deploy -- bin/with-lock --backups backup -- bash -c 'sleep 300 & echo $! >held; wait' 3>&- &
  HOLDER=$!
  read -r LEFT <held
  kill -KILL "$HOLDER"
  wait "$HOLDER" || true
  for option in -- --backups; do
    keel with-lock "$option" other true
    exits 75
    has "pid $HOLDER is gone, what it started still runs: pid $LEFT (sleep)" "$stderr"
  done
}

@test "with-lock: a command that is not installed" {
  keel with-lock deploy -- no-such-program
  exits 69
  is stdout "$output" ""
  is stderr "$stderr" "with-lock: error: no-such-program: no such file or directory"
}

@test "with-lock: without a command, or without a purpose, it is usage" {
  keel with-lock deploy
  exits 2
  is stderr "$stderr" "with-lock: error: missing argument 'COMMAND...'
with-lock: hint: with-lock --help"
  keel with-lock deploy --
  exits 2
  keel with-lock
  exits 2
  [ ! -e var ]
}
