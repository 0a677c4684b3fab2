#!/usr/bin/env bash
# Without a configuration file of yours one is written from DATABASE_URL or DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME, and
# from any of the settings listed below under their own names in capitals.
set -euo pipefail

dir=/etc/pgbouncer
settings=(listen_addr listen_port auth_type auth_user auth_query pool_mode max_client_conn default_pool_size min_pool_size
    reserve_pool_size reserve_pool_timeout max_db_connections max_prepared_statements server_reset_query server_idle_timeout
    server_lifetime query_wait_timeout ignore_startup_parameters admin_users stats_users client_tls_sslmode server_tls_sslmode
    log_connections log_disconnections)

if [ ! -e "$dir/pgbouncer.ini" ]; then
    if [[ ${DATABASE_URL:-} =~ ^postgres(ql)?://([^:@/]+)(:([^@]*))?@([^:/]+)(:([0-9]+))?/([^?]+) ]]; then
        DB_USER=${BASH_REMATCH[2]} DB_PASSWORD=${BASH_REMATCH[4]} DB_HOST=${BASH_REMATCH[5]} DB_PORT=${BASH_REMATCH[7]}
        DB_NAME=${BASH_REMATCH[8]}
    fi
    if [ ! -e "$dir/userlist.txt" ] && [ -n "${DB_PASSWORD:-}" ]; then
        (umask 0077 && printf '"%s" "%s"\n' "${DB_USER:-postgres}" "$DB_PASSWORD" >"$dir/userlist.txt")
    fi
    LISTEN_ADDR=${LISTEN_ADDR:-0.0.0.0} LISTEN_PORT=${LISTEN_PORT:-5432} AUTH_TYPE=${AUTH_TYPE:-scram-sha-256}
    {
        printf '[databases]\n%s = host=%s port=%s auth_user=%s\n' "${DB_NAME:-*}" "${DB_HOST:?}" "${DB_PORT:-5432}" "${DB_USER:-postgres}"
        printf '[pgbouncer]\nunix_socket_dir =\nuser = postgres\nauth_file = %s/userlist.txt\n' "$dir"
        for name in "${settings[@]}"; do
            value=${name^^}
            if [ -n "${!value:-}" ]; then printf '%s = %s\n' "$name" "${!value}"; fi
        done
    } >"$dir/pgbouncer.ini"
fi
exec "$@"
