# Stand-in for nginx:1.30-alpine, with the brotli module that Debian packages.
FROM keel-standin/base:forky
RUN --mount=type=cache,id=forky,target=/var/lib/apt/lists,sharing=locked --mount=type=cache,target=/var/cache/apt,sharing=locked \
    groupadd -g 101 nginx && useradd -u 101 -g nginx -d /nonexistent -s /usr/sbin/nologin nginx && \
    apt-get update -qq && \
    apt-get install -qq -y --no-install-recommends nginx libnginx-mod-http-brotli-filter libnginx-mod-http-brotli-static >/dev/null && \
    rm -rf /etc/nginx/sites-* /etc/nginx/snippets /etc/nginx/modules-* /etc/nginx/conf.d /var/www /docker-entrypoint.d && \
    ln -s /usr/lib/nginx/modules /etc/nginx/modules && \
    mkdir -p /etc/nginx/conf.d /docker-entrypoint.d /usr/share/nginx/html /var/cache/nginx && \
    echo '<!DOCTYPE html><title>nginx</title><p>nginx answers' >/usr/share/nginx/html/index.html && \
    chown nginx:nginx /var/cache/nginx && \
    ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log
COPY nginx.conf /etc/nginx/nginx.conf
COPY nginx-default.conf /etc/nginx/conf.d/default.conf
COPY --chmod=0755 nginx-entrypoint.sh /docker-entrypoint.sh
EXPOSE 80
STOPSIGNAL SIGQUIT
ENTRYPOINT ["/docker-entrypoint.sh"]
CMD ["nginx", "-g", "daemon off;"]
