"""A PostgreSQL backup restored in earnest: into a database of the environment's server, made aside and put in place when it is whole.

Until the last step the database that is there stays as it is. What a killed restore left is removed by the next one.
"""
import contextlib
import re
import secrets
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from keel import cli, globals, pg, pg_compare, pg_data, scratch, state, tools
from keel.phases import Phases, spent
from keel.recover import Found
from keel.settings import Settings
from keel.stop import CONFIG, NO, USAGE, Stop

ASIDE, REPLACED, LEFT = "keel_restore_", "keel_replaced_", "^keel_(restore|replaced)_[0-9a-f]{12}$"
LOOK = 0.1  # seconds between two looks for sessions that are in the way
OWN = ("postgres", "template0", "template1")
ENTRY = re.compile(r"\d+; \d+ \d+ (DATABASE|DATABASE PROPERTIES|(ACL|COMMENT|SECURITY LABEL) - DATABASE) ")
PLACE = re.compile(rf"\bDATABASE {globals.NAME}")
HELD = f"""SELECT json_build_object('n', (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE {pg.OURS} AND c.relkind IN ('r', 'p', 'm', 'v', 'f')) + (SELECT count(*) FROM pg_largeobject_metadata))"""


def restore(settings: Settings, found: Found, target: str, confirm: str, folder: Path) -> None:
    """Make the database `target` from a backup; one that holds anything is replaced only where `confirm` is its name.

    Raises Stop 1 when it is not confirmed, there is no disk, or PostgreSQL refuses the dump: nothing has changed then but roles that were
    missing. 65 for an object that is not whole and well, 69 when PostgreSQL does not answer, 78 when it is too old.
    """
    _sane(target)
    pg_data.enough(settings, found.manifest)
    pg.pass_file(folder, settings)
    env = {**pg.environment(settings), "PGDATABASE": "postgres", "PGOPTIONS": " ".join(f"-c {o}" for o in scratch.SESSION)}
    with tools.beside(settings, "postgres", folder, env) as box:
        with pg.Session(box) as session:
            there = _allowed(session, box, found, target, confirm)
            for left in session.one(f"SELECT coalesce(json_agg(datname), '[]') FROM pg_database WHERE datname ~ '{LEFT}'"):
                session.ask(f"DROP DATABASE {left} WITH (FORCE)")
                cli.say(f"dropped {left}, which a restore that was killed had left")
        pg_data.fetch(settings, found, folder)
        work = Work(settings, found, folder, box, f"{ASIDE}{secrets.token_hex(6)}")
        try:
            work.make()
            _put_in_place(box, work.aside, target, there)
        finally:  # renamed, it is no more
            tools.ask(box, ["psql", "-Xqw", "-c", f"DROP DATABASE IF EXISTS {work.aside} WITH (FORCE)"])


def _sane(target: str) -> None:
    if target in OWN:
        raise Stop(f"{target} is PostgreSQL's own database", USAGE, "--to NAME: another; it is made where it is not there")
    if not target or len(target.encode()) > 63 or not target.isprintable():
        raise Stop(f"{target!r} is no name for a database: 1 to 63 bytes, no control characters", USAGE)


def _allowed(session: pg.Session, box: str, found: Found, target: str, confirm: str) -> bool:
    """Whether the target is there already. Raises Stop 1 when it holds something and was not confirmed."""
    server, theirs = session.one(pg.SERVER), found.manifest.facts["server"]
    if server["version_num"] // 10000 < theirs["version_num"] // 10000:
        raise Stop(f"the server is of version {server['version']}, the backup of {theirs['version']}", CONFIG,
                   "an older PostgreSQL does not load the dump of a newer one")
    if not session.one(f"SELECT to_json(EXISTS (SELECT FROM pg_database WHERE datname = {pg.literal(target)}))"):
        return False
    with pg.Session(box, "-d", pg.named(target)) as inside:
        held = inside.one(HELD)["n"]
    if held and confirm != target:
        raise Stop(f"the database {target} is there and holds {held} tables, views and large objects: nothing was changed", NO,
                   f"another name (--to), or --confirm {target} (with make: TO=, CONFIRM={target}): it is replaced, with all that is in it")
    return True


def _put_in_place(box: str, aside: str, target: str, there: bool) -> None:
    """Give the new database its name, and drop the one that had it. Raises Stop 69 when PostgreSQL does not: then it has it still.

    Both renames are one transaction. A rename keeps new sessions out and waits 5 s until those of before are gone, monitoring too; a second
    session of ours sees to that meanwhile, so that nothing has to be forbidden that a kill would leave so.
    """
    old = f"{REPLACED}{secrets.token_hex(6)}"
    steps = [f"ALTER DATABASE {pg.identifier(target)} RENAME TO {old}"] if there else []
    steps += [f"ALTER DATABASE {aside} RENAME TO {pg.identifier(target)}"]
    sessions = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({pg.literal(aside)}, {pg.literal(target)})"
    with pg.Session(box) as session, pg.Session(box) as other, ThreadPoolExecutor(1) as pool:
        renamed = pool.submit(session.ask, "; ".join(["BEGIN", *steps, "COMMIT"]))
        try:
            with contextlib.suppress(Stop):  # who may not end others waits for them; the renaming has the last word
                while not renamed.done():
                    other.ask(sessions)
                    wait([renamed], LOOK)
            renamed.result()
        except Stop as e:
            raise Stop(e.message, e.code, f"{target} is as it was before; again: the backup is well") from None
        if there:  # gone for good from here on; what is left of it after a kill the next restore drops
            session.ask(f"DROP DATABASE {old} WITH (FORCE)")


