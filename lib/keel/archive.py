"""A tree of files as a tar stream (POSIX pax, as GNU tar and Python read it), in constant memory, and each file as it was at one moment.

Kept are names of any bytes, modes, numbers of owner and group, times to the nanosecond, and links as links. Files with several hard links
become files of their own. Not kept: ACLs and extended attributes; sockets, pipes and devices.
"""
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from keel import tree
from keel.stop import NO, Stop
from keel.tree import Entry, Noted

LARGE = 16 << 20   # a file of this size is streamed; a smaller one is read whole before its header is written
TRIES = 3          # times that a smaller one is read again when it changed meanwhile
PIECE = 1 << 20
TYPES = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE}
Root = tuple[str, Path]  # what is to be in the archive: its name there, and where it is


def stream(roots: Sequence[Root], noted: Noted) -> Iterator[bytes]:
    """The archive in pieces of about a MiB; `noted` is whole once it ended. Roots go in the order of their names.

    Raises Stop 1 naming a large file that changed while it was streamed, or a smaller one that does not come to rest; as tree.walk does.
    """
    held = bytearray()
    for name, path in sorted(roots, key=lambda root: os.fsencode(root[0]) + (b"/" if root[1].is_dir() else b"")):
        for entry in tree.walk(path, name, noted):
            for piece in _member(entry, noted):
                held += piece
                if len(held) >= PIECE:
                    yield bytes(held)
                    held.clear()
    yield bytes(held) + bytes(2 * tarfile.BLOCKSIZE)


def _member(entry: Entry, noted: Noted) -> Iterator[bytes]:
    """Header and content of one entry; nothing when it vanished."""
    try:
        if entry.kind == "d":
            noted.tally.add(entry.name, "d", entry.mode)
            yield _header(entry, entry.info)
        elif entry.kind == "l":
            to = os.readlink(entry.base, dir_fd=entry.at)
            noted.tally.add(entry.name, "l", entry.mode, (len(os.fsencode(to)), hashlib.sha256(os.fsencode(to)).hexdigest()))
            yield _header(entry, entry.info, to)
        else:
            # O_NONBLOCK: should a pipe be there by now, nobody waits for its writer.
            fd = os.open(entry.base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=entry.at)
            with open(fd, "rb", buffering=0) as f:
                yield from _file(entry, f, noted)
    except FileNotFoundError:
        noted.vanished.append(entry.name)
    except OSError as e:
        raise tree.refused(e, entry.path) from None


def _file(entry: Entry, f: BinaryIO, noted: Noted) -> Iterator[bytes]:
    info = os.fstat(f.fileno())
    if not stat.S_ISREG(info.st_mode):
        raise _changed(entry)
    if info.st_size < LARGE:
        info, data = _at_rest(entry, f)
        sha = hashlib.sha256(data)
        yield _header(entry, info)
        yield data
    else:
        sha, left = hashlib.sha256(), info.st_size
        yield _header(entry, info)
        while left and (piece := f.read(min(PIECE, left))):
            left -= len(piece)
            sha.update(piece)
            yield piece
        if left or _state(os.fstat(f.fileno())) != _state(info):
            raise _changed(entry)
    noted.tally.add(entry.name, "f", stat.S_IMODE(info.st_mode), (info.st_size, sha.hexdigest()))
    yield bytes(-info.st_size % tarfile.BLOCKSIZE)


def _at_rest(entry: Entry, f: BinaryIO) -> tuple[os.stat_result, bytes]:
    """A small file's content, and what it was when nobody wrote to it."""
    for _ in range(1 + TRIES):
        before = os.fstat(f.fileno())
        f.seek(0)
        pieces = []
        while piece := f.read(PIECE):
            pieces.append(piece)
            if sum(map(len, pieces)) > 2 * LARGE:
                break
        data = b"".join(pieces)
        if _state(os.fstat(f.fileno())) == _state(before) and len(data) == before.st_size:
            return before, data
    raise _changed(entry)


def _state(info: os.stat_result) -> tuple[int, int]:
    return info.st_size, info.st_mtime_ns


def _changed(entry: Entry) -> Stop:
    return Stop(f"{tree.printable(entry.path)}: changed while it was read", NO,
                "nothing was published: what is backed up must not be written over; write aside and rename, or pause its writer")


def _header(entry: Entry, info: os.stat_result, link: str = "") -> bytes:
    """The ustar header, with a pax header before it for what does not fit: any time that is not of whole seconds, names that are long or
    not ASCII."""
    member = tarfile.TarInfo(entry.name)
    member.type, member.linkname, member.mode = TYPES[entry.kind], link, stat.S_IMODE(info.st_mode)
    member.uid, member.gid, member.mtime = info.st_uid, info.st_gid, info.st_mtime_ns // 10**9
    member.size = info.st_size if entry.kind == "f" else 0
    if info.st_mtime_ns % 10**9:
        seconds, rest = divmod(abs(info.st_mtime_ns), 10**9)
        member.pax_headers = {"mtime": f"{'-' if info.st_mtime_ns < 0 else ''}{seconds}.{rest:09}"}
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
