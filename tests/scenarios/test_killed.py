"""kill -9 of a whole deploy at every step: nothing fails, no lock is left, `status` says what is half done, a deploy again finishes."""
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scenarios import images
from scenarios.machine import Running, until
from scenarios.platform import Platform

pytestmark = pytest.mark.timeout(180)


class Deploy:
    """A deploy under observation: what is new since it began."""

    def __init__(self, platform: Platform, running: Running) -> None:
        self.platform, self.running = platform, running
        self.lines, self.before = len(platform.history()), platform.traffic()
        self.known = {c.id for c in platform.containers()}

    def noted(self, command: str, step: str = "") -> bool:
        return any(line["command"] == command and step in ("", line.get("step")) for line in self.platform.history()[self.lines:])

    def standing(self) -> bool:
        return any(c.id not in self.known for c in self.platform.containers())

    def staged(self) -> bool:
        return self.platform.traffic_file.with_name(self.platform.traffic_file.name + ".next").exists()

    def introduced(self) -> bool:
        return bool(self.releases() - {s.release for s in self.before.shares})

    def renamed(self) -> bool:
        return self.platform.serving() not in {s.release for s in self.before.shares if s.percent}

    def reloaded(self) -> bool:
        return self.renamed() and int(self.platform.get("/__keel/generation").text) == self.platform.traffic().generation

    def releases(self) -> set[str]:
        return {s.release for s in self.platform.traffic().shares}


# When to kill, and what `status` must then say ('' where the next step may have begun already, or nothing is half done).
STEPS: dict[str, tuple[Callable[[Deploy], bool], str]] = {
    "locked": (lambda d: bool(d.platform.lock()), ""),
    "migrating": (lambda d: d.noted("migrate", "begin"), "migrate began"),
    "migrated": (lambda d: d.noted("migrate", "end"), ""),
    "starting": (lambda d: d.noted("start-release", "begin"), "start-release began"),
    "standing": (lambda d: d.standing(), "no place in the traffic file"),
    "started": (lambda d: d.noted("start-release", "end"), "no place in the traffic file"),
    "healthy": (lambda d: "healthy after" in d.running.said(), "no place in the traffic file"),
    "tried": (lambda d: d.noted("smoke-test"), ""),
    "switching": (lambda d: d.noted("swap-upstream", "begin"), ""),
    "staged": (lambda d: d.staged(), ""),
    "renamed": (lambda d: d.renamed(), ""),
    "reloaded": (lambda d: d.reloaded(), ""),
    "draining": (lambda d: d.noted("swap-upstream", "live"), ""),
}
# Killed at one step after the other: each deploy goes on from what the one before has left, and gets further. The last one is not killed.
CHAINS = [("nginx", "locked migrating migrated"), ("nginx", "starting standing started"), ("nginx", "healthy tried switching"),
          ("nginx", "staged renamed reloaded"), ("nginx", "draining"), ("caddy", "standing staged renamed"), ("caddy", "reloaded draining")]


@pytest.mark.parametrize(("platform", "steps"), CHAINS, indirect=["platform"])
def test_killed(platform: Platform, steps: str) -> None:
    image = images.other(len(platform.history()) % 2)
    head, pipe = platform.pipe(image)
    # Something has to be in flight, or there is nothing to drain.
    drains = "draining" in steps
    with platform.unharmed(slow=2 if drains else 0, slow_seconds=3) as load:
        load.until(lambda now: not drains or now.requests("slow") > 1)
        for step in steps.split():
            when, words = STEPS[step]
            with platform.start([*head, pipe]) as running:
                deploy = Deploy(platform, running)
                until(lambda: when(deploy), 60, every=0.001)  # noqa: B023
                running.kill()
            explained(platform, deploy, words)
    finishes(platform, image)


def explained(platform: Platform, deploy: Deploy, words: str = "") -> list[str]:
    """`status` is loud about all that is half done, and about nothing else; no lock is left."""
    code, said = platform.status()
    problems = "; ".join(said["problems"])
    assert words in problems and not said["locked"], said
    assert code == (1 if said["problems"] else 0), said
    last, shares = platform.history()[-1], platform.traffic().shares
    assert (f"{last['command']} began" in problems) == (last.get("step") == "begin"), said
    assert ("was cut short" in problems) >= (said["live"] != platform.traffic().generation), said
    for release in {c.labels["keel.release"] for c in platform.containers()} - {s.release for s in shares}:
        assert f"{release} has containers" in problems, said
    assert platform.run(["with-lock", "a look", "--", "true"]).well()
    return list(said["problems"])


