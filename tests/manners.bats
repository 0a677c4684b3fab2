#!/usr/bin/env bats
# manners: what every command of bin/ must do alike, as one table. Each rule names all commands that break it.

# Commands that read handles from stdin when there are no arguments.
FILTERS=(pull-image migrate start-release health-wait smoke-test swap-upstream stop-release redis-backup files-backup restore-verify)
# Commands that belong to no environment.
ENVLESS=(pin-images seal unseal)
LARGEST=140

setup() {
  load helper
  scratch
  mapfile -t COMMANDS < <(cd bin && find . -maxdepth 1 -type f ! -name '_*' -printf '%f\n' | sort)
  BAD=()
}

# The arguments that a command cannot do without, and that are well.
arguments() {
  case $1 in
    with-lock | with-report) echo "test true" ;;
    maintenance) echo on ;;
    backup-keys) echo list ;;
    backup-release) echo 20260102T031500Z-pg-1a2b3c4d because ;;
    pull-image | migrate | start-release) echo "events@sha256:$(printf '%064d' 0)" ;;
    health-wait | smoke-test | swap-upstream | stop-release) echo 20260102T030405Z-1a2b3c4 ;;
    redis-backup | files-backup) echo 20260102T031500Z-pg-1a2b3c4d ;;
    restore) echo "20260102T031500Z-pg-1a2b3c4d --to copy" ;;
    restore-verify) echo 20260102T031500Z-pg-1a2b3c4d ;;
  esac
}

# must NAME WHAT COMMAND…: note the command when the test fails.
must() {
  local name=$1 what=$2
  shift 2
  "$@" || BAD+=("$name: $what")
}

all_well() {
  [ "${#BAD[@]}" -eq 0 ] || { printf '%s\n' "${BAD[@]}"; return 1; }
}

empty() { [ -z "$1" ]; }
same() { [ "$1" = "$2" ]; }
has_text() { [[ $1 == *"$2"* ]]; }

@test "manners: there are commands, and each filter and exception is one of them" {
  [ "${#COMMANDS[@]}" -ge 20 ]
  for name in "${FILTERS[@]}" "${ENVLESS[@]}"; do must "$name" "is in the table and not in bin/" test -f "bin/$name"; done
  all_well
}

@test "manners: executable Python without suffix, at most $LARGEST lines" {
  for name in "${COMMANDS[@]}"; do
    must "$name" "is not executable" test -x "bin/$name"
    must "$name" "has a suffix" same "$name" "${name%.*}"
    must "$name" "does not begin with the python line" same "$(head -n 1 "bin/$name")" '#!/usr/bin/env python3'
    must "$name" "does not say in its docstring what it is" has_text "$(sed -n 2p "bin/$name")" "\"\"\"$name: "
    must "$name" "is longer than $LARGEST lines" test "$(wc -l <"bin/$name")" -le "$LARGEST"
  done
  all_well
}

@test "manners: each is in the README and has a test file" {
  for name in "${COMMANDS[@]}"; do
    must "$name" "is not in README.md" grep -qF "\`$name\`" "$CHECKOUT/README.md"
    must "$name" "has no tests/$name.bats" test -f "$CHECKOUT/tests/$name.bats"
  done
  all_well
}

@test "manners: --help: on stdout, with examples that name it, exit 0, silent otherwise, without an environment" {
  unset KEEL_ENV
  for name in "${COMMANDS[@]}"; do
    keel "$name" --help
    must "$name" "--help exits $status" same "$status" 0
    must "$name" "--help writes on stderr: $stderr" empty "$stderr"
    must "$name" "--help shows no usage" has_text "$output" "Usage: $name"
    must "$name" "--help shows no examples of it" has_text "${output#*Examples:}" "$name"
    must "$name" "--help has no Examples:" grep -qE '^ *Examples:$' <<<"$output"
    keel "$name" -h
    must "$name" "-h is not --help" same "$status" 0
  done
  all_well
}

