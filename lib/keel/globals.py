"""The roles of a server as pg_dumpall --globals-only writes them, one statement after another, and the parts of it that a restore wants."""
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

# A piece of SQL text that leaves no quote open; a dump doubles a quote inside quotes and never breaks a line but in them.
QUOTED = re.compile(r"""(?:[^'"]|'(?:[^']|'')*'|"(?:[^"]|"")*")*""")
NAME = r'("(?:[^"]|"")+"|[^\s";]+)'
ROLE = re.compile(rf"(CREATE|ALTER|COMMENT ON|SECURITY LABEL .*? ON) ROLE {NAME}", re.DOTALL)
MEMBER = re.compile(rf"GRANT {NAME} TO {NAME}")
GRANTOR = re.compile(rf" GRANTED BY {NAME};$")
RIGHTS = re.compile(rf"ALTER ROLE {NAME} WITH (.*);", re.DOTALL)
SETTING = re.compile(rf"ALTER ROLE {NAME} (SET \S+ TO .*);", re.DOTALL)
UNTIL = re.compile(r"VALID UNTIL '(.*)'")
RIGHT = re.compile(r"(?:PASSWORD|VALID UNTIL) '(?:[^']|'')*'|CONNECTION LIMIT -?\d+|[A-Z]+")
# Of a membership: INHERIT TRUE and SET TRUE are what it has anyway, and what dumps of before PostgreSQL 16 do not say.
OPTION = re.compile(r"ADMIN OPTION|INHERIT FALSE|SET FALSE")
SPACE = re.compile(rf"(CREATE|ALTER|COMMENT ON|SECURITY LABEL .*? ON) TABLESPACE {NAME}|(GRANT|REVOKE) [A-Z, ]+ ON TABLESPACE {NAME}",
                   re.DOTALL)


@dataclass(frozen=True)
class Globals:
    """Statements to run, the roles that they make, and the tablespaces that are left out."""

    sql: str
    roles: tuple[str, ...]
    tablespaces: tuple[str, ...]


def statements(text: str) -> Iterator[str]:
    """Each statement and each of psql's own lines, without comments; a line break inside quotes belongs to its statement."""
    held = ""
    for line in text.splitlines(keepends=True):
        if not held and (line.startswith("--") or not line.strip()):
            continue
        held += line
        if QUOTED.fullmatch(held):
            yield held.rstrip("\n")
            held = ""
    if held:
        yield held


def name(text: str) -> str:
    """A name as SQL wrote it, without its quotes."""
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def everything(text: str, bootstrap: str) -> Globals:
    """All of it, for a server of our own whose first role has the name of the first role there: that one is altered and not made."""
    return _chosen(text, {bootstrap}, {bootstrap}, grantors=True)


def missing(text: str, present: Collection[str]) -> Globals:
    """What makes the roles that a server has not, and leaves the others as they are. Who granted a membership is not kept: that role may
    not have the right there."""
    return _chosen(text, present, (), grantors=False)


def rights(text: str) -> dict[str, set[str]]:
    """What each role may do, which roles it is a member of and its settings, in the words of SQL; of its password nothing."""
    found: dict[str, set[str]] = {}
    for statement in statements(text):
        if role := RIGHTS.fullmatch(statement):
            found.setdefault(name(role[1]), set()).update(_alike(r) for r in RIGHT.findall(role[2]) if not r.startswith("PASSWORD"))
        elif setting := SETTING.fullmatch(statement):
            found.setdefault(name(setting[1]), set()).add(setting[2])
        elif member := MEMBER.match(statement):
            options = OPTION.findall(GRANTOR.sub("", statement[member.end():]))
            words = f"member of {name(member[1])}" + (f" with {', '.join(options)}" if options else "")
            found.setdefault(name(member[2]), set()).add(words)
    return found


def _alike(right: str) -> str:
    """The right as every server would write it: pg_dumpall gives VALID UNTIL in the time zone of its session, which is the server's."""
    until = UNTIL.fullmatch(right)
    if not until:
        return right
    try:
        when = datetime.fromisoformat(until[1])
        return f"VALID UNTIL '{when.astimezone(UTC).isoformat(' ').removesuffix(':00')}'" if when.tzinfo else right
    except (ValueError, OverflowError):  # infinity, a year of five digits, another DateStyle: compared as they stand
        return right


def differ(here: str, there: str) -> list[str]:
    """What roles that both have may do here and not there, and the other way round; a sentence for each. The values of settings are not
    told: an application may keep a key in one."""
    ours, theirs = rights(here), rights(there)

    def more(those: set[str], others: set[str]) -> str:
        return ", ".join(sorted(re.sub("^(SET .*? TO ).*", r"\1…", r, flags=re.DOTALL) for r in those - others)) or "nothing else"

    return [f"the role {who} is there with other rights or settings, and stays so: here {more(ours[who], theirs[who])}; "
            f"in the backup {more(theirs[who], ours[who])}"
            for who in sorted(ours.keys() & theirs.keys()) if ours[who] != theirs[who]]


def _chosen(text: str, present: Collection[str], altered: Collection[str], grantors: bool) -> Globals:
    sql, roles, spaces = [], [], []
    for statement in statements(text):
        if space := SPACE.match(statement):
            if space[1] == "CREATE":
                spaces.append(name(space[2]))
        elif role := ROLE.match(statement):
            verb, who = role[1], name(role[2])
            if who not in present or (verb != "CREATE" and who in altered):
                sql.append(statement)
                roles += [who] if verb == "CREATE" else []
        elif member := MEMBER.match(statement):
            if altered or not {name(member[1]), name(member[2])} <= set(present):
                sql.append(statement if grantors else GRANTOR.sub(";", statement))
        else:
            sql.append(statement)
    return Globals("\n".join(sql) + "\n", tuple(roles), tuple(spaces))
