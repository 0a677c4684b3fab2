"""Plain files that survive: whole or not at all (temp file, fsync, rename, fsync of the folder); the history is appended and fsynced."""
import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from keel import run
from keel.stop import CONFIG, DATA, Stop

HISTORY = ("history.1", "history")  # oldest first
FULL = 16 << 20  # bytes: some 80,000 lines, which is two years of ten deploys a day


def now() -> str:
    """The UTC time as 2026-01-02T03:04:05Z."""
    return time.strftime("%FT%TZ", time.gmtime())


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing. Raises Stop 78 where none can be made, as below /proc."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise Stop(f"{path} cannot be made: {(e.strerror or '').lower()}", CONFIG,
                   "is KEEL_STATE right, who owns it, is the disk full? doctor says more") from None


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file durably. Raises OSError; a reader sees the old text or the new, never a part."""
    if run.dry:
        run.dry(f"write {path}")
        return
    make_folder(path.parent)
    fd, temp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "w") as f:
            f.write(text)
            f.flush()
            os.fchmod(f.fileno(), mode)
            os.fsync(f.fileno())
        rename(Path(temp), path)
    except BaseException:
        if os.path.exists(temp):
            os.unlink(temp)
        raise


def create(path: Path, text: str, mode: int) -> None:
    """Write a new file durably, never over another. Raises FileExistsError, OSError; what is cut short by an error is taken away."""
    if run.dry:
        if path.exists():
            raise FileExistsError(path)
        run.dry(f"write {path}")
        return
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(fd, "w") as f:
            f.write(text)
            f.flush()
            os.fchmod(f.fileno(), mode)
            os.fsync(f.fileno())
        sync_folder(path.parent)
    except BaseException:
        path.unlink()
        raise


def rename(source: Path, target: Path) -> None:
    """Rename and make the rename durable."""
    if run.dry:
        run.dry(f"rename {source} to {target}")
        return
    os.replace(source, target)
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Remove a file that may be gone already."""
    if run.dry:
        run.dry(f"remove {path}")
        return
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """fsync of the folder: only then has a rename in it happened for good."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def note(folder: Path, **fields: object) -> None:
    """Append one line to the history (audit log and journal in one)."""
    if run.dry:
        return
    make_folder(folder)
    line = json.dumps({"time": now(), "pid": os.getpid(), "user": _user(), **fields}) + "\n"
    _make_room(folder)
    fd = os.open(folder / "history", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(fd).st_size
        torn = size and os.pread(fd, 1, size - 1) != b"\n"  # by a full disk or a loss of power: it must not take this line with it
        data = ("\n" * bool(torn) + line).encode()
        if os.write(fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "history"))
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_room(folder: Path) -> None:
    """A history that is full becomes history.1, in place of the one before. Not every writer has the same lock, so the file has its own."""
    path = folder / "history"
    with contextlib.suppress(FileNotFoundError), open(path, "r+b") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        if os.fstat(f.fileno()).st_size >= FULL and os.path.samestat(os.fstat(f.fileno()), path.stat()):  # nobody was faster
            rename(path, folder / "history.1")


def history(folder: Path) -> Iterator[dict[str, object]]:
    """The lines of the history, oldest first; a last line that a crash cut short is passed over."""
    for path in (folder / name for name in HISTORY if (folder / name).exists()):
        for line in path.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def latest(folder: Path, block: int = 1 << 16) -> Iterator[dict[str, object]]:
    """The lines of the history, newest first, read from its end in blocks of so many bytes: it is long, and the end is wanted."""
    for path in (folder / name for name in reversed(HISTORY) if (folder / name).exists()):
        yield from _backwards(path, block)


def _backwards(path: Path, block: int) -> Iterator[dict[str, object]]:
    with open(path, "rb") as f:
        at, rest = f.seek(0, os.SEEK_END), b""
        while at:
            size = min(block, at)
            at = f.seek(at - size)
            rest, *lines = (f.read(size) + rest).split(b"\n")
            for line in reversed([rest, *lines] if not at else lines):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue


def record(path: Path) -> dict[str, str]:
    """A `key=value` file. Raises Stop 65 when a line is none."""
    fields: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        key, equals, value = line.partition("=")
        if not equals:
            raise Stop(f"{path}: line {number} is not key=value", DATA)
        fields[key] = value
    return fields


def write_record(path: Path, fields: Mapping[str, object]) -> None:
    """Write a `key=value` file; values are one line each."""
    for key, value in fields.items():
        if "\n" in str(value):
            raise ValueError(f"{key}: a value of two lines")
    write(path, "".join(f"{key}={value}\n" for key, value in fields.items()))


def _user() -> str:
    """Who did it, as far as can be told: the person behind sudo or the CI job, else the account."""
    for key in ("SUDO_USER", "GITHUB_ACTOR", "GITLAB_USER_LOGIN", "USER", "LOGNAME"):
        if os.environ.get(key):
            return os.environ[key]
    return str(os.getuid())


def clear(folder: Path) -> None:
    """Delete an environment's state, all but its locks and its history: who did what outlives what was done."""
    if run.dry:
        run.dry(f"delete {folder}, all but locks and history")
        return
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name not in ("lock", "backups.lock", "verify.lock", "restore.lock", *HISTORY):
            entry.unlink()
    sync_folder(folder)
