"""How much is measured."""
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Size:
    """Counts and seconds of one run of the bench."""

    name: str
    swaps: int             # alternations, idle and again under light load
    rollbacks: int
    helps: int             # runs of each `--help`
    deploys: int
    traced: int            # swaps and deploys whose steps are written down
    latency_swaps: int
    steady: float          # seconds of steady state after each of them
    pairs: int             # of a stretch without switches and one with a switch every two seconds
    stretch: float         # seconds of each
    rounds: int            # pairs of all features and bare proxy
    seconds: float         # of each half
    killed_swaps: int
    killed_requests: int

    @classmethod
    def named(cls, name: str) -> Self:
        """`full`, or `short`: about a twentieth. Raises ValueError for anything else."""
        if name == "full":
            return cls(name, 21, 15, 7, 7, 5, 20, 3.0, 6, 20.0, 5, 10.0, 78, 800_000)
        if name == "short":
            return cls(name, 3, 3, 3, 1, 1, 2, 1.5, 1, 4.0, 1, 1.0, 4, 4_000)
        raise ValueError(f"{name}: full or short is wanted")