def finishes(platform: Platform, image: str) -> None:
    """The same deploy again, with the user's own words, under load: then all is as if nothing had happened."""
    before = platform.serving()
    with platform.unharmed():
        done = platform.make("deploy", IMAGE=image).well()
    release = done.stdout.split()[-1]
    assert platform.serving() == release != before
    code, said = platform.status()
    assert code == 0 and not said["problems"], said
    assert platform.get("/version").json()["release"] == release
    found = platform.docker.containers.list(all=True, filters={"label": f"keel.env={platform.name}"})
    assert {c.labels["keel.role"] for c in found} == {"app", "postgres", "proxy", "redis"}, found
    assert {c.labels["keel.release"] for c in platform.containers()} == {s.release for s in platform.traffic().shares}, found


@pytest.mark.parametrize("platform", ["nginx"], indirect=True)
def test_make_alone_is_terminated(platform: Platform) -> None:
    """As by a cancelled CI job: `make` tells the pipe, waits for it, and nothing that it has started goes on."""
    image = images.other(1)
    with platform.unharmed(slow=2, slow_seconds=3) as load:
        load.until(lambda now: now.requests("slow") > 1)
        for step in ("migrating", "standing", "healthy", "draining"):
            with platform.start(["make", "deploy", f"ENV={platform.name}", f"IMAGE={image}"]) as running:
                deploy = Deploy(platform, running)
                until(lambda: STEPS[step][0](deploy), 60, every=0.001)  # noqa: B023
                os.kill(running.process.pid, signal.SIGTERM)
                until(lambda: not running.session(), 30)
                done = running.end()
                assert done.code == -signal.SIGTERM, str(done)
                assert "interrupted by SIGTERM" in done.stderr and len(done.stdout.splitlines()) == 1, str(done)
                explained(platform, deploy)
    finishes(platform, image)


@pytest.mark.parametrize("platform", ["nginx"], indirect=True)
def test_make_alone_is_killed(platform: Platform) -> None:
    """Nobody can tell the pipe then: it finishes, and meanwhile holds the lock."""
    image = images.other()
    with platform.unharmed(), platform.start(["make", "deploy", f"ENV={platform.name}", f"IMAGE={image}"]) as running:
        deploy = Deploy(platform, running)
        until(deploy.standing, 60)
        os.kill(running.process.pid, signal.SIGKILL)
        assert running.end().code == -signal.SIGKILL and platform.run(["rollback"]).code == 75
        until(lambda: not running.session(), 60)
        assert running.said(running.out).split()[-1] == platform.serving() and deploy.renamed()
    assert platform.status()[0] == 0 and not platform.lock()


@pytest.mark.parametrize("platform", ["nginx"], indirect=True)
def test_between_rename_and_reload(platform: Platform) -> None:
    """The narrowest window, hit for certain: stopped at the rename, and again if the proxy knows already. Caddy has no such window.

    The file then calls idle what the proxy still serves: the next deploy must not stop that.
    """
    for _ in range(10):
        there, standby = platform.serving(), next(s.release for s in platform.traffic().shares if not s.percent)
        file, inode = platform.traffic_file, platform.traffic_file.stat().st_ino
        with platform.unharmed(), platform.start(["swap-upstream", standby]) as running:
            deploy = Deploy(platform, running)
            end = time.monotonic() + 30
            while file.stat().st_ino == inode or platform.serving() == there:  # without a pause: the window is some milliseconds
                assert time.monotonic() < end and running.process.poll() is None, running.said()
            os.kill(running.process.pid, signal.SIGSTOP)
            until(lambda: Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZ")
            # A proxy that was told just before it has the new one in a moment; one that has not by then was not told.
            hit, end = True, time.monotonic() + 5
            while hit and time.monotonic() < end:
                hit = int(platform.get("/__keel/generation").text) != platform.traffic().generation
            running.kill()
            problems = explained(platform, deploy)
        if hit:
            assert any("was cut short" in p for p in problems), problems
            break
        with platform.unharmed():  # too late: the proxy had it already
            platform.run(["swap-upstream", standby]).well()
    assert hit
    assert platform.get("/version").json()["release"] == there
    finishes(platform, images.other())


@pytest.mark.parametrize("platform", ["nginx"], indirect=True)
def test_control_a_naive_deploy_that_was_killed_is_seen(platform: Platform) -> None:
    """The harness would notice: stop the old, start the new, killed in between. A deploy mends that too."""
    serving = platform.serving()
    with platform.load() as load:
        load.until(lambda now: now.ok() > 20)
        for container in platform.containers():
            if container.labels["keel.release"] == serving:
                container.remove(force=True)
        load.until(lambda now: now.failed() > 10)
        code, said = platform.status()
        assert code == 1 and f"{serving} serves 100 %, but 0 of its 1 replicas run" in said["problems"], said
        assert load.stop().failed
    release = platform.make("deploy", IMAGE=images.other()).well().stdout.split()[-1]
    assert platform.get("/version").json()["release"] == release
    code, said = platform.status()  # what was removed was to be the standby
    assert code == 1 and said["problems"] == [f"{serving} is the standby: rollback cannot use it, because 0 of its 1 replicas run"], said
