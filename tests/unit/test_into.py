"""What --to and --confirm may say, the same for every kind of backup."""
import os
from pathlib import Path

import pytest

from keel import into, settings
from keel.stop import USAGE, Stop

PG, REDIS, FILES = (f"20260301T031500Z-{kind}-00000001" for kind in ("pg", "redis", "files"))
SETTINGS = settings.Settings("production", {}, {}, ())


@pytest.mark.parametrize("backup, target, confirm", [
    (PG, "events", "events"), (PG, "production", "production"), (REDIS, "redis", "production"), (REDIS, "/srv/r", "/srv/r"),
    (FILES, "/srv/f", "/srv/f"), (FILES, "/srv/f/", "/srv/f"), (FILES, "./f", os.path.abspath("f"))])
def test_what_would_be_replaced_is_named(backup: str, target: str, confirm: str) -> None:
    into.sane(SETTINGS, backup, target, "")
    into.sane(SETTINGS, backup, target, confirm)
    for other in ("out", "staging", f"{confirm}x", "./f"):
        with pytest.raises(Stop, match="is not what would be replaced") as stop:
            into.sane(SETTINGS, backup, target, other)
        assert stop.value.code == USAGE and confirm in stop.value.hint


def test_the_engine_keeps_what_it_has() -> None:
    into.sane(SETTINGS, FILES, "engine", "")
    for other in ("engine", "production", os.path.abspath("engine")):
        with pytest.raises(Stop, match="nothing is replaced") as stop:
            into.sane(SETTINGS, FILES, "engine", other)
        assert stop.value.code == USAGE


@pytest.mark.parametrize("path", ["/srv/x", "./x", "x/"])
def test_no_database_is_called_like_a_path(path: str) -> None:
    with pytest.raises(Stop, match=f"--to {path} is a path, {PG} is one of PostgreSQL") as stop:
        into.sane(SETTINGS, PG, path, "")
    assert stop.value.code == USAGE


@pytest.mark.parametrize("word", ["redis", "engine"])
@pytest.mark.parametrize("confirmed", [True, False])
def test_no_database_is_called_like_another_kinds_target(word: str, confirmed: bool) -> None:
    with pytest.raises(Stop, match=f"--to {word} is for a backup of .*, {PG} is one of PostgreSQL") as stop:
        into.sane(SETTINGS, PG, word, word if confirmed else "")
    assert stop.value.code == USAGE


def test_the_other_kinds_take_no_others_word(tmp_path: Path) -> None:
    """A bare name is no folder."""
    for target in ("redis", "engine", "events"):
        with pytest.raises(Stop, match="is no path of a folder") as stop:
            into.folder(target, "")
        assert stop.value.code == USAGE
