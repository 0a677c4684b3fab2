# Stand-in for edoburu/pgbouncer: same user id, port and variables.
FROM keel-standin/base:trixie
RUN --mount=type=cache,id=trixie,target=/var/lib/apt/lists,sharing=locked --mount=type=cache,target=/var/cache/apt,sharing=locked \
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d && \
    groupadd -g 70 postgres && useradd -u 70 -g postgres -d /var/lib/postgresql -s /bin/sh postgres && \
    apt-get update -qq && apt-get install -qq -y --no-install-recommends pgbouncer postgresql-client-17 >/dev/null && \
    ln -s /usr/sbin/pgbouncer /usr/bin/pgbouncer && rm -rf /etc/pgbouncer && \
    install -d -o postgres -g postgres /etc/pgbouncer /var/log/pgbouncer /var/run/pgbouncer
COPY --chmod=0755 pgbouncer-entrypoint.sh /entrypoint.sh
USER postgres
EXPOSE 5432
ENTRYPOINT ["/entrypoint.sh"]
CMD ["/usr/bin/pgbouncer", "/etc/pgbouncer/pgbouncer.ini"]
