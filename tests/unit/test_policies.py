"""The policies of docs/stores.md: each parses and gives no more than the page says, and a real S3 server enforces them."""
import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import policies
import pytest
import s3server
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keel import fan, forms, held, inventory, manifest, schema, settings, signed, store_s3, stores
from keel.held import Release
from keel.manifest import Manifest, Part, Verdict
from keel.multipart import FIRST, digest
from keel.stop import CONFIG, Stop

VARIABLES = schema.load(settings.ROOT / "compose" / "example.env")
ENV = "development"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = {signed.public(KEY): signed.Signer()}
NOW = datetime.now(UTC).replace(microsecond=0)
LOCK = timedelta(minutes=10)
DATA = b"x" * (FIRST + 1)  # two parts
DENIED = 403
DESTROYS = {"s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:PutBucketPolicy", "s3:PutLifecycleConfiguration"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3server.Server]:
    started = s3server.Server(tmp_path_factory.mktemp("weed"))
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def bucket(server: s3server.Server, request: pytest.FixtureRequest) -> str:
    """A bucket as the page wants it, for one test; it knows the owner's other things too."""
    name = f"b{hashlib.sha256(request.node.name.encode()).hexdigest()[:20]}"
    client = server.client()
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    policies.apply(client, name, ENV)
    client.put_object(Bucket=name, Key="events/production/manifests/x", Body=b"another environment's")
    return name


def store(server: s3server.Server, bucket: str, role: str, lock: str = "compliance") -> store_s3.Bucket:
    who = s3server.ROLES[role]
    values = {"KEEL_S3_ENDPOINT": server.endpoint, "KEEL_S3_TIMEOUT": "10s", "KEEL_S3_ATTEMPTS": "2", "KEEL_S3_LOCK": lock,
              "AWS_ACCESS_KEY_ID": who[0], "AWS_SECRET_ACCESS_KEY": who[1]}
    return store_s3.open_bucket(settings.Settings(ENV, values, {}, VARIABLES), bucket, "events", {})


def finish(to: store_s3.Bucket, *, why: str = "") -> Manifest:
    """A backup as pg-backup will make it: two parts of an object under a lock, then the manifest."""
    ident, until = manifest.new_id("pg", NOW), NOW + LOCK
    (sent,) = fan.upload_all([to], f"{ENV}/objects/{ident}/data.zst.age", iter([DATA]), lock_until=until)
    assert sent.size == len(DATA) and sent.error is None, sent
    sha, when = hashlib.sha256(DATA).hexdigest(), forms.text_of(NOW)
    return manifest.write(to, Manifest(ident, "pg", manifest.new_set(NOW), ENV, "db1", when, when, "7001",
                                       (Part("data.zst.age", len(DATA), sha, 10, sha),), "daily", ("age1qqqq",), "evenkeel",
                                       lock_until=forms.text_of(until), held=why), KEY)


def said(call: Callable[[], Any]) -> int:
    """The status that the server gave."""
    from botocore.exceptions import ClientError

    try:
        return int(call()["ResponseMetadata"]["HTTPStatusCode"])
    except ClientError as e:
        return int(e.response["ResponseMetadata"]["HTTPStatusCode"])


def actions(policy: dict[str, Any]) -> set[str]:
    return {a for s in policy["Statement"] for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])}


# --- the page ---

def test_every_block_of_the_page_is_json_with_a_name() -> None:
    text = (settings.ROOT / "docs" / "stores.md").read_text()
    assert text.count("```json") == len(policies.documents()) == 5


@pytest.mark.parametrize("role", policies.ROLES)
def test_nobody_may_destroy_and_each_is_bound_to_its_place(role: str) -> None:
    policy = policies.documents()[f"{role}.json"]
    assert policy["Version"] == "2012-10-17"
    assert not actions(policy) & DESTROYS and not any("*" in a for a in actions(policy))
    for s in policy["Statement"]:
        assert s["Effect"] == "Allow"
        if s["Resource"] == "arn:aws:s3:::acme-backups":
            assert s["Condition"] == {"StringLike": {"s3:prefix": "events/production/*"}} and all("List" in a for a in s["Action"])
        else:
            assert s["Resource"].startswith("arn:aws:s3:::acme-backups/events/production/") and s["Resource"].endswith("/*")


