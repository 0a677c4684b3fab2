"""What the kernel tells (proc(5)): who listens on a TCP port of this host, and settings that data stores miss."""
import os
import re
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
