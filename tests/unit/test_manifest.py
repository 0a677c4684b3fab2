"""Manifests and verdicts over a store: what is written is read back, and nothing else is taken for one."""
import dataclasses
import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from keel import forms, manifest, settings, signed
from keel.forms import moment, text_of
from keel.manifest import Manifest, Part, Verdict
from keel.stop import CONFIG, DATA, UNAVAILABLE, Stop
from keel.store_file import Folder
from keel.stores import AT_ONCE, LARGE, SMALL

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = {signed.public(KEY): signed.Signer()}
WHEN = datetime(2026, 1, 2, 3, 15, tzinfo=UTC)
ID = "20260102T031500Z-pg-1a2b3c4d"
NAME = f"production/manifests/{ID}"
MANIFEST = Manifest(
    ID, "pg", "20260102T031500Z-5e6f7a8b", "production", "db1", "2026-01-02T03:15:00Z", "2026-01-02T03:16:40Z", "7301234567890123456",
    (Part("events.dump.zst.age", 7, "a" * 64, 9, "b" * 64), Part("globals.sql.zst.age", 0, "c" * 64, 0, "d" * 64)), "daily",
    ("age1qqqq", "age1pppp"), "evenkeel 0.2", {"rows": {"events": 5}, "größe": [1.5, None]}, "2026-02-08T03:15:00Z", "e" * 64)
VERDICT = Verdict(ID, "f" * 64, "2026-01-02T04:00:00Z", True, 5, {"download": 1.25, "restore": 3}, (), "verify1")


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def document(of: Manifest | Verdict = MANIFEST) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(of).items() if name != "digest"}


def planted(store: Folder, changed: object, name: str = NAME) -> str:
    """Why a well-signed document is refused."""
    text = signed.sign(changed, KEY)  # type: ignore[arg-type]
    store.put(name, text.encode(), absent=False)
    with pytest.raises(Stop) as stopped:
        manifest.read(store, name.split("/")[0], name.split("/")[-1], KEYS)
    assert stopped.value.code == DATA and stopped.value.message.startswith(f"{name}: "), stopped.value.message
    return stopped.value.message.removeprefix(f"{name}: ")


def tables(count: int) -> dict[str, Any]:
    """The facts of so many tables, each with a sequence."""
    return {"rows": {f"tenant_{n:06}.events_of_this_tenant": n for n in range(count)},
            "sequences": {f"tenant_{n:06}.events_of_this_tenant_id_seq": n for n in range(count)}}


def bare(of: Manifest) -> Manifest:
    """As it is in a list."""
    return dataclasses.replace(of, facts={})


def numbered(n: int, kind: str = "pg", env: str = "production") -> Manifest:
    when = WHEN + timedelta(days=n)
    return dataclasses.replace(MANIFEST, id=f"{text_of(when, forms.STAMP)}-{kind}-{n:08x}", kind=kind, env=env, created=text_of(when),
                               finished=text_of(when), previous="", lock_until="")


# Reading and writing.

def test_what_is_written_is_read_back(store: Folder) -> None:
    written = manifest.write(store, MANIFEST, KEY)
    assert written == MANIFEST == manifest.read(store, "production", ID, KEYS)
    assert written.digest == manifest.read(store, "production", ID, KEYS).digest == hashlib.sha256(store.get(NAME)).hexdigest()
    there = store.stat(NAME)
    assert there and there.locked_until == datetime(2026, 2, 8, 3, 15, tzinfo=UTC)
    assert b"digest" not in store.get(NAME) and signed.verify(store.get(NAME), KEYS, signed.BACKUP, NAME)["format"] == 1


def test_a_manifest_is_written_once(store: Folder) -> None:
    manifest.write(store, MANIFEST, KEY)
    before = store.get(NAME)
    with pytest.raises(Stop, match="exists already"):
        manifest.write(store, dataclasses.replace(MANIFEST, host="db2"), KEY)
    assert store.get(NAME) == before


