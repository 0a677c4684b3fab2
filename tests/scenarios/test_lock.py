"""One change at a time: the second deploy is told who holds the lock, and the kernel frees the lock of a holder that was killed."""
import contextlib
import os
import re
import signal
from pathlib import Path

import pytest

from scenarios import images
from scenarios.machine import Running, until
from scenarios.platform import Platform

pytestmark = [pytest.mark.timeout(180), pytest.mark.parametrize("platform", ["nginx"], indirect=True)]
RELEASE, IMAGE = "20260102T030405Z-1a2b3c4", f"none@sha256:{'0' * 64}"
CHANGES = (["start-base"], ["migrate", IMAGE], ["start-release", IMAGE], ["swap-upstream", RELEASE], ["rollback"],
           ["stop-release", RELEASE], ["stop-base"], ["prune-images"], ["maintenance", "on"])


def named(running: Running, name: str) -> list[int]:
    """The processes of a command that run a program."""
    found = []
    for pid in running.session():
        with contextlib.suppress(OSError):  # it has just ended
            found += [pid] if Path(f"/proc/{pid}/comm").read_text().strip() == name else []
    return found


def test_two_deploys_at_once(platform: Platform) -> None:
    head, pipe = platform.pipe(images.other())
    begun = len(platform.history())
    with platform.unharmed(), platform.start([*head, pipe]) as first:
        until(lambda: len(platform.history()) > begun)
        noted = platform.history()
        second = platform.deploy(images.good())
        held = re.search(r"is locked by pid (\d+): deploy since \d{4}-\d\d-\d\dT[\d:]+Z", second.stderr)
        assert second.code == 75 and held, str(second)
        assert int(held[1]) in first.session()
        assert {line["pid"] for line in platform.history()[begun:]} <= {line["pid"] for line in noted} | set(first.session())
        assert f"pid {held[1]}: deploy" in platform.status()[1]["locked"]
        done = first.end()
    assert done.code == 0 and platform.serving() == done.stdout.strip(), str(done)
    assert platform.status()[0] == 0 and not platform.lock()


def test_every_change_wants_the_lock(platform: Platform) -> None:
    before, file = platform.history(), platform.traffic_file.read_text()
    with platform.start(["with-lock", "repair", "--", "tail", "-f", "/dev/null"]) as holder:
        until(lambda: named(holder, "tail"))
        for argv in CHANGES:
            done = platform.run(argv)
            assert done.code == 75 and f"is locked by pid {holder.process.pid}: repair since" in done.stderr, str(done)
        for argv in (["status"], ["releases"], ["logs", "--tail=1"], ["env-check"]):  # who only reads does not wait
            platform.run(argv).well()
        code, said = platform.status()
        assert code == 0 and "repair since" in said["locked"], said
    assert platform.history() == before and platform.traffic_file.read_text() == file
    platform.run(["with-lock", "a look", "--", "true"]).well()


def test_a_killed_holder_leaves_no_stale_lock(platform: Platform) -> None:
    """While something that it started still runs the lock is held, and that is named; then it is free, with nothing to unlock."""
    with platform.start(["with-lock", "deploy", "--", "bash", "-c", "tail -f /dev/null & wait"]) as holder:
        [child] = until(lambda: named(holder, "tail"))
        os.kill(holder.process.pid, signal.SIGKILL)
        holder.process.wait()
        done = platform.run(["rollback"])
        words = f"deploy since .*; pid {holder.process.pid} is gone, what it started still runs: pid {child} \\(tail\\)"
        assert done.code == 75 and re.search(words, done.stderr), str(done)
        assert re.search(words, platform.status()[1]["locked"])
        os.kill(child, signal.SIGKILL)
        until(lambda: not holder.session())
        assert platform.status()[0] == 0 and not platform.lock()
        platform.run(["with-lock", "a look", "--", "true"]).well()
    (platform.state / "lock").write_text("rubbish that a crash left")
    assert not platform.lock()
    platform.run(["with-lock", "a look", "--", "true"]).well()
