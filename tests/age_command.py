"""The age command, the other side of our own age files: from PATH, or from Debian's package without being installed.

    python tests/age_command.py     prints where it is
"""
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "var" / "tests" / "tools"
# lib.sh's own folder for package lists is left alone: a set-up may be using it.
FETCH = """
set -euo pipefail
. "$1/tests/host/lib.sh"
HOST_DIR=$2/packages
mkdir -p "$HOST_DIR"
apt_update "$(codename)"
unpack "$2/files" age
mv "$2/files" "$3"
"""


def program() -> str:
    """Where it is. Raises AssertionError where it cannot be had."""
    found = shutil.which("age")
    if found:
        return found
    kept = TOOLS / "age"
    if not kept.exists():
        assert shutil.which("apt-get"), "no age, and no Debian to fetch it from"
        new = TOOLS / "age.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        done = subprocess.run(["bash", "-c", FETCH, "bash", str(ROOT), str(new), str(kept)], check=False, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)
        shutil.rmtree(new)
        assert done.returncode == 0, f"age cannot be fetched: {done.stderr}"
    return str(kept / "usr/bin/age")


if __name__ == "__main__":
    print(program())
