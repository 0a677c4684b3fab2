# Stand-in for caddy:2-alpine: the static program from a wheel. As in the official image it may bind ports below 1024, which
# means that a container that drops every capability must add NET_BIND_SERVICE, or the kernel refuses to start it.
FROM keel-standin/base:trixie
RUN --mount=type=cache,id=trixie,target=/var/lib/apt/lists,sharing=locked --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=bind,from=files,target=/files \
    apt-get update -qq && apt-get install -qq -y --no-install-recommends libcap2-bin >/dev/null && \
    install -m 0755 /files/caddy /usr/bin/caddy && setcap cap_net_bind_service=+ep /usr/bin/caddy && \
    mkdir -p /config/caddy /data/caddy /etc/caddy /usr/share/caddy /srv && \
    printf ':80 {\n\troot * /usr/share/caddy\n\tfile_server\n}\n' >/etc/caddy/Caddyfile && \
    echo '<!DOCTYPE html><title>Caddy</title><p>Caddy answers' >/usr/share/caddy/index.html
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
WORKDIR /srv
EXPOSE 80 443 443/udp 2019
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
