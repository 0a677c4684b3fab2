"""The schema of a database as pg_dump writes it: its digest, and whether the one that was restored is the one that was dumped.

PostgreSQL writes some expressions otherwise once they were loaded: `varchar_column IN ('a', 'b')` is first an array that is cast, and from
the first restore on an array of what is cast. Both mean the same, in whatever they stand: a constraint, an index, a view, a policy.
"""
import hashlib
import re
from collections import Counter
from collections.abc import Iterator

from keel import tools
from keel.silence import FOREVER, Silence

HEADER = re.compile(r"^-- Name: (.*)$", re.MULTILINE)
# What is data and no schema, and is there in an archive only.
REFRESH = re.compile(r"^--\n-- Name: [^\n]*; Type: MATERIALIZED VIEW DATA; [^\n]*\n--\n\nREFRESH MATERIALIZED VIEW [^\n]*;\n", re.MULTILINE)
TOKEN = re.compile(r"""\$(\w*)\$.*?\$\1\$ | '(?:[^']|'')*' | "(?:[^"]|"")*" | \bARRAY\[ | [\[\](),]""", re.DOTALL | re.VERBOSE)
NAMED = re.compile("(?P<name>.*); Type: (?P<type>.*); Schema: (?P<schema>.*); Owner: ")
CAST = re.compile(r"(?P<around>\)?)::(?P<type>(?:[\w .]|\"(?:[^\"]|\"\")+\"(?!\"))+?(?:\([\d, ]+\)[\w ]*)?)\[\]")
CONSTRAINT = re.compile(r"\s*CONSTRAINT (\"(?:[^\"]|\"\")+\"|\S+) ")


def dumped(where: str, *options: str, silence: Silence = FOREVER) -> str:
    """The schema of a living database, as text."""
    return tools.ask(where, ["pg_dump", "--schema-only", "--no-tablespaces", "--no-password", *options], silence)


def archived(where: str, path: str) -> str:
    """The schema that an archive of pg_dump holds: the text that `dumped` gave of the database that it was made of."""
    return REFRESH.sub("", tools.ask(where, ["pg_restore", "--schema-only", "--no-tablespaces", "--file=-", path]))


def digest(text: str) -> str:
    """The SHA-256 of a schema, without what differs from run to run, or with the order in which things were made: what has one name in two
    places comes in the order of its number in the catalogue."""
    return hashlib.sha256("\n".join(sorted(bare for _, bare in _parts(text))).encode()).hexdigest()


def differ(wanted: str, found: str) -> tuple[list[str], int]:
    """What of a schema is not there, is another, or was not there before; and how many definitions mean the same, written otherwise. No
    sentence quotes a definition: verdicts lie in the stores as plain text."""
    here, there = Counter(_parts(wanted)), Counter(_parts(found))
    before, after = [*(here - there).elements()], [*(there - here).elements()]
    missing, more = (Counter((name, normal(bare)) for name, bare in those) for those in (before, after))
    gone, new = dict((missing - more).keys()), dict((more - missing).keys())
    said = []
    for name in sorted(gone.keys() | new.keys()):
        if name not in new:
            said.append(f"{name} is not there")
        elif name not in gone:
            said.append(f"{name} is there and was not when the backup was made")
        else:
            lines = {line.rstrip(",") for line in gone[name].split("\n")} ^ {line.rstrip(",") for line in new[name].split("\n")}
            parts = sorted({match[1] for line in lines if (match := CONSTRAINT.match(line))})
            said.append(f"{name} is another" + (f": constraint {', '.join(parts)}" if parts else ""))
    return said, sum((missing & more).values())


def normal(text: str) -> str:
    """A definition with each cast of an array moved to what is in it, as PostgreSQL does when it loads it."""
    while found := [*_casts(text)]:
        out, at = [], 0
        for start, end, items in sorted(found):
            if start >= at:  # what is within another has its turn in the next round
                out += [text[at:start], f"ARRAY[{', '.join(items)}]"]
                at = end
        text = "".join([*out, text[at:]])
    return text


def _casts(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """Where an array is cast, `(ARRAY[a, b])::t[]` or `ARRAY[a, b]::t[]` from start to end, and what is in it, each cast by itself."""
    opened: list[list[int]] = []  # of each bracket that is open: where it and each comma in it end
    for token in TOKEN.finditer(text):
        sign = token[0]
        if sign[-1] in "[(":
            opened.append([token.start(), token.end()])
        elif sign == "," and opened:
            opened[-1].append(token.end())
        elif sign in ("]", ")") and opened:
            start, *marks = opened.pop()
            cast = CAST.match(text, token.end())
            around = bool(cast and cast["around"])
            if cast and text.startswith("ARRAY[", start) and (not around or text[start - 1:start] == "("):
                ends = [*(mark - 1 for mark in marks[1:]), token.start()]
                items = [text[one:end].strip() for one, end in zip(marks, ends, strict=True)]
                yield start - around, cast.end(), [f"({i})::{cast['type']}" if around else f"{i}::{cast['type']}" for i in items]


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Each thing's name, and its definition without comments and empty lines."""
    first, *rest = HEADER.split(text)
    for header, body in [("", first), *zip(rest[::2], rest[1::2], strict=True)]:
        named = NAMED.match(header)
        schema = f"{named['schema']}." if named and named["schema"] != "-" else ""
        yield f"{named['type'].lower()} {schema}{named['name']}" if named else header or "what stands before all else", "\n".join(
            line for line in body.splitlines() if line.strip() and not line.startswith(("--", "\\restrict", "\\unrestrict")))
