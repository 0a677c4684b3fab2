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
  local left
  for left in ${LEFT:-} ${ONE:-} ${TWO:-}; do kill -KILL "$left" 2>/dev/null || true; done
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

@test "with-lock: a reader that leaves ends what writes, silently" {
  # shellcheck disable=SC2016
  keel with-lock deploy -- bash -c 'yes | head -n 1; echo "${PIPESTATUS[*]}"'
  is stdout "$output" $'y\n141 0'
  is stderr "$stderr" ""
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

@test "with-lock: --pipe: the code is that of the command that failed by itself, wherever it stands" {
  local pipe wanted
  while IFS=: read -r pipe wanted; do
    keel with-lock --pipe deploy "$pipe"
    exits "$wanted"
  done <<'END'
echo a | cat:0
(exit 1) | (exit 66) | (exit 66):1
(exit 75) | true:75
true | (exit 78) | (exit 66):78
(exit 141) | (exit 69) | (exit 66):69
yes | (exit 78):78
yes | head -n 1:141
true | (exit 66):66
END
}

@test "with-lock: --pipe: hands stdin, stdout and the lock through" {
  run --separate-stderr bin/with-lock --pipe deploy 'cat | bin/with-lock inner -- sed s/a/A/' <<<"a handle"
  is stdout "$output" "A handle"
  is stderr "$stderr" ""
}

@test "with-lock: --pipe: held, or more than one text: nothing is run" {
  hold
  keel with-lock --pipe other 'touch ran'
  exits 75
  let_go
  keel with-lock --pipe other touch ran
  exits 2
  has "give the pipe as one text" "$stderr"
  [ ! -e ran ]
}

# piped [COMMAND…]: a pipe of two commands in the background, both at work; each writes down what it is told, and ends with ./go only.
piped() {
  local name
  mkfifo never
  for name in one two; do
    mkfifo "$name.held" "$name.go"
    # shellcheck disable=SC2016
    printf '%s\n' 'trap "echo told >>$0.told; read -r _ <$0.go; exit $1" INT TERM' 'echo $$ >$0.held' 'read -r _ <>never' >"$name"
  done
  "$@" bin/with-lock --pipe deploy 'bash one 5 | bash two 6' 3>&- &
  HOLDER=$!
  read -r ONE <one.held
  read -r TWO <two.held
}

# ended CODE: both were told, and only when they have ended has with-lock, with the code of the first.
ended() {
  local code=0
  until [ -e one.told ] && [ -e two.told ]; do kill -0 "$HOLDER"; done
  keel with-lock other -- true
  exits 75
  echo >one.go
  echo >two.go
  wait "$HOLDER" || code=$?
  HOLDER=
  is code "$code" 5
  keel with-lock other -- true
  exits 0
}

@test "with-lock: --pipe: SIGTERM to it alone goes to every command, once; it waits for them" {
  piped
  kill -TERM "$HOLDER"
  ended
  is told "$(cat one.told two.told)" $'told\ntold'
}

@test "with-lock: --pipe: SIGINT to it alone does the same" {
  piped
  kill -INT "$HOLDER"
  ended
}

@test "with-lock: --pipe: SIGTERM to the whole group, as of a cancelled job: it waits for its commands all the same" {
  piped setsid
  kill -TERM -- "-$HOLDER"
  ended
}

@test "with-lock: interrupted before COMMAND is begun, it says so, and nothing of a deploy" {
  local signal settings code
  rm secrets/development.env
  mkfifo -m 600 secrets/development.env # where it waits for its settings
  for signal in "TERM 143" "INT 130"; do
    code=0
    bin/with-lock --backups --pipe backup 'touch ran' 2>said 3>&- &
    HOLDER=$!
    exec {settings}>secrets/development.env
    kill -"${signal% *}" "$HOLDER"
    wait "$HOLDER" || code=$?
    HOLDER=
    exec {settings}>&-
    is code "$code" "${signal#* }"
    is said "$(sed -E 's/^[^ ]+ //' said)" "with-lock: interrupted by SIG${signal% *}: COMMAND was not begun"
  done
  [ ! -e ran ]
}
