"""A copy that is damaged within its size: the next store is asked, and what comes out is whole or nothing. Real keys, folder stores."""
import os
import shutil
from pathlib import Path

import pytest
from test_trial import ENV, FIRST, SECOND, Place

from keel import recover, trial
from keel.stop import DATA, UNAVAILABLE, Stop

AWAY = "s3://bucket/p?endpoint=http://127.0.0.1:9"  # nobody listens there


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Two stores that have the same."""
    made = Place(tmp_path)
    shutil.copytree(tmp_path / "store", tmp_path / "two")
    made.settings.values["KEEL_BACKUP_STORES"] = f"{made.store.url} file://{tmp_path}/two"
    return made


def damage(path: Path, at: int = -30) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def other(place: Place, name: str = "database.dump") -> Path:
    return place.folder / "two" / ENV / "objects" / SECOND / f"{name}.zst.age"


def fetched(place: Place, name: str = "database.dump") -> bytes:
    found = recover.find(place.settings, SECOND)
    recover.fetch(place.settings, found, found.part(name), place.folder / "out")
    return (place.folder / "out").read_bytes()


@pytest.mark.parametrize("at", [0, 100, 100_000, -1])
def test_the_next_store_is_asked_and_the_damaged_copy_is_named(place: Place, at: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetched(place) == place.contents["database.dump"] and capsys.readouterr().err == "", "the control"
    damage(place.object(), at)
    assert fetched(place) == place.contents["database.dump"]
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1 and f"warning: {place.store.url}/{ENV}/objects/{SECOND}/database.dump.zst.age: " in said
    assert f"database.dump: taken from file://{place.folder}/two, where it is well" in said


def test_what_is_left_of_the_damaged_copy_is_written_over(place: Place) -> None:
    """The damage is near its end, and the other copy is another, shorter object under that name: nothing of either comes out."""
    damage(place.object())
    shutil.copy(place.object("globals.sql"), other(place))
    with pytest.raises(Stop) as stop:
        fetched(place)
    assert stop.value.code == DATA
    assert f"{place.store.url}/{ENV}" in stop.value.message and f"file://{place.folder}/two/{ENV}" in stop.value.message


def test_each_object_from_where_it_is_well(place: Place) -> None:
    damage(place.object())
    damage(other(place, "globals.sql"))
    assert {name: fetched(place, name) for name in place.contents} == place.contents


def test_the_stores_that_objects_came_from_are_known(place: Place) -> None:
    found, one, two = recover.find(place.settings, SECOND), place.store.url, f"file://{place.folder}/two"

    def taken(*names: str) -> list[str]:
        for name in names:
            recover.fetch(place.settings, found, found.part(name), place.folder / "out")
        return found.taken

    assert taken() == [] and taken("globals.sql", "globals.sql") == [one]
    damage(place.object())
    assert taken("database.dump") == [one, two]


def test_no_copy_is_well(place: Place) -> None:
    damage(place.object())
    damage(other(place))
    with pytest.raises(Stop) as stop:
        fetched(place)
    assert stop.value.code == DATA and stop.value.message.count("payload: ") == 2


def test_another_backup_of_that_id_is_not_taken_for_it(place: Place) -> None:
    damage(place.object())
    shutil.copy(place.folder / "two" / ENV / "objects" / FIRST / "database.dump.zst.age", other(place))
    with pytest.raises(Stop, match="SHA-256") as stop:
        fetched(place)
    assert stop.value.code == DATA


def test_a_store_that_does_not_answer_may_have_it(place: Place) -> None:
    """It is passed over, and asked last: 69, for it may answer when it is asked again."""
    place.settings.values.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", KEEL_S3_ATTEMPTS="1")
    place.settings.values["KEEL_BACKUP_STORES"] = f"{AWAY} {place.store.url}"
    found = recover.find(place.settings, SECOND)
    assert [e.code for e in found.passed] == [UNAVAILABLE] and found.store.url == place.store.url
    assert fetched(place) == place.contents["database.dump"]
    damage(place.object())
    with pytest.raises(Stop, match="payload: ") as stop:
        fetched(place)
    assert stop.value.code == UNAVAILABLE and "s3://bucket/p: " in stop.value.message


def test_what_is_no_fault_of_a_copy_asks_nobody_else(place: Place) -> None:
    os.chmod(place.folder / "identity", 0o644)
    with pytest.raises(Stop) as stop:
        fetched(place)
    assert stop.value.message.count("\n") == 0 and str(place.folder / "identity") in stop.value.message


def test_a_trial_is_of_one_copy(place: Place) -> None:
    """restore-verify says of each copy what it is: it must not read another one instead."""
    assert all(copy.others == () for copy in trial.begin(place.settings, SECOND, ()).found)
