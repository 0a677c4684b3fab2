"""What a store holds: the same from a folder and from a real S3 server; what was finished meanwhile is never taken for a leftover."""
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import s3server
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from keel import forms, inventory, keep, manifest, schema, settings, signed, store_file, stores
from keel.manifest import Manifest, Part, Verdict
from keel.stop import BUSY, CONFIG, Stop
from keel.stores import Store

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = {signed.public(KEY): signed.Signer()}
NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
DATA_NAME, DATA = "events.dump.zst.age", b"ciphertext"
DIGEST = hashlib.sha256(DATA).hexdigest()
LATER = datetime.now(UTC) + timedelta(days=30)  # leftovers are as old as the store says that they are
VARIABLES = schema.load(settings.ROOT / "compose" / "example.env")


def some_settings(**values: str) -> settings.Settings:
    return settings.Settings("production", values, {}, VARIABLES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3server.Server]:
    started = s3server.Server(tmp_path_factory.mktemp("weed"))
    try:
        started.bucket("plain")
        yield started
    finally:
        started.stop()


@pytest.fixture(params=["folder", "plain"])
def store(request: pytest.FixtureRequest, tmp_path: Path, server: s3server.Server) -> Store:
    if request.param == "folder":
        return store_file.open_folder(str(tmp_path))
    s = some_settings(AWS_ACCESS_KEY_ID=s3server.ADMIN[0], AWS_SECRET_ACCESS_KEY=s3server.ADMIN[1], KEEL_S3_ENDPOINT=server.endpoint)
    return stores.open_one(s, f"s3://plain/{tmp_path.name}")


def data(store: Store, days: int, content: bytes = DATA) -> str:
    """The objects of a backup that has no manifest (yet)."""
    ident = manifest.new_id("pg", NOW - timedelta(days=days))
    store.put(f"production/objects/{ident}/{DATA_NAME}", content, absent=True)
    return ident


def finish(store: Store, ident: str) -> Manifest:
    when = forms.text_of(forms.moment(ident[:16]))
    return manifest.write(store, Manifest(ident, "pg", manifest.new_set(NOW), "production", "db1", when, when, "7001",
                                          (Part(DATA_NAME, len(DATA), DIGEST, 10, DIGEST),), "daily", ("age1qqqq",), "evenkeel"), KEY)


def judge(store: Store, m: Manifest, ok: bool, *, minute: int = 0, digest: str = "", level: int = 5) -> None:
    when = forms.text_of(NOW + timedelta(minutes=minute))
    manifest.write_verdict(store, "production", Verdict(m.id, digest or m.digest, when, ok, level, {}, (), "verify1"), KEY)


def names(store: Store) -> list[str]:
    return [o.key for o in store.list("production/")]


def test_good_bad_verified_and_unfinished(store: Store) -> None:
    plain, tried, failed, recovered, read, other = (finish(store, data(store, n)) for n in range(6))
    judge(store, tried, True)
    judge(store, failed, True)
    judge(store, failed, False, minute=1)
    judge(store, recovered, False)
    judge(store, recovered, True, minute=1)
    judge(store, read, True, level=inventory.RESTORED - 1)
    judge(store, other, True, digest="0" * 64)
    short, bare = finish(store, data(store, 7, DATA[1:])), data(store, 8)
    found = inventory.look(store, "production", KEYS)
    by_id = {b.id: b for b in found.backups}
    assert {b.id for b in found.backups if b.verified} == {tried.id, recovered.id}
    assert {b.id for b in found.backups if not b.good} == {failed.id, short.id}
    assert {b.id for b in found.backups if not b.complete} == {bare} and by_id[bare].lineage == ""
    assert by_id[bare].created > NOW - timedelta(days=8), "as old as the newest of its data"
    assert by_id[plain.id].created == NOW and by_id[plain.id].lineage == "7001"
    assert list(found.faults) == [f"production/manifests/{short.id}"] and found.strange == ()


