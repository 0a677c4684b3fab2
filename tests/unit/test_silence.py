"""The clock of silence, with real programs behind a stand-in for docker, and a time that only goes on when the test says so."""
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keel import pg, proc, silence, tools
from keel.silence import Silence
from keel.stop import UNAVAILABLE, Stop

LIMIT = 600
HANG = "exec tail -f /dev/null"
DOCKER = """#!/bin/bash
shift
[ "$1" != --interactive ] || shift
shift
exec "${{@//\\/keel/{folder}}}"
"""


class Clock:
    """Stands still, or goes on by `step` seconds whenever somebody looks."""

    def __init__(self) -> None:
        self.now, self.step = 1000.0, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(silence, "monotonic", made := Clock())
    return made


@pytest.fixture
def quiet(clock: Clock) -> Silence:
    return Silence(LIMIT, "PostgreSQL", "look into pg_locks")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The one at /keel; nothing that was started may be left at the end."""
    path = tmp_path / "docker"
    path.write_text(DOCKER.format(folder=str(tmp_path).replace("/", "\\/")))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = set(proc.children(os.getpid()))
    yield tmp_path
    assert set(proc.children(os.getpid())) <= before


def gives_up(stop: Stop, wanted: str) -> None:
    assert (stop.message, stop.code, stop.hint) == (
        f"PostgreSQL has been silent for {LIMIT} s: {wanted}", UNAVAILABLE, "look into pg_locks")


def test_a_stream_that_stands_still_is_given_up(folder: Path, clock: Clock, quiet: Silence) -> None:
    stream = tools.output("box", folder, ["sh", "-c", f"echo first; {HANG}"], quiet)
    assert next(stream) == b"first\n"
    clock.step = LIMIT / 6
    with pytest.raises(Stop) as e:
        next(stream)
    gives_up(e.value, "nothing came from sh after 6 bytes")
    assert [p.name for p in folder.iterdir()] == ["docker"]


def test_a_stream_that_never_begins_is_given_up(folder: Path, clock: Clock, quiet: Silence) -> None:
    clock.step = LIMIT / 6
    with pytest.raises(Stop) as e:
        next(tools.output("box", folder, ["sh", "-c", HANG], quiet))
    gives_up(e.value, "nothing came from sh after 0 bytes")


def test_while_the_store_holds_a_stream_up_its_silence_is_no_fault(folder: Path, clock: Clock, quiet: Silence) -> None:
    wait = 'echo first; while [ ! -e "$0" ]; do sleep 0.05; done; echo second'
    stream = tools.output("box", folder, ["sh", "-c", wait, str(folder / "go")], quiet)
    assert next(stream) == b"first\n"
    clock.now += 9 * LIMIT
    quiet.look("nor is that of who counts beside it")
    (folder / "go").touch()
    assert [*stream] == [b"second\n"]
    quiet.look("and it began anew")


def test_a_stream_may_take_longer_than_that(folder: Path, clock: Clock, quiet: Silence) -> None:
    wait = 'for n in 1 2 3 4; do until [ -e "$0$n" ]; do sleep 0.05; done; echo $n; done'
    stream = tools.output("box", folder, ["sh", "-c", wait, str(folder / "go")], quiet)
    for n in "1234":
        (folder / f"go{n}").touch()
        assert next(stream) == f"{n}\n".encode()
        clock.now += LIMIT - 1
    assert not [*stream]


def test_a_sign_of_life_to_one_is_one_to_all(clock: Clock, quiet: Silence) -> None:
    for _ in range(5):
        clock.now += LIMIT - 1
        quiet.look("still well")
        quiet.heard()
    clock.now += LIMIT
    with pytest.raises(Stop) as e:
        quiet.look("no answer")
    gives_up(e.value, "no answer")


def test_nothing_is_for_ever(clock: Clock) -> None:
    clock.step = 1e9
    Silence().look("nobody waits")


def test_a_short_program_is_given_up(folder: Path, clock: Clock, quiet: Silence) -> None:
    assert tools.ask("box", ["echo", "hello"], quiet) == "hello\n"
    clock.step = LIMIT / 6
    with pytest.raises(Stop) as e:
        tools.ask("box", ["sh", "-c", HANG], quiet)
    gives_up(e.value, "nothing came from sh")


def test_a_session_that_does_not_answer_is_given_up(folder: Path, clock: Clock, quiet: Silence) -> None:
    psql = folder / "psql"
    psql.write_text(f'#!/bin/bash\nread -r sql; read -r _ end; echo "$sql"; echo "  two "; echo; echo "$end"\n{HANG}\n')
    psql.chmod(0o755)
    with pg.Session("box", silence=quiet) as session:
        assert session.ask("SELECT 1") == ["SELECT 1;", "  two ", ""]
        clock.step = LIMIT / 6
        with pytest.raises(Stop) as e:
            session.ask("SELECT count(*)\n FROM seats")
    gives_up(e.value, "no answer to SELECT count(*) FROM seats")


def test_a_session_that_ends_says_so(folder: Path, quiet: Silence) -> None:
    psql = folder / "psql"
    psql.write_text("#!/bin/bash\nread -r _; echo half an answer; echo 'FATAL: no' >&2\n")
    psql.chmod(0o755)
    with pg.Session("box", silence=quiet) as session, pytest.raises(Stop) as e:
        session.ask("SELECT 1")
    assert (e.value.message, e.value.code) == ("PostgreSQL: FATAL: no", UNAVAILABLE)


def test_who_waits_in_another_thread_is_told_to_give_up(folder: Path) -> None:
    """Also one that begins only then, and where silence may last for ever."""
    quiet = Silence()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(tools.ask, "box", ["sh", "-c", f"echo > began; {HANG}"], quiet)
        late = pool.submit(tools.ask, "box", ["sh", "-c", f"echo something; {HANG}"], quiet)
        while not waits.running():
            pass
        quiet.give_up()
        for each in (waits, late):
            with pytest.raises(Stop, match=r"nothing came from sh: given up") as stop:
                each.result(20)
            assert stop.value.code == UNAVAILABLE
