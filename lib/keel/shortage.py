"""What a PostgreSQL in a container of ours lacked, by its own log: disk, memory, locks, connections. Nothing of that speaks of the data."""
import re

from keel import engine
from keel.stop import UNAVAILABLE, Stop

LINES = 500  # the last of its log; a restore ends at the first error
# Class 53, insufficient resources: the log has the SQLSTATE before each line (log_line_prefix). Source: PostgreSQL manual, appendix A.
LACKS = {"53100": "more disk for the engine: prune-images, docker system df", "53200": "a larger KEEL_RESTORE_MEMORY",
         "53300": "fewer KEEL_RESTORE_JOBS", "53400": "a setting of the database or of a role is the limit", "53000": ""}
SAID = re.compile(rf"({'|'.join(LACKS)}) (?:ERROR|FATAL|PANIC):\s+(.*)")


def told(box: str) -> None:
    """Raises Stop 69 where the server in this container said that it lacks something, with its words: what failed there says nothing
    against a backup."""
    found = next(filter(None, map(SAID.match, engine.logs(box, LINES))), None)
    if found:
        more = LACKS[found[1]] if "shared memory" not in found[2] else "it wants more locks than max_locks_per_transaction allows"
        raise Stop(f"the scratch PostgreSQL lacks something: {found[2]}", UNAVAILABLE,
                   "; ".join(filter(None, [more, "the backup may be well"])))
