# shellcheck shell=bash
# Shared by the .bats files about reports: a real server that writes down what it is sent.
#
#   setup() { load helper; load report; scratch; some_secrets; receiver; }
#   teardown() { no_receiver; }
#   keel with-report backup -- true
#   is paths "$(sent .path)" $'/ping/backup/start\n/ping/backup'

# receiver: start it at $AT; KEEL_PING_URL and KEEL_NOTIFY_URL of the copy lead there. The settings are in the file of secrets, as a
# person would have them.
receiver() {
  RECEIVED=$BATS_TEST_TMPDIR/received
  mkdir "$RECEIVED"
  mkfifo "$RECEIVED/port"
  "$TREE/.venv/bin/python" "$CHECKOUT/tests/receiver.py" "$RECEIVED" >"$RECEIVED/port" 3>&- &
  RECEIVER=$!
  read -r port <"$RECEIVED/port"
  AT=http://127.0.0.1:$port
  printf 'KEEL_PING_URL=%s/ping-key-1/{job}\nKEEL_NOTIFY_URL=%s/hook-key-2\n' "$AT" "$AT" >>"secrets/$KEEL_ENV.env"
}

no_receiver() {
  [ -z "${RECEIVER:-}" ] || kill "$RECEIVER" 2>/dev/null || true
}

# sent FILTER: what jq finds in each request, in the order in which they came; nothing where none came.
sent() {
  [ ! -e "$RECEIVED/requests" ] || jq -r "$1" "$RECEIVED/requests"
}

# answers CODE...: what the receiver answers next, once each.
answers() {
  printf '%s\n' "$@" >"$RECEIVED/answers"
}
