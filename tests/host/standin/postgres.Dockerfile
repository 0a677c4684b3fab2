# Stand-in for postgres:17-alpine: same user ids, variables, folders and initialisation.
FROM keel-standin/base:trixie
# The JIT compiler and its 130 MB of LLVM are left out: PostgreSQL does without where they are missing.
RUN --mount=type=cache,id=trixie,target=/var/lib/apt/lists,sharing=locked --mount=type=cache,target=/var/cache/apt,sharing=locked \
    printf 'path-exclude=/usr/lib/*/libLLVM*\npath-exclude=/usr/lib/llvm-*\npath-exclude=*/llvmjit*\npath-exclude=*/bitcode/*\n' \
        >/etc/dpkg/dpkg.cfg.d/no-jit && \
    mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf && \
    groupadd -g 70 postgres && useradd -u 70 -g postgres -d /var/lib/postgresql -s /bin/sh postgres && \
    apt-get update -qq && apt-get install -qq -y --no-install-recommends postgresql-17 >/dev/null && \
    sed -i "s/^#listen_addresses = 'localhost'/listen_addresses = '*'/" /usr/share/postgresql/17/postgresql.conf.sample && \
    install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data && \
    install -d -o postgres -g postgres -m 3777 /var/run/postgresql && mkdir /docker-entrypoint-initdb.d
COPY --chmod=0755 postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PGDATA=/var/lib/postgresql/data PG_MAJOR=17 LANG=C.UTF-8
VOLUME /var/lib/postgresql/data
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
