"""Writing to what somebody else may have made non-blocking: a terminal or pipe is shared, and node and ssh do so to all who have it.

Full, it answers EAGAIN, which ends a command or loses its lines. We wait until there is room, and leave the others' mode alone.
"""
import io
import select
import sys
from typing import TextIO


class Raw(io.FileIO):
    """A file that is written as if it were blocking. Source: write(2), EAGAIN; io.RawIOBase.write, which then returns None."""

    def write(self, data: object) -> int:
        """How many bytes were taken, one at least. Raises OSError, as BrokenPipeError when the reader left."""
        while (size := super().write(data)) is None:  # type: ignore[arg-type]
            poll = select.poll()  # it also returns when the reader left; the next try says so
            poll.register(self, select.POLLOUT)
            poll.poll()
        return size


def stderr() -> TextIO | None:
    """Our stderr as such a file, line by line; None where it is closed."""
    if sys.stderr is None:
        return None
    return io.TextIOWrapper(io.BufferedWriter(Raw(2, "w", closefd=False)), sys.stderr.encoding, sys.stderr.errors, line_buffering=True)
