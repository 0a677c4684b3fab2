"""A store as it was at a time: of each object the newest version no younger than that, whatever was deleted or overwritten since.

For a bucket with versioning. A folder keeps one version of each object: there, what has changed since is not to be seen at all.
"""
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NoReturn

from keel import cli, forms, stores
from keel.stop import DATA, USAGE, Stop
from keel.stores import SMALL, Object, Store, Unfinished


def time(text: str | None) -> datetime | None:
    """The time that --as-of gives, or nothing. Raises Stop 2 for what is none."""
    try:
        return forms.moment(text) if text is not None else None
    except ValueError:
        raise Stop(f"--as-of {text}: a time as 2026-01-02T03:15:00Z is wanted", USAGE) from None


def all_of(opened: Sequence[Store], when: datetime | None) -> Sequence[Store]:
    """The stores as they were then, or as they are; says which cannot show what was deleted since."""
    if when is None:
        return opened
    for store in opened:
        if store.url.startswith("file:"):
            cli.warn(f"{store.url}: a folder has no versions: only what has not changed since is there")
    return [Past(store, when) for store in opened]


class Past:
    """Each method as in stores.Store; whatever would write raises."""

    def __init__(self, store: Store, when: datetime) -> None:
        self.store, self.when = store, when
        self._folders: dict[str, dict[str, Object]] = {}

    @property
    def url(self) -> str:
        return self.store.url

    @property
    def place(self) -> tuple[str, ...]:
        return self.store.place

    def read(self, key: str, version: str = "") -> Iterator[bytes]:
        yield from self.store.read(key, version or self._there(key).version)

    def get(self, key: str, limit: int = SMALL) -> bytes:
        there = self._there(key)
        if there.size > limit:
            raise Stop(f"{self.url}: {key} is larger than {limit} bytes", DATA)
        return b"".join(self.store.read(key, there.version))

    def stat(self, key: str) -> Object | None:
        return self._folder(f"{key.rpartition('/')[0]}/").get(key)

    def list(self, prefix: str = "") -> Iterator[Object]:
        yield from self._folder(prefix).values()

    def versions(self, prefix: str, as_of: datetime) -> Iterator[Object]:
        yield from self.store.versions(prefix, min(as_of, self.when))

    def unfinished(self, prefix: str, before: datetime) -> Iterator[Unfinished]:
        yield from ()

    def put(self, key: str, data: bytes, *, absent: bool = False, lock_until: datetime | None = None) -> bool:
        self._refuse()

    def upload(self, key: str, chunks: Iterator[bytes], *, lock_until: datetime | None = None) -> int:
        self._refuse()

    def delete(self, key: str) -> None:
        self._refuse()

    def abort(self, upload: Unfinished) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise Stop(f"{self.url}: the past is not to be changed", USAGE)

    def _there(self, key: str) -> Object:
        found = self.stat(key)
        if not found:
            raise stores.Missing(f"{self.url} as of {self.when:%FT%TZ}", key)
        return found

    def _folder(self, prefix: str) -> dict[str, Object]:
        """What lay below a prefix; asked once, for it cannot change."""
        if prefix not in self._folders:
            self._folders[prefix] = {o.key: o for o in self.store.versions(prefix, self.when)}
        return self._folders[prefix]
