#!/usr/bin/env bats
# schedule: what runs at night, as cron and systemd start it. The backup commands are stand-ins here, which note how they were called.

setup() {
  load helper
  load backup
  load report
  backup_store
  cp -R "$CHECKOUT/Makefile" "$CHECKOUT/docs" .
  cp -R "$CHECKOUT/backup/crontab" "$CHECKOUT/backup/systemd" backup/
  export KEEL_ENV=production
  some_secrets
  mkdir metrics
  set_env KEEL_BACKUP_STORES="$STORE" KEEL_STATE=var KEEL_METRICS_DIR=metrics
  receiver
  backup pg:1h:ok >/dev/null
  # shellcheck disable=SC2016
  for name in pg-backup redis-backup files-backup restore-verify; do
    printf '%s\n' '#!/bin/sh' "echo \"$name \$* \$KEEL_ENV \${KEEL_LOCK_FD_BACKUPS:+locked}\" >>called" \
      'case $*/$0 in *newest*) ;; */*pg-backup) echo one ;; *) cat && echo more ;; esac' >"bin/$name"
    chmod +x "bin/$name"
  done
}

teardown() {
  no_receiver
  [ -z "${RUNNING:-}" ] || kill -KILL "$RUNNING" 2>/dev/null || true
}

# jobs_of FILE: the lines of a crontab that are jobs.
jobs_of() {
  grep -E '^[0-9*]' "$1"
}

# all_of FILE: the same, and those for two hosts, which are commented out.
all_of() {
  sed -E 's/^#([0-9*])/\1/' "$1" | grep -E '^[0-9*]'
}

# as_cron COMMAND: run it as cron does: by sh, with next to no environment, in the home directory.
as_cron() {
  run --separate-stderr env -i -C / HOME=/root LOGNAME=root PATH=/usr/bin:/bin SHELL=/bin/sh \
    sh -c "${1//\/srv\/evenkeel/$TREE}" </dev/null
}

# nightly: as_cron the job of that Make target.
nightly() {
  as_cron "$(all_of backup/crontab | cut -d' ' -f7- | grep " $1 ")"
}

