"""An engine that restarts, as after a reboot: everything comes back with the same release serving."""
import subprocess

import pytest

from scenarios import images
from scenarios.machine import ROOT, engine, environ, until
from scenarios.platform import Platform, made

pytestmark = pytest.mark.timeout(300)
ENGINE = str(ROOT / "tests" / "host" / "engine")


def ours() -> str:
    """Why the engine must not be restarted, or ''."""
    said = subprocess.run([ENGINE, "status"], check=False, capture_output=True, text=True).stdout
    if "started from this checkout" not in said:
        return f"the engine is not ours to restart: {said.strip()}"
    others = [c.name for c in engine().containers.list() if c.labels.get("keel.env") not in made]
    return f"others use the engine: {', '.join(others)}" if others else ""


def test_an_engine_restarts(platform: Platform) -> None:
    if why := ours():
        pytest.skip(why)
    platform.set(KEEL_REPLICAS="2")
    platform.deploy(images.other()).well()
    before, serving = platform.traffic(), platform.serving()
    known, events = {c.id for c in platform.containers()}, platform.get("/events").json()
    with platform.load() as load:  # the control: nobody can serve without an engine, and the load must see that
        load.until(lambda now: now.ok() > 20)
        subprocess.run([ENGINE, "stop"], check=True, capture_output=True)
        load.until(lambda now: now.failed() > 0)
        subprocess.run([ENGINE, "start"], check=True, capture_output=True, env=environ(DOCKER_HOST=""))
        until(lambda: platform.run(["status"]).code == 0, 90)  # which asks every replica whether it is ready
        seen = load.now.ok()
        load.until(lambda now: now.ok() > seen + 20)
        load.stop()
    assert platform.traffic() == before and {c.id for c in platform.containers()} == known
    assert platform.get("/version").json()["release"] == serving and platform.get("/events").json() == events
    with platform.unharmed():
        platform.run(["rollback"]).well()  # the standby came back too
        platform.deploy(images.good()).well()
