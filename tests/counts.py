"""How many tests passed, failed and were skipped, from what a test runner wrote."""
import re
import xml.etree.ElementTree as ET
from pathlib import Path

Counts = tuple[int, int, int]  # passed, failed, skipped
BEYOND = "this machine cannot: "


def tap(text: str) -> Counts:
    """The tests of a TAP stream; what is indented belongs to the test above it."""
    lines = re.findall(r"(?m)^(ok|not ok)\b(.*)$", text)
    skipped = sum(1 for _, rest in lines if re.search(r"# *skip", rest, re.IGNORECASE))
    failed = sum(1 for verdict, _ in lines if verdict == "not ok")
    return len(lines) - failed - skipped, failed, skipped


def beyond(report: Path) -> int:
    """Of the skipped tests of a JUnit file those that begin their reason with BEYOND: no fault of whoever runs them."""
    if not report.exists():
        return 0
    return sum(1 for skipped in ET.parse(report).iter("skipped") if skipped.get("message", "").startswith(BEYOND))


def junit(report: Path) -> Counts:
    """The tests of a JUnit file; none where pytest did not get as far as writing it."""
    if not report.exists():
        return 0, 0, 0
    suite = next(ET.parse(report).iter("testsuite"))
    total, failures, errors, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped"))
    return max(0, total - failures - errors - skipped), failures + errors, skipped
