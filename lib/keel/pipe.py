"""stdin and stdout as bytes, for the commands that are filters of data rather than of handles."""
import os
import select
import sys
from collections.abc import Iterable, Iterator

from keel.stop import CONFIG, DATA, NOTHING, READER_LEFT, Stop

PIECE = 128 * 1024  # what age takes at a time without copying it


def incoming() -> Iterator[bytes]:
    """The bytes of stdin as they come. Raises Stop 66 when there are none, 65 when they cannot be read."""
    if sys.stdin is None:
        raise Stop("stdin is closed", NOTHING, "pipe the data in")
    empty = True
    while piece := _read():
        empty = False
        yield piece
    if empty:
        raise Stop("nothing on stdin: the command to the left failed", NOTHING)


def outgoing(pieces: Iterable[bytes]) -> None:
    """Write to stdout, past Python's buffer, so that each error is seen while there is still an exit code to choose.

    Raises Stop 78 when stdout takes no more, a silent Stop 141 when its reader left.
    """
    if sys.stdout is None:
        raise Stop("stdout is closed", CONFIG, "redirect it to a file or a pipe")
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[_write(rest):]


def reader_left() -> bool:
    """Whether nobody reads stdout or stderr any more. Source: poll(2), POLLERR of a pipe's write end, POLLHUP of a socket."""
    poll = select.poll()
    for fd in (1, 2):
        poll.register(fd, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _read() -> bytes:
    try:
        return os.read(0, PIECE)
    except OSError as e:
        raise Stop(f"stdin: {(e.strerror or '').lower()}", DATA) from None


def _write(data: memoryview) -> int:
    try:
        return os.write(1, data)
    except BrokenPipeError:
        raise Stop("", READER_LEFT) from None
    except OSError as e:
        raise Stop(f"stdout: {(e.strerror or '').lower()}", CONFIG, "delete what came out: it has no end") from None
