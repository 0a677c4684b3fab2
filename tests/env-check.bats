#!/usr/bin/env bats
# env-check: everything that is wrong with the settings, at once, exit 78; silence on stdout.

# shellcheck disable=SC2030,SC2031  # each test is a process of its own

setup() {
  load helper
  scratch
}

@test "env-check: settings that are well: one line on stderr, nothing on stdout" {
  some_secrets
  keel env-check
  exits 0
  is stdout "$output" ""
  [[ "$stderr" =~ ^env-check:\ ok:\ [0-9]+\ settings$ ]]
}

@test "env-check: -q says nothing when all is well" {
  some_secrets
  keel env-check -q
  exits 0
  is stdout "$output" ""
  is stderr "$stderr" ""
}

@test "env-check: no environment named" {
  unset KEEL_ENV
  keel env-check
  exits 78
  is stdout "$output" ""
  is stderr "$stderr" "env-check: error: KEEL_ENV is not set: which environment?
env-check: hint: KEEL_ENV=development|production|staging COMMAND …"
}

@test "env-check: an unknown environment, with a suggestion" {
  export KEEL_ENV=prodution
  keel env-check
  exits 78
  is stderr "$stderr" "env-check: error: prodution: there is no compose/prodution.env
env-check: hint: did you mean production?"
}

@test "env-check: an environment that resembles none names those there are" {
  export KEEL_ENV=../../etc/passwd
  keel env-check
  exits 78
  has "hint: environments: development, production, staging" "$stderr"
}

@test "env-check: every kind of fault at once" {
  set_env KEEL_DOMIAN=x.test KEEL_PROXY=apache KEEL_HTTP_PORT=70000 KEEL_READ_TIMEOUT=60 POSTGRES_PASSWORD=committed \
    KEEL_STOP_GRACE=30s KEEL_KEEPALIVE_PROXY=65s KEEL_DOMAIN=events.example.org
  printf 'a line without an equals sign\n' >>compose/development.env
  (umask 022; printf 'REDIS_PASSWORD=CHANGE_ME\n' >secrets/development.env)
  keel env-check
  exits 78
  is stdout "$output" ""
  is stderr "$stderr" "env-check: error: secrets/development.env has mode 0644, so others can read it: chmod 600 secrets/development.env
env-check: error: compose/development.env: line $(wc -l <compose/development.env) is not NAME=value
env-check: error: KEEL_DOMIAN (compose/development.env) is unknown: did you mean KEEL_DOMAIN?
env-check: error: POSTGRES_PASSWORD is a secret: move it from compose/development.env to secrets/development.env
env-check: error: KEEL_DOMAIN (compose/development.env) still has the placeholder of compose/example.env (events.example.org)
env-check: error: KEEL_PROXY (compose/development.env) is 'apache': one of nginx, caddy is wanted
env-check: error: KEEL_HTTP_PORT (compose/development.env) is '70000': a port from 1 to 65535 is wanted
env-check: error: KEEL_READ_TIMEOUT (compose/development.env) is '60': a duration with its unit, as 30s, 15m or 1h is wanted
env-check: error: REDIS_PASSWORD (secrets/development.env) still has the placeholder of compose/example.env (CHANGE_ME)
env-check: error: KEEL_SHUTDOWN_TIMEOUT=30s must be shorter than KEEL_STOP_GRACE=30s
env-check: error: KEEL_KEEPALIVE_PROXY=65s must be shorter than KEEL_KEEPALIVE_APP=65s
env-check: hint: edit compose/development.env or secrets/development.env; compose/example.env explains each"
}

@test "env-check: no secrets file, along with the other faults" {
  set_env KEEL_REPLICAS=two
  keel env-check
  exits 78
  has "error: secrets/development.env is missing: \`make secrets ENV=development\`" "$stderr"
  has "error: POSTGRES_PASSWORD (not set) is missing" "$stderr"
  has "error: KEEL_REPLICAS (compose/development.env) is 'two': " "$stderr"
}

@test "env-check: a secrets file that the group can read" {
  some_secrets
  chmod 640 secrets/development.env
  keel env-check
  exits 78
  has "secrets/development.env has mode 0640, so others can read it: chmod 600 secrets/development.env" "$stderr"
}

@test "env-check: the committed settings of development are well" {
  cp "$CHECKOUT/compose/development.env" compose/
  some_secrets
  keel env-check
  exits 0
}

@test "env-check: production with its placeholder left in" {
  export KEEL_ENV=production
  some_secrets
  keel env-check
  exits 78
  has "KEEL_DOMAIN (compose/production.env) still has the placeholder" "$stderr"
}