def test_a_big_one_is_read_back_and_what_could_not_be_is_not_written(store: Folder) -> None:
    """50,000 tables, each with a sequence; then one string that is too much."""
    big = dataclasses.replace(MANIFEST, facts=tables(50000))
    assert manifest.write(store, big, KEY) == manifest.read(store, "production", ID, KEYS) == big and len(store.get(NAME, LARGE)) > SMALL
    assert manifest.all_of(store, "production", KEYS) == ([bare(big)], {})
    most = dataclasses.replace(numbered(1), facts={"text": "x" * LARGE})
    with pytest.raises(Stop, match="would have 64 MiB, and none of more than 64 is read: it was not written") as stopped:
        manifest.write(store, most, KEY)
    assert stopped.value.code == DATA and [o.key for o in store.list()] == [NAME]


def test_many_big_ones_take_no_more_memory_than_one(store: Folder) -> None:
    """A listing keeps to the 150 MB of all else; a process of its own, for that of this one is known by its highest mark."""
    for n in range(12):
        manifest.write(store, dataclasses.replace(numbered(n), facts=tables(50000)), KEY)
    program = ("import sys; from pathlib import Path; from keel import manifest, signed; from keel.store_file import Folder\n"
               "found, faults = manifest.all_of(Folder(Path(sys.argv[1])), 'production', {sys.argv[2]: signed.Signer()})\n"
               "mark = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
               "print(len(found), len(faults), mark.split()[1])")
    ended = subprocess.run([sys.executable, "-c", program, str(store.root), signed.public(KEY)], check=True, capture_output=True, text=True,
                           env={"PYTHONPATH": str(settings.ROOT / "lib")})
    found, faults, kib = map(int, ended.stdout.split())
    assert (found, faults) == (12, 0) and kib < 100 << 10, f"{kib >> 10} MiB"


def test_the_forms_name_the_fields() -> None:
    """Field by field: a field that no form knows could never be read."""
    for kind, form in ((Manifest, forms.MANIFEST), (Part, forms.PART), (Verdict, forms.VERDICT)):
        assert {f.name for f in dataclasses.fields(kind)} - {"digest"} == form.keys()


# One wrong value of each field, and more where there are more ways.
WRONG: dict[str, list[Any]] = {
    "format": [True, "1", -1, None], "id": [None, "", ID + "\n", "20261302T031500Z-pg-1a2b3c4d", ID.replace("pg", "mysql"), ID.upper()],
    "kind": ["mysql", "", 1], "set": ["", "20260102T031500Z", ID, "20260132T031500Z-5e6f7a8b"], "env": ["", "../x", "a/b", 1, ".env"],
    "host": ["", 1, "a\nb", None], "created": ["", 1767323700, "2026-01-02 03:15:00Z", "2026-1-2T03:15:00Z", "20260102T031500Z"],
    "finished": ["", None, "2026-01-02T03:15:00+01:00"], "lineage": ["", 7301234567890123456], "period": ["yearly", "", None],
    "lock_until": [None, "never", 0], "recipients": ["age1qqqq", [1], ["AGE1QQQQ"], ["age1 x"], None], "tool": [None, "a\x1b[2J"],
    "previous": ["E" * 64, "e" * 63, None], "held": [None, True], "facts": [None, [], ""],
    "objects": [[], {}, None, ["x"], [document()["objects"][0]] * 2],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in WRONG.items() for v in values])
def test_ill_typed_fields_are_refused(store: Folder, field: str, value: object) -> None:
    assert planted(store, document() | {field: value}).startswith(f"{field} is ")


@pytest.mark.parametrize("field", forms.MANIFEST)
def test_missing_fields_are_refused(store: Folder, field: str) -> None:
    assert planted(store, {n: v for n, v in document().items() if n != field}) == f"has no {field}"


PART = document()["objects"][0]


@pytest.mark.parametrize(("part", "said"), [
    *(({n: v for n, v in PART.items() if n != field}, f"an object: has no {field}") for field in PART if field != "name"),
    *((PART | {"name": name}, "an object: name is ") for name in ("", "../x", "a/b", ".x", "x\n", 1, None, "x" * 101)),
    *((PART | {field: size}, f"an object: {field} is ") for field in ("size", "plain_size") for size in (-1, 1.0, "7", True, None)),
    *((PART | {field: digest}, f"an object: {field} is ") for field in ("sha256", "plain_sha256") for digest in ("", "A" * 64, None)),
    (PART | {"more": 1}, "an object: has an unknown more"),
])
def test_ill_typed_objects_are_refused(store: Folder, part: object, said: str) -> None:
    assert planted(store, document() | {"objects": [part]}).startswith(said)


