# Stand-in for redis:8-alpine.
FROM keel-standin/base:trixie
RUN --mount=type=cache,id=trixie,target=/var/lib/apt/lists,sharing=locked --mount=type=cache,target=/var/cache/apt,sharing=locked \
    groupadd -g 1000 redis && useradd -u 999 -g redis -d /data -s /usr/sbin/nologin redis && \
    apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-server redis-tools >/dev/null && \
    rm -rf /etc/redis /var/lib/redis && install -d -o redis -g redis /data
COPY --chmod=0755 redis-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
VOLUME /data
WORKDIR /data
EXPOSE 6379
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["redis-server"]
