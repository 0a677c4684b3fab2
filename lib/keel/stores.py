"""Where backups lie: the contract that every store keeps, opening stores by their URLs.

A store is a folder (file:///dir) or a bucket (s3://bucket/prefix?endpoint=…&region=…&profile=…). Keys are relative to it.
"""
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from keel.settings import Settings
from keel.stop import CONFIG, DATA, NO, Stop

SMALL = 4 << 20  # no verdict is larger, no note of a release
LARGE = 64 << 20  # no manifest is: room for the names of 700,000 tables, each with a sequence
AT_ONCE = 32     # small requests, each on a connection that is kept: enough for Python to be busy while a store far away takes 30 ms each
WORDS = ("endpoint", "region", "profile", "style", "parts", "lock")  # what may stand after the ? of an s3 URL


class Missing(Stop):
    """There is no such object (65)."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(f"{url}: there is no {key}", DATA, "`backups` lists what the stores hold, `backups --as-of TIME` what they held")


class Exists(Stop):
    """There is such an object already (65): nothing was written."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(f"{url}: {key} exists already: nothing was written", DATA)


class Locked(Stop):
    """The object may not be deleted or replaced yet (1)."""

    def __init__(self, url: str, key: str, until: datetime) -> None:
        super().__init__(f"{url}: {key} is locked until {until:%FT%TZ}", NO)


@dataclass(frozen=True)
class Object:
    """What lies under a key: size in bytes, times in UTC; `locked_until` is known to `stat` only."""

    key: str
    size: int
    modified: datetime
    version: str = ""
    locked_until: datetime | None = None


@dataclass(frozen=True)
class Unfinished:
    """An upload that was begun and neither published nor aborted: its process was killed, or is still at work."""

    key: str
    id: str
    started: datetime


