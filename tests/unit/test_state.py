"""The history: read from its end it says the same as from its beginning, whatever a crash has left of a line."""
import json
import pathlib
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel import state
from keel.stop import CONFIG, Stop

LINES = st.lists(st.dictionaries(st.text(), st.text() | st.integers()).map(json.dumps) | st.just('{"cut": "sho') | st.just(""))


@given(lines=LINES, ended=st.booleans(), block=st.integers(1, 40))
def test_newest_first_is_oldest_first_reversed(lines: list[str], ended: bool, block: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
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


def test_where_no_folder_can_be_made_it_is_a_configuration_fault() -> None:
    for change in (lambda: state.write(pathlib.Path("/proc/state/file"), ""), lambda: state.note(pathlib.Path("/proc/state"))):
        with pytest.raises(Stop, match="^/proc/state cannot be made: no such file or directory$") as stop:
            change()
        assert stop.value.code == CONFIG
