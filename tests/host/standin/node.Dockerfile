# Stand-in for node:24-alpine: Node 24 from Debian, npm from the npm registry.
FROM keel-standin/base:forky
RUN --mount=type=cache,id=forky,target=/var/lib/apt/lists,sharing=locked --mount=type=cache,target=/var/cache/apt,sharing=locked \
    apt-get update -qq && apt-get install -qq -y --no-install-recommends nodejs >/dev/null && \
    groupadd -g 1000 node && useradd -u 1000 -g node -m -s /bin/sh node
RUN --mount=type=bind,from=files,target=/files \
    mkdir -p /usr/local/lib/node_modules/npm && \
    tar -xzf /files/npm.tgz -C /usr/local/lib/node_modules/npm --strip-components=1 --no-same-owner && \
    rm -rf /usr/local/lib/node_modules/npm/docs /usr/local/lib/node_modules/npm/man && \
    cp /files/npmrc /usr/local/lib/node_modules/npm/npmrc && \
    ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && \
    ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
COPY --chmod=0755 node-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
# Programs that npm starts reach the registry through the host's certificates too.
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["node"]
