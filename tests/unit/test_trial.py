"""A backup that was tampered with or has rotted: never read as if it were well, and the object is named. Real keys, a folder store."""
import dataclasses
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import s3server
from faulty import Proxy

from keel import age_crypt, age_keys, due, inventory, manifest, pack, recover, schema, settings, signed, stores, trial, verdict
from keel.manifest import Manifest, Verdict
from keel.recover import Found
from keel.stop import BUSY, CONFIG, DATA, UNAVAILABLE, Stop
from keel.store_file import Folder, open_folder

ENV, CHUNK, NONCE = "production", 65536 + 16, 16
FIRST, SECOND = "20260301T031500Z-pg-00000001", "20260302T031500Z-pg-00000002"
VARIABLES = schema.load(settings.ROOT / "compose" / "example.env")
LINEAGE = "7301234567890123456"


class Place:
    """A store with two backups of two objects each, and the settings of a host that may open them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        pem, line = signed.new_key("tests")
        self.secret, recipient = age_crypt.new_identity()
        for name, text in (("sign.pem", pem), ("signers", line), ("identity", f"{self.secret}\n"), ("recipients", f"{recipient}\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        (folder / "store").mkdir()
        self.store: Folder = open_folder(str(folder / "store"))
        self.key = signed.load_key(folder / "sign.pem")
        self.settings = settings.Settings(ENV, {
            "KEEL_STATE": str(folder / "state"), "KEEL_BACKUP_STORES": self.store.url, "KEEL_BACKUP_SIGNERS": str(folder / "signers"),
            "KEEL_BACKUP_IDENTITY": str(folder / "identity"), "KEEL_BACKUP_SIGN_KEY": str(folder / "sign.pem")}, {}, VARIABLES)
        self.contents = {"database.dump": os.urandom(3 * 65536 + 500), "globals.sql": b"CREATE ROLE reader;\n"}
        for ident in (FIRST, SECOND):
            self.make(ident)

    def make(self, ident: str) -> None:
        to, parts = age_keys.recipients_file(self.folder / "recipients"), []
        for name, content in self.contents.items():
            packing = pack.Packing(name, iter([content]), to)
            self.store.upload(f"{ENV}/objects/{ident}/{packing.name}", packing.chunks)
            parts.append(packing.part())
        when = f"{ident[:4]}-{ident[4:6]}-{ident[6:8]}T{ident[9:11]}:{ident[11:13]}:{ident[13:15]}Z"
        manifest.write(self.store, Manifest(ident, "pg", f"{ident[:16]}-00000000", ENV, "db1", when, when, LINEAGE, tuple(parts), "daily",
                                            tuple(str(r) for r in to), "evenkeel 1"), self.key)

    def object(self, name: str = "database.dump", ident: str = SECOND) -> Path:
        return self.folder / "store" / ENV / "objects" / ident / f"{name}.zst.age"

    def signature(self, ident: str = SECOND) -> Path:
        return self.folder / "store" / ENV / "manifests" / ident

    def read(self, ident: str = SECOND) -> dict[str, bytes]:
        """As restore does."""
        found, keys = recover.find(self.settings, ident), recover.identities(self.settings)
        return {p.name.removesuffix(".zst.age"): b"".join(found.content(p, keys)) for p in found.manifest.objects}

    def verify(self, ident: str = SECOND) -> trial.Trial:
        """As restore-verify --level 1 does."""
        tried = trial.begin(self.settings, ident, ())
        trial.carry_out(self.settings, tried, trial.Wanted(level=1, lineage=LINEAGE))
        verdict.record(self.settings, tried, self.key)
        return tried

    def verdicts(self, ident: str = SECOND) -> list[Verdict]:
        return manifest.verdicts(self.store, ENV, signed.trusted(self.folder / "signers"))[0].get(ident, [])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def cut(size: Callable[[int], int]) -> Callable[[Place], None]:
    """Truncate the dump, or lengthen it, and nothing else."""
    def change(p: Place) -> None:
        path = p.object()
        os.truncate(path, size(path.stat().st_size))
    return change


def cut_and_signed(at: int) -> Callable[[Place], None]:
    """Truncate the dump at a chunk boundary (and so many bytes beyond), and sign a manifest with the sizes as they now are."""
    def change(p: Place) -> None:
        path = p.object()
        data = path.read_bytes()
        start = data.index(b"\n---") + data[data.index(b"\n---") + 1:].index(b"\n") + 2 + NONCE
        path.write_bytes(data[:start + at])
        old = manifest.read(p.store, ENV, SECOND, signed.trusted(p.folder / "signers"))
        p.store.delete(f"{ENV}/manifests/{SECOND}")
        parts = tuple(dataclasses.replace(o, size=start + at) if o.name.startswith("database") else o for o in old.objects)
        manifest.write(p.store, dataclasses.replace(old, objects=parts, digest=""), p.key)
    return change


def flip(path: Callable[[Place], Path], at: Callable[[bytes], int]) -> Callable[[Place], None]:
    """Change one bit of one byte."""
    def change(p: Place) -> None:
        data = bytearray(path(p).read_bytes())
        data[at(data)] ^= 1
        path(p).write_bytes(data)
    return change


def swap(p: Place) -> None:
    one, two = p.object(), p.object("globals.sql")
    one_data, two_data = one.read_bytes(), two.read_bytes()
    one.write_bytes(two_data)
    two.write_bytes(one_data)


def swap_same_size(p: Place) -> None:
    """With the same object of another backup: all that is wrong is whose it is."""
    one, other = p.object(), p.object(ident=FIRST)
    one_data, other_data = one.read_bytes(), other.read_bytes()
    assert len(one_data) == len(other_data)
    one.write_bytes(other_data)
    other.write_bytes(one_data)


def sealed_anew(p: Place) -> None:
    """What anybody can do who knows the public key: other content, well sealed, in the same size."""
    size = p.object().stat().st_size
    packing = pack.Packing("database.dump", iter([os.urandom(3 * 65536 + 500)]), age_keys.recipients_file(p.folder / "recipients"))
    p.object().write_bytes(b"".join(packing.chunks))
    assert p.object().stat().st_size == size


def replay(p: Place) -> None:
    shutil.copy(p.signature(FIRST), p.signature())


def strange(p: Place) -> None:
    p.object().with_name("more.zst.age").write_bytes(b"x")


def other_signer(p: Place) -> None:
    pem, _ = signed.new_key("somebody")
    (p.folder / "theirs.pem").write_text(pem)
    (p.folder / "theirs.pem").chmod(0o600)
    old = manifest.read(p.store, ENV, SECOND, signed.trusted(p.folder / "signers"))
    p.store.delete(f"{ENV}/manifests/{SECOND}")
    manifest.write(p.store, dataclasses.replace(old, digest=""), signed.load_key(p.folder / "theirs.pem"))


DUMP, ROLES, SIGNED = "database.dump.zst.age", "globals.sql.zst.age", f"manifests/{SECOND}"
BODY = (-1, 0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK - 1, 3 * CHUNK, 3 * CHUNK + 1)
OBJECT_CASES = {
    **{f"cut at {n} of the payload": (cut_and_signed(n), DUMP) for n in BODY},
    "a byte short": (cut(lambda n: n - 1), DUMP),
    "a byte long": (cut(lambda n: n + 1), DUMP),
    "empty": (cut(lambda n: 0), DUMP),
    "a bit of the header's version": (flip(Place.object, lambda d: 0), DUMP),
    "a bit of the header's key": (flip(Place.object, lambda d: d.index(b"X25519 ") + 12), DUMP),
    "a bit of the header's mac": (flip(Place.object, lambda d: d.index(b"\n---") + 10), DUMP),
    "a bit of the first chunk": (flip(Place.object, lambda d: d.index(b"\n---") + 100), DUMP),
    "a bit of a middle chunk": (flip(Place.object, lambda d: len(d) // 2), DUMP),
    "a bit of the last byte": (flip(Place.object, lambda d: len(d) - 1), DUMP),
    "a bit of the smaller object": (flip(lambda p: p.object("globals.sql"), lambda d: len(d) - 1), ROLES),
    "two objects swapped": (swap, DUMP),
    "swapped with another backup's": (swap_same_size, DUMP),
    "sealed anew by somebody": (sealed_anew, DUMP),
    "an object is gone": (lambda p: p.object("globals.sql").unlink(), ROLES),
    "an object more": (strange, "more.zst.age"),
}
MANIFEST_CASES = {
    "a bit of the manifest": (flip(Place.signature, lambda d: d.index(b"db1")), SIGNED),
    "a bit of the signature": (flip(Place.signature, lambda d: d.rindex(b"=") - 20), SIGNED),
    "the manifest cut": (lambda p: os.truncate(p.signature(), p.signature().stat().st_size - 10), SIGNED),
    "an old manifest replayed": (replay, SIGNED),
    "signed by somebody else": (other_signer, SIGNED),
    "no manifest": (lambda p: p.signature().unlink(), SIGNED),
}


def test_what_is_well_is_read(place: Place) -> None:
    """The control: nothing of this is refused, and the verdict is good."""
    assert place.read() == place.contents
    tried = place.verify()
    assert tried.well and [v.ok for v in place.verdicts()] == [True]
    assert set(place.verdicts()[0].seconds) == {"find", "download"}


def test_two_verdicts_within_a_second(place: Place) -> None:
    for _ in range(3):
        assert place.verify().well
    assert len({v.time for v in place.verdicts()}) == 3


@pytest.mark.parametrize("case", OBJECT_CASES)
def test_a_bad_object(place: Place, case: str) -> None:
    change, named = OBJECT_CASES[case]
    change(place)
    with pytest.raises(Stop) as stop:
        place.read()
    assert stop.value.code == DATA and named in stop.value.message and SECOND in stop.value.message, stop.value.message
    tried = place.verify()
    assert not tried.well and any(named in line for line in tried.findings()), tried.findings()
    assert [(v.ok, any(named in line for line in v.findings)) for v in place.verdicts()] == [(False, True)]
    if case != "swapped with another backup's":
        assert place.verify(FIRST).well


@pytest.mark.parametrize("case", MANIFEST_CASES)
def test_a_bad_manifest(place: Place, case: str) -> None:
    change, named = MANIFEST_CASES[case]
    change(place)
    for attempt in (place.read, place.verify):
        with pytest.raises(Stop) as stop:
            attempt()
        assert stop.value.code == DATA and named in stop.value.message, stop.value.message
        assert place.store.url in stop.value.message or attempt == place.read
    assert place.verdicts() == []


def test_keys_that_do_not_open_it(place: Place) -> None:
    (place.folder / "identity").write_text(f"{age_crypt.new_identity()[0]}\n")
    with pytest.raises(Stop) as stop:
        place.read()
    assert stop.value.code == DATA and DUMP in stop.value.message
    with pytest.raises(Stop) as stop:
        place.verify()
    assert stop.value.code == DATA and DUMP in stop.value.message and ROLES in stop.value.message
    assert place.verdicts() == []


def test_one_of_several_identities_is_enough(place: Place) -> None:
    (place.folder / "identity").write_text(f"{age_crypt.new_identity()[0]}\n{place.secret}\n")
    assert place.verify().well


def test_the_newest_of_each_kind(place: Place) -> None:
    assert due.Due(place.settings).newest() == [SECOND]
    with pytest.raises(Stop) as stop:
        due.Due(settings.Settings("staging", place.settings.values, {}, VARIABLES)).newest()
    assert stop.value.code == 1


def test_a_copy_that_is_bad_does_not_spoil_the_other(place: Place) -> None:
    shutil.copytree(place.folder / "store", place.folder / "second")
    flip(Place.object, lambda d: len(d) // 2)(place)
    both = f"{place.store.url} file://{place.folder / 'second'}"
    place.settings.values["KEEL_BACKUP_STORES"] = both
    tried = place.verify()
    assert not tried.well and list(tried.faults) == [place.store.url]
    second = open_folder(str(place.folder / "second"))
    good = manifest.verdicts(second, ENV, signed.trusted(place.folder / "signers"))[0][SECOND]
    assert [v.ok for v in place.verdicts()] == [False] and [v.ok for v in good] == [True]
    place.settings.values["KEEL_BACKUP_STORES"] = f"file://{place.folder / 'second'} {place.store.url}"
    assert isinstance(recover.find(place.settings, SECOND), Found)


def test_a_copy_that_was_not_tried_is_read_all_the_same(place: Place) -> None:
    """The other's verdict neither calls it good nor makes what was found bad in it good again."""
    shutil.copytree(place.folder / "store", place.folder / "second")
    second = open_folder(str(place.folder / "second"))
    place.settings.values["KEEL_BACKUP_STORES"] = f"{place.store.url} {second.url}"
    assert place.verify().well
    damaged = place.folder / "second" / ENV / "objects" / SECOND / DUMP
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"X")
    for _ in range(2):
        tried = place.verify()
        assert not tried.well and list(tried.faults) == [second.url] and DUMP in tried.faults[second.url].message
    trusted = signed.trusted(place.folder / "signers")
    assert [v.ok for v in place.verdicts()] == [True] * 3
    said = manifest.verdicts(second, ENV, trusted)[0][SECOND]
    assert [v.ok for v in said] == [False, False, True]
    standing = inventory.standing(manifest.read(second, ENV, SECOND, trusted), said)
    assert standing and not standing.ok


