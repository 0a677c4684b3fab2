"""What to do where no engine answers: start the one that was there; a trial's, empty, is for where there was none."""
import contextlib
import os
from pathlib import Path

from keel import settings
from keel.stop import Stop

TRIAL = "unix:///run/evenkeel-engine/docker.sock"  # what tests/host/engine starts
SIGNS = ("run/docker.sock", "var/run/docker.sock", "etc/docker", "var/lib/docker",
         *(f"{folder}/systemd/system/docker.service" for folder in ("etc", "lib", "usr/lib")))


def advice(top: Path = Path("/")) -> str:
    """What to type, by what this host shows of an engine; `top` is its root folder."""
    host = os.environ.get("DOCKER_HOST", "")
    if host == TRIAL:
        return "`make setup` starts it again, on its data"
    if host:
        return f"start it, or set DOCKER_HOST (now {host})"
    if any((top / sign).exists() for sign in SIGNS) or has_served():
        return "systemctl start docker" if (top / "run/systemd/system").is_dir() else "service docker start"
    return "install Docker Engine; for a trial `make setup` starts one"


def has_served() -> bool:
    """Whether this environment has a history, so that there was an engine; where the settings do not say, it has none."""
    with contextlib.suppress(Stop):
        return (settings.gather().state / "history").exists()
    return False
