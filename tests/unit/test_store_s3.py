"""The contract of stores, for folders and for a real S3 server (SeaweedFS), and what a bucket does when network and server fail."""
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import s3server
from faulty import Fault, Proxy

from keel import fan, multipart, schema, settings, store_check, store_file, store_s3, stores
from keel.interrupt import Interrupted
from keel.stop import Stop
from keel.stores import Store

VARIABLES = schema.load(settings.ROOT / "compose" / "example.env")
MIB = 1 << 20
SOON = timedelta(days=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3server.Server]:
    started = s3server.Server(tmp_path_factory.mktemp("weed"))
    try:
        for name, how in (("plain", {}), ("versioned", {"versioned": True}), ("locked", {"lock": True})):
            started.bucket(name, **how)
        yield started
    finally:
        started.stop()


def bucket(server: s3server.Server, name: str, who: tuple[str, str] = s3server.ADMIN, *, attempts: str = "3",
           **words: str) -> store_s3.Bucket:
    """A store below a prefix of its own, so that tests do not see each other."""
    values = {"KEEL_S3_ENDPOINT": server.endpoint, "KEEL_S3_TIMEOUT": "2s", "KEEL_S3_ATTEMPTS": attempts, "AWS_ACCESS_KEY_ID": who[0],
              "AWS_SECRET_ACCESS_KEY": who[1]}
    s = settings.Settings("test", values, {}, VARIABLES)
    return store_s3.open_bucket(s, name, f"test/{uuid.uuid4().hex}", words)


@pytest.fixture(params=["folder", "plain", "versioned"])
def store(request: pytest.FixtureRequest, tmp_path: Path, server: s3server.Server) -> Store:
    return store_file.open_folder(str(tmp_path)) if request.param == "folder" else bucket(server, request.param)


@pytest.fixture
def behind(server: s3server.Server) -> Iterator[Callable[[Fault], tuple[store_s3.Bucket, Proxy]]]:
    """Make a store whose server is reached through a proxy with that fault."""
    made: list[Proxy] = []

    def make(fault: Fault, attempts: str = "3") -> tuple[store_s3.Bucket, Proxy]:
        made.append(Proxy(server.port, fault))
        return bucket(server, "plain", attempts=attempts, endpoint=made[-1].endpoint), made[-1]
    yield make
    for proxy in made:
        proxy.close()


def unfinished(store: Store) -> list[stores.Unfinished]:
    return list(store.unfinished("", datetime.now(UTC) + SOON))