# The verdicts in their order, as + or - and the level, and what counts in the end: whether it is good, restored, and the verdict shown.
OVER_TIME = {
    "": "good", "+0": "good +0", "+2": "good +2", "+3": "restored +3", "-1": "bad -1",
    "-4 +1": "bad -4", "-4 +3": "bad -4", "-4 +4": "restored +4", "-4 +5": "restored +5",  # a look does not heal what lies deeper
    "-4 +4 +0": "restored +4", "-4 +1 +5 +1": "restored +5",
    "+5 +0": "restored +5", "+5 +0 +2": "restored +5", "+5 +3": "restored +3", "+2 +1": "good +2",  # nor does it undo a restore
    "+5 -1": "bad -1", "+5 -1 +0": "bad -1", "+5 -1 +1": "good +1", "+5 -1 +2 +0": "good +2", "+5 -1 +1 +3": "restored +3",
    "-4 -1": "bad -1", "-4 -1 +1": "bad -4", "-4 -1 +1 +4": "restored +4", "-1 +1 -4 +1": "bad -4", "-4 +1 -1 +1": "bad -4",
    "-0 +0": "good +0", "-0 +5": "restored +5", "-5 +4": "bad -5", "-5 +5": "restored +5",
}


@pytest.mark.parametrize("said", OVER_TIME)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_verdict_stands_until_one_that_went_as_far(said: str, backwards: bool, tmp_path: Path) -> None:
    store = store_file.open_folder(str(tmp_path))
    m = finish(store, data(store, 1))
    judge(store, m, False, minute=59, digest="0" * 64)
    for minute, word in list(enumerate(said.split()))[::-1 if backwards else 1]:
        judge(store, m, word[0] == "+", minute=minute, level=int(word[1]))
    (backup,) = inventory.look(store, "production", KEYS).backups
    stands = inventory.standing(m, manifest.verdicts(store, "production", KEYS)[0][m.id])
    shown = [f"{'+' if stands.ok else '-'}{stands.level}"] if stands else []
    assert " ".join(["restored" if backup.verified else "good" if backup.good else "bad", *shown]) == OVER_TIME[said]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=8))
def test_whatever_was_said_before_and_after(told: list[tuple[bool, int]]) -> None:
    """The rule as it is told, word by word."""
    m = Manifest("20260301T040000Z-pg-00000001", "pg", "", "production", "db1", "", "", "7001", (), "daily", (), "", digest="1" * 64)
    verdicts = [Verdict(m.id, m.digest, forms.text_of(NOW + timedelta(minutes=n)), ok, level, {}, (), "x")
                for n, (ok, level) in enumerate(told)]
    stands = inventory.standing(m, verdicts[::-1])
    bad = [n for n, (ok, level) in enumerate(told) if not ok and not any(o and deep >= level for o, deep in told[n:])]
    restored = any(ok and level >= inventory.RESTORED and all(o for o, _ in told[n:]) for n, (ok, level) in enumerate(told))
    assert bool(stands and not stands.ok) == bool(bad) and inventory.restores(stands) == (restored and not bad)
    assert (stands is None) == (not told)


def test_an_old_backup_that_is_found_bad_stays_for_a_person_to_look(tmp_path: Path) -> None:
    """For so many days from the verdict that stands, however old it is; a verdict that was outdone counts no longer."""
    store = store_file.open_folder(str(tmp_path))
    made = [finish(store, data(store, n)) for n in range(70)]
    judge(store, made[0], True)
    old, older = made[60], made[65]
    judge(store, old, False, minute=-29 * 24 * 60)
    for minute, ok in ((-40, False), (-35, True), (-31, False)):
        judge(store, older, ok, minute=minute * 24 * 60)
    found = inventory.look(store, "production", KEYS)
    by_id = {b.id: b for b in found.backups}
    assert by_id[older.id].judged == NOW - timedelta(days=31) and by_id[made[0].id].judged is None
    plan = keep.plan(found.backups, NOW, keep.Policy())
    assert plan.keep[old.id] == ["found bad, for a person to look into for 30 days"]
    assert plan.delete[older.id] == "found bad 31 d ago, 65 d old"


