"""What the kernel tells (proc(5)): who listens on a TCP port of this host, what a process has started, settings that data stores miss."""
import contextlib
import os
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path

LISTEN = "0A"
WANTED = (  # file, what it should hold, what follows when it does not, what to do
    ("/proc/sys/vm/overcommit_memory", "1", "vm.overcommit_memory is not 1: Redis may fail to save", "sysctl -w vm.overcommit_memory=1"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", r".*\[(madvise|never)\].*", "huge pages are always on: Redis slows down",
     "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
    ("/proc/sys/net/core/somaxconn", r"[0-9]{4,}", "net.core.somaxconn is below 1000: bursts of connections are refused",
     "sysctl -w net.core.somaxconn=4096"),
)


def lacking() -> list[tuple[str, str]]:
    """What follows from settings that are not as they should be, and what to do; one that cannot be read says nothing."""
    return [(said, hint) for path, well, said, hint in WANTED
            if os.access(path, os.R_OK) and not re.fullmatch(well, Path(path).read_text().strip())]


def holder(port: int) -> str:
    """'nginx (pid 812)', or less where /proc does not show it to us; '' when nobody listens."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in listeners(_text(Path("/proc/net") / table)).get(port, ())}
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if any(os.readlink(fd) in wanted for fd in (entry / "fd").iterdir()):
                return f"{(entry / 'comm').read_text().strip()} (pid {entry.name})"
        except OSError:
            continue  # ended meanwhile, or another user's
    return "a program of another user (sudo ss -ltnp says which)"


def children(pid: int) -> list[int]:
    """The processes that a process has started and that live."""
    return [child for child, parent in _parents().items() if parent == pid]


def descendants(pid: int) -> list[int]:
    """The same, and what those have started, and so on."""
    parents, found = _parents(), [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]  # grows as it goes
    return found[1:]


def _parents() -> dict[int, int]:
    """Who has started whom, of all that live."""
    known = {int(entry.name): _parent(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    return {pid: parent for pid, parent in known.items() if parent is not None}


def _parent(pid: int) -> int | None:
    """Who has started a process; None for one that has ended, whether or not somebody has seen that."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]  # the name before it may hold anything
    except OSError:
        return None
    return None if state in "ZX" else int(parent)


def tell(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes, those that have just ended excepted."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def outlive(pids: Iterable[int], seconds: float = 10) -> None:
    """Wait for the end of processes that were told to end; those that live after so many seconds are killed."""
    end = time.monotonic() + seconds
    while left := [pid for pid in pids if _parent(pid) is not None]:
        if time.monotonic() > end:
            tell(left, signal.SIGKILL)
        time.sleep(0.02)


def listeners(table: str) -> dict[int, set[str]]:
    """The inodes of listening sockets by port, from the text of a /proc/net/tcp."""
    found: dict[int, set[str]] = {}
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTEN:
            found.setdefault(int(fields[1].rpartition(":")[2], 16), set()).add(fields[9])
    return found


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""  # no tcp6: a kernel without IPv6
