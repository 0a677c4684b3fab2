"""How much slower answers are in some stretches of time (the switches) than in the rest (the steady state)."""
import dataclasses
from collections.abc import Sequence

from .account import Account
from .latency import SLOT, Latency


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A percentile inside the windows, outside of them, and one by the other."""

    inside: float
    outside: float
    inside_count: int
    outside_count: int

    @property
    def ratio(self) -> float:
        """Inside ÷ outside."""
        return self.inside / self.outside


def split(account: Account, kind: str, windows: Sequence[tuple[float, float]], settle: float = 1.0) -> tuple[Latency, Latency]:
    """The latencies inside the windows and outside of them; `settle` seconds after each window, and at the ends, are neither."""
    inside, outside = Latency(), Latency()
    begin, end = account.data["started"] + settle, account.data["ended"] - settle
    for key, n in account.latency[kind].counts.items():
        start = (key >> 10) * SLOT
        stop = start + SLOT
        if any(stop > first and start <= last for first, last in windows):
            inside.counts[key] = n
        elif start >= begin and stop <= end and not any(stop > first and start <= last + settle for first, last in windows):
            outside.counts[key] = n
    return inside, outside


def ratio(account: Account, kind: str, q: float, windows: Sequence[tuple[float, float]]) -> Ratio:
    """The q-th percentile during the windows (times since 1970) against the steady state of the same run."""
    inside, outside = split(account, kind, windows)
    return Ratio(inside.percentile(q), outside.percentile(q), inside.count(), outside.count())
