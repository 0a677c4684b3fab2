"""A sick release never sees traffic: whatever is wrong with it, the deploy stops, says why, and the release that serves goes on."""
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from scenarios import images
from scenarios.platform import Platform

pytestmark = pytest.mark.timeout(240)
COMMANDS = ("pull-image", "migrate", "start-release", "health-wait", "smoke-test", "swap-upstream")
# A smoke test that ends well once the engine says that the containers of the release are dead.
UNTIL_DEAD = """#!/bin/sh
exec docker wait $(docker ps --all --quiet --filter "label=keel.release=$KEEL_RELEASE") >/dev/null
"""


@dataclass(frozen=True)
class Sick:
    """What is wrong, which command must find it, and what it must say."""

    found_by: str
    says: str  # a regular expression
    settings: dict[str, str] = field(default_factory=dict)
    image: Callable[[], str] = images.other
    words: bool = False  # whether the container's last words are to be shown
    smoke: str = ""
    mended: bool = False  # whether the scenario ends with a good deploy; the others leave that to the next sick one


SICK = {
    "exits-at-start": Sick("health-wait", "exit code 1", {"FAULT": "exit-at-start"}, words=True),
    "never-ready": Sick("health-wait", "not healthy: .*503", {"FAULT": "never-ready", "KEEL_HEALTH_TIMEOUT": "5s"}, words=True,
                        mended=True),
    "wrong-port": Sick("health-wait", "connection refused", {"FAULT": "wrong-port", "KEEL_HEALTH_TIMEOUT": "5s"}, words=True),
    "dies-while-waited-for": Sick("health-wait", "exit code 1", {"FAULT": "ready-then-die", "KEEL_HEALTH_PASSES": "999"}, words=True),
    "dies-before-the-switch": Sick("swap-upstream", "not running", {"FAULT": "ready-then-die", "KEEL_HEALTH_PASSES": "1"}, words=True,
                                   smoke=UNTIL_DEAD, mended=True),
    "smoke-test-fails": Sick("smoke-test", "/events answered 500", {"FAULT": "bad-smoke"}, words=True),
    "migration-fails": Sick("migrate", "its migrations failed", {"FAULT": "migration-fails"}),
    "no-health-check": Sick("migrate", "has no HEALTHCHECK", image=images.unchecked),
    "health-check-none": Sick("migrate", "has no HEALTHCHECK", image=images.switched_off),
    "disk-nearly-full": Sick("migrate", "not enough disk for the .* MiB free", {"KEEL_MIN_FREE_DISK": "999999t"}),
    "no-such-image": Sick("pull-image", "cannot be pulled", image=lambda: f"{images.NAME}@sha256:{'0' * 64}"),
}
CADDY = ("exits-at-start", "dies-before-the-switch", "smoke-test-fails")


@pytest.mark.parametrize(("proxy", "name"), [*(("nginx", name) for name in SICK), *(("caddy", name) for name in CADDY)])
def test_never_sees_traffic(running: Callable[[str], Platform], proxy: str, name: str) -> None:
    platform = running(proxy)  # with what the sick release before has left: it does not matter
    sick, file, serving = SICK[name], platform.traffic_file.read_text(), platform.serving()
    image = sick.image()
    settings = dict(sick.settings)
    if sick.smoke:
        settings["KEEL_SMOKE_COMMAND"] = script(platform, sick.smoke)
    platform.set(**settings)
    with platform.unharmed() as load:
        done = platform.deploy(image)
    at = COMMANDS.index(sick.found_by)
    code = 69 if name == "no-such-image" and done.codes[sick.found_by] == 69 else 1  # 69: no registry to ask
    assert done.code == code  # the pipe's own: not the 66 of those after it
    assert tuple(done.codes.values()) == (0,) * at + (code,) + (66,) * (len(COMMANDS) - at - 1), str(done)
    assert re.search(sick.says, done.stderr), str(done)
    assert bool(re.search(r"last \d+ lines of keel-.*\n.*  \| ", done.stderr)) == sick.words, str(done)

    # the old release serves, alone, and nothing has touched what says so
    assert load.account and set(load.account.releases) <= {serving, ""}, load.account.table()
    assert platform.traffic_file.read_text() == file

    # status explains what is left of it, and the next deploy replaces that
    left = {str(c.labels["keel.release"]) for c in platform.containers()} - {s.release for s in platform.traffic().shares}
    status, said = platform.status()
    assert status == (1 if said["problems"] else 0) and len(left) <= 1, said
    for release in left:
        assert any(release in problem and "make deploy" in problem for problem in said["problems"]), said
    if sick.mended:
        platform.set()
        with platform.unharmed():
            platform.deploy(images.good()).well()
        assert platform.serving() not in left | {serving} and platform.status()[0] == 0
        assert left and not left & {c.labels["keel.release"] for c in platform.containers()}


def script(platform: Platform, text: str) -> str:
    """A program in the platform's scratch folder; its path."""
    path = platform.root / "smoke"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("platform", ["nginx"], indirect=True)
def test_a_full_disk_stops_the_build(platform: Platform) -> None:
    platform.set(KEEL_MIN_FREE_DISK="999999t")
    done = platform.run(["build-image"])
    assert done.code == 1 and "not enough disk" in done.stderr and not done.stdout, str(done)


@pytest.mark.parametrize("platform", ["nginx"], indirect=True)
def test_control_a_sick_release_without_the_gate_is_seen(platform: Platform) -> None:
    """The harness would notice: the same load fails when nobody runs the smoke test."""
    platform.set(FAULT="bad-smoke")
    with platform.load(get_path=("/events",)) as load:
        load.until(lambda now: now.ok() > 20)
        platform.run(["bash", "-o", "pipefail", "-c", f"start-release {images.other()} | health-wait | swap-upstream"]).well()
        load.until(lambda now: now.failed() > 0)
        platform.run(["rollback"]).well()
        account = load.stop()
    assert account.failed and set(account.kinds["get"]["why"]) == {"500"}, account.table()