@pytest.mark.parametrize(("change", "said"), [
    ({"format": 2}, "format 2 is unknown"), ({"format": 2, "new": 1}, "format 2 is unknown"), ({"new": 1}, "has an unknown new"),
    ({"kind": "redis"}, "its kind is redis, not pg"), ({"created": "2026-01-02T03:15:01Z"}, "its created is 20260102T031501Z, not "),
    ({"finished": "2026-01-02T03:14:59Z"}, "finished at 2026-01-02T03:14:59Z, before it was created"),
    ({"env": "staging"}, "its env is staging, not production"), ({"id": numbered(1).id}, "its id is 20260103T031500Z-pg-00000001, not "),
])
def test_what_does_not_fit_together_is_refused(store: Folder, change: dict[str, Any], said: str) -> None:
    assert planted(store, document() | change).startswith(said)


def test_a_good_manifest_is_refused_in_another_place(store: Folder) -> None:
    """The replay of an old manifest under a new id, and of production's in staging."""
    manifest.write(store, MANIFEST, KEY)
    for env, ident in (("production", numbered(1).id), ("staging", ID)):
        store.put(f"{env}/manifests/{ident}", store.get(NAME), absent=True)
        with pytest.raises(Stop, match=r"manifests/\S+: its (id|env) is .*, not ") as stopped:
            manifest.read(store, env, ident, KEYS)
        assert stopped.value.code == DATA


@pytest.mark.parametrize("change", [
    {"created": "today"}, {"objects": ()}, {"env": "../x"}, {"id": "x"}, {"kind": "redis"}, {"period": ""}, {"recipients": ("x",)},
])
def test_what_could_not_be_read_is_not_written(store: Folder, change: dict[str, Any]) -> None:
    with pytest.raises(Stop):
        manifest.write(store, dataclasses.replace(MANIFEST, **change), KEY)
    assert not list(store.root.rglob("*"))


@pytest.mark.parametrize("ident", ["", "x", "../../x", ID + "/x", ID + "\n", "20260230T031500Z-pg-1a2b3c4d"])
def test_what_is_no_id_is_refused_before_the_store_is_asked(store: Folder, ident: str) -> None:
    with pytest.raises(Stop, match="is not a backup id") as stopped:
        manifest.read(store, "production", ident, KEYS)
    assert stopped.value.code == DATA


def test_strangers_are_refused(store: Folder) -> None:
    manifest.write(store, MANIFEST, Ed25519PrivateKey.generate())
    with pytest.raises(Stop, match="no trusted key"):
        manifest.read(store, "production", ID, KEYS)


# Listing.

def test_all_are_listed_newest_first_with_what_is_wrong(store: Folder) -> None:
    wanted = [manifest.write(store, numbered(n, kind), KEY) for n, kind in enumerate(["pg", "redis", "files", "pg"])]
    manifest.write(store, numbered(9, env="staging"), KEY)
    spoiled = f"production/manifests/{numbered(5).id}"
    store.put(spoiled, store.get(f"production/manifests/{wanted[0].id}"), absent=True)
    for junk in ("production/manifests/junk", "production/manifests/a/b"):
        store.put(junk, b"junk", absent=True)
    found, faults = manifest.all_of(store, "production", KEYS)
    assert found == [bare(m) for m in wanted[::-1]] and [m.digest for m in found] == [m.digest for m in wanted[::-1]]
    assert sorted(faults) == [spoiled, "production/manifests/a/b", "production/manifests/junk"]
    assert manifest.all_of(store, "nowhere", KEYS) == ([], {})


def test_a_good_manifest_in_a_deeper_folder_is_a_fault(store: Folder) -> None:
    manifest.write(store, MANIFEST, KEY)
    store.put(f"production/manifests/a/{ID}", store.get(NAME), absent=True)
    assert list(manifest.all_of(store, "production", KEYS)[1]) == [f"production/manifests/a/{ID}"]


