"""A folder for what must lie on this disk for a while, and the containers that mount it; both go, also after a kill -9.

    $KEEL_STATE/ENV/spool/NAME/        mode 0700 above it, so that nobody else gets in; /keel in a container
    $KEEL_STATE/ENV/spool/NAME.lock    held by its process: what nobody holds is a leftover
"""
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keel import boxes, host
from keel.settings import Settings
from keel.stop import NO, Stop

LABEL = "keel.spool"


@contextmanager
def folder(settings: Settings, wanted: int = 0) -> Iterator[Path]:
    """An empty folder, removed at the end with all that mounts it; what killed processes left goes first.

    Raises Stop 1 when after `wanted` bytes less than KEEL_MIN_FREE_DISK would be free.
    """
    top = settings.state / "spool"
    top.mkdir(mode=0o700, parents=True, exist_ok=True)  # also in a rehearsal: what is read has to lie somewhere
    top.chmod(0o700)
    with _alone(top):
        clean(settings)
        free, spare = host.free(top), settings.size("KEEL_MIN_FREE_DISK")
        if wanted and free < wanted + spare:
            raise Stop(f"not enough disk: {free >> 20} MiB free at {top}, {wanted >> 20} MiB are needed and KEEL_MIN_FREE_DISK="
                       f"{settings['KEEL_MIN_FREE_DISK']} on top", NO, "make room there")
        path = top / secrets.token_hex(4)
        held = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        path.mkdir(mode=0o711)
        path.chmod(0o711)  # whatever the umask: a server in a container has a user of its own; the folder above is closed
    try:
        yield path
    finally:
        boxes.discard(LABEL, str(path))
        shutil.rmtree(path)
        os.unlink(f"{path}.lock")
        os.close(held)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from cleaning up between the making of a folder and its lock."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write(path: Path, text: str) -> None:
    """A file in the spool that only we can read, also in a rehearsal."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as f:
        f.write(text)


def clean(settings: Settings) -> None:
    """Remove what processes that are gone left: their containers, then their folders, and the containers without a folder."""
    top = settings.state / "spool"
    for lock in sorted(top.glob("*.lock")) if top.is_dir() else ():
        with open(lock) as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            path = lock.with_suffix("")
            boxes.discard(LABEL, str(path))
            if path.exists():
                shutil.rmtree(path)
            lock.unlink(missing_ok=True)
    for container in orphans(settings):
        boxes.remove(container)


def orphans(settings: Settings) -> list[str]:
    """The containers whose process was ended while the engine still made them: it found none to remove, and took its lock away.

    One that is at work has a lock, which is there before its containers and goes after them.
    """
    top, found = settings.state / "spool", boxes.having(f"keel.env={settings.env}", LABEL)
    paths = {container: Path(labels[LABEL]) for container, labels in found.items()}
    return [container for container, path in paths.items() if path.parent == top and not _locked(path)]


def _locked(path: Path) -> bool:
    try:
        return bool(os.stat(f"{path}.lock"))
    except FileNotFoundError:
        return False
    except OSError:  # another user's, who may be at work
        return True