class Store(Protocol):
    """What every store does. All may raise Stop 69 (no answer, no folder, no space) and 78 (credentials, bucket, whose folder it is);
    the store is named."""

    @property
    def url(self) -> str:
        """The store's URL without what stands after the `?`."""

    @property
    def place(self) -> tuple[str, ...]:
        """Where it really is: equal for two names of one folder, or of one bucket's prefix."""

    def put(self, key: str, data: bytes, *, absent: bool = False, lock_until: datetime | None = None) -> bool:
        """Write a small object, whole or not at all; `absent`: only where there is none, else Exists.

        False says that this store could not do that as one step, and was asked first whether there is one.
        """

    def upload(self, key: str, chunks: Iterator[bytes], *, lock_until: datetime | None = None) -> int:
        """The bytes written; published when `chunks` ended, and not at all when it raised (which is raised again) or the store failed."""

    def read(self, key: str, version: str = "") -> Iterator[bytes]:
        """The content. Raises Missing."""

    def get(self, key: str, limit: int = SMALL) -> bytes:
        """The content of a small object. Raises Missing, Stop 65 when it is larger than `limit` bytes."""

    def stat(self, key: str) -> Object | None:
        """What lies there, or None."""

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Everything whose key begins with the prefix, sorted by key."""

    def delete(self, key: str) -> None:
        """Delete what may be gone already. Raises Locked where the store itself keeps the lock (a bucket may hide instead of deleting)."""

    def versions(self, prefix: str, as_of: datetime) -> Iterator[Object]:
        """Of each key the newest version that is no younger than `as_of`, whatever was deleted since; a folder has the present one only."""

    def unfinished(self, prefix: str, before: datetime) -> Iterator[Unfinished]:
        """The uploads begun before that time and not finished."""

    def abort(self, upload: Unfinished) -> None:
        """Remove what an unfinished upload left."""


def checked(key: str) -> str:
    """The key, when every store can hold it: parts of 1 to 200 bytes that begin with no dot, 800 bytes in all. Raises Stop 65."""
    parts = key.split("/")
    if (len(key.encode(errors="replace")) > 800 or any(unicodedata.category(c).startswith("C") or c == "\\" for c in key)
            or any(not part or part.startswith(".") or len(part.encode()) > 200 for part in parts)):
        raise Stop(f"{key!r} is no key: parts that do not begin with a dot, without control characters, are wanted", DATA)
    return key


def checked_prefix(prefix: str) -> str:
    """A prefix ends at a slash or is empty, so that it never matches half a name. Raises Stop 65."""
    if prefix and (not prefix.endswith("/") or not checked(prefix[:-1])):
        raise Stop(f"{prefix!r} is no prefix: it ends with /", DATA)
    return prefix


def open_all(settings: Settings, urls: Sequence[str] = ()) -> list[Store]:
    """The stores with these URLs, or those of KEEL_BACKUP_STORES. Raises Stop 78 with all faults."""
    wanted = list(urls) or settings["KEEL_BACKUP_STORES"].split()
    if not wanted:
        raise Stop("KEEL_BACKUP_STORES is empty: there is no store", CONFIG, "KEEL_BACKUP_STORES=file:///DIR or s3://BUCKET/PREFIX")
    opened, faults = _opened(settings, wanted)
    if faults:
        raise Stop("\n".join(faults), CONFIG, "file:///DIR or s3://BUCKET/PREFIX?endpoint=URL&region=NAME&profile=NAME")
    return opened


def faults(settings: Settings) -> list[str]:
    """What open_all would refuse of KEEL_BACKUP_STORES; nothing where that is empty. Asks no network: credentials are not looked for."""
    return _opened(settings, settings["KEEL_BACKUP_STORES"].split(), {"nobody": ""})[1]


def twice(opened: Sequence[tuple[str, Store]]) -> list[str]:
    """Which of these URLs name a store that one before them names: two copies on one disk would count as two. Neither may two stores have
    one name, as a bucket at two servers: what is said of one would be said of both."""
    first: dict[tuple[str, ...], str] = {}
    found = []
    for url, store in opened:
        name, other = shown(url), first.get(store.place)
        if other is not None:
            found.append(f"{name}: is there twice" + (f", also as {other}" if other != name else ""))
        elif name in first.values():
            found.append(f"{name}: is the name of two stores, at two endpoints: another prefix for one of them tells them apart")
        first.setdefault(store.place, name)
    return found


def _opened(settings: Settings, urls: Sequence[str], also: Mapping[str, str] | None = None) -> tuple[list[Store], list[str]]:
    """The stores that can be opened, and what is wrong with the others, and with all of them together."""
    opened, faults = [], []
    for url in urls:
        try:
            opened.append((url, open_one(settings, url, also)))
        except Stop as e:
            faults.append(e.message)
    return [store for _, store in opened], [*faults, *twice(opened)]


def shown(url: str) -> str:
    """A store's URL for people, without what may be a secret: whatever stands before an @ or after a ?; all of one that is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{'s3' if url.startswith('s3:') else 'file' if url.startswith('file:') else ''}://…"
    return f"{f'{parts.scheme}://' if parts.scheme else ''}{parts.hostname or ''}{parts.path.rpartition('@')[2]}"


def open_one(settings: Settings, url: str, also: Mapping[str, str] | None = None) -> Store:
    """The store with this URL; nothing is asked of the store yet; `also` are words for s3_client besides its own. Raises Stop 78."""
    from keel import store_file, store_s3

    name = shown(url)
    try:
        parts = urlsplit(url)
        words = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:  # its words quote what is wrong, which may be the password
        raise Stop(f"{name}: is no URL, or what stands after its ? is not NAME=VALUE&…", CONFIG) from None
    if parts.username or parts.password or parts.fragment:
        raise Stop(f"{name}: credentials do not belong into a URL", CONFIG, "AWS_ACCESS_KEY_ID or ?profile=NAME")
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/") and not words:
        return store_file.open_folder(parts.path)
    if parts.scheme == "s3" and parts.netloc:
        unknown = sorted(set(words) - set(WORDS))
        if unknown:
            raise Stop(f"{name}: {unknown[0]} is unknown: {', '.join(WORDS)} may stand after the ?", CONFIG)
        return store_s3.open_bucket(settings, parts.netloc, parts.path.strip("/"), {**words, **(also or {})})
    raise Stop(f"{name}: file:///DIR or s3://BUCKET/PREFIX is wanted", CONFIG)
