"""What a store can do, found out by doing it below store-check/ and taking it away again; nothing locked is ever written."""
import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from keel import folder_owner, multipart, stores
from keel.stop import Stop
from keel.store_errors import of_s3
from keel.store_file import Folder
from keel.store_s3 import Bucket

SKEW = 60  # seconds; S3 itself refuses 15 minutes
SCRATCH = "store-check/"


@dataclass(frozen=True)
class Finding:
    """One thing that a store can do or not; `needed`: evenkeel cannot do without."""

    store: str
    check: str
    able: bool
    said: str
    needed: bool


class Producer(Exception):
    """What the probe of an aborted upload raises."""


def look_over(store: stores.Store) -> Iterator[Finding]:
    """Everything that can be found out; ends early where the store cannot be written or read at all."""
    prefix = f"{SCRATCH}{secrets.token_hex(4)}/"
    small, large = f"{prefix}small", f"{prefix}large"
    found: list[Finding] = []

    def probe(check: str, needed: bool, work: Callable[[], str]) -> Finding:
        try:
            found.append(Finding(store.url, check, True, work(), needed))
        except Stop as e:
            found.append(Finding(store.url, check, False, e.message.removeprefix(f"{store.url}: "), needed))
        return found[-1]

    try:
        yield probe("write", True, lambda: _said(store.put(small, b"one"), ""))
        if not found[-1].able:
            return
        yield probe("read", True, lambda: _equal(store.get(small), b"one"))
        yield probe("list", True, lambda: _listed(store, prefix, small))
        yield probe("conditional-put", False, lambda: _conditional(store, small))
        yield probe("abort", True, lambda: _aborted(store, large))
        deletes = probe("delete", False, lambda: _deleted(store, small))
        yield deletes
        if deletes.able:
            yield probe("multipart", True, lambda: _large(store, large))
        if isinstance(store, Folder):
            root = store.root
            yield probe("private", False, lambda: folder_owner.ours_alone(root))
        if isinstance(store, Bucket):
            bucket = store
            yield probe("checksums", False, lambda: _checksums(bucket, small))
            yield probe("versioning", False, lambda: _versioning(bucket))
            yield probe("object-lock", bucket.lock != "off", lambda: _object_lock(bucket))
            yield probe("clock", False, lambda: _clock(bucket))
    finally:
        left = _clean(store, prefix)
    if left:
        yield Finding(store.url, "clean", False, f"left behind, for these credentials may not delete: {', '.join(left)}", False)


def _said(done: object, text: str) -> str:
    return text


def _equal(got: bytes, wanted: bytes) -> str:
    if got != wanted:
        raise Stop("what was read is not what was written")
    return ""


def _listed(store: stores.Store, prefix: str, key: str) -> str:
    if [o.key for o in store.list(prefix)] != [key]:
        raise Stop("a new object is not in the list")
    return ""


def _conditional(store: stores.Store, key: str) -> str:
    try:
        store.put(key, b"two", absent=True)
    except stores.Exists:
        if store.get(key) != b"one":
            raise Stop("refused, and yet replaced") from None
    else:
        raise Stop("ignored: a second manifest of one name would replace the first")
    try:
        if not store.put(f"{key}-new", b"one", absent=True):
            raise Stop("not known there: evenkeel asks first and then writes, which two at once could both do")
    finally:
        with suppress(Stop):
            store.delete(f"{key}-new")
    return ""


def _stream(fail: bool) -> Iterator[bytes]:
    for _ in range(multipart.FIRST // multipart.MIB + 1):
        yield b"\x5a" * multipart.MIB
    if fail:
        raise Producer


def _aborted(store: stores.Store, key: str) -> str:
    try:
        store.upload(key, _stream(True))
    except Producer:
        if store.stat(key):
            raise Stop("an upload that was broken off is there") from None
        if list(store.unfinished(key.rpartition("/")[0] + "/", datetime.now(UTC) + timedelta(days=1))):
            raise Stop("an upload that was aborted left parts behind") from None
    return ""


def _large(store: stores.Store, key: str) -> str:
    store.upload(key, _stream(False))
    got, wanted = hashlib.sha256(), hashlib.sha256()
    for chunk in store.read(key):
        got.update(chunk)
    for chunk in _stream(False):
        wanted.update(chunk)
    return _equal(got.digest(), wanted.digest())


def _deleted(store: stores.Store, key: str) -> str:
    store.delete(key)
    if store.stat(key):
        raise Stop("it is still there")
    return ""


def _checksums(bucket: Bucket, key: str) -> str:
    where = {"Bucket": bucket.name, "Key": f"{bucket.prefix}/{key}".lstrip("/")}
    try:
        bucket.client.put_object(**where, Body=b"one", ContentMD5=multipart.digest(b"two"))
    except bucket.client.exceptions.ClientError as e:
        if e.response["ResponseMetadata"]["HTTPStatusCode"] == 400:
            return ""
        raise Stop(f"a wrong checksum is answered with {e.response['Error']['Code']}") from None
    raise Stop("a wrong checksum is accepted")


def _versioning(bucket: Bucket) -> str:
    with of_s3(bucket.url, ""):
        status = bucket.client.get_bucket_versioning(Bucket=bucket.name).get("Status", "never enabled")
    if status != "Enabled":
        raise Stop(f"{status.lower()}: what is deleted or overwritten is gone, restore --as-of cannot help")
    return ""


def _object_lock(bucket: Bucket) -> str:
    with of_s3(bucket.url, ""):
        lock = bucket.client.get_object_lock_configuration(Bucket=bucket.name)["ObjectLockConfiguration"]
    if lock.get("ObjectLockEnabled") != "Enabled":
        raise Stop("the bucket has no Object Lock")
    rule = lock.get("Rule", {}).get("DefaultRetention")
    return f"the bucket's default is {rule['Mode'].lower()}: what store-check wrote may stay" if rule else ""


def _clock(bucket: Bucket) -> str:
    with of_s3(bucket.url, ""):
        said = bucket.client.head_bucket(Bucket=bucket.name)["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not said:
        raise Stop("the store does not say its time")
    skew = (datetime.now(UTC) - parsedate_to_datetime(said)).total_seconds()
    if abs(skew) > SKEW:
        raise Stop(f"this host is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the store")
    return ""


def _clean(store: stores.Store, prefix: str) -> list[str]:
    """Take away what is left, old versions too; the keys that stay."""
    left = []
    soon = datetime.now(UTC) + timedelta(days=1)
    with suppress(Stop):
        for upload in list(store.unfinished(prefix, soon)):
            with suppress(Stop):
                store.abort(upload)
        for there in list(store.list(prefix)):
            try:
                store.delete(there.key)
            except Stop:
                left.append(there.key)
        if isinstance(store, Bucket):
            left += store.purge(prefix)
    return sorted(set(left))
