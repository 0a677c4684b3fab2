"""Stores: keys and URLs, the plan of the parts, one stream into several stores."""
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel import fan, multipart, schema, settings, store_file, store_s3, stores
from keel.multipart import FIRST, LARGEST, capacity, part_size, parts
from keel.stop import Stop

VARIABLES = schema.load(settings.ROOT / "compose" / "example.env")


def some_settings(**values: str) -> settings.Settings:
    return settings.Settings("test", values, {}, VARIABLES)


@given(st.integers(1, 10_000), st.integers(0, 9_999))
def test_parts_grow_and_stay_within_what_s3_allows(cap: int, number: int) -> None:
    assert FIRST <= part_size(number, cap) <= part_size(number + 1, cap) <= LARGEST


def test_what_fits() -> None:
    assert capacity(10_000) >= 5e12 and capacity(1_000) >= 400e9 and capacity(100) >= 40e9


def test_memory_stays_small_for_the_first_100_gb() -> None:
    sent = number = 0
    while sent < 100e9:
        assert part_size(number, 10_000) * (multipart.IN_FLIGHT + 1) <= 100e6
        sent += part_size(number, 10_000)
        number += 1


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(1, 50))
def test_parts_are_exact_whatever_the_chunks(chunks: list[bytes], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "FIRST", size)
        found = [bytes(p) for p in parts(iter(chunks), 10_000)]
    assert b"".join(found) == b"".join(chunks)
    assert all(len(p) == size for p in found[:-1]) and (not found or 0 < len(found[-1]) <= size)


@pytest.mark.parametrize("key", ["a", "production/objects/20260102T031500Z-pg-1a2b3c4d/events.dump.zst.age", "größe/a b", "a..b"])
def test_keys(key: str) -> None:
    assert stores.checked(key) == key


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "..", "a/../b", "./a", ".a", "a/.b", "a\nb", "a\0b", "a\\b", "a\x7fb", "a\u202eb",
                                 "\ud800", "x" * 201, "/".join(["x" * 100] * 9)])
def test_what_is_no_key(key: str, tmp_path: Path) -> None:
    store = store_file.open_folder(str(tmp_path))
    for use in (lambda: stores.checked(key), lambda: store.put(key, b""), lambda: store.get(key), lambda: store.delete(key)):
        with pytest.raises(Stop) as e:
            use()
        assert e.value.code == 65


@pytest.mark.parametrize("url", ["", "x", "file://host/dir", "file:dir", "s3:///x", "s3://b/../x", "s3://b/p?parts=0",
                                 "s3://b/p?lock=yes", "s3://b/p?style=x", "s3://b/p?x=y", "s3://u:p@b/x", "s3://b/p#f",
                                 "s3://b/p?endpoint=nonsense", "s3://b/p?endpoint=http://h:99999",
                                 "s3://b/p?endpoint=http://h:x", "s3://b/p?profile=none", "s3://b/p?x"])
def test_urls_that_are_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(Stop) as e:
        stores.open_all(some_settings(), [url])
    assert e.value.code == 78 and "u:p" not in e.value.message


@pytest.mark.parametrize(("one", "two"), [
    ("s3://b/p", "s3://b/p"), ("s3://b/p", "s3://b/p/"), ("s3://b/p", "s3://b/p?region=eu-central-1"),
    ("s3://b/p", "s3://b/p?endpoint=https://s3.eu-central-1.amazonaws.com"),
    ("s3://b/p?endpoint=https://S3.example.org", "s3://b/p?endpoint=https://s3.example.org:443/&parts=1000"),
    ("file:///disk", "file:///disk"), ("file:///disk", "file:///disk/"), ("file:///disk", "file:///disk/a/.."),
    ("file:///disk/a", "file:///link")])
