"""What trying a backup showed, whatever kind it is."""
from dataclasses import dataclass, field


@dataclass
class Checked:
    """To which level (0 to 5) it was tried, how long each phase took, and what was wrong; nothing wrong is well. `aside` is what was found
    that says nothing against the data."""

    level: int
    seconds: dict[str, float] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
