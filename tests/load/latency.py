"""How long answers took, kept so that a percentile of any stretch of time can be asked for afterwards.

Two numbers a request: the 100 ms slot of the wall clock in which it was sent, and the bucket of its latency (32 to each doubling, so
a percentile is at most 2.2 % off). A request that hangs counts in the slot where it began: that is when the server kept it waiting.
"""
import math
from collections.abc import Mapping

SLOT = 0.1  # seconds
STEPS = 32  # buckets to each doubling of the latency, from 1 µs
LAST = 1023  # the last bucket begins at 4000 s


class Latency:
    """Counts by slot and bucket."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, when: float, seconds: float) -> None:
        """One answer: sent at `when` (seconds since 1970), complete `seconds` later."""
        key = int(when / SLOT) << 10 | min(LAST, int(math.log2(max(1.0, seconds * 1e6)) * STEPS))
        self.counts[key] = self.counts.get(key, 0) + 1

    def percentile(self, q: float, start: float = 0.0, end: float = math.inf) -> float:
        """Seconds within which `q` percent were answered, of those sent in the slots that touch [start, end]. NaN: there were none."""
        buckets = self.window(start, end)
        rank = math.ceil(sum(buckets.values()) * q / 100)
        seen = 0
        for bucket in sorted(buckets):
            seen += buckets[bucket]
            if seen >= rank:
                return float(2 ** ((bucket + 0.5) / STEPS) / 1e6)
        return math.nan

    def count(self, start: float = 0.0, end: float = math.inf) -> int:
        """How many were answered, of those sent in the slots that touch [start, end]."""
        return sum(self.window(start, end).values())

    def window(self, start: float, end: float) -> dict[int, int]:
        """The buckets of the slots that touch [start, end]."""
        buckets: dict[int, int] = {}
        for key, n in self.counts.items():
            slot, bucket = key >> 10, key & LAST
            if (slot + 1) * SLOT > start and slot * SLOT <= end:
                buckets[bucket] = buckets.get(bucket, 0) + n
        return buckets

    def merge(self, other: "Latency") -> None:
        """Add the counts of another client."""
        for key, n in other.counts.items():
            self.counts[key] = self.counts.get(key, 0) + n

    def dump(self) -> dict[str, dict[str, int]]:
        """As JSON: {slot: {bucket: count}}."""
        slots: dict[str, dict[str, int]] = {}
        for key in sorted(self.counts):
            slots.setdefault(str(key >> 10), {})[str(key & LAST)] = self.counts[key]
        return slots

    @classmethod
    def load(cls, slots: Mapping[str, Mapping[str, int]]) -> "Latency":
        """The reverse of `dump`."""
        made = cls()
        for slot, buckets in slots.items():
            for bucket, n in buckets.items():
                made.counts[int(slot) << 10 | int(bucket)] = n
        return made
