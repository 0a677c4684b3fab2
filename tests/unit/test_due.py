"""Which older backups have their turn: the one restored the longest ago, so that each has it; signed backups in folder stores."""
import dataclasses
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import backups
import pytest

from keel import due, forms, manifest, schema, settings, signed, state
from keel.manifest import Verdict
from keel.stop import DATA, NO, UNAVAILABLE, Stop
from keel.store_file import Folder, open_folder

ENV = "production"
VARIABLES = schema.load(settings.ROOT / "compose" / "example.env")


class Place:
    """Two stores, the second a copy of the first, and a key."""

    def __init__(self, folder: Path) -> None:
        pem, line = signed.new_key("tests")
        for name, text in (("key", pem), ("signers", line)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        self.key, self.folder = signed.load_key(folder / "key"), folder
        self.stores: list[Folder] = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            self.stores.append(open_folder(str(folder / name)))
        self.settings = settings.Settings(ENV, {"KEEL_BACKUP_STORES": " ".join(s.url for s in self.stores),
                                                "KEEL_BACKUP_SIGNERS": str(folder / "signers"), "KEEL_STATE": str(folder)}, {}, VARIABLES)

    def make(self, *specs: str) -> list[str]:
        made = [backups.make(self.stores[0], self.key, ENV, spec) for spec in specs]
        shutil.copytree(self.folder / "one", self.folder / "two", dirs_exist_ok=True)
        return made

    def judged(self, ident: str, store: int, *, ok: bool = True, level: int = 5, later: int = 0) -> None:
        m = manifest.read(self.stores[store], ENV, ident, signed.trusted(self.folder / "signers"))
        when = forms.text_of(datetime.now(UTC) + timedelta(seconds=later))
        manifest.write_verdict(self.stores[store], ENV, Verdict(ident, m.digest, when, ok, level, {}, (), "x"), self.key)

    def older(self, count: int = 1) -> list[str]:
        return list(due.Due(self.settings).older(count, due.Due(self.settings).newest()))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_one_that_cannot_be_tried_here_does_not_take_the_turns_of_all_others(place: Place) -> None:
    """What it lacks may be memory: then there is no verdict, and it is still the one restored the longest ago."""
    _, mid, old = place.make("pg:1h:ok", "pg:30d:ok", "pg:90d:ok")
    assert place.older() == [old]
    state.note(place.settings.state, command="restore-verify", step="begin", backup=old)
    assert place.older() == [mid] and place.older(2) == [mid, old]
    state.note(place.settings.state, command="restore-verify", step="begin", backup=mid)
    place.judged(mid, 0, later=5)
    assert place.older() == [old]


def test_the_one_restored_the_longest_ago_of_each_kind_and_never_the_newest(place: Place) -> None:
    new, mid, old, redis, alone, _ = place.make("pg:1h:ok", "pg:30d:ok", "pg:90d:ok", "redis:50d:ok", "files:2d:ok", "redis:1h")
    assert place.older() == [old, redis] and place.older(5) == [old, mid, redis]
    assert alone in due.Due(place.settings).newest() and new not in place.older(5)
    times = due.Due(place.settings).older(5, [new])
    assert times[old] == forms.text_of(forms.moment(old[:16]))


def test_one_that_was_never_restored_comes_first_and_a_look_is_no_restore(place: Place) -> None:
    _, never, looked, old = place.make("pg:1h:ok", "pg:20d", "pg:30d:young", "pg:90d:ok")
    assert place.older(3) == [looked, never, old]
    assert due.Due(place.settings).older(1, due.Due(place.settings).newest()) == {looked: ""}


def test_each_has_its_turn_before_any_has_a_second(place: Place) -> None:
    made = place.make("pg:1h:ok", *(f"pg:{30 * n}d:ok" for n in range(1, 6)))
    turns = []
    for n in range(5):
        (turn,) = place.older()
        turns.append(turn)
        place.judged(turn, n % 2)  # in one store is enough
    assert turns == sorted(made[1:]), "the oldest first"
    # What was restored within one second is the same to it, but those of today are after those of then.
    (more,) = place.make("pg:31d:ok")
    assert place.older() == [more]


def test_what_does_not_count_has_no_turn_and_what_cannot_be_read_is_said(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    _, bad, held, spoiled, alien, released, gone, fine = place.make(
        "pg:1h:ok", "pg:80d:bad", "pg:70d:held", "pg:60d:spoiled", "pg:50d:alien", "pg:40d:held:released", "pg:30d:ok:gone", "pg:20d:ok")
    assert place.older(9) == [released, gone, fine], "that its objects are gone is what the turn will show"
    said = capsys.readouterr().err
    assert f"warning: {place.stores[0].url}: {ENV}/manifests/{spoiled}: its signature does not verify" in said
    assert f"manifests/{alien}: signed by " in said and bad not in said and held not in said
    place.judged(fine, 1, ok=False)
    assert fine not in place.older(9), "bad in one store is known too"
    place.judged(fine, 0, level=1)
    place.judged(released, 0, ok=False, level=4)
    place.judged(released, 0, level=1, later=1)
    assert place.older(9) == [gone], "a look does not undo it"


def test_a_verdict_on_another_manifest_of_that_id_is_none_on_this(place: Place) -> None:
    _, one, two = place.make("pg:1h:ok", "pg:30d:ok", "pg:90d:ok")
    m = manifest.read(place.stores[0], ENV, one, signed.trusted(place.folder / "signers"))
    for store in place.stores:
        store.delete(f"{ENV}/manifests/{one}")
        manifest.write(store, dataclasses.replace(m, host="db2", digest=""), place.key)
    assert place.older(2) == [one, two]


def test_one_that_does_not_verify_is_named_and_the_real_newest_has_its_turn(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    spoiled, alien, new, old, redis = place.make("pg:1h:spoiled", "pg:2h:alien", "pg:3h:ok", "pg:30d:spoiled", "redis:1h")
    turns = due.Due(place.settings)
    assert turns.newest() == [new, redis] and turns.code == DATA
    assert list(turns.older(5, [new, redis])) == []
    said = capsys.readouterr().err
    for store in place.stores:
        for ident, wrong in ((spoiled, "its signature does not verify"), (alien, "signed by ")):
            assert said.count(f"error: {store.url}: {ENV}/manifests/{ident}: {wrong}") == 1
            assert f"warning: {store.url}: {ENV}/manifests/{ident}" not in said, "it is said once"
        assert f"warning: {store.url}: {ENV}/manifests/{old}: " in said, "an older one is not in the way"


def test_one_that_verifies_in_another_store_is_the_newest(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with the other copy its trial finds."""
    new, _ = place.make("pg:1h:ok", "pg:3h:ok")
    path = place.folder / "one" / ENV / "manifests" / new
    path.write_text(path.read_text().replace("db1", "db2"))
    turns = due.Due(place.settings)
    assert turns.newest() == [new] and turns.code == 0 and capsys.readouterr().err == ""


def test_none_that_verifies_is_not_none(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (spoiled,) = place.make("pg:1h:spoiled")
    with pytest.raises(Stop, match="none of its backups verifies") as stop:
        due.Due(place.settings).newest()
    assert stop.value.code == DATA and spoiled in capsys.readouterr().err


AWAY = "s3://bucket/p?endpoint=http://127.0.0.1:9"  # nobody listens there


@pytest.mark.parametrize("first", [True, False])
def test_a_store_that_does_not_answer_keeps_nobody_waiting(place: Place, first: bool, capsys: pytest.CaptureFixture[str]) -> None:
    new, old, older = place.make("pg:1h:ok", "pg:30d:ok", "pg:90d:ok")
    place.settings.values.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", KEEL_S3_ATTEMPTS="1")
    whole = due.Due(place.settings)
    assert list(whole.older(5, whole.newest())) == [older, old] and whole.code == 0, "the control"
    there = place.stores[1].url
    turns = due.Due(place.settings, [AWAY, there] if first else [there, AWAY])
    assert turns.newest() == [new] and list(turns.older(5, [new])) == [older, old] and turns.code == UNAVAILABLE
    assert capsys.readouterr().err.count("warning: s3://bucket/p: ") == 1, "it is asked once"
    turns = due.Due(place.settings, [AWAY, there] if first else [there, AWAY])
    assert list(turns.older(5, [new])) == [older, old] and turns.code == UNAVAILABLE
    for ask in (due.Due(place.settings, [AWAY]).newest, lambda: due.Due(place.settings, [AWAY]).older(5, [])):
        with pytest.raises(Stop, match="the store does not answer") as stop:
            ask()
        assert stop.value.code == UNAVAILABLE


def test_that_none_is_there_is_said_only_when_all_were_asked(place: Place) -> None:
    place.settings.values.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", KEEL_S3_ATTEMPTS="1")
    for urls, code in (((), NO), ((place.stores[0].url, AWAY), UNAVAILABLE)):
        with pytest.raises(Stop) as stop:
            due.Due(place.settings, urls).newest()
        assert stop.value.code == code