def pieces(size: int, chunk: int = 300_007) -> Iterator[bytes]:
    """Bytes that differ from place to place, in chunks of an odd size."""
    block = bytes(range(251)) * (chunk // 251 + 1)
    for at in range(0, size, chunk):
        yield block[at % 251:][:min(chunk, size - at)].ljust(min(chunk, size - at), b"z")


def failing(size: int, error: BaseException) -> Iterator[bytes]:
    yield from pieces(size)
    raise error


def digest(chunks: Iterator[bytes]) -> str:
    h = hashlib.sha256()
    for chunk in chunks:
        h.update(chunk)
    return h.hexdigest()


# --- the contract ---

def test_put_get_stat_list_delete(store: Store) -> None:
    assert store.stat("a/b") is None and list(store.list()) == [] and unfinished(store) == []
    assert store.put("a/b", b"one") is True
    for key in ("a/c", "ab", "größe/ä b"):
        store.put(key, b"three")
    assert store.get("a/b") == b"one" and b"".join(store.read("a/b")) == b"one"
    found = store.stat("a/b")
    assert found and (found.key, found.size) == ("a/b", 3) and abs(found.modified - datetime.now(UTC)) < timedelta(minutes=1)
    assert [(o.key, o.size) for o in store.list()] == [("a/b", 3), ("a/c", 5), ("ab", 5), ("größe/ä b", 5)]
    assert [o.key for o in store.list("a/")] == ["a/b", "a/c"] and list(store.list("nothing/")) == []
    store.put("a/b", b"two")
    assert store.get("a/b") == b"two"
    store.delete("a/b")
    store.delete("a/b")
    assert store.stat("a/b") is None and [o.key for o in store.list("a/")] == ["a/c"]


def test_put_where_there_is_none(store: Store) -> None:
    assert store.put("m", b"one", absent=True) is True
    for data in (b"two", b"one"):
        with pytest.raises(stores.Exists, match="m exists already"):
            store.put("m", data, absent=True)
    assert store.get("m") == b"one"


def test_of_many_who_put_at_once_one_wins(store: Store) -> None:
    won: list[bytes] = []

    def put(data: bytes) -> None:
        try:
            store.put("m", data, absent=True)
            won.append(data)
        except stores.Exists:
            return
    threads = [threading.Thread(target=put, args=(bytes([n]),)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(won) == 1 and store.get("m") == won[0]


def test_what_is_not_there(store: Store) -> None:
    for ask in (lambda: store.get("a/b"), lambda: list(store.read("a/b"))):
        with pytest.raises(stores.Missing) as e:
            ask()
        assert e.value.code == 65 and f"{store.url}: there is no a/b" == e.value.message and "`backups` lists" in e.value.hint


def test_a_small_object_that_is_large(store: Store) -> None:
    store.put("m", b"x" * 100)
    assert store.get("m", 100) == b"x" * 100
    with pytest.raises(Stop, match="larger than 99"):
        store.get("m", 99)


@pytest.mark.parametrize("size", [0, 1, 16 * MIB - 1, 16 * MIB, 16 * MIB + 1, 40 * MIB])
def test_upload(store: Store, size: int) -> None:
    assert store.upload("big", pieces(size)) == size
    found = store.stat("big")
    assert found and found.size == size and digest(store.read("big")) == digest(pieces(size)) and unfinished(store) == []


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), Interrupted(15), OSError(5, "the producer's"), Stop("pg_dump")])
@pytest.mark.parametrize("size", [0, 1000, 40 * MIB])
def test_a_producer_that_fails_publishes_nothing(store: Store, size: int, error: BaseException) -> None:
    with pytest.raises(type(error)) as e:
        store.upload("big", failing(size, error))
    assert e.value is error
    assert store.stat("big") is None and list(store.list()) == [] and unfinished(store) == []


def test_old_versions(server: s3server.Server) -> None:
    store = bucket(server, "versioned")
    for data in (b"one", b"two"):
        store.put("a/b", data)
        time.sleep(1.1)  # the server's times are whole seconds
    between = datetime.now(UTC)
    time.sleep(1.1)
    store.put("a/b", b"three")
    store.put("a/c", b"later")
    store.delete("a/b")
    found = list(store.versions("", between))
    assert [o.key for o in found] == ["a/b"] and b"".join(store.read("a/b", found[0].version)) == b"two"
    assert store.stat("a/b") is None and list(store.versions("", between - SOON)) == []
    assert [o.key for o in store.versions("", datetime.now(UTC) + SOON)] == ["a/b", "a/c"]


CHILD = """
import sys
from keel import schema, settings, stores
s = settings.Settings("test", {}, {}, schema.load(settings.ROOT / "compose" / "example.env"))
def endless():
    for n in range(60): yield bytes(1 << 20)
    print("under way", flush=True)
    sys.stdin.read()
stores.open_one(s, sys.argv[1]).upload("dir/big", endless())
"""


