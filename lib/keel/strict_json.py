"""JSON that every reader understands alike (RFC 8259): no name twice, and no number that is none."""
import json
from typing import Any, NoReturn


def parse(text: str) -> Any:
    """What the text says. Raises ValueError, and RecursionError for what is nested too deeply."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are all different: readers differ on which of two counts (RFC 8259, 4)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a name is there twice: {', '.join(sorted({n for n, _ in pairs if sum(n == o for o, _ in pairs) > 1}))}")
    return found


def _constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")