def test_the_newest_few_are_asked_for_alone(store: Folder) -> None:
    wanted = [manifest.write(store, numbered(n), KEY) for n in range(5)]
    assert manifest.all_of(store, "production", KEYS, 2) == ([bare(m) for m in wanted[:2:-1]], {})
    for n in range(3):
        manifest.write_verdict(store, "production", dataclasses.replace(VERDICT, backup=wanted[n].id), KEY)
    assert manifest.verdicts(store, "production", KEYS, {wanted[1].id})[0].keys() == {wanted[1].id}


class Vanishing(Folder):
    """One is deleted between the listing and the GET, as a prune on another host may."""

    def get(self, key: str, limit: int = SMALL) -> bytes:
        if key == NAME:
            (self.root / key).unlink()
        return super().get(key, limit)


def test_what_is_deleted_meanwhile_is_passed_over(tmp_path: Path) -> None:
    store = Vanishing(tmp_path)
    others = [manifest.write(store, numbered(n), KEY) for n in (1, 2)]
    manifest.write(store, MANIFEST, KEY)
    assert manifest.all_of(store, "production", KEYS) == ([bare(m) for m in others[::-1]], {})


class Silent(Folder):
    def get(self, key: str, limit: int = SMALL) -> bytes:
        raise Stop("store: did not answer", UNAVAILABLE)


def test_a_store_that_does_not_answer_gives_no_list_at_all(tmp_path: Path) -> None:
    """A part of the backups would be taken for all of them."""
    manifest.write(Silent(tmp_path), MANIFEST, KEY)
    with pytest.raises(Stop, match="did not answer") as stopped:
        manifest.all_of(Silent(tmp_path), "production", KEYS)
    assert stopped.value.code == UNAVAILABLE


class Together(Folder):
    """Answers once as many GETs are under way as promised; breaks when that never comes."""

    gate = threading.Barrier(AT_ONCE, timeout=20)

    def get(self, key: str, limit: int = SMALL) -> bytes:
        self.gate.wait()
        return super().get(key, limit)


def test_many_are_asked_for_at_once(tmp_path: Path) -> None:
    store = Together(tmp_path)
    for n in range(2 * AT_ONCE):
        manifest.write(store, numbered(n), KEY)
    assert len(manifest.all_of(store, "production", KEYS)[0]) == 2 * AT_ONCE


# Verdicts.

def test_verdicts_are_listed_newest_first(store: Folder) -> None:
    later = dataclasses.replace(VERDICT, time="2026-01-03T04:00:00Z", ok=False, level=2, findings=("events: 3 rows, 5 wanted",))
    other = dataclasses.replace(VERDICT, backup=numbered(1).id)
    for verdict in (VERDICT, later, other):
        manifest.write_verdict(store, "production", verdict, KEY)
    assert manifest.verdicts(store, "production", KEYS) == ({ID: [later, VERDICT], other.backup: [other]}, {})
    assert store.stat(f"production/verdicts/{ID}/20260102T040000Z")
    with pytest.raises(Stop, match="exists already"):
        manifest.write_verdict(store, "production", VERDICT, KEY)


@pytest.mark.parametrize("change", [
    {"format": 2}, {"backup": "x"}, {"manifest": ""}, {"manifest": "F" * 64}, {"time": "x"}, {"ok": 1}, {"ok": "true"}, {"level": 6},
    {"level": -1}, {"level": True}, {"seconds": [1]}, {"seconds": {"a": -1}}, {"seconds": {"a": "1"}}, {"seconds": {"a": True}},
    {"findings": "x"}, {"findings": [1]}, {"findings": ["a\nb"]}, {"host": ""}, {"more": 1},
])
def test_bad_verdicts_are_faults(store: Folder, change: dict[str, Any]) -> None:
    name = f"production/verdicts/{ID}/20260102T040000Z"
    store.put(name, signed.sign(document(VERDICT) | change, KEY).encode(), absent=True)
    found, faults = manifest.verdicts(store, "production", KEYS)
    assert found == {} and faults.keys() == {name} and faults[name].code == DATA and faults[name].message.startswith(f"{name}: ")


