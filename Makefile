# Every operation, one line each. `make` lists them; `make -n deploy` shows a whole deploy without doing it.
SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS   += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
.DEFAULT_GOAL := help
# An interactive sh treats ENV as a file to read: commands get KEEL_ENV instead.
unexport ENV

ifeq ($(ENV),)
ENV         := $(or $(KEEL_ENV),development)
endif
IMAGE       ?=
WHAT        ?=
BACKUP      ?=
TO          ?=
CONFIRM     ?=
export KEEL_ENV := $(ENV)
# .venv/bin too, so that no command has to find its way there by a second start.
export PATH := $(CURDIR)/bin:$(CURDIR)/.venv/bin:$(PATH)
envfile     := compose/$(ENV).env
secrets     := secrets/$(ENV).env
pip_lock    := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
known       := $(patsubst compose/%.env,%,$(filter-out compose/example.env compose/images.env,$(wildcard compose/*.env)))
image       := $(if $(IMAGE),pull-image $(IMAGE),build-image)
# What runs at night (docs/schedule.md) ends with the metrics, whether it went well or not; a failure of the job keeps its own code. The
# shell outlives a job that is told to end: systemd takes the end of make for the end of all, and tells whoever still cleans up again.
at_the_end  := trap : INT TERM HUP; trap 'code=$$?; backup-metrics >/dev/null || exit $$((code ? code : $$?))' EXIT

targets     := help setup secrets cert demo up deploy reload rollback status releases logs down destroy doctor env-check maintenance-on \
               maintenance-off backup backup-only restore-verify drill prune backups backup-keys backup-prune backup-metrics restore \
               prune-images pin-images dev lint test test-load bench bench-backup lock
# Before anything is begun: of `make deploy staging` make would run the deploy, of another environment, and only then ask for `staging`.
unknown     := $(filter-out $(targets) .venv/done .venv/dev,$(MAKECMDGOALS))
ifneq ($(unknown),)
meant       := $(firstword $(filter $(known),$(unknown)))
$(error $(unknown): no such target; nothing was done; $(if $(meant),is ENV=$(meant) meant?,`make` lists them))
endif
# Typed to make, that is: a shell may well have a variable `env` of its own.
misspelt    := $(firstword $(foreach name,env Env environment Environment,$(if $(filter command,$(origin $(name))),$(name))))
ifneq ($(if $(filter command,$(origin ENV)),,$(misspelt)),)
$(error $(misspelt)=$($(misspelt)): the environment is named by ENV; nothing was done; is ENV=$($(misspelt)) meant?)
endif
ifeq ($(strip $(ENV)),)
$(error ENV= is empty; nothing was done; environments: $(known))
endif

.PHONY: $(targets)

help: ## List the targets
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/done ## Prepare this machine: Python packages, an engine where none answers, images where no registry does
	tests/host/engine start >/dev/null && tests/host/images

demo: setup ## Bring up a real platform, deploy over itself under load, show what failed
	.venv/bin/python examples/demo.py

up: $(envfile) ## Start PostgreSQL, Redis and the proxy
	start-base

deploy: $(envfile) ## Build (or take IMAGE=NAME@sha256:…), migrate, start, wait, try, switch
	with-lock --pipe deploy '$(image) | migrate | start-release | health-wait | smoke-test | swap-upstream'

reload: $(envfile) ## Put changed settings or a new certificate into force
	reload-proxy

rollback: $(envfile) ## Switch back to the standby, at once
	rollback

status: $(envfile) ## Who serves, and do traffic file, proxy and engine agree
	@status

releases: $(envfile) ## The releases, newest first
	@releases

logs: $(envfile) ## The last lines of what serves, or of WHAT=proxy|postgres|redis|RELEASE
	@logs $(WHAT)

down: $(envfile) ## Stop everything; data stays
	stop-base

destroy: $(envfile) ## Stop everything and delete its data; asks
	@stop-base --ask

maintenance-on: $(envfile) ## Show the maintenance page
	maintenance on

maintenance-off: $(envfile) ## Take the maintenance page away
	maintenance off

doctor: $(envfile) ## What is wrong with this host
	@doctor

env-check: $(envfile) ## What is wrong with the settings, all at once
	@env-check

secrets: $(envfile) ## Write secrets/ENV.env with random passwords (never over existing ones)
	make-secrets

cert: $(envfile) ## Write a certificate of a local authority (development, tests)
	dev-cert

backup: $(envfile) ## Back up PostgreSQL, Redis and files, and restore that beside everything
	$(at_the_end); with-report backup -- \
		with-lock --backups --pipe backup 'pg-backup --restored-here | redis-backup | files-backup | restore-verify'

backup-only: $(envfile) ## The same on a server that must not be able to open its backups; another host runs restore-verify
	$(at_the_end); with-report backup -- \
		with-lock --backups --pipe backup 'pg-backup | redis-backup | files-backup'

restore-verify: $(envfile) ## Restore the newest backup of each kind beside everything, and compare
	$(at_the_end); \
		with-report restore-verify -- restore-verify --newest

drill: $(envfile) ## The same at the highest level, and of each kind three older ones in their turn, as a rehearsal of the day it is needed
	$(at_the_end); with-report drill -- restore-verify --newest --older 3 --level 5

prune: $(envfile) ## Delete the backups that no rule keeps
	$(at_the_end); with-report prune -- backup-prune --confirm

backups: $(envfile) ## The backups, newest first: restored or not, and where
	@backups

backup-keys: $(envfile) ## Who can open backups and who signs them, and which identities are still needed
	@backup-keys list && backup-keys needed

backup-prune: $(envfile) ## Which backups would go, and why; make prune deletes them
	@backup-prune

restore: $(envfile) ## Bring BACKUP= back to TO= (a database); CONFIRM= is its name again, where it holds something
	restore "$${BACKUP:-}" --to "$${TO:-}" --confirm "$${CONFIRM:-}"

backup-metrics: $(envfile) ## What the stores of backups hold, for Prometheus
	@backup-metrics

prune-images: $(envfile) ## Remove the images of earlier releases
	prune-images

pin-images: ## Resolve the digests of compose/images.env at the registry
	pin-images

dev: $(envfile) setup ## The application with bind mounts and hot reload on 127.0.0.1:3000
	start-base && start-dev

lint: .venv/dev ## ruff, mypy, shellcheck, hadolint, compose config
	@tests/lint

test: .venv/dev ## Everything that proves it, in a shorter form; starts an engine where none answers and stops it again
	@tests/run

test-load: .venv/dev ## The long form of the zero-failed-requests scenario: 800,000 requests
	@KEEL_LOAD=full tests/run scenarios/test_zero_failed.py

bench: .venv/dev ## The figures, as medians and ratios, in var/bench/
	@tests/run bench

bench-backup: .venv/dev ## The figures of backups, on 1 GB, beside pg_dump, age and aws
	@tests/run bench-backup

lock: .venv/dev ## Lock the Python packages again, with hashes
	$(pip_lock) requirements.in -o requirements.lock && $(pip_lock) requirements-dev.in -o requirements-dev.lock

$(filter-out $(wildcard compose/*.env),$(envfile)):
	@echo "make: ENV=$(ENV): there is no $@; environments: $(known)" >&2; exit 78

.venv/done: requirements.lock
	@tests/host/venv .venv requirements.lock && touch $@

.venv/dev: requirements-dev.lock .venv/done
	@tests/host/venv .venv requirements-dev.lock && touch $@
