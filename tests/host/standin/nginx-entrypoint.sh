#!/bin/sh
# What lies in /docker-entrypoint.d runs before nginx.
set -e
if [ "$1" = nginx ]; then
    for file in /docker-entrypoint.d/*; do
        # shellcheck disable=SC1090 # whatever was put there
        case $file in
            *.envsh) if [ -x "$file" ]; then . "$file"; fi ;;
            *.sh) if [ -x "$file" ]; then "$file"; fi ;;
        esac
    done
fi
exec "$@"