# shellcheck disable=SC2154
@test "schedule: every line of the crontab works under cron's bare environment" {
  while read -r _ _ _ _ _ user command; do
    is user "$user" root
    as_cron "$command"
    exits 0
    [ -s metrics/evenkeel_backups_production.prom ]
    rm metrics/*
  done < <(jobs_of backup/crontab)
  # The commands of a pipe start in any order.
  is called "$(sed 's/ $//' called | sort)" 'files-backup  production locked
pg-backup --restored-here production locked
redis-backup  production locked
restore-verify  production locked
restore-verify --newest --older 3 --level 5 production'
  is paths "$(sent .path)" '/ping-key-1/backup/start
/ping-key-1/backup
/ping-key-1/prune/start
/ping-key-1/prune
/ping-key-1/drill/start
/ping-key-1/drill'
  has "backup-prune: $STORE: deleted 0 of 0, kept 1" "$(sent .body)"
}

@test "schedule: the nightly backup prints the handles of the pipe" {
  nightly backup
  is stdout "$output" $'one\nmore\nmore\nmore'
  is stderr "$stderr" ""
}

@test "schedule: the crontab is one that any cron reads" {
  local number='([0-9]+(,[0-9]+)*|\*)'
  is "last character" "$(tail -c 1 backup/crontab | od -An -tx1)" " 0a"
  is "what is neither comment, variable nor job" \
    "$(sed -E 's/^#([0-9*])/\1/' backup/crontab |
      grep -vE "^(#.*|[A-Z_]+=.*|($number ){5}root make -s -C /srv/evenkeel [a-z-]+ ENV=production( >/dev/null)?|)$")" ""
  hasnt % "$(all_of backup/crontab)" # which cron takes for the end of a line
  has CRON_TZ=UTC "$(cat backup/crontab)"
}

# two NUMBERS: each with two digits, as in 05,10.
two() {
  tr , '\n' <<<"$1" | sed -E 's/^[0-9]$/0&/' | paste -sd ,
}

@test "schedule: cron and systemd start the same targets at the same times, in UTC" {
  while read -r minute hour day month weekday _ _ _ _ _ target _; do
    case $weekday in 0) weekday="Sun " ;; "*") weekday= ;; *) return 1 ;; esac
    is "$target" "$(sed -n 's/^OnCalendar=//p' "backup/systemd/evenkeel@$target.timer")" \
      "$weekday*-$(two "$month")-$(two "$day") $(two "$hour"):$(two "$minute"):00 UTC"
    grep -qx Persistent=true "backup/systemd/evenkeel@$target.timer"
  done < <(all_of backup/crontab)
  is targets "$(find backup/systemd -name '*.timer' | wc -l)" "$(all_of backup/crontab | wc -l)"
}

@test "schedule: the units are well-formed, and each timer's service runs a target that the Makefile has" {
  local timer target bad
  .venv/bin/python - backup/systemd/* <<'END'
import configparser, sys
KNOWN = {"Unit": {"Description", "Documentation", "Wants", "After"}, "Install": {"WantedBy"},
         "Timer": {"OnCalendar", "Persistent", "RandomizedDelaySec", "AccuracySec"},
         "Service": set("""Type User ExecStart TimeoutStartSec TimeoutStopSec Nice IOSchedulingPriority ReadWritePaths
             NoNewPrivileges LockPersonality ProtectSystem ProtectHome ProtectClock ProtectControlGroups ProtectHostname
             ProtectKernelLogs ProtectKernelModules ProtectKernelTunables SystemCallArchitectures
             RestrictAddressFamilies RestrictNamespaces RestrictRealtime RestrictSUIDSGID""".split())}
for name in sys.argv[1:]:
    unit = configparser.ConfigParser(interpolation=None, delimiters="=")
    unit.optionxform = str
    unit.read(name)
    for section in unit.sections():
        assert not set(unit[section]) - KNOWN[section], (name, section, set(unit[section]) - KNOWN[section])
        assert all(unit[section].values()), name
END
  for timer in backup/systemd/*.timer; do
    target=${timer#*@}
    make -n "${target%.timer}" ENV=production >/dev/null
    if command -v systemd-analyze >/dev/null; then
      bad=$(SYSTEMD_UNIT_PATH=$PWD/backup/systemd: systemd-analyze verify "$PWD/$timer" 2>&1)
      is "$timer" "$bad" ""
      systemd-analyze calendar "$(sed -n 's/^OnCalendar=//p' "$timer")" >/dev/null
    fi
  done
  is command "$(sed -n 's/^ExecStart=//p' backup/systemd/evenkeel@.service)" "/usr/bin/make -s -C /srv/evenkeel %i ENV=production"
}

@test "schedule: as docs/schedule.md installs them they name this checkout, and work" {
  mkdir -p "$BATS_TEST_TMPDIR/etc/systemd/system" "$BATS_TEST_TMPDIR/etc/cron.d"
  # shellcheck disable=SC2016
  sed -n '/^```$/,/^```$/p' docs/schedule.md | grep -E '^(sed|for unit) ' | sed "s,/etc/,$BATS_TEST_TMPDIR/etc/," >install
  is commands "$(wc -l <install)" 2
  bash -eu install
  is left "$(grep -r /srv/evenkeel "$BATS_TEST_TMPDIR/etc" | grep -v '#')" ""
  is units "$(ls "$BATS_TEST_TMPDIR/etc/systemd/system")" "$(ls backup/systemd)"
  has "ExecStart=/usr/bin/make -s -C $TREE %i ENV=production" "$(cat "$BATS_TEST_TMPDIR/etc/systemd/system/evenkeel@.service")"
  as_cron "$(jobs_of "$BATS_TEST_TMPDIR/etc/cron.d/evenkeel" | cut -d' ' -f7- | head -n 1)"
  exits 0
  has pg-backup "$(cat called)"
}

@test "schedule: a backup that fails: not 0, the reason is reported, and the metrics are written" {
  printf '%s\n' '#!/bin/sh' 'echo "pg-backup: error: no server" >&2; exit 69' >bin/pg-backup
  nightly backup
  exits 2
  has "pg-backup: error: no server" "$stderr"
  is paths "$(sent .path)" $'/ping-key-1/backup/start\n/ping-key-1/backup/69\n/hook-key-2'
  has "pg-backup: error: no server" "$(sent .body | tail -n 1)"
  [ -s metrics/evenkeel_backups_production.prom ]
}

@test "schedule: two hosts: the server backs up and restores nothing, and reports as a backup does" {
  nightly backup-only
  exits 0
  is stdout "$output" $'one\nmore\nmore'
  is called "$(sed 's/ $//' called | sort)" 'files-backup  production locked
pg-backup  production locked
redis-backup  production locked'
  is paths "$(sent .path)" $'/ping-key-1/backup/start\n/ping-key-1/backup'
  [ -s metrics/evenkeel_backups_production.prom ]
}

@test "schedule: two hosts: the other restores the newest, and reports under its own name" {
  nightly restore-verify
  exits 0
  is called "$(cat called)" "restore-verify --newest production "
  is paths "$(sent .path)" $'/ping-key-1/restore-verify/start\n/ping-key-1/restore-verify'
  [ -s metrics/evenkeel_backups_production.prom ]
}

@test "schedule: metrics that cannot be written are a failure too, and none of the backup" {
  rmdir metrics
  nightly backup
  exits 2
  has "KEEL_METRICS_DIR: there is no folder" "$stderr"
  has "backup] Error 78" "$stderr"
  is paths "$(sent .path)" $'/ping-key-1/backup/start\n/ping-key-1/backup'
}

@test "schedule: of a backup and metrics that both fail the backup's code counts" {
  rmdir metrics
  printf '%s\n' '#!/bin/sh' 'exit 69' >bin/pg-backup
  nightly backup
  exits 2
  has "KEEL_METRICS_DIR: there is no folder" "$stderr"
  has "backup] Error 69" "$stderr"
}

@test "schedule: two at once: the second is 75, names the first, and is reported" {
  mkfifo held go
  printf '%s\n' '#!/bin/sh' 'echo >held; read -r _ <go' >bin/pg-backup
  make -s backup ENV=production >/dev/null 2>&1 3>&- </dev/null &
  RUNNING=$!
  read -r _ <held
  nightly backup
  exits 2
  [[ "$stderr" =~ with-lock:\ error:\ the\ backups\ of\ production\ are\ locked\ by\ pid\ [0-9]+:\ backup\ since ]]
  is path "$(sent .path | tail -n 2 | head -n 1)" /ping-key-1/backup/75
  nightly prune
  exits 2
  is path "$(sent .path | tail -n 2 | head -n 1)" /ping-key-1/prune/75
  echo >go
  wait "$RUNNING"
  RUNNING=
  nightly backup-metrics
  exits 0
}

@test "schedule: the docs show the pipes as they are, and every metric; the alerts ask for metrics that there are" {
  has "$(make -n backup ENV=production)" "$(cat docs/schedule.md)"
  has "$(make -n backup-only restore-verify ENV=production)" "$(cat docs/schedule.md)"
  PYTHONPATH=lib .venv/bin/python -c 'from keel import metrics; print("\n".join(sorted(metrics.HELP)))' >known
  # shellcheck disable=SC2016
  grep -ohE '`evenkeel_[a-z_]+`' docs/schedule.md | tr -d '`' | sort -u | diff known -
  grep -ohE 'evenkeel_[a-z_]+' "$CHECKOUT/backup/alerts.yml" | sort -u >asked
  is "not there" "$(comm -13 known asked)" ""
  [ "$(wc -l <asked)" -ge 8 ]
  if command -v promtool >/dev/null; then promtool check rules "$CHECKOUT/backup/alerts.yml"; fi
}
