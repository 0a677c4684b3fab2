"""A tree of files: walked without ever following a link, and told by one digest, so that two can be compared.

The digest is SHA-256 over a line for each entry, `PATH NUL TYPE MODE SIZE SHA256 LF`, sorted by the bytes of the paths. A folder's path
ends with a slash, which makes this the order of the walk too. TYPE is f, d or l; MODE four octal digits; SHA256 that of the content, or of
where a link points to. Who owns an entry and when it changed is not in it.
"""
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keel.stop import CONFIG, NO, Stop

NAMED = 100  # names that a list in a manifest holds; it is not to grow beyond what a manifest may be


@dataclass(frozen=True)
class Entry:
    """What the walk came by: `name` is its path in the tree; it is opened as `base` below the folder `at`, as long as the walk has not
    gone on."""

    name: str
    kind: str
    info: os.stat_result
    at: int
    base: str
    path: str   # for messages

    @property
    def mode(self) -> int:
        return stat.S_IMODE(self.info.st_mode)


class Tally:
    """The digest of a tree and how much is in it, added up entry by entry, in their order."""

    def __init__(self) -> None:
        self._sha, self.files, self.folders, self.links, self.bytes = hashlib.sha256(), 0, 0, 0, 0

    def add(self, name: str, kind: str, mode: int, content: tuple[int, str] = (0, "")) -> None:
        """One entry; `content` is the size and SHA-256 of a file, or of where a link points to."""
        size, sha = content
        path = os.fsencode(name) + (b"/" if kind == "d" else b"")
        self._sha.update(path + f"\0{kind} {mode:04o} {size} {sha}\n".encode())
        self.files += kind == "f"
        self.folders += kind == "d"
        self.links += kind == "l"
        self.bytes += size if kind == "f" else 0

    def facts(self) -> dict[str, Any]:
        """For a manifest, and to be compared with one."""
        return {"files": self.files, "folders": self.folders, "links": self.links, "bytes": self.bytes, "sha256": self._sha.hexdigest()}


@dataclass
class Noted:
    """What is not in the copy of a tree as it was listed: gone before it was read; and what is no file, folder or link."""

    tally: Tally = field(default_factory=Tally)
    vanished: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """The tally, and the names."""
        return {**self.tally.facts(), "vanished": some(self.vanished), "skipped": some(self.skipped)}


def some(names: list[str]) -> list[str]:
    """The first names, printable, and how many more there are."""
    return [printable(n) for n in names[:NAMED]] + ([f"and {len(names) - NAMED} more"] if len(names) > NAMED else [])


def printable(name: str) -> str:
    """A name as text of one line, whatever bytes it is of."""
    text = os.fsencode(name).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def walk(path: Path, name: str, noted: Noted) -> Iterator[Entry]:
    """Every file, folder and link from a path on, which may itself be a link to one; parents first, in the order of the digest.

    Raises Stop 78 for what may not be read, 1 for what became something else meanwhile.
    """
    real = os.path.realpath(path)
    try:
        info, at = os.lstat(real), os.open(os.path.dirname(real), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise refused(e, str(path)) from None
    listed = [(os.path.basename(real), stat.S_ISDIR(info.st_mode))]
    stack = [(at, "", os.path.dirname(real), iter(listed))]
    try:
        while stack:
            at, top, where, rest = stack[-1]
            base, folder = next(rest, ("", False))
            if not base:
                os.close(stack.pop()[0])
                continue
            whole = f"{top}/{base}" if top else name
            entry = _entry(at, base, (whole, os.path.join(where, base)), noted)
            if entry is None:
                continue
            if (entry.kind == "d") != folder:
                raise Stop(f"{printable(entry.path)}: became something else while it was read", NO, "nothing was published: try again")
            yield entry
            if folder and (opened := _opened(entry, noted)):
                stack.append((opened[0], whole, entry.path, iter(opened[1])))
    finally:
        for at, *_ in stack:
            os.close(at)


def _entry(at: int, base: str, called: tuple[str, str], noted: Noted) -> Entry | None:
    name, path = called
    try:
        info = os.stat(base, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        noted.vanished.append(name)
        return None
    except OSError as e:
        raise refused(e, path) from None
    kind = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}.get(stat.S_IFMT(info.st_mode), "")
    if not kind:
        noted.skipped.append(name)
        return None
    return Entry(name, kind, info, at, base, path)


def _opened(entry: Entry, noted: Noted) -> tuple[int, list[tuple[str, bool]]] | None:
    """A folder, and what is in it: names, and whether they are folders."""
    try:
        fd = os.open(entry.base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=entry.at)
    except FileNotFoundError:
        noted.vanished.append(f"{entry.name}/")
        return None
    except OSError as e:
        raise refused(e, entry.path) from None
    try:
        with os.scandir(fd) as found:
            listed = [(one.name, one.is_dir(follow_symlinks=False)) for one in found]
    except BaseException:
        os.close(fd)
        raise
    return fd, sorted(listed, key=lambda one: os.fsencode(one[0]) + (b"/" if one[1] else b""))


def refused(error: OSError, path: str) -> Stop:
    """Why something cannot be read."""
    return Stop(f"{printable(path)}: {(error.strerror or '').lower()}", CONFIG if isinstance(error, PermissionError) else NO,
                "nothing was published: run it as the owner of the files, or root" if isinstance(error, PermissionError) else "")
