"""A switch that the proxy refuses or never makes: the old file is back, the exit code tells why, nothing failed, and it works later."""
import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from keel.traffic import digests
from scenarios import images
from scenarios.machine import Result, top, until
from scenarios.platform import Platform

pytestmark = pytest.mark.timeout(180)


def prepare(platform: Platform) -> tuple[str, str]:
    """Who serves, and a release that is ready beside it, of a colour that nginx need not load first."""
    if len(platform.traffic().shares) < 2:
        platform.deploy(images.good()).well()
    done = platform.run(["bash", "-o", "pipefail", "-c", f"start-release {images.other()} | health-wait"]).well()
    return platform.serving(), done.stdout.strip()


def switch_later(platform: Platform, release: str, before: str) -> None:
    """What was refused works once its cause is gone, and then all is well."""
    assert platform.serving() == before
    with platform.unharmed():
        platform.run(["swap-upstream", release]).well()
    assert platform.serving() == release
    assert platform.status()[0] == 0


@contextlib.contextmanager
def edited(path: Path, text: str) -> Iterator[None]:
    """Another text in a file, in place: the folder is mounted, and its files are read again at each check."""
    old = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(old)


@contextlib.contextmanager
def moved(path: Path) -> Iterator[None]:
    """Without a file."""
    aside = path.with_name(path.name + ".aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


def refused(platform: Platform, release: str, while_: contextlib.AbstractContextManager[None]) -> Result:
    """A switch under load that must not happen."""
    with platform.unharmed() as load, while_:
        done = platform.run(["swap-upstream", release])
    assert load.account and release not in load.account.releases, load.account
    return done


def test_the_checker_says_no(platform: Platform) -> None:
    before, release = prepare(platform)
    file = platform.traffic_file.read_text()
    checked = platform.root / "proxy" / platform.proxy / ("check.conf" if platform.proxy == "nginx" else "check.Caddyfile")
    nonsense = "no_such_directive on;\n" if platform.proxy == "nginx" else ":1 {\n\tno_such_directive\n}\n"
    done = refused(platform, release, edited(checked, f"{checked.read_text()}\n{nonsense}"))
    assert done.code == 1 and f"{platform.proxy} refuses generation" in done.stderr and "no_such_directive" in done.stderr, str(done)
    assert platform.serving() == before and not platform.traffic_file.with_name(platform.traffic_file.name + ".next").exists()
    assert platform.proxy == "caddy" or platform.traffic_file.read_text() == file
    switch_later(platform, release, before)


def test_the_proxy_cannot_load_it(platform: Platform) -> None:
    """A certificate that is gone: nginx's checker finds it. Caddy's adapter does not: it is loaded before any traffic moves."""
    (before, release), file = prepare(platform), platform.traffic_file.read_text()
    platform.set(KEEL_BODY_LIMIT="11m")
    done = refused(platform, release, moved(platform.root / "secrets" / "tls" / platform.name / "cert.pem"))
    platform.set()
    assert done.code == 1 and "refuses generation" in done.stderr and "nothing was changed" in done.stderr, str(done)
    assert f"{platform.name}/cert.pem: there is no such file" in done.stderr and platform.traffic_file.read_text() == file, str(done)
    switch_later(platform, release, before)


def test_a_certificate_that_was_copied_half(platform: Platform) -> None:
    """A switch does without: it is made, and the certificate that the proxy has is served on."""
    _, release = prepare(platform)
    half = edited(platform.root / "secrets" / "tls" / platform.name / "cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB")
    with platform.unharmed(), half:
        done = platform.run(["swap-upstream", release]).well()
        assert "goes on with the one that it has" in done.stderr and platform.serving() == release, str(done)
    assert platform.status()[0] == 0


def test_the_file_cannot_be_written(platform: Platform) -> None:
    before, release = prepare(platform)
    file = platform.traffic_file.read_text()
    # A folder in its way: root writes where a mode forbids it, but replaces no folder by a file.
    staged = platform.traffic_file.with_name(platform.traffic_file.name + ".next")
    staged.mkdir()
    try:
        done = refused(platform, release, contextlib.nullcontext())
    finally:
        staged.rmdir()
    assert done.code == 78 and "cannot be written" in done.stderr and platform.traffic_file.read_text() == file, str(done)
    switch_later(platform, release, before)


def test_the_proxy_is_down(platform: Platform) -> None:
    before, file = platform.serving(), platform.traffic_file.read_text()
    known = {c.id for c in platform.containers()}
    platform.service("proxy").stop()
    done = platform.deploy(images.other())
    # said by the first command that needs it, before anything is changed
    assert done.code == done.codes["migrate"] == 69 and set(list(done.codes.values())[2:]) == {66} and "make up" in done.stderr, str(done)
    assert platform.run(["rollback"]).code == 69
    assert platform.traffic_file.read_text() == file and {c.id for c in platform.containers()} == known
    code, said = platform.status()
    assert code == 1 and any(f"{platform.proxy} is not running" in p for p in said["problems"]), said
    platform.up()
    assert platform.get("/version").json()["release"] == before and platform.status()[0] == 0


def test_the_proxy_dies_between_rename_and_proof(platform: Platform) -> None:
    for _ in range(5):  # the proof may have been faster than we are
        before, release = prepare(platform)
        proxy = platform.service("proxy")
        processes = pids_of(platform, "nginx: " if platform.proxy == "nginx" else "caddy run")
        with platform.start(["swap-upstream", release]) as switching:
            until(lambda: platform.serving() == release, every=0.001)  # noqa: B023
            for process in processes:
                os.kill(process, signal.SIGSTOP)  # nobody answers
            proxy.kill()
            done = switching.end()
        if done.code:
            break
        platform.up()
    assert done.code == 69 and "the old traffic file is back" in done.stderr, str(done)
    assert platform.serving() == before
    platform.up()
    assert platform.get("/version").json()["release"] == before
    switch_later(platform, release, before)


@pytest.mark.parametrize("platform", ["nginx"], indirect=True)
def test_a_reload_that_silently_does_not_happen(platform: Platform) -> None:
    """A master that is stopped takes no signal, and its workers go on with the old settings: no traffic moves. Caddy's reload answers."""
    (before, release), file = prepare(platform), platform.traffic_file.read_text()
    platform.set(KEEL_BODY_LIMIT="11m")
    master, = pids_of(platform, "nginx: master")
    os.kill(master, signal.SIGSTOP)
    try:
        done = refused(platform, release, contextlib.nullcontext())
        platform.set()
        again = platform.run(["reload-proxy"])  # though nothing seems to have changed
    finally:
        os.kill(master, signal.SIGCONT)
    assert again.code == 1 and "nginx goes on with what it had" in again.stderr, str(again)
    assert done.code == 1 and "nginx goes on with what it had" in done.stderr, str(done)
    assert "the old traffic is back" in done.stderr and digests(platform.traffic_file.read_text()) == digests(file)
    switch_later(platform, release, before)


@pytest.mark.parametrize("platform", ["nginx"], indirect=True)
def test_control_an_unchecked_file_is_seen(platform: Platform) -> None:
    """The harness would notice: a file that nobody checked, and a restart of the proxy."""
    kept = shutil.copy(platform.traffic_file, platform.root / "kept")
    with platform.load() as load:
        load.until(lambda now: now.ok() > 20)
        platform.traffic_file.write_text("no_such_directive on;\n")
        platform.service("proxy").restart()
        load.until(lambda now: now.failed() > 0)
        shutil.copy(kept, platform.traffic_file)
        platform.up()
        seen = load.now.ok()
        load.until(lambda now: now.ok() > seen)
        assert load.stop().failed
    assert platform.status()[0] == 0


def pids_of(platform: Platform, title: str) -> list[int]:
    """The pids, on this machine, of the proxy's processes of a title."""
    return [pid for pid, args in top(platform.service("proxy").id) if title in args and "tini" not in args and "docker-init" not in args]