def test_each_has_what_its_name_says() -> None:
    found = {role: actions(policies.documents()[f"{role}.json"]) for role in policies.ROLES}
    assert "s3:PutObject" in found["writer"] and "s3:DeleteObject" not in found["writer"] | found["verifier"]
    assert found["writer"] & found["pruner"] >= {"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:ListBucketMultipartUploads"}
    assert "s3:DeleteObject" in found["pruner"] and not any("Put" in a for a in found["pruner"])
    (verdicts,) = (s for s in policies.documents()["verifier.json"]["Statement"] if s["Action"] == "s3:PutObject")
    assert verdicts["Resource"].endswith("/events/production/verdicts/*")
    assert actions(policies.documents()["bucket.json"]) >= DESTROYS


def test_the_lifecycle_is_kept_by_the_server_as_it_stands(server: s3server.Server, bucket: str) -> None:
    (rule,) = server.client().get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule == policies.documents(bucket, ENV)["lifecycle.json"]["Rules"][0]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7} and "NoncurrentDays" in rule["NoncurrentVersionExpiration"]


# --- the writer ---

def test_the_writer_makes_a_whole_backup_and_reads_it(server: s3server.Server, bucket: str) -> None:
    writer = store(server, bucket, "writer")
    m = finish(writer)
    found = inventory.look(writer, ENV, KEYS)
    assert [b.id for b in found.backups] == [m.id] and not found.faults
    with pytest.raises(stores.Exists):
        manifest.write(writer, dataclasses.replace(m, host="db2"), KEY)
    where = {"Bucket": bucket, "Key": f"events/{ENV}/objects/{m.id}/data.zst.age"}
    kept = server.client().head_object(**where)
    assert kept["ObjectLockMode"] == "COMPLIANCE" and kept["ObjectLockRetainUntilDate"] == NOW + LOCK
    assert hashlib.sha256(b"".join(writer.read(f"{ENV}/objects/{m.id}/data.zst.age"))).hexdigest() == m.objects[0].sha256


def test_the_writer_cleans_up_after_itself(server: s3server.Server, bucket: str) -> None:
    writer = store(server, bucket, "writer")

    def fails() -> Iterator[bytes]:
        yield DATA
        raise RuntimeError("pg_dump")
    with pytest.raises(RuntimeError):
        writer.upload(f"{ENV}/objects/x/data", fails(), lock_until=NOW + LOCK)
    assert not list(writer.unfinished(f"{ENV}/", NOW + timedelta(days=1))) and not list(writer.list(f"{ENV}/"))
    assert not server.client().list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_the_writer_deletes_nothing(server: s3server.Server, bucket: str) -> None:
    writer = store(server, bucket, "writer")
    m = finish(writer)
    with pytest.raises(Stop, match=r"access is denied \(AccessDenied\)") as stopped:
        inventory.remove(inventory.look(writer, ENV, KEYS), m.id)
    assert stopped.value.code == CONFIG and f"{ENV}/manifests/{m.id}" in stopped.value.message
    assert [b.id for b in inventory.look(writer, ENV, KEYS).backups] == [m.id]


def test_the_writer_releases_a_held_backup(server: s3server.Server, bucket: str) -> None:
    writer = store(server, bucket, "writer")
    m = finish(writer, why="a tenth")
    held.write(writer, ENV, Release(m.id, m.digest, forms.text_of(NOW), "looked at it", "db1"), KEY)
    assert [b.held for b in inventory.look(writer, ENV, KEYS).backups] == [""]


def test_without_the_right_to_lock_nothing_goes_there_unlocked(server: s3server.Server, bucket: str) -> None:
    """The negative control of PutObjectRetention: it is asked for by the server, not only by the page."""
    found = policies.documents(bucket, ENV)
    found["writer.json"]["Statement"][0]["Action"].remove("s3:PutObjectRetention")
    server.client().put_bucket_policy(Bucket=bucket, Policy=policies.bucket_policy(found))
    for data in (b"small", DATA):
        with pytest.raises(Stop, match="access is denied"):
            store(server, bucket, "writer").upload(f"{ENV}/objects/x/data", iter([data]), lock_until=NOW + LOCK)
    assert not list(store(server, bucket, "writer").list(f"{ENV}/"))
    store(server, bucket, "writer", lock="off").upload(f"{ENV}/objects/x/data", iter([DATA]), lock_until=NOW + LOCK)


