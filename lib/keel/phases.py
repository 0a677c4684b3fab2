"""How long each phase of a longer work takes."""
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Phases:
    """Seconds by the name of the phase, to the millisecond."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure what is done inside, however it ends; a phase that comes twice is one."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0) + time.monotonic() - begin, 3)


def spent(seconds: float) -> str:
    """A span as 12.3 s, 7 min or 4.2 h."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