@test "manners: an unknown option is usage: exit 2, nothing on stdout" {
  for name in "${COMMANDS[@]}"; do
    keel "$name" --no-such-option
    must "$name" "exits $status" same "$status" 2
    must "$name" "writes on stdout: $output" empty "$output"
    must "$name" "first line: ${stderr%%$'\n'*}" has_text "$stderr" "$name: error: "
    must "$name" "no hint" has_text "$stderr" $'\n'"$name: hint: $name --help"
  done
  all_well
}

@test "manners: too many or wrong arguments are usage" {
  for name in "${COMMANDS[@]}"; do
    case " ${FILTERS[*]} with-lock with-report " in *" $name "*) continue ;; esac
    keel "$name" one two three
    must "$name" "exits $status" same "$status" 2
    must "$name" "writes on stdout: $output" empty "$output"
  done
  all_well
}

@test "manners: a filter with an empty stdin does nothing and exits 66" {
  some_secrets
  for name in "${FILTERS[@]}"; do
    keel "$name"
    must "$name" "exits $status" same "$status" 66
    must "$name" "writes on stdout: $output" empty "$output"
    must "$name" "says: $stderr" same "$stderr" "$name: error: nothing on stdin: the command to the left failed"
  done
  must var "something was written" test ! -e var/development
  all_well
}

@test "manners: a filter whose stdin is closed does nothing and exits 66" {
  some_secrets
  for name in "${FILTERS[@]}"; do
    # shellcheck disable=SC2016
    run --separate-stderr bash -c 'exec "bin/$0" <&-' "$name"
    must "$name" "exits $status" same "$status" 66
    must "$name" "writes on stdout: $output" empty "$output"
    must "$name" "says: $stderr" has_text "$stderr" "$name: error: stdin is closed"
    must "$name" "no hint: $stderr" has_text "$stderr" "$name: hint: give a HANDLE, or pipe one in"
  done
  must var "something was written" test ! -e var/development
  all_well
}

@test "manners: no environment: exit 78, the reason, and what to type" {
  unset KEEL_ENV
  for name in "${COMMANDS[@]}"; do
    case " ${ENVLESS[*]} " in *" $name "*) continue ;; esac
    # shellcheck disable=SC2046  # words are wanted
    keel "$name" $(arguments "$name")
    must "$name" "exits $status" same "$status" 78
    must "$name" "writes on stdout: $output" empty "$output"
    must "$name" "says: $stderr" has_text "$stderr" "$name: error: KEEL_ENV is not set: which environment?
$name: hint: KEEL_ENV="
  done
  all_well
}

@test "manners: an unknown environment: exit 78, with a suggestion" {
  export KEEL_ENV=developmint
  for name in "${COMMANDS[@]}"; do
    case " ${ENVLESS[*]} " in *" $name "*) continue ;; esac
    # shellcheck disable=SC2046
    keel "$name" $(arguments "$name")
    must "$name" "exits $status" same "$status" 78
    must "$name" "says: $stderr" same "$stderr" "$name: error: developmint: there is no compose/developmint.env
$name: hint: did you mean development?"
  done
  all_well
}

@test "manners: without secrets nothing is changed: exit 78 names the file" {
  for name in "${COMMANDS[@]}"; do
    # These are for just that, or only report or stop; or go back to what was, which needs none.
    case " ${ENVLESS[*]} env-check doctor make-secrets dev-cert status releases logs stop-base rollback " in *" $name "*) continue ;; esac
    case $name in backups | backup-keys | with-report | backup-metrics) continue ;; esac
    # shellcheck disable=SC2046
    keel "$name" $(arguments "$name")
    must "$name" "exits $status" same "$status" 78
    must "$name" "writes on stdout: $output" empty "$output"
    must "$name" "says: $stderr" has_text "$stderr" "$name: error: secrets/development.env is missing"
    must "$name" "no hint: $stderr" has_text "$stderr" $'\n'"$name: hint: "
  done
  must var "something was written" test ! -e var
  all_well
}