# --- the pruner and the verifier ---

def test_the_pruner_takes_away_and_the_owner_can_bring_back(server: s3server.Server, bucket: str) -> None:
    writer, pruner = store(server, bucket, "writer"), store(server, bucket, "pruner")
    m = finish(writer)
    where = {"Bucket": bucket, "Key": f"events/{ENV}/objects/x/data"}
    upload = writer.client.create_multipart_upload(**where)["UploadId"]
    writer.client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x", ContentMD5=digest(b"x"))
    (left,) = pruner.unfinished(f"{ENV}/", NOW + timedelta(days=1))
    pruner.abort(left)
    assert not list(pruner.unfinished(f"{ENV}/", NOW + timedelta(days=1)))
    inventory.remove(inventory.look(pruner, ENV, KEYS), m.id)
    assert not list(pruner.list(f"{ENV}/"))
    versions = server.client().list_object_versions(Bucket=bucket, Prefix=f"events/{ENV}/")["Versions"]
    assert len(versions) == 2, "hidden, not gone"
    for v in versions:
        for bypass in ({}, {"BypassGovernanceRetention": True}):
            assert said(lambda v=v, b=bypass: pruner.client.delete_object(  # type: ignore[misc]
                Bucket=bucket, Key=v["Key"], VersionId=v["VersionId"], **b)) == DENIED
    verifier = store(server, bucket, "verifier")
    there = list(verifier.versions(f"{ENV}/manifests/", datetime.now(UTC)))
    assert [v.key for v in there] == [f"{ENV}/manifests/{m.id}"] and signed.verify(b"".join(verifier.read(there[0].key, there[0].version)),
                                                                                    KEYS, signed.BACKUP, "m")


def test_the_verifier_reads_all_and_writes_verdicts_only(server: s3server.Server, bucket: str) -> None:
    m, verifier = finish(store(server, bucket, "writer")), store(server, bucket, "verifier")
    assert manifest.read(verifier, ENV, m.id, KEYS) == m
    manifest.write_verdict(verifier, ENV, Verdict(m.id, m.digest, forms.text_of(NOW), True, 5, {}, (), "verify1"), KEY)
    (seen,) = inventory.look(verifier, ENV, KEYS).backups
    assert seen.verified
    for key in (f"{ENV}/manifests/x", f"{ENV}/objects/{m.id}/data.zst.age", f"{ENV}/releases/{m.id}/x"):
        with pytest.raises(Stop, match="access is denied"):
            verifier.put(key, b"x")
    with pytest.raises(Stop, match="access is denied"):
        verifier.delete(f"{ENV}/manifests/{m.id}")


@pytest.mark.parametrize("role", policies.ROLES)
def test_what_each_may_not(server: s3server.Server, bucket: str, role: str) -> None:
    """The table of the page, right by right, asked of the server itself."""
    who, here = server.client(s3server.ROLES[role], attempts=1), {"Bucket": bucket, "Key": f"events/{ENV}/manifests/x"}
    there = {"Bucket": bucket, "Key": "events/production/manifests/x"}
    put = server.client().put_object(**here, Body=b"x", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=NOW + LOCK,
                                     ContentMD5=digest(b"x"))
    policy, lifecycle = policies.bucket_policy(policies.documents(bucket, ENV)), policies.documents(bucket, ENV)["lifecycle.json"]
    allowed = {
        "get": said(lambda: who.get_object(**here)), "list": said(lambda: who.list_objects_v2(Bucket=bucket, Prefix=f"events/{ENV}/")),
        "put": said(lambda: who.put_object(**here, Body=b"y")), "hide": said(lambda: who.delete_object(**here)),
        "versions": said(lambda: who.list_object_versions(Bucket=bucket, Prefix=f"events/{ENV}/")),
        "old": said(lambda: who.get_object(**here, VersionId=put["VersionId"])),
    }
    wanted = {"writer": {"get", "list", "put"}, "pruner": {"get", "list", "hide"}, "verifier": {"get", "list", "versions", "old"}}[role]
    assert {name for name, status in allowed.items() if status < 300} == wanted
    assert {status for name, status in allowed.items() if name not in wanted} == {DENIED}
    for what in (
        lambda: who.get_object(**there), lambda: who.put_object(**there, Body=b"y"), lambda: who.delete_object(**there),
        lambda: who.list_objects_v2(Bucket=bucket), lambda: who.list_objects_v2(Bucket=bucket, Prefix="events/production/"),
        lambda: who.delete_object(**here, VersionId=put["VersionId"]),
        lambda: who.delete_object(**here, VersionId=put["VersionId"], BypassGovernanceRetention=True),
        lambda: who.put_bucket_policy(Bucket=bucket, Policy=policy), lambda: who.delete_bucket_policy(Bucket=bucket),
        lambda: who.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=lifecycle),
        lambda: who.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}),
        lambda: who.delete_bucket(Bucket=bucket),
    ):
        assert said(what) == DENIED
    gone = server.client().delete_object(**here, VersionId=put["VersionId"], BypassGovernanceRetention=True)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204, "the owner may: the calls above are well-formed"


