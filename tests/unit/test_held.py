"""Notes that release a held backup: what is written is read back, for exactly one manifest, and nothing else is taken for one."""
import dataclasses
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keel import backup as making
from keel import forms, held, inventory, keep, manifest, schema, settings, signed
from keel.held import Release
from keel.manifest import Manifest, Part
from keel.stop import DATA, Stop
from keel.store_file import Folder

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = {signed.public(KEY): signed.Signer()}
WHEN = datetime(2026, 1, 2, 3, 15, tzinfo=UTC)
ID, OTHER = "20260102T031500Z-pg-1a2b3c4d", "20260103T031500Z-pg-1a2b3c4d"
DIGEST = "a" * 64
NOTE = Release(ID, DIGEST, "2026-01-02T08:00:00Z", "the archive job ran", "db1")
NAME = f"production/releases/{ID}/20260102T080000Z"


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def document(**changed: object) -> dict[str, Any]:
    return dataclasses.asdict(NOTE) | changed


def planted(store: Folder, text: str, name: str = NAME) -> str:
    """Why a note is refused."""
    store.put(name, text.encode())
    found, faults = held.all_of(store, "production", KEYS)
    assert not found and list(faults) == [name] and faults[name].code == DATA
    return faults[name].message.removeprefix(f"{name}: ")


def backup(store: Folder, ident: str = ID, why: str = "a tenth") -> Manifest:
    when = forms.text_of(forms.moment(ident[:16]))
    store.put(f"production/objects/{ident}/data.age", b"1234567")
    return manifest.write(store, Manifest(ident, "pg", "20260102T031500Z-5e6f7a8b", "production", "db1", when, when, "7001",
                                          (Part("data.age", 7, DIGEST, 9, DIGEST),), "daily", ("age1qqqq",), "evenkeel", held=why), KEY)


def test_what_is_written_is_read_back(store: Folder) -> None:
    later = dataclasses.replace(NOTE, time="2026-01-02T09:00:00Z", reason="größer wird es nicht")
    for note in (NOTE, later, dataclasses.replace(NOTE, backup=OTHER)):
        held.write(store, "production", note, KEY)
    found, faults = held.all_of(store, "production", KEYS)
    assert found[ID] == [later, NOTE] and found[OTHER] == [dataclasses.replace(NOTE, backup=OTHER)] and not faults
    assert held.all_of(store, "production", KEYS, {OTHER})[0].keys() == {OTHER}
    assert held.all_of(store, "staging", KEYS) == ({}, {})


def test_a_note_is_written_once(store: Folder) -> None:
    held.write(store, "production", NOTE, KEY)
    with pytest.raises(Stop, match="exists already"):
        held.write(store, "production", dataclasses.replace(NOTE, reason="another"), KEY)


def test_the_form_names_the_fields() -> None:
    assert {f.name for f in dataclasses.fields(Release)} == forms.RELEASE.keys()


@pytest.mark.parametrize(("field", "value"), [
    ("format", "1"), ("backup", "x"), ("manifest", ""), ("manifest", "A" * 64), ("time", "2026-01-02"), ("reason", ""), ("reason", "  "),
    ("reason", "a\nb"), ("reason", "\x1b[2J"), ("reason", None), ("host", ""), ("host", 1),
])
def test_ill_typed_fields_are_refused(store: Folder, field: str, value: object) -> None:
    assert planted(store, signed.sign(document(**{field: value}), KEY)).startswith(f"{field} is ")
    with pytest.raises(Stop) as stopped:
        held.write(store, "production", dataclasses.replace(NOTE, **{field: value}), KEY)  # type: ignore[arg-type]
    assert stopped.value.code == DATA


def test_forged_changed_and_copied_notes_are_refused(store: Folder) -> None:
    well = signed.sign(document(), KEY)
    assert planted(store, signed.sign(document(), Ed25519PrivateKey.generate())).startswith("signed by ")
    assert planted(store, well.replace("archive", "ARCHIVE")) == "its signature does not verify"
    assert planted(store, signed.sign(document(more=1), KEY)) == "has an unknown more"
    assert planted(store, signed.sign({n: v for n, v in document().items() if n != "reason"}, KEY)) == "has no reason"
    store.delete(NAME)
    for elsewhere in (NAME.replace(ID, OTHER), NAME.replace("T08", "T09"), f"production/releases/x/{ID}", "production/releases/x"):
        assert planted(store, well, elsewhere).startswith(f"is the note {ID}/2026")
        store.delete(elsewhere)


