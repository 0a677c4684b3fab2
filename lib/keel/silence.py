"""One clock of silence for all that is asked of one server at once: work may take as long as it likes, as long as something comes of it."""
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from keel.stop import UNAVAILABLE, Stop

LOOK = 200  # milliseconds between two looks at the clock


class Silence:
    """Begins anew with each sign of life, whoever of ours it came to. `seconds` may pass without one (0: for ever) while we wait.

    It stands still while a stream is held up by us, as by a slow store: then the server waits, and may be silent.
    """

    def __init__(self, seconds: float = 0, who: str = "", hint: str = "") -> None:
        self._seconds, self._who, self._hint = seconds, who, hint
        self._since, self._held, self._lock = monotonic(), 0, threading.Lock()
        self._over = False

    def heard(self) -> None:
        """There was a sign of life, or somebody begins to wait for one."""
        self._since = monotonic()

    def give_up(self) -> None:
        """Nobody waits any more, now or later: whoever does in another thread gets a Stop 69."""
        self._over = True

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """While this block is at work nobody waits for the stream, or for one of several."""
        self._hold(1)
        try:
            yield
        finally:
            self.heard()  # before it runs on: others look at it
            self._hold(-1)

    def _hold(self, step: int) -> None:
        with self._lock:
            self._held += step

    def look(self, wanted: str) -> None:
        """Raises Stop 69, with what did not come, once it has been silent for too long or nobody waits any more."""
        if self._over:
            raise Stop(f"{wanted}: given up", UNAVAILABLE)
        if self._seconds and not self._held and monotonic() - self._since >= self._seconds:
            raise Stop(f"{self._who} has been silent for {self._seconds:g} s: {wanted}", UNAVAILABLE, self._hint)

    def wait(self, fd: int, wanted: str) -> None:
        """Until there is something to read, or its end. Raises as look."""
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        self.heard()
        while self._over or not waiting.poll(LOOK):
            self.look(wanted)
        self.heard()


FOREVER = Silence()
