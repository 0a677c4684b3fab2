"""What one kind of client saw: each request ends exactly once, in `answered` or in `fail`."""
import dataclasses
import time
from typing import Any

from .latency import Latency

# one clock for everything: monotonic while running, shown as seconds since 1970 so that a scenario can compare with its own times
WALL = time.time() - time.monotonic()
KEPT = 10_000  # failures kept with their detail; the numbers in `why` are exact beyond


@dataclasses.dataclass(slots=True)
class Seen:
    """One release as seen from outside."""

    answers: int
    first: float
    last: float


class Tally:
    """The numbers of one client kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.requests = 0
        self.ok = 0
        self.failed = 0
        self.retried = 0
        self.latency = Latency()
        self.releases: dict[str, Seen] = {}
        self.why: dict[str, int] = {}
        self.failures: list[dict[str, Any]] = []
        # streams only: events received, orderly ends, ends without a goodbye, counter values that never came
        self.events = self.goodbyes = self.cuts = self.missing = 0

    def begin(self) -> None:
        """A request starts."""
        self.requests += 1

    def answered(self, release: str, start: float, end: float) -> None:
        """A request ended well; times are monotonic."""
        self.ok += 1
        self.latency.add(start + WALL, end - start)
        self.saw(release, end)

    def saw(self, release: str, when: float) -> None:
        """An answer or an event came from a release."""
        seen = self.releases.get(release)
        if seen is None:
            self.releases[release] = Seen(1, when + WALL, when + WALL)
        else:
            seen.answers += 1
            seen.last = when + WALL

    def fail(self, client: int, what: str, detail: str) -> None:
        """A request failed: `what` in one word or status, `detail` as it was seen."""
        self.failed += 1
        self.why[what] = self.why.get(what, 0) + 1
        if len(self.failures) < KEPT:
            now = round(time.monotonic() + WALL, 4)
            self.failures.append({"time": now, "kind": self.kind, "client": client, "what": what, "detail": detail})

    def streamed(self) -> None:
        """A stream ended in order (a goodbye, or the load is over)."""
        self.ok += 1

    def dump(self) -> dict[str, Any]:
        """As JSON, without the failures. Every request has ended: anything else is a bug of this harness."""
        if self.requests != self.ok + self.failed:
            raise AssertionError(f"{self.kind}: {self.requests} requests, but {self.ok} ok and {self.failed} failed")
        made: dict[str, Any] = {name: getattr(self, name) for name in ("requests", "ok", "failed", "retried", "why")}
        if self.kind in ("sse", "ws"):
            made |= {name: getattr(self, name) for name in ("events", "goodbyes", "cuts", "missing")}
        made["releases"] = {name: dataclasses.asdict(seen) for name, seen in self.releases.items()}
        made["slots"] = self.latency.dump()
        return made