@pytest.mark.parametrize("place", [f"{numbered(1).id}/20260102T040000Z", f"{ID}/20260103T040000Z", "x"])
def test_a_verdict_in_another_place_is_a_fault(store: Folder, place: str) -> None:
    """A verdict copied to another backup would prove what nobody restored."""
    store.put(f"production/verdicts/{place}", signed.sign(document(VERDICT), KEY).encode(), absent=True)
    found, faults = manifest.verdicts(store, "production", KEYS)
    assert found == {} and ["is the verdict" in f.message for f in faults.values()] == [True]


def test_a_manifest_is_no_verdict_and_a_verdict_no_manifest(store: Folder) -> None:
    assert planted(store, document(VERDICT)).startswith("has no ")
    store.put(f"production/verdicts/{ID}/20260102T040000Z", signed.sign(document(), KEY).encode(), absent=True)
    assert [f.code for f in manifest.verdicts(store, "production", KEYS)[1].values()] == [DATA]


def test_a_verdict_that_could_not_be_read_is_not_written(store: Folder) -> None:
    with pytest.raises(Stop):
        manifest.write_verdict(store, "production", dataclasses.replace(VERDICT, level=9), KEY)
    assert not list(store.root.rglob("*"))


# Ids and times.

@given(st.datetimes(datetime(1000, 1, 1), datetime(2999, 1, 1)), st.integers(-12, 12), st.sampled_from(forms.KINDS))
def test_ids(when: datetime, hours: int, kind: str) -> None:
    there = when.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=hours)))
    ident, group = manifest.new_id(kind, there), manifest.new_set(there)
    assert forms.ident(ident) and f"-{kind}-" in ident and forms.MANIFEST["set"](group) and ident[:16] == group[:16]
    assert moment(ident[:16]) == moment(text_of(there)) == there.replace(microsecond=0)
    assert manifest.new_id(kind, there) != ident


@pytest.mark.parametrize("make", [
    lambda: manifest.new_id("mysql", WHEN), lambda: manifest.new_id("pg", WHEN.replace(tzinfo=None)), lambda: moment("2026-1-2T03:15:00Z"),
    lambda: moment("2026-02-30T03:15:00Z"), lambda: moment("20260102T031500"), lambda: moment(""),
    *(lambda t=text: moment(t) for text in (
        "2026-01-02", "2026-01-02 03:15:00Z", "2026-W01-5T03:15:00Z", "2026-01-02T03:15:00+00:00", "2026-01-02T04:15:00+01:00",
        "2026-01-02T03:15:00.000000Z", "2026-01-02T03:15Z", "2026-01-02T03:15:00", "20260102T031500+0000", "20260102 031500Z")),
])
def test_bad_times_and_kinds(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()


def test_a_backup_is_later_than_the_newest(store: Folder) -> None:
    for n in (0, 2):
        manifest.write(store, numbered(n), KEY)
    manifest.write(store, numbered(5, "redis"), KEY)
    store.put(f"production/manifests/{numbered(3).id}", b"spoiled", absent=True)
    newest, *others = manifest.ids(store, "production", "pg")
    assert newest == numbered(3).id and others == [numbered(2).id, numbered(0).id] and manifest.ids(store, "production", "files") == []
    assert datetime.now(UTC) - manifest.time_after(newest) < timedelta(seconds=2) > datetime.now(UTC) - manifest.time_after("")
    ahead = manifest.new_id("pg", datetime.now(UTC) + timedelta(minutes=1))
    with pytest.raises(Stop, match=f"Z would not be later than {ahead}, the newest there is") as stopped:
        manifest.time_after(ahead)
    assert stopped.value.code == CONFIG and "clock" in stopped.value.hint


def test_a_backup_in_the_second_of_the_newest_waits_for_the_next() -> None:
    newest = manifest.new_id("pg", datetime.now(UTC))
    when = manifest.time_after(newest)
    assert moment(newest[:16]) < when <= datetime.now(UTC) and when.microsecond == 0