def test_a_store_that_is_named_twice(one: str, two: str, tmp_path: Path) -> None:
    (tmp_path / "disk" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk/a")
    urls = [u.replace("file:///", f"file://{tmp_path}/") for u in (one, two)]
    s = some_settings(KEEL_BACKUP_STORES=" ".join(urls), AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
    said = f"{stores.shown(urls[1])}: is there twice"
    also = f", also as {stores.shown(urls[0])}" if stores.shown(urls[0]) != stores.shown(urls[1]) else ""
    with pytest.raises(Stop) as e:
        stores.open_all(s)
    assert (e.value.code, e.value.message) == (78, said + also) and stores.faults(s) == [said + also]


@pytest.mark.parametrize(("one", "two"), [
    ("s3://b/p", "s3://b/q"), ("s3://b/p", "s3://c/p"), ("s3://b/p", "s3://b/q?endpoint=https://s3.example.org"),
    ("s3://b/p?endpoint=http://h:9", "s3://b/q?endpoint=http://h:8"),
    ("file:///disk", "file:///disk/a"), ("file:///gone", "file:///gone2")])
def test_two_stores_are_two(one: str, two: str) -> None:
    s = some_settings(KEEL_BACKUP_STORES=f"{one} {two}", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
    assert len(stores.open_all(s)) == 2 and stores.faults(s) == []


@pytest.mark.parametrize(("one", "two"), [
    ("s3://b/p", "s3://b/p?endpoint=https://s3.example.org"), ("s3://b/p?endpoint=http://h:9", "s3://b/p?endpoint=http://h:8"),
    ("s3://b/p?endpoint=http://h/a", "s3://b/p?endpoint=http://h/b")])
def test_two_stores_of_one_name_could_not_be_told_apart(one: str, two: str) -> None:
    s = some_settings(KEEL_BACKUP_STORES=f"{one} {two}", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
    with pytest.raises(Stop, match="s3://b/p: is the name of two stores") as e:
        stores.open_all(s)
    assert e.value.code == 78 and stores.faults(s) == [e.value.message]


def test_what_would_be_refused_is_said_without_a_look_at_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(f"[profile p]\ncredential_process = touch {tmp_path}/asked\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setattr("botocore.credentials.CredentialResolver.load_credentials", None)  # as whoever looks for any finds out
    s = some_settings(KEEL_BACKUP_STORES="s3://b/p s3://b/q?profile=p backup file:dir s3:///x "
                      "s3://b/r?endpoint=nonsense s3://b/s?profile=q")
    assert [line.partition(": ")[::2] for line in stores.faults(s)] == [
        *((name, "file:///DIR or s3://BUCKET/PREFIX is wanted") for name in ("backup", "file://dir", "s3:///x")),
        ("s3://b/r", "invalid endpoint: nonsense"), ("s3://b/s", "the config profile (q) could not be found")]
    assert stores.faults(some_settings()) == [] and not (tmp_path / "asked").exists()


@pytest.mark.parametrize(("url", "shown"), [
    ("s3://me:hunter2@[b/p", "s3://…"), ("s3://me:hunter2@b\u2100/p?region=x", "s3://…"), ("ftp://me:hunter2@[b", "://…"),
    ("s3://me:hunter2@b/p?region", "s3://b/p"), ("s3://b/p?hunter2", "s3://b/p"), ("s3:me:hunter2@b/p", "s3://b/p"),
    ("s3:///me:hunter2@b/p", "s3://b/p"), ("ftp://me:hunter2@b/p", "ftp://b/p"),
    ("s3://b/p?region=hunter2 s3://b/p?region=hunter2", "s3://b/p"),
    ("file://me:hunter2@[b/dir", "file://…")])
def test_no_url_is_shown_with_what_may_be_a_secret(url: str, shown: str) -> None:
    with pytest.raises(Stop) as e:
        stores.open_all(some_settings(KEEL_BACKUP_STORES=url))
    said = f"{e.value.message} {e.value.hint}"
    assert e.value.code == 78 and e.value.message.startswith(f"{shown}: ") and "hunter2" not in said and "me:" not in said


def test_a_url_wins_over_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("[second]\naws_access_key_id = second-key\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    s = some_settings(KEEL_S3_ENDPOINT="https://one.example.org", AWS_ACCESS_KEY_ID="first-key", AWS_SECRET_ACCESS_KEY="x",
                      KEEL_S3_PARTS="1000")
    second = "s3://b/q?endpoint=https://two.example.org&region=nl-1&profile=second&parts=500&lock=governance"
    one, two = stores.open_all(s, ["s3://b/p", second])
    found = [(x.client.meta.endpoint_url, x.client.meta.region_name, x.client._get_credentials().access_key, x.parts, x.lock)
             for x in (one, two) if isinstance(x, store_s3.Bucket)]
    assert found == [("https://one.example.org", "us-east-1", "first-key", 1000, "off"),
                     ("https://two.example.org", "nl-1", "second-key", 500, "governance")]
    assert "first-key" not in repr(one)


def folders(tmp_path: Path, count: int) -> list[stores.Store]:
    for n in range(count):
        (tmp_path / str(n)).mkdir()
    return [store_file.open_folder(str(tmp_path / str(n))) for n in range(count)]


def left(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in tmp_path.rglob("*") if p.is_file())


def test_one_stream_into_several(tmp_path: Path) -> None:
    two = folders(tmp_path, 2)
    assert [(o.size, o.error) for o in fan.upload_all(two, "a/b", iter([b"x" * 1000] * 100))] == [(100_000, None)] * 2
    assert [s.get("a/b") for s in two] == [b"x" * 100_000] * 2


def test_one_store_that_fails_does_not_stop_the_other(tmp_path: Path) -> None:
    two = folders(tmp_path, 2)
    (tmp_path / "0" / "a").write_text("no folder")
    bad, good = fan.upload_all(two, "a/b", iter([b"x"] * 1000))
    assert bad.error and bad.error.code == 78 and bad.url in bad.error.message and (good.size, good.error) == (1000, None)


def test_a_folder_that_is_not_there_does_not_stop_the_other(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    two = stores.open_all(some_settings(), [f"file://{tmp_path}/gone", f"file://{tmp_path}/disk"])
    bad, good = fan.upload_all(two, "a/b", iter([b"x"]))
    assert bad.error and bad.error.code == 69 and bad.url in bad.error.message and (good.size, good.error) == (1, None)
    assert left(tmp_path) == ["b"] and not (tmp_path / "gone").exists()


def test_all_stores_failing_ends_the_producer(tmp_path: Path) -> None:
    two = folders(tmp_path, 2)
    for n in "01":
        (tmp_path / n / "a").write_text("no folder")
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x"
    assert all(o.error for o in fan.upload_all(two, "a/b", endless())) and sent < 10_000_000


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Stop("pg_dump failed")])
def test_a_producer_that_fails_publishes_nothing_anywhere(tmp_path: Path, error: BaseException) -> None:
    def failing() -> Iterator[bytes]:
        yield from [b"x"] * 100
        raise error
    with pytest.raises(error if isinstance(error, type) else type(error)):
        fan.upload_all(folders(tmp_path, 2), "a/b/c", failing())
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["0", "1"]  # no empty folder either


def test_what_failed_takes_away_no_folder_that_is_in_use(tmp_path: Path) -> None:
    (store,) = folders(tmp_path, 1)
    store.put("a/b/c", b"x")
    with pytest.raises(stores.Exists):
        store.put("a/b/c", b"y", absent=True)
    with pytest.raises(ZeroDivisionError):
        store.upload("a/d/e", (bytes(1 // 0) for _ in "x"))
    assert [p.name for p in (tmp_path / "0" / "a").iterdir()] == ["b"] and store.get("a/b/c") == b"x"


def test_a_slow_store_sets_the_pace_and_memory_stays_bounded(tmp_path: Path) -> None:
    gate, feed, sent = threading.Event(), fan.Feed(), []

    def consume() -> None:
        gate.wait()
        sent.append(sum(1 for _ in feed.chunks()))
    consumer = threading.Thread(target=consume)
    consumer.start()
    for _ in range(fan.QUEUED):
        assert feed.put(b"x")
    blocked = threading.Thread(target=feed.put, args=(b"x",))
    blocked.start()
    assert len(feed._chunks) == fan.QUEUED
    gate.set()
    blocked.join()
    feed.end()
    consumer.join()
    assert sent == [fan.QUEUED + 1]


class Slow(store_file.Folder):
    """Its upload takes a while to abort, and a signal comes just then: the producer had it first."""

    def upload(self, key: str, chunks: Iterator[bytes], *, lock_until: object = None) -> int:
        self.aborted, self.over = False, threading.Event()
        try:
            return sum(map(len, chunks))
        except Stop:
            while sys._current_frames()[threading.main_thread().ident or 0].f_code.co_name not in ("_wait_for_tstate_lock", "join", "wait"):
                time.sleep(0.001)  # until who waits for us does so
            os.kill(os.getpid(), signal.SIGINT)
            self.over.wait(1)  # who does not wait for us is over at once
            self.aborted = True
            raise


def test_a_signal_while_the_uploads_abort_does_not_lose_that(tmp_path: Path) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x"
        raise Stop("pg_dump was told to end", 69)

    slow = Slow(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fan.upload_all([slow], "a/b", failing())
    aborted = slow.aborted
    slow.over.set()
    assert aborted
