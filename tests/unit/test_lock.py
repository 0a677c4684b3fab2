"""Locks: what holds two hands both down."""
import fcntl
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keel import lock, run


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in (run.LOCKS, f"{run.LOCKS}_BACKUPS"):
        monkeypatch.setenv(name, "")  # put back afterwards, whatever the test sets
        monkeypatch.delenv(name)
    return SimpleNamespace(state=tmp_path, env="test")


def test_a_program_inherits_every_lock(settings: Any) -> None:
    lock.hold(settings, "one", lock.BACKUPS)
    lock.hold(settings, "two", lock.DEPLOY)
    held = {str(lock.path(settings, name)) for name in (lock.DEPLOY, lock.BACKUPS)}
    for door in (run.ask, run.do):
        said = door(["sh", "-c", "for fd in /proc/$$/fd/*; do readlink $fd || true; done"])
        assert held <= set(said.splitlines())
    assert all(lock.inherited(settings, name) for name in (lock.DEPLOY, lock.BACKUPS))
    for fd in run.handed_down():
        os.close(fd)
    assert not any(lock.inherited(settings, name) for name in (lock.DEPLOY, lock.BACKUPS))


def test_what_drives_a_container_inherits_none(settings: Any) -> None:
    """It would outlive a command that was killed, and keep the next one out, which is the one that ends it."""
    lock.hold(settings, "one", lock.BACKUPS)
    program = run.start(["sh", "-c", "for fd in /proc/$$/fd/*; do readlink $fd || true; done"])
    said = program.communicate()[0].decode().splitlines()
    assert said and str(lock.path(settings, lock.BACKUPS)) not in said
    [fd] = run.handed_down()
    os.close(fd)


def test_a_question_turns_nobody_away(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` holds a lock shared for as long as it asks; who wants it then waits for that moment, not for a holder's work."""
    with open(lock.path(settings), "w") as f:
        fcntl.flock(f, fcntl.LOCK_SH)
        monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(f, fcntl.LOCK_UN))
        lock.hold(settings, "rollback")
    assert lock.inherited(settings)
    [fd] = run.handed_down()
    os.close(fd)


def test_a_full_disk_locks_nobody_out(settings: Any) -> None:
    """What makes room wants the lock too; the next one sees a holder without a name."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # no file may grow: the kernel refuses it as on a full disk
    try:
        lock.hold(settings, "prune-images")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert lock.inherited(settings)
    [fd] = run.handed_down()
    assert subprocess.run(["flock", "--nonblock", str(lock.path(settings)), "true"], check=False).returncode == 1
    assert lock.holder(settings).startswith("a process that has just begun, or found no room for its name: pid ")
    os.close(fd)


def test_one_lock_is_not_the_other(settings: Any) -> None:
    lock.hold(settings, "one", lock.BACKUPS)
    assert not lock.inherited(settings, lock.DEPLOY)
    [fd] = run.handed_down()
    os.close(fd)
