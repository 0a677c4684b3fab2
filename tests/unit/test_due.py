"""Which older backups have their turn: the one restored the longest ago, so that each has it; signed backups in folder stores."""
import dataclasses
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import backups
import pytest

from keel import due, forms, manifest, schema, settings, signed
from keel.manifest import Verdict
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
                                                "KEEL_BACKUP_SIGNERS": str(folder / "signers")}, {}, VARIABLES)

    def make(self, *specs: str) -> list[str]:
        made = [backups.make(self.stores[0], self.key, ENV, spec) for spec in specs]
        shutil.copytree(self.folder / "one", self.folder / "two", dirs_exist_ok=True)
        return made

    def judged(self, ident: str, store: int, *, ok: bool = True, level: int = 5, later: int = 0) -> None:
        m = manifest.read(self.stores[store], ENV, ident, signed.trusted(self.folder / "signers"))
        when = forms.text_of(datetime.now(UTC) + timedelta(seconds=later))
        manifest.write_verdict(self.stores[store], ENV, Verdict(ident, m.digest, when, ok, level, {}, (), "x"), self.key)

    def older(self, count: int = 1) -> list[str]:
        return list(due.older(self.settings, (), count, due.newest(self.settings, ())))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_one_restored_the_longest_ago_of_each_kind_and_never_the_newest(place: Place) -> None:
    new, mid, old, redis, alone, _ = place.make("pg:1h:ok", "pg:30d:ok", "pg:90d:ok", "redis:50d:ok", "files:2d:ok", "redis:1h")
    assert place.older() == [old, redis] and place.older(5) == [old, mid, redis]
    assert alone in due.newest(place.settings, ()) and new not in place.older(5)
    times = due.older(place.settings, (), 5, [new])
    assert times[old] == forms.text_of(forms.moment(old[:16]))


def test_one_that_was_never_restored_comes_first_and_a_look_is_no_restore(place: Place) -> None:
    _, never, looked, old = place.make("pg:1h:ok", "pg:20d", "pg:30d:young", "pg:90d:ok")
    assert place.older(3) == [looked, never, old]
    assert due.older(place.settings, (), 1, due.newest(place.settings, ())) == {looked: ""}


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