def test_only_a_note_on_this_very_manifest_counts(store: Folder) -> None:
    m = backup(store)
    good, wrong = dataclasses.replace(NOTE, manifest=m.digest), NOTE
    assert held.judge(m, [good]) == (good.reason, {}) and held.judge(m, []) == ("", {})
    said, faults = held.judge(m, [wrong])
    assert said == "" and list(faults) == [NAME] and "releases another manifest, aaaaaaaaaaaa…" in faults[NAME].message
    newer = dataclasses.replace(good, time="2026-01-02T09:00:00Z", reason="newer")
    assert held.judge(m, [newer, wrong, good])[0] == "newer" and len(held.judge(m, [newer, wrong, good])[1]) == 1


def test_a_released_backup_counts_and_goes_with_its_notes(store: Folder) -> None:
    m, stays = backup(store), backup(store, OTHER)
    held.write(store, "production", dataclasses.replace(NOTE, manifest=m.digest, host=socket.gethostname()), KEY)
    held.write(store, "production", dataclasses.replace(NOTE, backup=OTHER), KEY)
    found = inventory.look(store, "production", KEYS)
    assert {b.id: b.held for b in found.backups} == {ID: "", OTHER: "a tenth"}
    assert list(found.faults) == [NAME.replace(ID, OTHER)] and not found.strange
    assert found.keys[ID] == (f"production/manifests/{ID}", NAME, f"production/objects/{ID}/data.age")
    plan = keep.plan(found.backups, WHEN + timedelta(days=3), keep.Policy())
    assert "daily 2026-01-02" in plan.keep[ID] and plan.keep[OTHER] == ["held: a tenth"]
    inventory.remove(found, ID)
    assert [o.key for o in store.list("production/")] == [f"production/manifests/{stays.id}", f"production/objects/{OTHER}/data.age",
                                                          NAME.replace(ID, OTHER)]


def test_a_note_that_outlives_its_backup_is_a_leftover_and_no_backup(store: Folder) -> None:
    held.write(store, "production", NOTE, KEY)
    found = inventory.look(store, "production", KEYS)
    assert [(b.id, b.complete) for b in found.backups] == [(ID, False)]
    inventory.remove(found, ID)
    assert not list(store.list("production/"))


def night(store: Folder, day: int, size: int) -> Manifest:
    """The backup of that day, of so many bytes, as pg-backup makes it."""
    s = settings.Settings("production", {}, {}, schema.load(settings.ROOT / "compose" / "example.env"))
    ident = f"202601{day:02}T031500Z-pg-1a2b3c4d"
    store.put(f"production/objects/{ident}/data.age", b"1234567")
    look = inventory.look(store, "production", KEYS)
    return making.Making(s, ident, "pg", "20260102T031500Z-5e6f7a8b", "7001", [look], KEY, [], "daily", "",
                         [Part("data.age", 7, DIGEST, size, DIGEST)]).finish({})


def test_the_size_of_a_released_backup_is_accepted(store: Folder) -> None:
    for day in range(1, 8):
        assert not night(store, day, 1000).held
    first, second = night(store, 8, 100), night(store, 9, 100)
    assert first.held == second.held == "100 bytes, less than 50 % of the 1000 that its 7 predecessors had"
    held.write(store, "production", dataclasses.replace(NOTE, backup=second.id, manifest=second.digest), KEY)
    assert not night(store, 10, 100).held
    assert night(store, 11, 40).held == "40 bytes, less than 50 % of the 100 that its 2 predecessors had"


def test_from_the_first_night_after_a_release_its_size_is_what_counts(store: Folder) -> None:
    for day in range(1, 8):
        night(store, day, 1000)
    small = night(store, 8, 100)
    note = dataclasses.replace(NOTE, backup=small.id, manifest=small.digest)
    held.write(store, "production", note, KEY)
    assert night(store, 9, 40).held == "40 bytes, less than 50 % of the 100 that its predecessor had"
    manifest.write_verdict(store, "production", manifest.Verdict(small.id, small.digest, "2026-01-09T08:00:00Z", False, 5, {}, ("bad",),
                                                                 "db1"), KEY)
    assert night(store, 10, 100).held == "100 bytes, less than 50 % of the 1000 that its 7 predecessors had"
