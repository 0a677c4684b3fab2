# shellcheck shell=bash
# A container registry of a test's own: `a_registry` in the test, `no_registry` in its teardown.

# a_registry: a real, empty one at $at: Debian's where set-up fetched it, otherwise the image that everybody runs.
a_registry() {
  local folder=$BATS_TEST_TMPDIR/registry
  at=127.0.0.1:$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  if command -v docker-registry >/dev/null; then
    mkdir -p "$folder"
    printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "%s"}\n' "$folder" "$at" \
      >"$folder.yml"
    docker-registry serve "$folder.yml" >"$folder.log" 2>&1 3>&- &
    registry=$!
  else
    container=$(docker run -d -p "$at:5000" registry:2)
  fi
  "$TREE/.venv/bin/python" - "$at" <<'END'
import sys, time, requests
end = time.monotonic() + 30
while True:
    try:
        sys.exit(0 if requests.get(f"http://{sys.argv[1]}/v2/", timeout=5).ok else 1)
    except requests.ConnectionError:
        if time.monotonic() > end:
            raise
        time.sleep(0.05)
END
}

no_registry() {
  [ -z "${registry:-}" ] || kill "$registry" 2>/dev/null || true
  [ -z "${container:-}" ] || docker rm -f -v "$container" >/dev/null
}