def child(server: s3server.Server, program: str, *arguments: str) -> "subprocess.Popen[str]":
    """A Python of its own with this library and the administrator's credentials."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(settings.ROOT / "lib"), "AWS_ACCESS_KEY_ID": s3server.ADMIN[0],
           "AWS_SECRET_ACCESS_KEY": s3server.ADMIN[1]}
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def test_kill_9_leaves_no_object_and_what_it_leaves_is_found_and_removed(store: Store, server: s3server.Server) -> None:
    url = store.url + (f"?endpoint={server.endpoint}" if store.url.startswith("s3") else "")
    with child(server, CHILD, url) as process:
        assert process.stdout and process.stdout.readline() == "under way\n"
        process.send_signal(signal.SIGKILL)
    assert store.stat("dir/big") is None and list(store.list()) == []
    assert list(store.unfinished("dir/", datetime.now(UTC) - SOON)) == []  # too young
    left = unfinished(store)
    assert [u.key for u in left] == ["dir/big"]
    store.abort(left[0])
    assert unfinished(store) == [] and list(store.list()) == []


# --- folders ---

def test_a_folder_keeps_locks_and_leaves_nothing(tmp_path: Path) -> None:
    folder = store_file.open_folder(str(tmp_path))
    until = datetime.now(UTC).replace(microsecond=0) + SOON
    folder.upload("a/b", iter([b"x"]), lock_until=until)
    found = folder.stat("a/b")
    assert found and found.locked_until == until and [o.key for o in folder.list()] == ["a/b"]
    for refused in (lambda: folder.delete("a/b"), lambda: folder.put("a/b", b"y"), lambda: folder.upload("a/b", iter([b"y"]))):
        with pytest.raises(stores.Locked, match="a/b is locked until"):
            refused()
    assert folder.get("a/b") == b"x"
    (tmp_path / "a" / ".b.locked").write_text("nonsense")
    with pytest.raises(Stop, match="is no time"):
        folder.delete("a/b")
    (tmp_path / "a" / ".b.locked").write_text("2020-01-01T00:00:00Z\n")
    folder.delete("a/b")
    assert list(tmp_path.iterdir()) == []


def test_an_unmounted_disk_is_not_filled(tmp_path: Path) -> None:
    """Whatever is done first; and it is not taken for an empty store."""
    root = tmp_path / "disk"
    folder = store_file.open_folder(str(root))
    left = stores.Unfinished("a/b", ".b.x.part", datetime.now(UTC))
    uses = (lambda: folder.put("a/b", b""), lambda: list(folder.list()), lambda: folder.get("a/b"), lambda: list(folder.read("b")),
            lambda: folder.upload("b", iter([])), lambda: folder.stat("a/b"), lambda: folder.delete("a/b"), lambda: unfinished(folder),
            lambda: list(folder.versions("", datetime.now(UTC))), lambda: folder.abort(left))
    for use in uses:
        with pytest.raises(Stop, match="there is no such folder") as e:
            use()
        assert e.value.code == 69 and f"mkdir -p {root}" in e.value.hint and not root.exists()
    root.write_text("")
    for use in uses:
        with pytest.raises(Stop, match="is no folder") as e:
            use()
        assert e.value.code == 78


@pytest.fixture
def small(tmp_path: Path) -> Iterator[store_file.Folder]:
    """A store on a file system of 4 MiB."""
    (root := tmp_path / "small").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "keel-test", str(root)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield store_file.open_folder(str(root))
    finally:
        subprocess.run(["umount", str(root)], check=True)


def test_a_full_disk(small: store_file.Folder) -> None:
    with pytest.raises(Stop, match="big: no space left on device") as e:
        small.upload("a/big", pieces(8 * MIB))
    assert e.value.code == 69 and list(small.root.iterdir()) == []


@pytest.mark.parametrize("chunk", [4096, 65_536, 65_552, 100_000, 300_007])  # what is buffered when the disk is full depends on the size
def test_a_full_disk_beside_a_good_one(small: store_file.Folder, tmp_path: Path, chunk: int) -> None:
    (tmp_path / "good").mkdir()
    good = store_file.open_folder(str(tmp_path / "good"))
    full, well = fan.upload_all([small, good], "a/big", pieces(8 * MIB, chunk))
    assert full.error and full.error.code == 69 and full.error.message == f"{small.url}: a/big: no space left on device"
    assert (well.size, well.error) == (8 * MIB, None) and digest(good.read("a/big")) == digest(pieces(8 * MIB, chunk))
    assert list(small.root.iterdir()) == []


# --- buckets ---

class Short(io.RawIOBase):
    """Gives what it has, as pipes and sockets do."""

    def __init__(self, size: int) -> None:
        self.chunks = pieces(size, 131_072)

    def read(self, size: int = -1) -> bytes:
        return next(self.chunks, b"")


def test_short_reads_are_whole_here_and_cut_off_by_boto3(server: s3server.Server) -> None:
    """The control: with boto3's own upload the same source loses most of its bytes, and says nothing."""
    store, size = bucket(server, "plain"), 30 * MIB
    assert store.upload("ours", iter(Short(size).read, b"")) == size and digest(store.read("ours")) == digest(pieces(size, 131_072))

    class Duck:
        read = Short(size).read
    store.client.upload_fileobj(Duck(), "plain", f"{store.prefix}/theirs")
    theirs = store.stat("theirs")
    assert theirs and theirs.size < size


