"""Until when an object of a folder store may not be deleted: a line in `.NAME.locked` beside it, which binds these commands only."""
from datetime import UTC, datetime
from pathlib import Path

from keel import state
from keel.stop import DATA, Stop

SUFFIX = ".locked"


def beside(path: Path) -> Path:
    """Where the lock of an object lies."""
    return path.with_name(f".{path.name}{SUFFIX}")


def write(path: Path, until: datetime) -> None:
    """Lock the object at this path, durably. Raises OSError."""
    state.write(beside(path), f"{until.astimezone(UTC):%FT%TZ}\n")


def until(path: Path) -> datetime | None:
    """Until when it is locked. Raises Stop 65 when what is written there is no time: then nobody knows, and nothing is deleted."""
    try:
        text = beside(path).read_text().strip()
    except FileNotFoundError:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Stop(f"{beside(path)}: is no time", DATA, "when may it be deleted? write it there as 2026-01-02T03:04:05Z") from None