def test_a_copy_that_is_pruned_while_it_is_read_has_no_verdict(place: Place) -> None:
    shutil.copytree(place.folder / "store", place.folder / "second")
    second = open_folder(str(place.folder / "second"))
    place.settings.values["KEEL_BACKUP_STORES"] = f"{place.store.url} {second.url}"
    tried = trial.begin(place.settings, SECOND, ())
    for key in (f"{ENV}/manifests/{SECOND}", f"{ENV}/objects/{SECOND}/{DUMP}"):
        second.delete(key)
    trial.carry_out(place.settings, tried, trial.Wanted(level=1, lineage=LINEAGE))
    assert tried.well and tried.code == 0 and [c.store.url for c in tried.found] == [place.store.url]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3server.Server]:
    started = s3server.Server(tmp_path_factory.mktemp("weed"))
    try:
        started.bucket("plain")
        yield started
    finally:
        started.stop()


class Behind:
    """The same backups in a bucket, in whose way a fault can be put; it is asked before the folder."""

    def __init__(self, place: Place, server: s3server.Server) -> None:
        self.action, self.where = "pass", ""
        self.proxy = Proxy(server.port, lambda _, path, __: self.action if self.where in path else "pass")
        self.place, words = place, f"?endpoint={self.proxy.endpoint}"
        place.settings.values.update({"AWS_ACCESS_KEY_ID": s3server.ADMIN[0], "AWS_SECRET_ACCESS_KEY": s3server.ADMIN[1],
                                      "KEEL_S3_ATTEMPTS": "1"})
        self.alone = f"s3://plain/{uuid.uuid4().hex}{words}"
        self.both = f"{self.alone} {place.store.url}"
        self.store = stores.open_one(place.settings, self.alone)
        for o in place.store.list():
            self.store.put(o.key, place.store.get(o.key))

    def said(self) -> list[bool]:
        """The verdicts in the bucket."""
        self.action = "pass"
        return [v.ok for v in manifest.verdicts(self.store, ENV, signed.trusted(self.place.folder / "signers"))[0].get(SECOND, [])]