def test_parts_grow_and_the_cap_is_kept(server: s3server.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "FIRST", 5 * MIB)
    store = bucket(server, "plain", parts="4")
    assert multipart.capacity(4) == 28.75 * MIB
    assert store.upload("big", pieces(28 * MIB)) == 28 * MIB and digest(store.read("big")) == digest(pieces(28 * MIB))
    with pytest.raises(Stop, match="does not fit in 4 parts") as e:
        store.upload("bigger", pieces(30 * MIB))
    assert e.value.code == 65 and store.stat("bigger") is None and unfinished(store) == []


MEMORY = """
import sys
from keel import schema, settings, stores
s = settings.Settings("test", {}, {}, schema.load(settings.ROOT / "compose" / "example.env"))
store = stores.open_one(s, sys.argv[1])
chunk = bytes(1 << 20)
store.upload("big", (chunk for _ in range(int(sys.argv[2]))))
def peak():  # not getrusage: that begins with the memory of the process that started us
    return next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
up = peak()
n = sum(len(c) for c in store.read("big"))
print(n >> 20, up, peak())
"""


def test_memory_of_2_gb(server: s3server.Server) -> None:
    store = bucket(server, "plain")
    with child(server, MEMORY, f"{store.url}?endpoint={server.endpoint}", "2048") as process:
        assert process.stdout
        size, up, rss = process.stdout.read().split()
    store.delete("big")
    assert size == "2048" and int(rss) <= 120, f"{up} MiB up, {rss} MiB in all"


def test_object_lock(server: s3server.Server) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=20)  # short: nothing is locked for long
    store = bucket(server, "locked", s3server.WRITER, lock="compliance")
    store.upload("big", pieces(20 * MIB), lock_until=until)
    store.put("small", b"x", absent=True, lock_until=until)
    for key in ("big", "small"):
        found = bucket(server, "locked").client.head_object(Bucket="locked", Key=f"{store.prefix}/{key}")
        assert (found["ObjectLockMode"], found["ObjectLockRetainUntilDate"]) == ("COMPLIANCE", until)
        with pytest.raises(Exception, match="AccessDenied|Object Lock|locked|WORM"):
            server.client().delete_object(Bucket="locked", Key=f"{store.prefix}/{key}", VersionId=found["VersionId"])
    found_small = store.stat("small")
    assert found_small and found_small.locked_until in (until, None)  # None: these credentials may not read the lock


def test_a_lock_where_the_bucket_has_none(server: s3server.Server) -> None:
    store = bucket(server, "plain", lock="governance")
    with pytest.raises(Stop) as e:
        store.put("m", b"x", lock_until=datetime.now(UTC) + SOON)
    assert e.value.code in (69, 78) and store.stat("m") is None


def test_a_writer_needs_no_delete_right_not_even_to_abort(server: s3server.Server) -> None:
    store = bucket(server, "plain", s3server.WRITER)
    store.upload("big", pieces(20 * MIB))
    with pytest.raises(KeyError):
        store.upload("broken", failing(40 * MIB, KeyError()))
    assert unfinished(store) == []
    with pytest.raises(Stop) as e:
        store.delete("big")
    assert e.value.code == 78 and store.stat("big")


