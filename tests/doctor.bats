#!/usr/bin/env bats
# doctor: one line a check on stdout; 0 well, 1 bad, 69 no engine, 78 configuration.

# shellcheck disable=SC2030,SC2031,SC2016  # each test is a process of its own; a script is meant to stay as it is

setup() {
  load helper
  scratch
  some_secrets
  started=()
}

teardown() {
  for pid in "${started[@]}"; do kill "$pid" && wait "$pid" || true; done
  [ -z "${container:-}" ] || docker rm -f -v "$container" >/dev/null
}

# listen [NAME]: a listener of our own, which calls itself so; $port and its pid in `started`.
listen() {
  local name=${1:-python3}
  coproc LISTEN { exec python3 -c '
import socket, sys, time
open("/proc/self/comm", "w").write(sys.argv[1])
s = socket.socket(socket.AF_INET)
s.bind(("127.0.0.1", 0)); s.listen()
print(s.getsockname()[1], flush=True)
sys.stdin.read()' "$name"; }
  started+=("$LISTEN_PID")
  read -r port <&"${LISTEN[0]}"
}

line() { grep -E "^(ok  |warn|bad ) $1" <<<"$output"; }

@test "doctor: a host that is well" {
  use_host
  keel dev-cert
  set_env KEEL_HTTP_PORT=18180 KEEL_HTTPS_PORT=18543
  keel doctor
  exits 0
  is stderr "$stderr" ""
  for check in settings timeouts secrets python engine version storage compose buildx disk clock ports certificate memory kernel; do
    line "$check" >/dev/null || { echo "no line for $check in: $output"; false; }
  done
  hasnt "bad " "$output"
}

@test "doctor: --json is one object a line, of the same fields" {
  use_host
  keel doctor --json
  python3 -c '
import json, sys
rows = [json.loads(line) for line in sys.stdin]
assert len(rows) > 12 and all(set(r) == {"check", "verdict", "said", "hint"} for r in rows), rows
assert all(r["hint"] for r in rows if r["verdict"] == "bad"), rows' <<<"$output"
}

@test "doctor: the engine does not answer: 69, and every other check is reported" {
  use_host
  keel dev-cert
  export DOCKER_HOST=unix:///nowhere.sock
  set_env KEEL_HTTP_PORT=18180 KEEL_HTTPS_PORT=18543
  keel doctor
  exits 69
  has "the engine does not answer" "$(line engine)"
  has "set DOCKER_HOST (now unix:///nowhere.sock)" "$(line engine)"
  for check in disk clock ports certificate memory kernel; do line "$check" >/dev/null; done
  is bad "$(grep -c ^bad <<<"$output")" 1
}

@test "doctor: faults of the configuration: 78, whatever else is bad" {
  export DOCKER_HOST=unix:///nowhere.sock
  chmod 644 secrets/development.env
  set_env KEEL_HTTP_PORT=x KEEL_DRAIN_TIMEOUT=31m
  keel doctor
  exits 78
  has "has mode 0644" "$(line secrets)"
  has "KEEL_HTTP_PORT (compose/development.env) is 'x'" "$(line settings)"
  has "KEEL_DRAIN_TIMEOUT=31m must be shorter than KEEL_JOB_TIMEOUT=30m" "$(line timeouts)"
  has "not looked at: KEEL_HTTP_PORT is 'x'" "$(line ports)"
}

@test "doctor: an unknown environment" {
  export KEEL_ENV=nowhere
  keel doctor
  exits 78
  is stdout "$output" ""
}

@test "doctor: a port that another program holds, and which" {
  use_host
  keel dev-cert
  listen
  set_env KEEL_HTTP_PORT=18180 "KEEL_HTTPS_PORT=$port"
  keel doctor
  exits 1
  has "bad  ports       KEEL_HTTPS_PORT=$port is held by python3 (pid ${started[0]}); stop it, or choose another port" "$output"
  has "KEEL_HTTP_PORT=18180 is free" "$(line ports)"
}

@test "doctor: no engine: a port that it holds for a container may be our own, and is not called another's" {
  use_host
  keel dev-cert
  listen docker-proxy
  set_env KEEL_HTTP_PORT=18180 "KEEL_HTTPS_PORT=$port"
  DOCKER_HOST=unix:///nowhere.sock keel doctor
  exits 69
  has "warn ports       KEEL_HTTPS_PORT=$port is held by docker-proxy (pid ${started[0]}): for whom, only the engine could say" "$output"
  hasnt "stop it" "$(line ports)"
}

@test "doctor: a port that a container holds: ours is well, another's is bad" {
  use_host
  keel dev-cert
  DOCKER_HOST=$(host_value DOCKER_HOST)
  [ -z "$DOCKER_HOST" ] || export DOCKER_HOST
  images=$(host_value KEEL_IMAGES)
  image=$(sed -n 's/^KEEL_IMAGE_REDIS=//p' "${images:-$CHECKOUT/compose/images.env}")
  container=$(docker run -d --label keel.env=development -p 127.0.0.1::6379 --entrypoint tail "$image" -f /dev/null)
  port=$(docker port "$container" 6379)
  set_env "KEEL_HTTP_PORT=${port##*:}" KEEL_HTTPS_PORT=18543
  keel doctor
  exits 0
  has "ok   ports       KEEL_HTTP_PORT=${port##*:} is held by our own $(docker inspect -f '{{slice .Name 1}}' "$container")" "$output"
  export KEEL_ENV=staging
  some_secrets
  set_env KEEL_DOMAIN=staging.test "KEEL_HTTP_PORT=${port##*:}" KEEL_HTTPS_PORT=18543 KEEL_STATE=var
  keel doctor
  exits 1
  has "bad  ports       KEEL_HTTP_PORT=${port##*:} is held by $(docker inspect -f '{{slice .Name 1}}' "$container")" "$output"
}

@test "doctor: with stores the keys of backups: what makes them, and which target they are enough for" {
  use_host
  keel dev-cert
  set_env KEEL_HTTP_PORT=18180 KEEL_HTTPS_PORT=18543 "KEEL_BACKUP_STORES=file://$BATS_TEST_TMPDIR"
  keel doctor
  exits 1
  has "bad  signer      $TREE/secrets/backup-sign.pem: no such file or directory; backup-keys make signer --role backup" "$output"
  has "bad  recipients  $TREE/backup/recipients: no such file or directory; backup-keys make identity" "$output"
  bin/backup-keys make signer --role backup
  bin/backup-keys make identity --output "$BATS_TEST_TMPDIR/one"
  keel doctor
  exits 0
  has "ok   signer      $TREE/secrets/backup-sign.pem: enough for make backup-only" "$output"
  has "warn recipients  $TREE/backup/recipients has one" "$output"
  bin/backup-keys make identity --output "$BATS_TEST_TMPDIR/two"
  keel doctor
  has "ok   recipients  2 can open backups" "$output"
  has "ok   stores      file://$BATS_TEST_TMPDIR: is ours alone" "$output"
  chmod 777 "$BATS_TEST_TMPDIR"
  keel doctor
  exits 0
  has "warn stores      file://$BATS_TEST_TMPDIR: has mode 0777: everybody here can delete and replace what is in it; chmod go-w " "$output"
}

@test "doctor: a host that only restores needs no certificate, ports or plug-ins, and an identity" {
  use_host
  listen
  set_env "KEEL_HTTPS_PORT=$port" "KEEL_BACKUP_STORES=file://$BATS_TEST_TMPDIR" KEEL_REPLICAS=9000
  bin/backup-keys make signer --role verify
  keel doctor
  exits 1
  has "bad  signer      $TREE/secrets/backup-identity.txt: no such file or directory; on a host that restores: backup-keys make identity" \
    "$output"
  bin/backup-keys make identity --output secrets/backup-identity.txt
  keel doctor
  exits 0
  has "ok   signer      $TREE/secrets/backup-sign.pem: enough for make restore-verify" "$output"
  has "ok   memory      limit 1.0 GiB of " "$output"
  for check in certificate ports compose buildx; do is "$check" "$(line "$check")" ""; done
}

@test "doctor: less free disk than wanted" {
  use_host
  set_env KEEL_MIN_FREE_DISK=9000t
  keel doctor
  exits 1
  has "KEEL_MIN_FREE_DISK=9000t; make room" "$(line disk)"
}

@test "doctor: a clock that went back" {
  use_host
  mkdir -p var/development
  echo '{"time": "2999-01-01T00:00:00Z", "command": "deploy"}' >var/development/history
  keel doctor
  exits 1
  has "went back: it is 20" "$(line clock)"
  has "the history has 2999-01-01T00:00:00Z" "$(line clock)"
}

@test "doctor: no certificate, one for another name, one that the proxy cannot read, one that everybody can" {
  use_host
  keel doctor
  exits 1
  has "cert.pem: there is no such file; make cert ENV=development" "$(line certificate)"
  keel dev-cert
  set_env KEEL_DOMAIN=other.test
  keel doctor
  has "is for localhost, 127.0.0.1, ::1 and not for other.test" "$(line certificate)"
  chmod 600 secrets/tls/development/key.pem
  keel doctor
  has "cannot read key.pem" "$(line certificate)"
  chmod 644 secrets/tls/development/key.pem
  chmod 755 secrets secrets/tls
  keel doctor
  has "every user of this host can read key.pem; chmod 700 secrets secrets/tls" "$(line certificate)"
}

@test "doctor: a certificate that has ended, and one that soon will" {
  use_host
  mkdir -p secrets/tls/development
  cd secrets/tls/development
  openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 20 -subj /CN=x \
    -addext subjectAltName=DNS:localhost 2>/dev/null
  chmod 644 key.pem
  chmod 700 ..
  keel doctor
  has "19 days left, from x; make cert" "$(line certificate)"
  [[ "$(line certificate)" == "warn "* ]]
  openssl x509 -in cert.pem -signkey key.pem -days 0 -out old.pem 2>/dev/null
  mv old.pem cert.pem
  keel doctor
  exits 1
  has "bad  certificate " "$output"
}

@test "doctor: an old compose plug-in, and none" {
  use_host
  mkdir "$BATS_TEST_TMPDIR/old"
  printf '#!/bin/sh\ncase $1 in compose) echo 2.20.3 ;; *) exit 1 ;; esac\n' >"$BATS_TEST_TMPDIR/old/docker"
  chmod +x "$BATS_TEST_TMPDIR/old/docker"
  export KEEL_TOOLS="$BATS_TEST_TMPDIR/old"
  keel doctor
  exits 1
  has "bad  compose     2.20.3: 2.30 is wanted; install docker-compose-plugin 2.30" "$output"
  has "bad  buildx      is not there; install docker-buildx-plugin" "$output"
}

@test "doctor: changes nothing" {
  use_host
  before=$(find . -path ./lib -prune -o -path ./bin -prune -o -type f -print0 | sort -z | xargs -0 sha256sum)
  keel doctor
  is files "$(find . -path ./lib -prune -o -path ./bin -prune -o -type f -print0 | sort -z | xargs -0 sha256sum)" "$before"
}