def test_a_backup_goes_manifest_first_and_others_stay(store: Store) -> None:
    gone, stays = (finish(store, data(store, n)) for n in range(2))
    judge(store, gone, True)
    found = inventory.look(store, "production", KEYS)
    assert found.keys[gone.id] == (f"production/manifests/{gone.id}", f"production/verdicts/{gone.id}/20260302T040000Z",
                                   f"production/objects/{gone.id}/{DATA_NAME}")
    inventory.remove(found, gone.id)
    assert names(store) == [f"production/manifests/{stays.id}", f"production/objects/{stays.id}/{DATA_NAME}"]
    inventory.remove(found, gone.id)  # what is gone already is no fault: another host may prune too


def test_what_is_finished_between_look_and_delete_stays(store: Store) -> None:
    ident = data(store, 9)
    found = inventory.look(store, "production", KEYS)
    finish(store, ident)
    before = names(store)
    with pytest.raises(Stop, match="has its manifest by now") as stopped:
        inventory.remove(found, ident)
    assert stopped.value.code == BUSY and names(store) == before


def test_what_is_finished_while_we_look_is_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest comes after the manifests were read, and before the data is listed."""
    store = store_file.open_folder(str(tmp_path))
    ident, read = data(store, 9), manifest.verdicts

    def slow(*args: object) -> object:
        finish(store, ident)
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(manifest, "verdicts", slow)
    assert inventory.look(store, "production", KEYS).backups == ()


def test_an_upload_that_nobody_finishes_goes_once_it_is_old(store: Store) -> None:
    """A process that was killed: what it had sent stays in the store, and is seen by nobody else."""
    key = f"production/objects/{manifest.new_id('pg', NOW)}/{DATA_NAME}"
    if isinstance(store, store_file.Folder):
        part = store.root / Path(key).parent / f".{DATA_NAME}.x.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(DATA)
    else:
        client, where = store.client, {"Bucket": "plain", "Key": f"{store.prefix}/{key}"}  # type: ignore[attr-defined]
        client.upload_part(**where, UploadId=client.create_multipart_upload(**where)["UploadId"], PartNumber=1, Body=DATA)
    found = inventory.look(store, "production", KEYS)
    well, refused = keep.Plan({}, {}, ""), keep.Plan({}, {}, "stale")
    assert found.backups == ()
    assert not list(inventory.unfinished(found, keep.Policy(), well, LATER)), "no other is newer: it may still be at work"
    finish(store, data(store, 1))
    assert not list(inventory.unfinished(inventory.look(store, "production", KEYS), keep.Policy(), well, LATER))
    finish(store, data(store, -1))
    found = inventory.look(store, "production", KEYS)
    assert not list(inventory.unfinished(found, keep.Policy(), well, datetime.now(UTC)))
    assert not list(inventory.unfinished(found, keep.Policy(), refused, LATER))
    (old,) = inventory.unfinished(found, keep.Policy(), well, LATER)
    assert old.key == key
    store.abort(old)
    assert not list(inventory.unfinished(found, keep.Policy(), well, LATER))


def test_a_key_that_no_store_should_hold_is_a_fault_and_spoils_no_list(server: s3server.Server, tmp_path: Path) -> None:
    """Whoever may write into the bucket must not be able to blind `backups`."""
    s = some_settings(AWS_ACCESS_KEY_ID=s3server.ADMIN[0], AWS_SECRET_ACCESS_KEY=s3server.ADMIN[1], KEEL_S3_ENDPOINT=server.endpoint)
    store = stores.open_one(s, f"s3://plain/{tmp_path.name}")
    good = finish(store, data(store, 1))
    server.client().put_object(Bucket="plain", Key=f"{tmp_path.name}/production/manifests/.x", Body=b"x")
    found = inventory.look(store, "production", KEYS)
    assert [b.id for b in found.backups] == [good.id] and list(found.faults) == ["production/manifests/.x"] == list(found.strange)


def test_the_rules_come_from_the_settings() -> None:
    assert inventory.policy(some_settings()) == keep.Policy()
    changed = inventory.policy(some_settings(KEEL_KEEP_DAILY="7", KEEL_BACKUP_MAX_AGE="26h"))
    assert (changed.daily, changed.max_age) == (7, timedelta(hours=26))
    with pytest.raises(Stop, match="newest=2: at least 3 is wanted") as stopped:
        inventory.policy(some_settings(KEEL_KEEP_NEWEST="2"))
    assert stopped.value.code == CONFIG