@test "env-check: an ill-typed secret is never shown" {
  printf '\n#: port secret\nPOOL_KEY=1\n' >>compose/example.env
  some_secrets
  echo POOL_KEY=hunter2 >>secrets/development.env
  keel env-check
  exits 78
  has "POOL_KEY (secrets/development.env) is …: a port" "$stderr"
  hasnt hunter2 "$stderr"
}

@test "env-check: a misspelt variable of the process environment" {
  some_secrets
  export KEEL_REPLICA=3
  keel env-check
  exits 78
  has "KEEL_REPLICA (the process environment) is unknown: did you mean KEEL_REPLICAS?" "$stderr"
}

@test "env-check: a settings file that is not text" {
  some_secrets
  printf 'KEEL_DOMAIN=\xff\xfe\n' >compose/development.env
  keel env-check
  exits 78
  has "compose/development.env cannot be read: it is not UTF-8 text" "$stderr"
}

@test "env-check: --show prints values with their origin and never a secret" {
  some_secrets
  export KEEL_REPLICAS=5
  keel env-check --show
  exits 0
  has "KEEL_DOMAIN=localhost  # compose/development.env" "$output"
  has "KEEL_PROXY=nginx  # default" "$output"
  has "KEEL_REPLICAS=5  # the process environment" "$output"
  has "POSTGRES_PASSWORD=…  # secrets/development.env" "$output"
  hasnt "=one" "$output"
  [[ "$stderr" == "env-check: ok: "* ]]
}

@test "env-check: --show of settings with faults still ends with 78" {
  keel env-check --show
  exits 78
  has "POSTGRES_PASSWORD=  # not set" "$output"
}

@test "env-check: runs from any folder and through a link" {
  some_secrets
  ln -s "$TREE/bin/env-check" "$BATS_TEST_TMPDIR/check"
  cd /
  run --separate-stderr "$BATS_TEST_TMPDIR/check"
  [ "$status" -eq 0 ]
}

@test "env-check: rules of retention that keep too little" {
  some_secrets
  KEEL_KEEP_NEWEST=1 keel env-check
  exits 78
  has "newest=1: at least 3 is wanted" "$stderr"
  KEEL_KEEP_MIN_AGE=0s keel env-check
  exits 78
  has "min_age=0:00:00" "$stderr"
}

@test "env-check: stores that no command could open, and one that is there twice: each by name, exit 78" {
  some_secrets
  mkdir disk
  ln -s disk link
  set_env KEEL_BACKUP_STORES="ftp://host/dir ./disk s3://b/p?endpoint=nonsense s3://u:hunter2@b/p file://$TREE/disk file://$TREE/link/"
  KEEL_KEEP_NEWEST=1 keel env-check
  exits 78
  is stdout "$output" ""
  has "error: KEEL_BACKUP_STORES: ftp://host/dir: file:///DIR or s3://BUCKET/PREFIX is wanted" "$stderr"
  has "error: KEEL_BACKUP_STORES: ./disk: file:///DIR or s3://BUCKET/PREFIX is wanted" "$stderr"
  has "error: KEEL_BACKUP_STORES: s3://b/p: invalid endpoint: nonsense" "$stderr"
  has "error: KEEL_BACKUP_STORES: s3://b/p: credentials do not belong into a URL" "$stderr"
  has "error: KEEL_BACKUP_STORES: file://$TREE/link/: is there twice, also as file://$TREE/disk" "$stderr"
  has "newest=1: at least 3 is wanted" "$stderr"
  hasnt hunter2 "$stderr"
  set_env KEEL_BACKUP_STORES="file://$TREE/gone s3://b/p s3://b/q?endpoint=http://127.0.0.1:9"
  keel env-check
  exits 0
}

@test "env-check: one of the two words of S3 credentials without the other: named with where it stands, exit 78; none is well" {
  some_secrets
  (umask 077; echo AWS_SECRET_ACCESS_KEY=hunter2 >>secrets/development.env)
  keel env-check
  exits 78
  is stdout "$output" ""
  is stderr "$stderr" "env-check: error: AWS_ACCESS_KEY_ID is not set, and AWS_SECRET_ACCESS_KEY (secrets/development.env) is: \
both, or neither
env-check: hint: edit compose/development.env or secrets/development.env; compose/example.env explains each"
  AWS_ACCESS_KEY_ID=id keel env-check
  exits 0
  sed -i '/^AWS_/d' secrets/development.env
  keel env-check
  exits 0
  AWS_ACCESS_KEY_ID=id AWS_SESSION_TOKEN=token keel env-check
  exits 78
  has "error: AWS_SECRET_ACCESS_KEY is not set, and AWS_ACCESS_KEY_ID (the process environment) is: both, or neither" "$stderr"
}

@test "env-check: an argument is a usage error" {
  keel env-check production
  exits 2
}
