#!/usr/bin/env bash
# The official image's contract: an empty data folder is initialised from POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB (each also
# as …_FILE), POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD and /docker-entrypoint-initdb.d; then the command is run as postgres.
set -euo pipefail

from_file() { # NAME DEFAULT
    local file=$1_FILE
    if [ -n "${!1:-}" ] && [ -n "${!file:-}" ]; then
        echo "error: both $1 and $file are set" >&2
        exit 1
    fi
    if [ -n "${!file:-}" ]; then export "$1=$(<"${!file}")"; else export "$1=${!1:-$2}"; fi
    unset "$file"
}

initialise() {
    if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
        echo "error: the database is not initialised and POSTGRES_PASSWORD is empty" >&2
        exit 1
    fi
    # POSTGRES_INITDB_ARGS is a list of words
    # shellcheck disable=SC2086
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD:-trusted}") ${POSTGRES_INITDB_ARGS:-}
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -p 5432" -w start
    local -x PGUSER=$POSTGRES_USER PGPASSWORD=$POSTGRES_PASSWORD PGHOST='' PGHOSTADDR=''
    if [ "$POSTGRES_DB" != postgres ]; then
        psql -v ON_ERROR_STOP=1 --no-password --no-psqlrc -d postgres -v db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
    fi
    local file sql=(psql -v ON_ERROR_STOP=1 --no-password --no-psqlrc -d "$POSTGRES_DB")
    for file in /docker-entrypoint-initdb.d/*; do
        # shellcheck disable=SC1090 # whatever was put there
        case $file in
            *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
            *.sql) "${sql[@]}" -f "$file" ;;
            *.sql.gz) gunzip -c "$file" | "${sql[@]}" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
}

if [ "${1:0:1}" = - ]; then set -- postgres "$@"; fi
if [ "$1" = postgres ] && [[ " $* " != *" --help "* && " $* " != *" --version "* && " $* " != *" -V "* ]]; then
    mkdir -p "$PGDATA"
    if [ "$(id -u)" = 0 ]; then
        find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres {} +
        chmod 0700 "$PGDATA"
        exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
    fi
    chmod 0700 "$PGDATA" 2>/dev/null || true # a folder of another owner: postgres itself says what it thinks of it
    from_file POSTGRES_PASSWORD ''
    from_file POSTGRES_USER postgres
    from_file POSTGRES_DB "$POSTGRES_USER"
    from_file POSTGRES_INITDB_ARGS ''
    [ -s "$PGDATA/PG_VERSION" ] || initialise
fi
exec "$@"
