"""Programs of Debian's packages, unpacked into var/bench/tools and not installed."""
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = ROOT / "var" / "bench" / "tools"
# The engine's release, newer than this machine's may be. lib.sh's own folder for package lists is left alone: a set-up may be using it.
FETCH = """
set -euo pipefail
. "$1/tests/host/lib.sh"
HOST_DIR=$2/packages
mkdir -p "$HOST_DIR"
apt_update "$KIT_SUITE"
unpack "$2/files" "$3/$KIT_SUITE"
mv "$2/files" "$4"
"""


def program(package: str) -> str:
    """Where usr/bin/PACKAGE of that package is; on another system the one on PATH. Raises AssertionError where it cannot be had."""
    kept = TOOLS / package
    if not kept.exists():
        if not shutil.which("apt-get"):
            found = shutil.which(package)
            assert found, f"no {package}, and no Debian to fetch it from"
            return found
        new = TOOLS / f"{package}.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        done = subprocess.run(["bash", "-c", FETCH, "bash", str(ROOT), str(new), package, str(kept)], check=False, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL)
        shutil.rmtree(new)
        assert done.returncode == 0, f"{package} cannot be fetched: {done.stderr}"
    return str(kept / "usr" / "bin" / package)
