"""make demo, as a user starts it, but in an environment of its own: it ends well, and tells the account of every request."""
import re
import shutil

import pytest

from scenarios.conftest import SHORT
from scenarios.machine import ROOT
from scenarios.platform import Platform


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("running")  # removes the images
def test_a_deploy_and_a_rollback_under_load() -> None:
    with Platform("nginx", **SHORT, KEEL_RATE_LIMIT="100000") as platform:
        for name in ("examples", "tests"):
            shutil.copytree(ROOT / name, platform.root / name, ignore=shutil.ignore_patterns("node_modules", "dist", "__pycache__"))
        done = platform.run([".venv/bin/python", "examples/demo.py", platform.name], seconds=300).well()
        requests, failed, lost = map(int, re.findall(r"(\d+) requests, (\d+) failed, (\d+) registrations lost or doubled", done.stdout)[0])
        assert requests > 1500 and failed == lost == 0, str(done)
        assert f"the platform runs at https://{platform.domain}:{platform.port}" in done.stdout and "rollback, under load" in done.stdout
        first, second = sorted(s.release for s in platform.traffic().shares)
        assert platform.serving() == first and platform.get("/version").json()["release"] == first != second
