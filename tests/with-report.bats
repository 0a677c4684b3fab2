#!/usr/bin/env bats
# with-report: the command's own code, come what may; and the outside is told how it went.

setup() {
  load helper
  load report
  scratch
  some_secrets
  receiver
}

teardown() {
  no_receiver
  [ -z "${RUNNING:-}" ] || kill -KILL "$RUNNING" 2>/dev/null || true
  # shellcheck disable=SC2046 # words
  [ ! -e pids ] || kill -KILL $(cat pids shells) 2>/dev/null || true
}

paths() { sent '"\(.path)"'; }

@test "with-report: success: start, then the address itself with the last lines; silent itself, streams and arguments as they are" {
  run --separate-stderr bin/with-report backup -- bash -c 'cat; printf "%s," "$@"; echo said >&2' - --help -q -v <<<"a handle"
  exits 0
  is stdout "$output" $'a handle\n--help,-q,-v,'
  is stderr "$stderr" said
  is paths "$(paths)" $'/ping-key-1/backup/start\n/ping-key-1/backup'
  is body "$(sent .body | tail -n 1)" said
}

@test "with-report: failure: the code, at the address and as its own, and a message with the last lines for the chat" {
  keel with-report backup -- bash -c 'echo out; seq 100 >&2; echo "& <!channel> missing" >&2; exit 69'
  exits 69
  is stdout "$output" out
  is stderr "$stderr" "$(seq 100)
& <!channel> missing
with-report: error: backup failed after 0 s: exit 69"
  is paths "$(paths)" $'/ping-key-1/backup/start\n/ping-key-1/backup/69\n/hook-key-2'
  is lines "$(sed -n 2p "$RECEIVED/requests" | jq -r .body)" "$(seq 72 100)
& <!channel> missing"
  is type "$(sent .type | tail -n 1)" application/json
  local message
  message=$(sent .body | tail -n 1)
  is message "$(jq -r '[.env, .job, .host, .code, (.lines | length), .lines[0]] | map(tostring) | join(" ")' <<<"$message")" \
    "development backup $(uname -n) 69 30 72"
  is text "$(jq -r .text <<<"$message")" "development: backup failed on $(uname -n): exit 69
\`\`\`
$(seq 72 100)
&amp; &lt;!channel&gt; missing
\`\`\`"
}

@test "with-report: every code is its own, a signal is 128 and its number, what is not installed is 69" {
  local command wanted
  while IFS=: read -r command wanted; do
    rm -f "$RECEIVED/requests"
    # shellcheck disable=SC2086
    keel with-report backup $command
    exits "$wanted"
    is path "$(sent .path | sed -n 2p)" "/ping-key-1/backup/$wanted"
  done <<'END'
false:1
bin/with-report:2
bash -c kill${IFS}-KILL${IFS}$$:137
bash -c kill${IFS}-TERM${IFS}$$:143
no-such-program:69
END
  has "with-report: error: no-such-program: no such file or directory" "$stderr"
  has "no-such-program: no such file or directory" "$(sent .body | tail -n 1)"
}

@test "with-report: secrets are … in what is sent, in any form; what passes through is left alone" {
  printf '%s\n' "KEEL_NOTIFY_TOKEN=unknown-but-in-there" "AWS_SECRET_ACCESS_KEY='a/b+c\"d'" >>secrets/development.env
  export AWS_SESSION_TOKEN=from-the-environment
  # shellcheck disable=SC2016
  keel with-report backup -- bash -c 'printf "%s\n" "redis://:two@h" "a/b+c\"d" "s3?k=a%2Fb%2Bc%22d" "{\"k\": \"a/b+c\\\"d\"}" \
    "$AWS_SESSION_TOKEN" unknown-but-in-there >&2; exit 1'
  exits 1
  has 'a/b+c"d' "$stderr"
  hasnt ping-key "$stderr"
  is lines "$(sent .body | tail -n 1 | jq -r '.lines[]')" 'redis://:…@h
…
s3?k=…
{"k": "…"}
…
…'
  for secret in two 'a/b' a%2Fb from-the unknown-but ping-key hook-key; do hasnt "$secret" "$(sent .body)"; done
}

@test "with-report: the addresses are in no argument and no message" {
  answers 500 500 500 403
  # shellcheck disable=SC2016
  keel with-report -v backup -- bash -c 'tr "\0" " " <"/proc/$PPID/cmdline"; tr "\0" " " </proc/$$/cmdline; exit 1'
  exits 1
  has "bin/with-report" "$output"
  for word in ping-key hook-key; do hasnt "$word" "$output$stderr"; done
  has "with-report: warning: KEEL_PING_URL: 127.0.0.1 answered 500" "$stderr"
  has "with-report: warning: KEEL_PING_URL: 127.0.0.1 answered 403" "$stderr"
}

@test "with-report: nobody there: a warning, and the command's own code all the same" {
  no_receiver
  wait "$RECEIVER" || true
  keel with-report backup -- true
  exits 0
  is stderr "$stderr" "with-report: warning: KEEL_PING_URL: 127.0.0.1 cannot be reached: connection refused
with-report: warning: KEEL_PING_URL: 127.0.0.1 cannot be reached: connection refused"
  keel with-report -q backup -- bash -c 'exit 3'
  exits 3
  is stderr "$stderr" "with-report: warning: KEEL_PING_URL: 127.0.0.1 cannot be reached: connection refused
with-report: error: backup failed after 0 s: exit 3
with-report: warning: KEEL_PING_URL: 127.0.0.1 cannot be reached: connection refused
with-report: warning: KEEL_NOTIFY_URL: 127.0.0.1 cannot be reached: connection refused"
}

@test "with-report: an answer that never comes, or that says later, is asked for again; one that says no is not" {
  answers hang 200 429 503 200
  keel with-report backup -- true
  exits 0
  is stderr "$stderr" ""
  is paths "$(paths | uniq -c | awk '{print $1, $2}')" $'2 /ping-key-1/backup/start\n3 /ping-key-1/backup'
  answers 404 200
  keel with-report backup -- true
  exits 0
  is stderr "$stderr" "with-report: warning: KEEL_PING_URL: 127.0.0.1 answered 404"
}

@test "with-report: a redirect is not followed" {
  answers away away
  keel with-report backup -- true
  exits 0
  has "with-report: warning: KEEL_PING_URL: 127.0.0.1 answered 302" "$stderr"
  hasnt elsewhere "$(paths)"
}

@test "with-report: {job} in the address, before what is asked for; one address for all is warned about" {
  KEEL_PING_URL="$AT/{job}/x/?create=1&k={job}" keel with-report drill -- false
  is paths "$(paths)" $'/drill/x/start?create=1&k=drill\n/drill/x/1?create=1&k=drill\n/hook-key-2'
  rm "$RECEIVED/requests"
  KEEL_PING_URL="$AT/one" keel with-report drill -- true
  exits 0
  is stderr "$stderr" "with-report: warning: KEEL_PING_URL has no {job}: one job that goes well hides another that failed"
  is paths "$(paths)" $'/one/start\n/one'
}

@test "with-report: an address that is none: a warning that does not show it, and the command runs" {
  for url in hunter2 'http://[hunter2/{job}'; do
    KEEL_PING_URL=$url KEEL_NOTIFY_URL=$url keel with-report backup -- sh -c 'echo ran; exit 4'
    exits 4
    is stdout "$output" ran
    has "with-report: warning: KEEL_PING_URL is …: an http:// or https:// address is wanted" "$stderr"
    has "with-report: warning: KEEL_NOTIFY_URL is …: an http:// or https:// address is wanted" "$stderr"
    hasnt hunter2 "$stderr"
  done
}

@test "with-report: no addresses: only a failure says that nobody is told" {
  some_secrets
  keel with-report backup -- true
  exits 0
  is stderr "$stderr" ""
  keel with-report backup -- false
  exits 1
  is stderr "$stderr" "with-report: error: backup failed after 0 s: exit 1
with-report: warning: nobody is told: KEEL_PING_URL and KEEL_NOTIFY_URL are empty"
}

@test "with-report: faulty settings end the command, and that is reported" {
  chmod 644 secrets/development.env
  keel with-report backup -- bin/with-lock --backups backup -- touch ran
  exits 78
  [ ! -e ran ]
  is paths "$(paths)" $'/ping-key-1/backup/start\n/ping-key-1/backup/78\n/hook-key-2'
  has "secrets/development.env has mode 0644" "$(sent .body | tail -n 1)"
}

@test "with-report: a rehearsal is no success: nothing is sent" {
  KEEL_DRY_RUN=1 keel with-report backup -- false
  exits 1
  is sent "$(paths)" ""
}

@test "with-report: no job, no command, a job that fits in no address: usage, and nothing is run or sent" {
  keel with-report backup
  exits 2
  keel with-report backup --
  exits 2
  has "with-report: error: missing argument 'COMMAND...'" "$stderr"
  keel with-report 'a/../b' touch ran
  exits 2
  has "with-report: error: 'a/../b' is no JOB" "$stderr"
  [ ! -e ran ]
  is sent "$(paths)" ""
}

@test "with-report: hands an inherited lock down" {
  keel with-lock --backups backup -- bin/with-report backup -- bin/with-lock --backups inner -- echo through
  exits 0
  is stdout "$output" through
}

# started: with-report in the background, around a pipe of two that note their pids and which signal they are told.
started() {
  local held
  mkfifo held
  exec {held}<>held
  for name in one two; do
    # shellcheck disable=SC2016
    printf '%s\n' 'echo $$ >>shells' 'for s in INT TERM HUP; do trap "echo $s >>$0.told; kill \$!; exit 5" "$s"; done' \
      'tail -f /dev/null & echo $! >>pids; echo >held; wait' >"$name"
  done
  bin/with-report backup -- bash -c 'trap : INT TERM HUP; bash one | bash two' 3>&- 2>stderr </dev/null &
  RUNNING=$!
  read -r _ <&"$held"
  read -r _ <&"$held"
  exec {held}<&-
}

# end SIGNAL CODE: tell it to end, alone; it ends with that code.
end() {
  local code=0
  kill "-$1" "$RUNNING"
  wait "$RUNNING" || code=$?
  RUNNING=
  is code "$code" "$2"
}

@test "with-report: SIGTERM, SIGINT and SIGHUP to it alone reach all that runs, once; it reports and has the command's code" {
  local signal
  for signal in TERM INT HUP; do
    rm -f "$RECEIVED/requests" held pids shells ./*.told
    started
    end "$signal" 5
    is told "$(cat one.told two.told)" "$signal"$'\n'"$signal"
    is paths "$(paths)" $'/ping-key-1/backup/start\n/ping-key-1/backup/5\n/hook-key-2'
    while read -r pid; do if kill -0 "$pid"; then return 1; fi; done <shells
  done
}

@test "with-report: killed itself, it has reported a start that no end follows: the other side says so" {
  started
  end KILL 137
  is paths "$(paths)" /ping-key-1/backup/start
}

@test "with-report: killed itself, it takes the job along: each command of the pipe is told to end, once, and the lock is free" {
  local held job
  mkfifo held
  exec {held}<>held
  for name in one two; do
    # shellcheck disable=SC2016
    printf '%s\n' 'trap "echo TERM >>$0.told; kill \$!; exit 5" TERM' 'tail -f /dev/null & echo $! >>pids' \
      'echo $$ >>shells' 'echo >held' 'wait' >"$name"
  done
  bin/with-report backup -- bin/with-lock --backups --pipe backup 'bash one | bash two' 3>&- 2>stderr </dev/null &
  RUNNING=$!
  read -r _ <&"$held"
  read -r _ <&"$held"
  exec {held}<&-
  job=$(children "$RUNNING")
  end KILL 137
  timeout 30 tail --pid="$job" -f /dev/null
  is told "$(cat one.told two.told)" $'TERM\nTERM'
  while read -r pid; do if kill -0 "$pid"; then return 1; fi; done <shells
  keel with-lock --backups other -- true
  exits 0
  is paths "$(paths)" /ping-key-1/backup/start
}