@test "manners: settings that name what cannot be: exit 78 with all of it and a hint, nothing is changed" {
  some_secrets
  set_env KEEL_IMAGES=none.env KEEL_STATE=Makefile/var "KEEL_SMOKE_COMMAND=sh -c 'true"
  touch Makefile
  for name in "${COMMANDS[@]}"; do
    # These have no state, or only report, must stop things whatever is wrong, or may run on a host that deploys nothing.
    case " ${ENVLESS[*]} doctor make-secrets dev-cert status releases logs stop-base health-wait " in *" $name "*) continue ;; esac
    case $name in with-lock | with-report | store-check | backups | backup-*) continue ;; esac
    # shellcheck disable=SC2046
    keel "$name" $(arguments "$name")
    must "$name" "exits $status" same "$status" 78
    must "$name" "writes on stdout: $output" empty "$output"
    must "$name" "says: $stderr" has_text "$stderr" "$name: error: KEEL_IMAGES: there is no file $TREE/none.env"
    must "$name" "says: $stderr" has_text "$stderr" \
      "$name: error: KEEL_STATE: $TREE/Makefile/var/development cannot be made: $TREE/Makefile is no folder"
    must "$name" "says: $stderr" has_text "$stderr" "KEEL_SMOKE_COMMAND (compose/development.env) is "
    must "$name" "says: $stderr" has_text "$stderr" "a command is wanted, with every quote closed"
    must "$name" "no hint: $stderr" has_text "$stderr" $'\n'"$name: hint: "
  done
  all_well
}

@test "manners: with-lock, logs, stop-base: no state, no images: exit 78, nothing is changed" {
  some_secrets
  touch Makefile
  KEEL_STATE=Makefile/var keel with-lock test touch ran
  exits 78
  has "with-lock: error: $TREE/Makefile/var/development cannot be made: not a directory" "$stderr"
  [ ! -e ran ]
  for name in "logs proxy" stop-base; do
    # shellcheck disable=SC2086
    KEEL_IMAGES=none.env keel $name
    exits 78
    has "${name% *}: error: KEEL_IMAGES: there is no file $TREE/none.env" "$stderr"
  done
}

@test "manners: a state folder that nobody can make: exit 78 names it, nothing is changed" {
  some_secrets
  set_env KEEL_STATE=/proc/state
  local name changing=(maintenance migrate prune-images reload-proxy rollback start-base start-release stop-base stop-release)
  for name in "${changing[@]}" swap-upstream with-lock; do
    # shellcheck disable=SC2046
    keel "$name" $(arguments "$name")
    must "$name" "exits $status" same "$status" 78
    must "$name" "writes on stdout: $output" empty "$output"
    must "$name" "says: $stderr" same "$stderr" "$name: error: /proc/state/development cannot be made: no such file or directory
$name: hint: is KEEL_STATE right, who owns it, is the disk full? doctor says more"
  done
  all_well
}

@test "manners: a reader that left: exit 141, silent" {
  some_secrets
  for name in "${COMMANDS[@]}"; do
    nobody_reads "$name" --help
    must "$name" "--help exits $status" same "$status" 141
    must "$name" "--help says: $stderr" empty "$stderr"
  done
  for name in "env-check --show" "doctor --json"; do
    # shellcheck disable=SC2086
    nobody_reads $name
    must "$name" "exits $status" same "$status" 141
    must "$name" "says: $stderr" empty "$stderr"
  done
  all_well
}

@test "manners: an error that nobody reads keeps its code" {
  mkfifo left
  for name in "${COMMANDS[@]}"; do
    # shellcheck disable=SC2016
    run bash -c 'exec {reader}<>"$1" 1>"$1" 2>&1 {reader}<&-; "$0" --no-such-option </dev/null' "bin/$name" left
    must "$name" "exits $status" same "$status" 2
    must "$name" "says: $output" empty "$output"
  done
  all_well
}

@test "manners: off a terminal each line of stderr begins with the UTC time and the command" {
  unset KEEL_ENV
  for name in "${COMMANDS[@]}"; do
    run bash -c '"bin/$0" --no-such-option 2>&1 >/dev/null </dev/null' "$name"
    while read -r line; do
      must "$name" "$line" grep -qE "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z $name: (error|hint): [^A-Z].*[^.]$" <<<"$line"
    done <<<"$output"
  done
  all_well
}