def test_the_bucket_denies_whatever_else_one_is_given(server: s3server.Server, bucket: str) -> None:
    found = policies.documents(bucket, ENV)
    found["writer.json"]["Statement"][0]["Action"] += ["s3:DeleteObjectVersion", "s3:DeleteObject"]
    server.client().put_bucket_policy(Bucket=bucket, Policy=policies.bucket_policy(found))
    writer, where = store(server, bucket, "writer", lock="off"), {"Bucket": bucket, "Key": f"events/{ENV}/x"}
    writer.put(f"{ENV}/x", b"x")
    version = server.client().head_object(**where)["VersionId"]
    assert said(lambda: writer.client.delete_object(**where, VersionId=version)) == DENIED
    found["bucket.json"]["Statement"] = []
    server.client().put_bucket_policy(Bucket=bucket, Policy=policies.bucket_policy(found))
    assert said(lambda: writer.client.delete_object(**where, VersionId=version)) == 204, "the negative control"


def test_what_this_server_does_not_enforce(server: s3server.Server, bucket: str) -> None:
    """As the page says of it. When one of these fails, SeaweedFS has learned it: correct the page."""
    found = policies.documents(bucket, ENV)
    found["writer.json"]["Statement"] = [s for s in found["writer.json"]["Statement"] if s["Sid"] != "List"]
    found["writer.json"]["Statement"][0]["Action"] = ["s3:PutObject", "s3:PutObjectRetention", "s3:GetObject"]
    found["bucket.json"]["Statement"] += [{
        "Effect": "Deny", "Principal": {"AWS": ["arn:aws:iam::000000000000:user/backup-writer"]}, "Action": ["s3:PutObjectRetention"],
        "Resource": [f"arn:aws:s3:::{bucket}/*"], "Condition": {"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": "400"}}}]
    server.client().put_bucket_policy(Bucket=bucket, Policy=policies.bucket_policy(found))
    writer = store(server, bucket, "writer", lock="governance")
    assert writer.stat(f"{ENV}/none") is None, "Amazon answers 403 to one who may not list"
    writer.put(f"{ENV}/far", b"x", lock_until=NOW + timedelta(days=4000))
    where = {"Bucket": bucket, "Key": f"events/{ENV}/data"}
    upload = writer.client.create_multipart_upload(**where)["UploadId"]
    assert said(lambda: writer.client.list_parts(**where, UploadId=upload)) == 200, "without ListMultipartUploadParts"
    assert said(lambda: writer.client.abort_multipart_upload(**where, UploadId=upload)) == 204, "without AbortMultipartUpload"


def test_two_hosts_at_once_with_one_manifest(server: s3server.Server, bucket: str) -> None:
    """The rights are enough for the conditional write: of two writers one wins."""
    won: list[bytes] = []

    def put(data: bytes) -> None:
        with contextlib.suppress(stores.Exists):
            store(server, bucket, "writer").put(f"{ENV}/manifests/m", data, absent=True)
            won.append(data)
    threads = [threading.Thread(target=put, args=(bytes([n]),)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(won) == 1
