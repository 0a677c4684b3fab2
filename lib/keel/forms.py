"""Which fields manifests, verdicts and releases have, and the form of each: read strictly, so that what a store gives is known through."""
import math
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from keel.stop import DATA, Stop

Check = Callable[[Any], bool]
FORMAT = 1
KINDS = ("pg", "redis", "files")
PERIODS = ("daily", "weekly", "monthly")
STAMP, TIME = "%Y%m%dT%H%M%SZ", "%Y-%m-%dT%H:%M:%SZ"
ID = re.compile(rf"([0-9]{{8}}T[0-9]{{6}}Z)-({'|'.join(KINDS)})-[0-9a-f]{{8}}")


def moment(text: str) -> datetime:
    """The time in 2026-01-02T03:15:00Z or 20260102T031500Z. Raises ValueError."""
    form = TIME if "-" in text else STAMP
    found = datetime.fromisoformat(text)  # strptime would be the most of what reading a signed document takes beside its signature
    if text_of(found, form) != text:  # it also takes weeks, fractions and other zones
        raise ValueError(f"{text!r} is no time of the form 2026-01-02T03:15:00Z")
    return found


def text_of(when: datetime, form: str = TIME) -> str:
    """A time as UTC text. Raises ValueError for one without its zone."""
    if when.tzinfo is None:
        raise ValueError(f"{when}: a time without its zone")
    when = when.astimezone(UTC)
    return f"{when.year:04}{when.strftime(form.removeprefix('%Y'))}"  # %Y itself writes the year 999 with three digits


def compact(time: str) -> str:
    """20260102T031500Z of 2026-01-02T03:15:00Z."""
    return time.replace("-", "").replace(":", "")


def like(pattern: str) -> Check:
    """Text that the pattern matches as a whole."""
    matches = re.compile(pattern).fullmatch
    return lambda v: isinstance(v, str) and matches(v) is not None


def number(v: Any) -> bool:
    """A whole number of at least 0; True is none."""
    return type(v) is int and v >= 0


def time(v: Any) -> bool:
    """A time as 2026-01-02T03:15:00Z."""
    try:
        return isinstance(v, str) and "-" in v and bool(moment(v))
    except ValueError:
        return False


def ident(v: Any) -> bool:
    """A backup id whose time is one."""
    return isinstance(v, str) and ID.fullmatch(v) is not None and _stamped(v)


def seconds(v: Any) -> bool:
    """Phases with their times in seconds."""
    return isinstance(v, dict) and all(type(s) in (int, float) and s >= 0 and math.isfinite(s) for s in v.values())


def texts(pattern: str) -> Check:
    """A list of such texts."""
    one = like(pattern)
    return lambda v: isinstance(v, list) and all(one(x) for x in v)


def _stamped(v: str) -> bool:
    try:
        return bool(moment(v[:16]))
    except ValueError:
        return False


LINE, DIGEST, NAME = r"[^\x00-\x1f\x7f]*", "[0-9a-f]{64}", "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # a name is a file's, in one folder
A_SET = like("[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
PART: dict[str, Check] = {"name": like(NAME), "size": number, "sha256": like(DIGEST), "plain_size": number, "plain_sha256": like(DIGEST)}
MANIFEST: dict[str, Check] = {
    "format": number, "id": ident, "kind": like("|".join(KINDS)), "env": like(NAME), "host": like(f"(?!$){LINE}"),
    "set": lambda v: A_SET(v) and _stamped(v), "created": time, "finished": time,
    "lineage": like(f"(?!$){LINE}"), "facts": lambda v: isinstance(v, dict), "period": like("|".join(PERIODS)),
    "objects": lambda v: isinstance(v, list) and bool(v) and len({str(p.get("name")) for p in v if isinstance(p, dict)}) == len(v),
    "lock_until": lambda v: v == "" or time(v), "recipients": texts("age1[a-z0-9]+"), "tool": like(LINE),
    "previous": like(f"({DIGEST})?"), "held": like(LINE),
}
VERDICT: dict[str, Check] = {
    "format": number, "backup": ident, "manifest": like(DIGEST), "time": time, "ok": lambda v: isinstance(v, bool),
    "level": lambda v: number(v) and v <= 5, "seconds": seconds, "findings": texts(LINE), "host": like(f"(?!$){LINE}"),
}
RELEASE: dict[str, Check] = {
    "format": number, "backup": ident, "manifest": like(DIGEST), "time": time, "reason": like(rf"(?=.*\S){LINE}"),
    "host": like(f"(?!$){LINE}"),
}


def check(document: Any, form: Mapping[str, Check], name: str) -> None:
    """That a document has these fields, no others, and each is well. Raises Stop 65 naming it and the first fault."""
    if not isinstance(document, dict):
        raise Stop(f"{name}: is no JSON object", DATA)
    if "format" in form and number(document.get("format")) and document["format"] != FORMAT:
        raise Stop(f"{name}: format {document['format']} is unknown", DATA, "a newer evenkeel wrote it: update this one")
    for what, names in (("has no", form.keys() - document.keys()), ("has an unknown", document.keys() - form.keys())):
        if names:
            raise Stop(f"{name}: {what} {_quoted(names)}", DATA)
    for field, well in form.items():
        if not well(document[field]):
            raise Stop(f"{name}: {field} is {_short(document[field])}", DATA)


def _quoted(names: Collection[str]) -> str:
    return ", ".join(_short(n).strip("'") for n in sorted(names))


def _short(value: Any) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"
