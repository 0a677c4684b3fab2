"""A store that is a folder: whole files or none (temp file, fsync, rename, fsync of the folder); it needs hard links.

The folder must exist, and is never made: its disk may not be mounted. That is found out at its first use, as with a bucket, so that one
store that is away does not keep us from the others. A lock is a file `.NAME.locked` beside the object: it keeps
these commands from deleting or replacing it, and nobody else. Names that begin with a dot are ours and are never listed.
"""
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path

from keel import folder_lock, run, state, stores
from keel.stop import DATA, Stop
from keel.store_errors import of_disk

CHUNK = 1 << 20
PART = ".part"


def open_folder(path: str) -> "Folder":
    """The store in that folder; nothing is asked of it yet."""
    return Folder(Path(path))


class Folder:
    """Each method as in stores.Store; there is one version of each object; put is always one step."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = f"file://{root}"

    @property
    def place(self) -> tuple[str, ...]:
        return (os.path.realpath(self.root),)

    def put(self, key: str, data: bytes, *, absent: bool = False, lock_until: datetime | None = None) -> bool:
        self.upload(key, iter([data]), lock_until=lock_until, absent=absent)
        return True

    def upload(self, key: str, chunks: Iterator[bytes], *, lock_until: datetime | None = None, absent: bool = False) -> int:
        path = self._path(key)
        if run.dry:
            run.dry(f"write {self.url}/{key}")
            return 0
        try:
            with self._speaking(key):
                self._folder(path.parent)
                fd, temp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
            try:
                size = self._fill(fd, key, chunks)
                with self._speaking(key):
                    self._publish(Path(temp), path, absent, lock_until)
                return size
            finally:
                with suppress(OSError):  # what a broken disk keeps is listed as unfinished; it must not hide why we are here
                    os.unlink(temp)
        except BaseException:
            self._tidy(path.parent)
            raise

    def _fill(self, fd: int, key: str, chunks: Iterator[bytes]) -> int:
        """Write it all, durably. An OSError of the producer comes through: only what the disk says is translated."""
        f, size = os.fdopen(fd, "wb"), 0
        try:
            for chunk in chunks:
                with self._speaking(key):
                    f.write(chunk)
                size += len(chunk)
            with self._speaking(key):
                f.flush()
                os.fsync(f.fileno())
                f.close()
            return size
        except BaseException:
            with suppress(OSError):  # it writes what is buffered once more: on a full disk that fails again, and would hide the reason
                f.close()
            raise

    def _publish(self, temp: Path, path: Path, absent: bool, lock_until: datetime | None) -> None:
        """The lock first: never an object that should be locked and is not."""
        key = self._key(path)
        if absent and path.exists():
            raise stores.Exists(self.url, key)
        self._refuse_locked(path)
        if lock_until:
            folder_lock.write(path, lock_until)
        if not absent:
            state.rename(temp, path)
            return
        try:
            os.link(temp, path)  # rename would replace
        except FileExistsError:
            raise stores.Exists(self.url, key) from None
        state.sync_folder(path.parent)

    def read(self, key: str, version: str = "") -> Iterator[bytes]:
        with self._speaking(key), open(self._path(key), "rb") as f:
            while chunk := f.read(CHUNK):
                yield chunk

    def get(self, key: str, limit: int = stores.SMALL) -> bytes:
        with self._speaking(key), open(self._path(key), "rb") as f:
            data = f.read(limit + 1)
        if len(data) > limit:
            raise Stop(f"{self.url}: {key} is larger than {limit} bytes", DATA)
        return data

    def stat(self, key: str) -> stores.Object | None:
        path = self._path(key)
        with self._speaking(key):
            return stores.Object(key, path.stat().st_size, _time(path), "", folder_lock.until(path)) if path.is_file() else None

    def list(self, prefix: str = "") -> Iterator[stores.Object]:
        for path in sorted(self._walk(prefix), key=self._key):
            if not path.name.startswith("."):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    yield stores.Object(self._key(path), path.stat().st_size, _time(path))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._speaking(key):
            self._refuse_locked(path)
            for gone in (path, folder_lock.beside(path)):
                if gone.exists():
                    state.remove(gone)
            self._tidy(path.parent)

    def versions(self, prefix: str, as_of: datetime) -> Iterator[stores.Object]:
        return (o for o in self.list(prefix) if o.modified <= as_of)

    def unfinished(self, prefix: str, before: datetime) -> Iterator[stores.Unfinished]:
        for path in sorted(self._walk(prefix)):
            if path.name.startswith(".") and path.name.endswith(PART):
                name = path.name[1:-len(PART)].rpartition(".")[0]
                with suppress(FileNotFoundError):
                    started = _time(path)
                    if started < before:
                        yield stores.Unfinished(self._key(path.with_name(name)), path.name, started)

    def abort(self, upload: stores.Unfinished) -> None:
        path = self._path(upload.key).with_name(upload.id)
        with self._speaking(upload.key):
            state.remove(path)
            self._tidy(path.parent)

    def _path(self, key: str) -> Path:
        return self.root / stores.checked(key)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _walk(self, prefix: str) -> Iterator[Path]:
        top = self.root / stores.checked_prefix(prefix)
        with self._speaking(prefix):
            for folder, _, names in os.walk(top, onerror=_unreadable):
                yield from (Path(folder, name) for name in names)

    def _folder(self, folder: Path) -> None:
        """Make the folders below the root, durably, and never the root itself."""
        if folder == self.root or folder.is_dir():
            return
        self._folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        state.sync_folder(folder.parent)

    def _tidy(self, folder: Path) -> None:
        """Remove the folders that have become empty, below the root."""
        if run.dry:
            return
        while folder != self.root:
            try:
                folder.rmdir()
            except FileNotFoundError:  # never made for want of space, or another removed it
                pass
            except OSError:  # not empty
                return
            folder = folder.parent

    def _refuse_locked(self, path: Path) -> None:
        until = folder_lock.until(path)
        if until and until > datetime.now(UTC):
            raise stores.Locked(self.url, self._key(path), until)

    def _speaking(self, key: str) -> AbstractContextManager[None]:
        return of_disk(self.root, key)


def _unreadable(error: OSError) -> None:
    if error.errno != errno.ENOENT:  # a folder that is not there has nothing in it
        raise error


def _time(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
