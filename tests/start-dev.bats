#!/usr/bin/env bats
# start-dev: development only, and a build that fails says why. What runs then is the image's stage `dev`, in the foreground.

setup() {
  load helper
  scratch
  use_host
  some_secrets
}

@test "start-dev: any other environment: exit 78, nothing is built" {
  export KEEL_ENV=staging
  some_secrets
  set_env KEEL_DOMAIN=staging.test
  keel start-dev
  exits 78
  is stdout "$output" ""
  is stderr "$stderr" "start-dev: error: staging: hot reload is for development
start-dev: hint: make dev ENV=development"
}

@test "start-dev: an application without a stage for it: exit 1, what the build said, nothing runs" {
  mkdir app
  printf 'FROM scratch\nCOPY Dockerfile /\n' >app/Dockerfile
  set_env "KEEL_APP_DIR=$TREE/app"
  keel start-dev
  exits 1
  is stdout "$output" ""
  has "start-dev: error: $TREE/app: the dev stage does not build" "$stderr"
  has dev "$stderr"
  has "start-dev: hint: it needs a stage named dev" "$stderr"
}