@dataclass(frozen=True)
class Work:
    """The making of one database, under a name that nobody uses."""

    settings: Settings
    found: Found
    folder: Path
    box: str
    aside: str

    def make(self) -> None:
        """The roles that are missing, the database as the dump has it, its content; counted. Raises Stop 1 with PostgreSQL's words."""
        seconds: dict[str, float] = {}
        phase, m, spaces = Phases(seconds), self.found.manifest, self._roles()
        first, later = self._frame()
        with phase("restore"):
            self._run("psql", "-Xqw", "-v", "ON_ERROR_STOP=1", f"--file=/keel/{first}")
            self._run("pg_restore", "--exit-on-error", "--no-password", *spaces, f"--jobs={self.settings['KEEL_RESTORE_JOBS']}",
                      f"--dbname={self.aside}", f"/keel/{pg_data.DUMP}")
            self._run("psql", "-Xqw", "-v", "ON_ERROR_STOP=1", f"--file=/keel/{later}")
        at = (self.box, "-d", self.aside)
        with phase("analyze"), pg.Session(*at) as session, pg.Session(*at) as other, ThreadPoolExecutor(1) as pool:
            analyzed = pool.submit(other.ask, "ANALYZE")  # beside the count: neither waits for the other
            there = session.tables()
            analyzed.result()
            wrong = pg_compare.rows(m.facts, there)
        if wrong:
            raise Stop("\n".join([f"{m.id}: is not restored whole", *wrong]), NO, "nothing was put in place")
        rows = there["rows"]
        cli.say(f"{m.id}: {len(rows)} tables with {sum(rows.values())} rows restored in {spent(sum(seconds.values()))}")

    def _run(self, *argv: str) -> None:
        said = scratch.tried(self.box, list(argv))
        if said:
            raise Stop(f"{self.found.manifest.id}: {said}", NO, "the half-made database was dropped; what was there is as before")

    def _roles(self) -> list[str]:
        """Make the roles that are missing, say which others have other rights; what to say to pg_restore of tablespaces."""
        with pg.Session(self.box) as session:
            present = session.one("SELECT json_agg(rolname) FROM pg_roles")
            spaces = session.one("SELECT json_agg(spcname) FROM pg_tablespace")
        backup = (self.folder / pg_data.ROLES).read_text()
        roles = globals.missing(backup, present)
        if roles.roles:
            state.write(self.folder / "roles.sql", roles.sql)
            self._run("psql", "-Xqw", "-v", "ON_ERROR_STOP=1", "--single-transaction", "--file=/keel/roles.sql")
            cli.say(f"made the roles {', '.join(roles.roles)}" + ("" if self.found.manifest.facts["passwords"] else ", without passwords"))
        # After that: a role that was there may be a member of one that was not.
        here = tools.ask(self.box, ["pg_dumpall", "--roles-only", "--no-role-passwords", "--no-password"])
        for text in globals.differ(here, backup):
            cli.warn(text)
        absent = sorted(set(roles.tablespaces) - set(spaces))
        if absent:
            cli.say(f"there is no tablespace {', '.join(absent)}: all goes into the database's own")
        return ["--no-tablespaces"] if absent else []

    def _frame(self) -> tuple[str, str]:
        """Two files of SQL from the dump, with our name for the database: what makes it, and its settings, rights and comment."""
        entries = [line for line in tools.ask(self.box, ["pg_restore", "--list", "--create", f"/keel/{pg_data.DUMP}"]).splitlines()
                   if ENTRY.match(line)]
        state.write(self.folder / "entries", "".join(f"{line}\n" for line in entries))
        text = tools.ask(self.box, ["pg_restore", "--create", "--no-tablespaces", "--use-list=/keel/entries", "--file=-",
                                    f"/keel/{pg_data.DUMP}"])
        statements = [self._renamed(s) for s in globals.statements(text) if not s.startswith("\\")]
        made = next(n for n, s in enumerate(statements) if s.startswith("CREATE DATABASE"))
        state.write(self.folder / "first.sql", f"{statements[made]}\n")
        state.write(self.folder / "later.sql", "\n".join(statements[:made] + statements[made + 1:]) + "\n")
        return "first.sql", "later.sql"

    def _renamed(self, statement: str) -> str:
        """The statement about our database instead of the one it names."""
        place = next((p for p in PLACE.finditer(statement) if globals.name(p[1]) == self.found.manifest.facts["database"]["name"]), None)
        return statement if not place else f"{statement[:place.start(1)]}{self.aside}{statement[place.end(1):]}"