@pytest.fixture
def behind(place: Place, server: s3server.Server) -> Iterator[Behind]:
    made = Behind(place, server)
    yield made
    made.proxy.close()


# What fails, how, and the exit code.
AWAY = {
    "the manifest": (f"/manifests/{SECOND}", "busy", UNAVAILABLE),
    "the list after the manifest": (f"objects%2F{SECOND}", "busy", UNAVAILABLE),
    "access to the list": (f"objects%2F{SECOND}", "expired", CONFIG),
    "an object": (f"{SECOND}/globals.sql", "busy", UNAVAILABLE),
    "an object, in the middle": (f"{SECOND}/database.dump", "half", UNAVAILABLE),
    "access to an object": (f"{SECOND}/globals.sql", "expired", CONFIG),
}


@pytest.mark.parametrize("case", AWAY)
def test_a_store_that_does_not_answer_is_no_bad_backup(case: str, behind: Behind, capsys: pytest.CaptureFixture[str]) -> None:
    place, (where, action, code) = behind.place, AWAY[case]
    place.settings.values["KEEL_BACKUP_STORES"] = behind.both
    tried = place.verify()
    assert tried.well and tried.code == 0 and behind.said() == [True] and len(place.verdicts()) == 1, "the control"
    behind.where, behind.action = where, action
    tried = place.verify()
    assert tried.well and tried.code == code and tried.checked.level == 1 and list(tried.away) == [behind.store.url]
    assert [v.ok for v in place.verdicts()] == [True, True] and f"warning: {behind.store.url}: " in capsys.readouterr().err
    flip(Place.object, lambda d: len(d) // 2)(place)
    tried = place.verify()
    assert not tried.well and tried.code == code and [v.ok for v in place.verdicts()] == [False, True, True]
    assert all(behind.store.url not in line for v in place.verdicts() for line in v.findings)
    place.settings.values["KEEL_BACKUP_STORES"] = behind.alone
    with pytest.raises(Stop) as stop:
        place.verify()
    assert stop.value.code == code and behind.store.url in stop.value.message
    assert behind.said() == [True], "of the control"


def test_an_object_that_is_gone_from_a_bucket_is_its_fault(behind: Behind) -> None:
    behind.place.settings.values["KEEL_BACKUP_STORES"] = behind.both
    behind.store.delete(f"{ENV}/objects/{SECOND}/{DUMP}")
    tried = behind.place.verify()
    assert not tried.well and tried.code == 0 and behind.said() == [False] and [v.ok for v in behind.place.verdicts()] == [True]


def test_one_that_is_pruned_while_it_is_read_is_not_called_bad(place: Place) -> None:
    tried = trial.begin(place.settings, SECOND, ())
    place.object().unlink()
    place.signature().rename(place.folder / "aside")
    with pytest.raises(Stop, match=f"{SECOND} was deleted while it was read") as stop:
        trial.carry_out(place.settings, tried, trial.Wanted(level=1, lineage=LINEAGE))
    assert stop.value.code == BUSY and tried.well
    (place.folder / "aside").rename(place.signature())
    trial.carry_out(place.settings, tried, trial.Wanted(level=1, lineage=LINEAGE))
    assert not tried.well, "with its manifest it is"


def test_an_older_one_is_not_failed_for_its_server(place: Place) -> None:
    for older in (False, True):
        tried = trial.begin(place.settings, SECOND, ())
        trial.carry_out(place.settings, tried, trial.Wanted(level=0, lineage="7000000000000000001", older=older))
        assert tried.well == older and not tried.findings()


def test_the_identity_that_is_lacking_is_named(place: Place) -> None:
    (place.folder / "identity").write_text(f"{age_crypt.new_identity()[0]}\n")
    sealed, other = (str(r) for r in (age_keys.recipients_file(place.folder / "recipients")[0], age_crypt.recipient(
        age_keys.SecretKey(bytes([7]) * 32))))
    place.settings.values["KEEL_BACKUP_RECIPIENTS"] = str(place.folder / "recipients")
    for text, said in ((f"# operator\n{sealed}\n", f"{sealed} (current, operator)"), (f"{other}\n", f"{sealed} (unlisted)"),
                       (f"{other}\n# retired {sealed} operator until 2027\n", f"{sealed} (retired, operator until 2027)")):
        (place.folder / "recipients").write_text(text)
        with pytest.raises(Stop) as stop:
            place.verify()
        assert stop.value.code == DATA and f"add the identity of {said}; nothing is said against the backup" in stop.value.hint


def test_late_is_told_apart_from_bad(place: Place) -> None:
    from keel import expected

    old = trial.begin(place.settings, SECOND, ()).manifest
    assert expected.late(place.settings, old, 1.0, newest=False) == []
    assert any("KEEL_BACKUP_MAX_AGE=52h" in line for line in expected.late(place.settings, old, 1.0, newest=True))
    assert any("KEEL_BACKUP_RTO=4h" in line for line in expected.late(place.settings, old, 4 * 3600 + 1, newest=False))
    today = dataclasses.replace(old, created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert expected.late(place.settings, today, 1.0, newest=True) == []


def test_what_two_times_the_data_would_take(place: Place) -> None:
    from keel import expected

    said = expected.outlook(place.settings, {"find": 1, "start": 4, "globals": 1, "restore": 60, "checks": 6})
    assert said == "72.0 s (RTO 4h: 0.5 %; 2 times the data about 2 min, 10 times the data about 11 min)"
