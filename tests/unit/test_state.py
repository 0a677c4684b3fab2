"""The history: read from its end it says the same as from its beginning, whatever a crash has left of a line."""
import fcntl
import json
import multiprocessing
import os
import pathlib
import resource
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel import state
from keel.stop import CONFIG, Stop

LINES = st.lists(st.dictionaries(st.text(), st.text() | st.integers()).map(json.dumps) | st.just('{"cut": "sho') | st.just(""))


@given(older=st.none() | LINES, lines=LINES, ended=st.booleans(), block=st.integers(1, 40))
def test_newest_first_is_oldest_first_reversed(older: list[str] | None, lines: list[str], ended: bool, block: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if older is not None:
            (folder / "history.1").write_text("\n".join(older) + "\n")
        (folder / "history").write_text("\n".join(lines) + "\n" * ended)
        assert list(state.latest(folder, block)) == list(state.history(folder))[::-1]


def test_nothing_was_ever_noted(tmp_path: pathlib.Path) -> None:
    assert list(state.latest(tmp_path)) == []


def test_the_end_is_found_without_reading_the_rest(tmp_path: pathlib.Path) -> None:
    with open(tmp_path / "history", "wb") as f:  # a gigabyte of hole before it: reading that would be noticed
        f.seek(1 << 30)
        f.write(b'\n{"step": "live"}\n{"step": "end"}\n')
    found = state.latest(tmp_path)
    assert [next(found), next(found)] == [{"step": "end"}, {"step": "live"}]


def test_a_full_history_moves_aside_and_both_are_read(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "FULL", 1000)
    for n in range(100):
        state.note(tmp_path, n=n)
    assert {p.name for p in tmp_path.iterdir()} == {"history", "history.1"}
    assert all(p.stat().st_size < 1000 + 200 for p in tmp_path.iterdir())
    kept = [line["n"] for line in state.history(tmp_path)]
    assert kept == list(range(100 - len(kept), 100)) and len(kept) >= 1000 // 200
    assert [line["n"] for line in state.latest(tmp_path, 64)] == kept[::-1]


def test_writers_that_find_it_full_at_the_same_moment_lose_no_line(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backups and deploys have locks of their own: the second must not move aside what the first has just begun."""
    monkeypatch.setattr(state, "FULL", 1000)
    (tmp_path / "history").write_text('{"n": "old"}\n' * 100)
    writers = [multiprocessing.get_context("fork").Process(target=state.note, args=(tmp_path,), kwargs={"n": n}) for n in range(8)]
    flock, (there, begun) = fcntl.flock, os.pipe()
    with open(tmp_path / "history", "rb") as f:
        flock(f, fcntl.LOCK_EX)
        monkeypatch.setattr(fcntl, "flock", lambda *each: (os.write(begun, b"."), flock(*each)))
        for writer in writers:
            writer.start()
        for _ in writers:
            os.read(there, 1)  # it has the full one open, and waits for us
        flock(f, fcntl.LOCK_UN)  # they have inherited this file: to close ours would not do
    for writer in writers:
        writer.join()
    found = [str(line["n"]) for line in state.history(tmp_path)]
    assert sorted(found) == [*"01234567", *["old"] * 100]


def test_a_line_that_was_cut_short_takes_no_other_with_it(tmp_path: pathlib.Path) -> None:
    """A full disk, or a loss of power, leaves half a line."""
    state.note(tmp_path, n=1)
    with open(tmp_path / "history", "a") as f:
        f.write('{"n": 2, "comma')
    state.note(tmp_path, n=3)
    state.note(tmp_path, n=4)
    assert [line["n"] for line in state.history(tmp_path)] == [1, 3, 4]


def test_a_line_for_which_there_is_no_room_is_said(tmp_path: pathlib.Path) -> None:
    """A disk that fills in the middle of a line takes a part of it, and says nothing."""
    state.note(tmp_path, n=1)
    size, before = (tmp_path / "history").stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            state.note(tmp_path, n=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    state.note(tmp_path, n=3)
    assert [line["n"] for line in state.history(tmp_path)] == [1, 3]


def test_where_no_folder_can_be_made_it_is_a_configuration_fault() -> None:
    for change in (lambda: state.write(pathlib.Path("/proc/state/file"), ""), lambda: state.note(pathlib.Path("/proc/state"))):
        with pytest.raises(Stop, match="^/proc/state cannot be made: no such file or directory$") as stop:
            change()
        assert stop.value.code == CONFIG
