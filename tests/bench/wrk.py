"""wrk, the client that saturates: taken from PATH, or from Debian's package without being installed."""
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from scenarios.machine import ROOT, environ

TOOLS = ROOT / "var" / "bench" / "tools"
SCRIPT = Path(__file__).with_name("wrk.lua")
# lib.sh's own folder for package lists is left alone: a set-up may be using it.
FETCH = """
set -euo pipefail
. "$1/tests/host/lib.sh"
HOST_DIR=$2/packages
mkdir -p "$HOST_DIR"
apt_update "$(codename)"
unpack "$2/new" wrk libluajit-5.1-2
rm -rf "$HOST_DIR"
mv "$2/new" "$2/wrk"
"""
CONNECTIONS = 32


def program() -> tuple[str, dict[str, str]]:
    """Where it is, and its environment. Raises AssertionError where it cannot be had."""
    found = shutil.which("wrk")
    if found:
        return found, environ()
    if not (TOOLS / "wrk").exists():
        assert (ROOT / "tests/host/lib.sh").exists() and shutil.which("apt-get"), "no wrk, and no Debian to fetch it from"
        TOOLS.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(TOOLS / "new", ignore_errors=True)
        done = subprocess.run(["bash", "-c", FETCH, "bash", str(ROOT), str(TOOLS)], check=False, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"wrk cannot be fetched: {done.stderr}"
    libraries = next((TOOLS / "wrk").rglob("libluajit-5.1.so.2")).parent
    return str(TOOLS / "wrk/usr/bin/wrk"), environ(LD_LIBRARY_PATH=str(libraries))


def run(port: int, host: str, seconds: float, path: str = "/version") -> dict[str, Any]:
    """Saturate https://127.0.0.1:PORT for a while: requests, seconds, p50_ms, p99_ms. Raises AssertionError for any error."""
    wrk, env = program()
    argv = [wrk, "--threads=1", f"--connections={CONNECTIONS}", f"--duration={max(1, round(seconds))}s", "--timeout=10s",
            f"--header=Host: {host}", f"--script={SCRIPT}", f"https://127.0.0.1:{port}{path}"]
    done = subprocess.run(argv, check=False, env=env, capture_output=True, text=True, timeout=seconds + 60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}"
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert said["errors"] == 0 and said["requests"] > 0, done.stdout
    return said


assert os.access(SCRIPT, os.R_OK)
