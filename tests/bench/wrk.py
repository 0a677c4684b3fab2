"""wrk, the client that saturates: taken from PATH, or from Debian's package without being installed."""
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import borrowed
from scenarios.machine import environ

SCRIPT = Path(__file__).with_name("wrk.lua")
CONNECTIONS = 32


def program() -> str:
    """Where it is. Raises borrowed.Missing where it cannot be had."""
    return shutil.which("wrk") or str(borrowed.folder(["wrk"]) / "wrk")


def run(port: int, host: str, seconds: float, path: str = "/version") -> dict[str, Any]:
    """Saturate https://127.0.0.1:PORT for a while: requests, seconds, p50_ms, p99_ms. Raises AssertionError for any error."""
    argv = [program(), "--threads=1", f"--connections={CONNECTIONS}", f"--duration={max(1, round(seconds))}s", "--timeout=10s",
            f"--header=Host: {host}", f"--script={SCRIPT}", f"https://127.0.0.1:{port}{path}"]
    done = subprocess.run(argv, check=False, env=environ(), capture_output=True, text=True, timeout=seconds + 60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}"
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert said["errors"] == 0 and said["requests"] > 0, done.stdout
    return said


assert os.access(SCRIPT, os.R_OK)
