"""Programs that the tests need and a bare machine has not: taken from Debian's packages without being installed."""
import fcntl
import os
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from shlex import quote

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "var" / "tests" / "tools"
PACKAGES = {"age": ["age"], "jq": ["jq", "libjq1", "libonig5"], "zstd": ["zstd"],
            "wrk": ["wrk", "libluajit-5.1-2"]}  # each with what Debian's smallest system lacks
# lib.sh's own folder for package lists is left alone: a set-up may be using it.
FETCH = """
set -euo pipefail
. "$1/tests/host/lib.sh"
HOST_DIR=$2/packages
mkdir -p "$HOST_DIR"
apt_update "$(codename)"
unpack "$2/files" "${@:4}"
mv "$2/files" "$3"
"""


class Missing(Exception):
    """There is no such program, and it cannot be had; says which, and why."""


def folder(names: Collection[str]) -> Path:
    """A folder for the end of PATH, with those of the programs that this machine lacks. Raises as fetched."""
    found = TOOLS / "bin"
    found.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not shutil.which(name):
            new = found / f".{name}.{os.getpid()}"
            new.write_text(_start(fetched(name), name))
            new.chmod(0o755)
            new.rename(found / name)
    return found


def fetched(name: str) -> Path:
    """The folder of its unpacked packages. Raises Missing where they cannot be had."""
    kept, new = TOOLS / name, TOOLS / f"{name}.new"
    TOOLS.mkdir(parents=True, exist_ok=True)
    with open(TOOLS / "lock", "w") as lock:  # of two at once the second finds what the first fetched
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists():
            return kept
        if not shutil.which("apt-get"):
            raise Missing(f"there is no {name}, and no Debian to fetch it from: install it")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        done = subprocess.run(["bash", "-c", FETCH, "bash", str(ROOT), str(new), str(kept), *PACKAGES[name]], check=False,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL)
        shutil.rmtree(new)
        if done.returncode:
            raise Missing(f"there is no {name}, and it cannot be fetched: {done.stderr.strip()}")
    return kept


def _start(kept: Path, name: str) -> str:
    """A script that tells a program where its libraries are: it would look for them in the system."""
    libraries = ":".join(sorted({str(file.parent) for file in kept.glob("usr/lib/**/*.so.*")}))
    return f"#!/bin/sh\nLD_LIBRARY_PATH={quote(libraries)} exec {quote(str(kept / 'usr/bin' / name))} \"$@\"\n"
