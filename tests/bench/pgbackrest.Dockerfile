# pgBackRest beside the image that the server runs: the same release, the same user ids. An image of Alpine takes Alpine's package.
ARG IMAGE
FROM ${IMAGE}
USER root
RUN --mount=type=cache,id=trixie,target=/var/lib/apt/lists,sharing=locked --mount=type=cache,target=/var/cache/apt,sharing=locked \
    if command -v apt-get >/dev/null; then \
        apt-get update -qq && apt-get install -qq -y --no-install-recommends pgbackrest >/dev/null; \
    else \
        apk add --no-cache pgbackrest; \
    fi
USER postgres
ENTRYPOINT ["sleep", "infinity"]
