"""A tar stream brought back as a tree of files, below one folder whatever it says: no name leads out of it, no link is ever followed.

Stricter than tarfile's own filter: names with .. or at the root are refused, and so is all that is no file, folder or link. Where a link
points to is data: it may be anywhere, as it was. A file is written aside and renamed, so that who reads it sees the old one or the new.
"""
import hashlib
import os
import secrets
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from keel import tree
from keel.pack import Reader
from keel.stop import DATA, NO, Stop
from keel.tree import Tally

PIECE = 1 << 20
BUFFER = 1 << 15  # tarfile moves the rest of it at every read
Later = list[tuple[str, tarfile.TarInfo]]  # folders, whose modes and times come when all is in them


class Unfit(Stop):
    """An archive that we would not have made (65), though every byte of it is what was stored."""

    def __init__(self, why: str) -> None:
        super().__init__(why, DATA, "nothing is written there")


def extract(chunks: Iterator[bytes], target: Path) -> tuple[Tally, Later]:
    """Write what is in an archive below a folder; what was written, as tree tells it, and the folders for `settle`.

    All chunks are read, to the last. Raises Unfit, as `chunks` does, and Stop 1 when something else is in a file's or folder's place.
    """
    tally, later, unfit = Tally(), Later(), None
    try:
        with tarfile.open(fileobj=Reader(chunks), mode="r|", bufsize=BUFFER, encoding="utf-8") as tar:  # type: ignore[call-overload]
            places = _Places(target)
            try:
                while member := tar.next():
                    tar.members = []  # it would keep them all
                    _one(tar, member, places, tally)
                    if member.isdir():
                        later.append((member.name, member))
            finally:
                places.close()
    except (tarfile.TarError, ValueError) as e:  # tarfile lets some numbers that are none through
        unfit = Unfit(f"is no tar archive: {e}")
    except Unfit as e:
        unfit = e
    for _ in chunks:  # only at their end is it known whether these bytes are those that were stored
        pass
    if unfit:
        raise unfit
    return tally, later


def settle(target: Path, later: Later) -> None:
    """Give the folders their owners, modes and times: last, for each file that is written changes the time of its folder."""
    for name, member in reversed(later):
        places = _Places(target)
        try:
            at, base = places.of(name)
            fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            try:
                _own(fd, member)
                os.fchmod(fd, member.mode & 0o7777)
                os.utime(fd, ns=_time(member))
            finally:
                os.close(fd)
        finally:
            places.close()


class _Places:
    """The folders that something is put into, opened step by step from the target on, so that no link can lead elsewhere."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self._top, self._at = "", os.open(target, os.O_RDONLY | os.O_DIRECTORY)

    def of(self, name: str) -> tuple[int, str]:
        """The folder that a name is in, opened, and the last part of the name. Raises Unfit for a name that leads out, Stop 1 for a
        folder whose place something else has."""
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise Unfit(f"{tree.printable(name)}: is a name that leads elsewhere")
        top = "/".join(parts[:-1])
        if top != self._top:
            self.close()
            self._top, self._at = top, _descend(self.target, parts[:-1])
        return self._at, parts[-1]

    def close(self) -> None:
        if self._at >= 0:
            os.close(self._at)
        self._at = -1


def _descend(target: Path, parts: list[str]) -> int:
    """The folder below the target, with what is missing on the way."""
    at = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    for n, part in enumerate(parts, 1):
        _folder(at, part, "/".join(parts[:n]))
        inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        os.close(at)
        at = inner
    return at


def _folder(at: int, base: str, name: str) -> None:
    """Make a folder where there is none."""
    try:
        os.mkdir(base, 0o700, dir_fd=at)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(base, dir_fd=at, follow_symlinks=False).st_mode):
            raise Stop(f"{tree.printable(name)}: is there and is no folder", NO, "move it away") from None


def _one(tar: tarfile.TarFile, member: tarfile.TarInfo, places: _Places, tally: Tally) -> None:
    at, base = places.of(member.name)
    if member.isdir():
        _folder(at, base, member.name)
        tally.add(member.name, "d", member.mode & 0o7777)
    elif member.issym():
        aside = _aside()
        os.symlink(member.linkname, aside, dir_fd=at)
        if os.geteuid() == 0:
            os.chown(aside, member.uid, member.gid, dir_fd=at, follow_symlinks=False)
        os.utime(aside, ns=_time(member), dir_fd=at, follow_symlinks=False)
        _place(at, aside, base, member.name)
        raw = os.fsencode(member.linkname)
        tally.add(member.name, "l", member.mode & 0o7777, (len(raw), hashlib.sha256(raw).hexdigest()))
    elif member.isreg() and not member.issparse():
        content = tar.extractfile(member)
        assert content
        tally.add(member.name, "f", member.mode & 0o7777, _file(content, member, at, base))
    else:
        raise Unfit(f"{tree.printable(member.name)}: is no file, folder or link")


def _file(content: IO[bytes], member: tarfile.TarInfo, at: int, base: str) -> tuple[int, str]:
    """Write a file; its size and digest."""
    aside, sha, size = _aside(), hashlib.sha256(), 0
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=at)
    try:
        with open(fd, "wb") as f:
            while piece := content.read(PIECE):
                f.write(piece)
                sha.update(piece)
                size += len(piece)
            f.flush()
            _own(fd, member)
            os.fchmod(fd, member.mode & 0o7777)
            os.utime(fd, ns=_time(member))
    except BaseException:
        os.unlink(aside, dir_fd=at)
        raise
    _place(at, aside, base, member.name)
    return size, sha.hexdigest()


def _place(at: int, aside: str, base: str, name: str) -> None:
    try:
        os.replace(aside, base, src_dir_fd=at, dst_dir_fd=at)
    except IsADirectoryError:
        os.unlink(aside, dir_fd=at)
        raise Stop(f"{tree.printable(name)}: is there and is a folder", NO, "move it away") from None


def _aside() -> str:
    return f".keel-{secrets.token_hex(8)}"


def _own(fd: int, member: tarfile.TarInfo) -> None:
    """Owner and group, which only root may give; before the mode, as this takes setuid away."""
    if os.geteuid() == 0:
        os.fchown(fd, member.uid, member.gid)


def _time(member: tarfile.TarInfo) -> tuple[int, int]:
    """When it was changed, in nanoseconds; tarfile itself keeps a float, which is not exact."""
    text = member.pax_headers.get("mtime", str(int(member.mtime)))
    whole, _, rest = text.lstrip("-").partition(".")
    ns = int(whole) * 10**9 + int(f"{rest:<09}"[:9] or 0)
    return (-ns, -ns) if text.startswith("-") else (ns, ns)
