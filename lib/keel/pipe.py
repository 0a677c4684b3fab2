"""stdin and stdout as bytes, for the commands that are filters of data rather than of handles."""
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator

from keel import turns
from keel.stop import CONFIG, DATA, NOTHING, READER_LEFT, Stop

UNTRUSTED = "delete what came out before this: it is not to be trusted"
PIECE = 512 * 1024  # a batch of age's chunks
KEPT = 16 << 20  # once that was freed, malloc does not give back what is less, to get it anew for each piece (mallopt(3), M_MMAP_THRESHOLD)


def incoming() -> Iterator[bytes]:
    """The bytes of stdin, PIECE at a time. Raises Stop 66 when there are none, 65 when they cannot be read."""
    if sys.stdin is None:
        raise Stop("stdin is closed", NOTHING, "pipe the data in")
    empty = True
    while piece := _piece():
        empty = False
        yield piece
    if empty:
        raise Stop("nothing on stdin: the command to the left failed", NOTHING)


def outgoing(jobs: Iterator[Callable[[], Iterable[memoryview]]]) -> None:
    """Write what the jobs make to stdout, in their order, while several are done at once; past Python's buffer, so that each error is seen
    while there is still an exit code to choose.

    Raises Stop 78 when stdout takes no more, a silent Stop 141 when its reader left, and what the jobs raise. Where something came out by
    then, the hint says what to do with it.
    """
    if sys.stdout is None:
        raise Stop("stdout is closed", CONFIG, "redirect it to a file or a pipe")
    bytes(KEPT)
    written = 0

    def deliver(pieces: Iterable[memoryview]) -> None:
        nonlocal written
        for rest in pieces:
            while rest:
                size = _write(rest)
                written, rest = written + size, rest[size:]

    try:
        turns.work_off(jobs, deliver)
    except Stop as e:
        if written and e.code != READER_LEFT:
            e.hint = "\n".join(filter(None, [e.hint, UNTRUSTED]))
        raise


def reader_left() -> bool:
    """Whether nobody reads stdout or stderr any more. Source: poll(2), POLLERR of a pipe's write end, POLLHUP of a socket."""
    poll = select.poll()
    for fd in (1, 2):
        poll.register(fd, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _piece() -> bytes:
    """PIECE bytes, which may come in many small reads; less only at the end."""
    parts, size = [], 0
    while size < PIECE and (part := _read(PIECE - size)):
        parts.append(part)
        size += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read(size: int) -> bytes:
    try:
        return os.read(0, size)
    except OSError as e:
        raise Stop(f"stdin: {(e.strerror or '').lower()}", DATA) from None


def _write(data: memoryview) -> int:
    try:
        return os.write(1, data)
    except BrokenPipeError:
        raise Stop("", READER_LEFT) from None
    except OSError as e:
        raise Stop(f"stdout: {(e.strerror or '').lower()}", CONFIG) from None