@pytest.mark.parametrize(("name", "who", "said"), [
    ("plain", ("nobody", "hunter2"), "access is denied"), ("plain", (s3server.ADMIN[0], "hunter2"), "access is denied"),
    ("no-such-bucket", s3server.ADMIN, "there is no such bucket")])
def test_wrong_credentials_and_buckets(server: s3server.Server, name: str, who: tuple[str, str], said: str) -> None:
    store = bucket(server, name, who)
    for use in (lambda: store.put("m", b"x"), lambda: list(store.list()), lambda: store.upload("big", pieces(20 * MIB))):
        with pytest.raises(Stop, match=said) as e:
            use()
        text = e.value.message + e.value.hint
        assert e.value.code == 78 and store.url in text and "hunter2" not in text and "nobody" not in text


def test_a_clock_that_is_wrong(server: s3server.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can set the clock of a test machine: what boto3 takes for the time is an hour off."""
    from botocore import auth

    monkeypatch.setattr(auth, "get_current_datetime", lambda: datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=1))
    with pytest.raises(Stop, match="clock is wrong") as e:
        bucket(server, "plain").put("m", b"x")
    assert e.value.code == 78


# --- faults on the way: each request passes a proxy ---

def test_a_burst_of_503_and_cuts_in_mid_part_are_retried(behind: Any) -> None:
    store, proxy = behind(lambda method, path, n: "busy" if n in (0, 3) else "cut" if n in (1, 5) and method == "PUT" else "pass", "6")
    assert store.upload("big", pieces(40 * MIB)) == 40 * MIB and digest(store.read("big")) == digest(pieces(40 * MIB))
    assert {"busy", "cut"} <= {action for _, _, action in proxy.seen} and unfinished(store) == []


@pytest.mark.parametrize("action", ["busy", "cut", "expired", "hang"])
def test_a_part_that_never_arrives_ends_the_upload(behind: Any, action: str) -> None:
    store, proxy = behind(lambda method, path, n: action if "partNumber=2" in path else "pass")
    with pytest.raises(Stop) as e:
        store.upload("big", pieces(40 * MIB))
    proxy.let_go.set()
    assert e.value.code == (78 if action == "expired" else 69) and f"{store.url}: big: " in e.value.message
    assert store.stat("big") is None and unfinished(store) == []


def test_a_completion_that_lies_once_and_always(behind: Any) -> None:
    """200 with an error inside: a client that looks at the status only takes it for done."""
    once, _ = behind(lambda method, path, n: "lie" if method == "POST" and n == 1 else "pass")
    assert once.upload("big", pieces(20 * MIB)) == 20 * MIB and digest(once.read("big")) == digest(pieces(20 * MIB))
    always, _ = behind(lambda method, path, n: "lie" if method == "POST" and "uploadId" in path else "pass")
    with pytest.raises(Stop) as e:
        always.upload("big", pieces(20 * MIB))
    assert e.value.code == 69 and always.stat("big") is None and unfinished(always) == []


def test_a_completion_without_an_etag(behind: Any) -> None:
    """Ceph 16 leaves it empty: what lies there then says whether it was done."""
    done, proxy = behind(lambda method, path, n: "untagged" if method == "POST" and n == 1 else "pass")
    assert done.upload("big", pieces(20 * MIB)) == 20 * MIB and digest(done.read("big")) == digest(pieces(20 * MIB))
    assert [action for method, _, action in proxy.seen if method == "POST"] == ["pass", "untagged"]
    not_done, _ = behind(lambda method, path, n: "empty" if method == "POST" and n == 1 else "pass")
    with pytest.raises(Stop, match="did not confirm the upload") as e:
        not_done.upload("big", pieces(20 * MIB))
    assert e.value.code == 69 and not_done.stat("big") is None and unfinished(not_done) == []


def test_an_answer_that_is_lost_is_no_failure(behind: Any) -> None:
    store, _ = behind(lambda method, path, n: "lost" if (method == "PUT" and n == 0) or (method == "POST" and n == 1) else "pass")
    assert store.put("m", b"x", absent=True) is True  # the retry finds it there: it is ours
    assert store.upload("big", pieces(20 * MIB)) == 20 * MIB and digest(store.read("big")) == digest(pieces(20 * MIB))
    with pytest.raises(stores.Exists):
        store.put("m", b"x", absent=True)


def test_a_read_goes_on_after_a_cut(behind: Any) -> None:
    store, proxy = behind(lambda method, path, n: "half" if method == "GET" and n < 3 and "big" in path else "pass")
    store.upload("big", pieces(20 * MIB))
    assert digest(store.read("big")) == digest(pieces(20 * MIB)) and [a for m, _, a in proxy.seen if m == "GET"].count("half") >= 2


def test_connections_are_kept_however_many_ask_at_once(behind: Any) -> None:
    store, proxy = behind(lambda method, *_: "meet" if method == "GET" else "pass")
    proxy.gate = threading.Barrier(stores.AT_ONCE, timeout=20)
    store.put("a", b"x")
    for _ in ("manifests", "verdicts"):
        with ThreadPoolExecutor(stores.AT_ONCE) as pool:
            assert set(pool.map(store.get, ["a"] * stores.AT_ONCE)) == {b"x"}
    assert proxy.connections == stores.AT_ONCE


def test_a_provider_without_conditional_put_is_asked_first_and_says_so(behind: Any) -> None:
    store, _ = behind(lambda method, path, n: "missing" if method == "PUT" and n == 0 else "pass")
    assert store.put("m", b"x", absent=True) is False and store.get("m") == b"x"
    second, _ = behind(lambda method, path, n: "missing" if method == "PUT" and n == 1 else "pass")
    second.put("m", b"x")
    with pytest.raises(stores.Exists):
        second.put("m", b"y", absent=True)
    assert second.get("m") == b"x"


def test_one_of_two_stores_fails_and_the_other_has_all(behind: Any, tmp_path: Path) -> None:
    bad, _ = behind(lambda method, path, n: "busy" if "partNumber=2" in path else "pass")
    good = store_file.open_folder(str(tmp_path))
    first, second = fan.upload_all([bad, good], "big", pieces(40 * MIB))
    assert first.error and first.error.code == 69 and second.size == 40 * MIB and digest(good.read("big")) == digest(pieces(40 * MIB))
    assert bad.stat("big") is None and unfinished(bad) == []


# --- store-check ---

def verdicts(store: Store) -> dict[str, bool]:
    return {f.check: f.able for f in store_check.look_over(store)}


def test_store_check_of_real_buckets_leaves_nothing(server: s3server.Server) -> None:
    for name in ("plain", "versioned", "locked"):
        store = bucket(server, name)
        found = verdicts(store)
        assert {check for check, able in found.items() if not able} == {
            "plain": {"versioning", "object-lock"}, "versioned": {"object-lock"}, "locked": set()}[name]
        assert list(store.versions("", datetime.now(UTC) + SOON)) == [] and list(store.list()) == [] and unfinished(store) == []


def test_store_check_of_a_writer_says_what_it_leaves(server: s3server.Server) -> None:
    store = bucket(server, "plain", s3server.WRITER)
    found = {f.check: f for f in store_check.look_over(store)}
    assert not found["delete"].able and not found["delete"].needed and "small" in found["clean"].said
    assert all(o.size < 100 for o in store.list())


def test_store_check_sees_what_a_provider_lacks(behind: Any) -> None:
    skewed, _ = behind(lambda method, path, n: "skew" if method == "HEAD" else "pass")
    assert not verdicts(skewed)["clock"]
    lacking, _ = behind(lambda method, path, n: "missing" if "uploads" in path else "pass")
    found = {f.check: f for f in store_check.look_over(lacking)}
    assert found["multipart"].needed and not found["multipart"].able and found["write"].able
