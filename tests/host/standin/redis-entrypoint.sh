#!/bin/sh
# An option or a configuration file is for redis-server, which never runs as root.
set -e
case $1 in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        find . \! -user redis -exec chown redis {} +
        exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
    fi
    umask 0077
    # Behind a container's network protected mode would refuse every client, as the official image knows too.
    case " $* " in *protected-mode*) ;; *) set -- "$@" --protected-mode no ;; esac
fi
exec "$@"