@test "manners: at a terminal a command without input ends with usage and does not wait" {
  for name in "${FILTERS[@]}"; do
    some_secrets
    run python3 "$CHECKOUT/tests/terminal.py" 10 "bin/$name"
    must "$name" "exits $status: $output" same "$status" 2
    must "$name" "does not say what to give: $output" has_text "$output" "$name: error: give "
    must "$name" "does not say how: $output" has_text "$output" "$name: hint: $name --help"
  done
  rm -rf secrets
  for name in "${COMMANDS[@]}"; do
    case " ${ENVLESS[*]} ${FILTERS[*]} make-secrets dev-cert " in *" $name "*) continue ;; esac
    run python3 "$CHECKOUT/tests/terminal.py" 10 "bin/$name"
    must "$name" "does not end" test "$status" -ne 124
  done
  all_well
}

@test "manners: at a terminal messages carry no time" {
  unset KEEL_ENV
  run python3 "$CHECKOUT/tests/terminal.py" 10 bin/status
  is status "$status" 78
  is said "${output%%$'\r'*}" "status: error: KEEL_ENV is not set: which environment?"
}

@test "manners: runs from any folder, through a symlink, and with an empty environment" {
  mkdir "$BATS_TEST_TMPDIR/links"
  for name in "${COMMANDS[@]}"; do ln -s "$TREE/bin/$name" "$BATS_TEST_TMPDIR/links/$name"; done
  cd /
  for name in "${COMMANDS[@]}"; do
    run env -i PATH=/usr/bin:/bin "$BATS_TEST_TMPDIR/links/$name" --help
    must "$name" "exits $status: $output" same "$status" 0
    must "$name" "does not know its name: $output" has_text "$output" "Usage: $name"
  done
  all_well
}

@test "manners: without a virtual environment a command says how to get one" {
  rm .venv
  for name in "${COMMANDS[@]}"; do
    keel "$name" --help
    must "$name" "exits $status" same "$status" 78
    must "$name" "writes on stdout: $output" empty "$output"
    must "$name" "says: $stderr" same "$stderr" "$name: error: $TREE/.venv is not set up
$name: hint: make -C $TREE setup"
  done
  all_well
}

# An import that a signal comes into: sent to the process itself, so that it does each time what Ctrl-C does now and then.
hit() {
  mkdir -p "$TREE/lib/click"
  printf 'import os, signal\nos.kill(os.getpid(), signal.%s)\nraise SystemExit(7)\n' "$1" >"$TREE/lib/click/__init__.py"
}

@test "manners: interrupted during its imports a command dies of SIGINT, silently; an ignored one stays ignored" {
  hit SIGINT
  for name in "${COMMANDS[@]}"; do
    run --separate-stderr python3 -c 'import subprocess, sys; print(subprocess.run(sys.argv[1:]).returncode)' "bin/$name" --help
    must "$name" "ends with $output" same "$output" -2
    must "$name" "says: $stderr" empty "$stderr"
    run --separate-stderr env --ignore-signal=INT "bin/$name" --help
    must "$name" "exits $status when it is ignored" same "$status" 7
    must "$name" "says: $stderr" empty "$stderr"
  done
  all_well
}

@test "manners: interrupted at work a command says so: its own handler has taken over" {
  some_secrets
  rm secrets/development.env
  mkfifo -m 600 secrets/development.env # where it waits for its settings
  run --separate-stderr timeout 60 python3 - bin/env-check <<'PY'
import os, signal, subprocess, sys
ended = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE, text=True)
with open("secrets/development.env", "w"):  # open: it is there
    ended.send_signal(signal.SIGINT)
    print(ended.communicate()[1])
sys.exit(ended.returncode)
PY
  is status "$status" 130
  has "env-check: interrupted by SIGINT: " "$output"
  hasnt Traceback "$output"
}
