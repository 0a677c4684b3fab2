#!/usr/bin/env bats
# The Makefile: a slip in what was typed ends it before anything is begun.

# shellcheck disable=SC2154  # run sets stderr

# shellcheck disable=SC2016  # $KEEL_ENV is for the stand-in
setup() {
  load helper
  scratch
  cp "$CHECKOUT/Makefile" .
  # What a target would begin: each leaves a mark.
  for name in with-lock start-base status; do printf '#!/bin/sh\necho %s "$KEEL_ENV" >>began\n' "$name" >"bin/$name"; done
  unset KEEL_ENV ENV env Env environment Environment MAKEFLAGS
}

# refused ARG…: make ends with one line on stderr, and nothing was begun.
refused() {
  run --separate-stderr make "$@"
  [ "$status" -eq 2 ]
  is stdout "$output" ""
  is lines "$(wc -l <<<"$stderr")" 1
  [ ! -e began ]
}

@test "makefile: what is typed well is begun, for the environment that was named" {
  make deploy ENV=staging
  KEEL_ENV=production make status
  ENV=staging make up
  make deploy
  is began "$(cat began)" "with-lock staging
status production
start-base staging
with-lock development"
  run make
  [ "$status" -eq 0 ]
  has "make deploy" "$output"
}

@test "makefile: each target that is listed is known" {
  local target
  while read -r target; do
    run --separate-stderr make -n "$target"
    hasnt "no such target" "$stderr"
  done < <(make | awk '{ print $2 }')
  is phony "$(sed -nE 's/^([a-z][a-z-]*):.* ## .*/\1/p' Makefile | sort)" "$(make | awk '{ print $2 }' | sort)"
}

@test "makefile: an environment where a target belongs: exit 2, nothing is begun" {
  refused deploy staging
  has "staging: no such target; nothing was done; is ENV=staging meant?" "$stderr"
  KEEL_ENV=production refused deploy staging
  refused -n staging status
  refused deploi
  has "deploi: no such target; nothing was done; \`make\` lists them" "$stderr"
}

@test "makefile: ENV in other letters: exit 2, nothing is begun" {
  local name
  for name in env Env environment Environment; do
    refused deploy $name=staging
    has "$name=staging: the environment is named by ENV; nothing was done; is ENV=staging meant?" "$stderr"
  done
  env=staging environment=staging make status # a shell's own
  printf 'release:\n\t$(MAKE) -f %s status ENV=$(env)\n' "$PWD/Makefile" >Outer # what a make above was given, where ENV is given too
  make -f Outer release env=staging
  is began "$(cat began)" "status development
status staging"
}

@test "makefile: an empty ENV=: exit 2 says that" {
  refused deploy ENV=
  has "ENV= is empty; nothing was done; environments: development production staging" "$stderr"
}
