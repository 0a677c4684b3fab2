"""The roles of a server as pg_dumpall --globals-only writes them, one statement after another, and the parts of it that a restore wants."""
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

# A piece of SQL text that leaves no quote open; a dump doubles a quote inside quotes and never breaks a line but in them.
QUOTED = re.compile(r"""(?:[^'"]|'(?:[^']|'')*'|"(?:[^"]|"")*")*""")
NAME = r'("(?:[^"]|"")+"|[^\s";]+)'
ROLE = re.compile(rf"(CREATE|ALTER|COMMENT ON|SECURITY LABEL .*? ON) ROLE {NAME}", re.DOTALL)
MEMBER = re.compile(rf"GRANT {NAME} TO {NAME}")
GRANTOR = re.compile(rf" GRANTED BY {NAME};$")
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
