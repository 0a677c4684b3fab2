"""A PostgreSQL backup tried in a scratch server: roles, a parallel restore, everything compared with the manifest, every index checked."""
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from keel import cli, engine, globals, host, manifest, pg, pg_compare, pg_schema, pg_sequences, recover, scratch, signed, state, tools
from keel.checked import Checked
from keel.manifest import Manifest
from keel.pack import SUFFIX
from keel.phases import Phases, spent
from keel.recover import Found
from keel.scratch import Scratch
from keel.settings import Settings
from keel.stop import CONFIG, DATA, NO, Stop

DUMP, ROLES = "database.dump", "globals.sql"
ROOM = 2.5  # what a database takes while its indexes are built, as a multiple of its size


def room(found: Manifest) -> int:
    """The bytes of disk that a trial takes."""
    return sum(p.plain_size for p in found.objects) + int(ROOM * found.facts["database"]["size"])


def enough(settings: Settings, found: Manifest) -> None:
    """Raises Stop 1 when the engine's disk, which is not the state's, cannot hold the restored database."""
    root, wanted = engine.root(), int(ROOM * found.facts["database"]["size"])
    if root and host.free(root) < wanted + settings.size("KEEL_MIN_FREE_DISK"):
        raise Stop(f"not enough disk for the engine: {host.free(root) >> 20} MiB free at {root}, {wanted >> 20} MiB are needed and "
                   f"KEEL_MIN_FREE_DISK={settings['KEEL_MIN_FREE_DISK']} on top", NO, "make room: prune-images, docker system df")


def fetch(settings: Settings, found: Found, folder: Path) -> None:
    """Every object of a backup in a folder, as it was before it was packed. Raises as recover.fetch does."""
    for part in found.manifest.objects:
        path = folder / part.name.removesuffix(SUFFIX)
        recover.fetch(settings, found, part, path)
        path.chmod(0o644)  # the server has a user of its own; the folder above is closed to others


def verify(settings: Settings, found: Found, folder: Path, level: int = 5) -> Checked:
    """Try a backup up to a level (2 to 5). Raises Stop 65 naming an object that cannot be read, 69 and 78 when the trial cannot go on."""
    checked, ident = Checked(min(level, 3)), found.manifest.id
    phase = Phases(checked.seconds)
    enough(settings, found.manifest)
    with phase("download"):
        fetch(settings, found, folder)
    cli.say(f"{ident}: {found.store.url}: read and decrypted in {spent(checked.seconds['download'])}")
    if level < 3:
        with phase("restore"), tools.container(settings, scratch.image(settings), folder) as box:
            checked.findings += filter(None, [scratch.tried(box, ["pg_restore", "--file=/dev/null", f"/keel/{DUMP}"])])
        return checked
    with ExitStack() as stack:
        with phase("start"):
            facts = found.manifest.facts
            server = stack.enter_context(scratch.server(settings, facts["server"], folder, len(facts["rows"]) + len(facts["sequences"])))
        trial = Trial(settings, found, folder, server, checked, phase)
        trial.restore()
        if level > 3 and not checked.findings:
            trial.compare()
        if level > 4 and not checked.findings:
            trial.indexes()
    return checked


@dataclass(frozen=True)
class Trial:
    """One backup in one scratch server; what is wrong goes into `checked`."""

    settings: Settings
    found: Found
    folder: Path
    server: Scratch
    checked: Checked
    phase: Phases

    @property
    def name(self) -> str:
        return str(self.found.manifest.facts["database"]["name"])

    def restore(self) -> None:
        """Level 3: the roles, then the database with all that belongs to it."""
        first, box = self.found.manifest.facts["server"].get("bootstrap") or "", self.server.box
        roles = globals.everything((self.folder / ROLES).read_text(), first)
        if roles.tablespaces:
            cli.say(f"{self.found.manifest.id}: tablespaces are left out, all goes into one place: {', '.join(roles.tablespaces)}")
        state.write(self.folder / "roles.sql", roles.sql)
        with self.phase("globals"):
            said = scratch.tried(box, ["psql", "-Xqw", "-v", "ON_ERROR_STOP=1", "--single-transaction", "--file=/keel/roles.sql"])
        with self.phase("restore"):
            if not said and self.name == "postgres":
                with pg.Session(box) as session:
                    session.ask("DROP DATABASE postgres")
            said = said or scratch.tried(box, [
                "pg_restore", "--create", "--exit-on-error", "--no-tablespaces", f"--jobs={self.settings['KEEL_RESTORE_JOBS']}",
                "--dbname=template1", f"/keel/{DUMP}"])
        if said and self.server.lacking:
            raise Stop(f"{self.found.manifest.id}: {said}", CONFIG,
                       f"it is tried without {', '.join(self.server.lacking)}, which its server preloads: pin an image that can, "
                       "KEEL_IMAGE_POSTGRES; nothing is said against the backup")
        self.checked.findings += [said] if said else []
        seconds = self.checked.seconds
        cli.say(f"{self.found.manifest.id}: {len(roles.roles)} roles and the database {'not ' if said else ''}restored in "
                f"{spent(seconds['start'] + seconds['globals'] + seconds['restore'])}")

    def late(self) -> list[str]:
        """Whether the newest business event is too old, or cannot be asked for: an older schema may not have what today's setting names."""
        try:
            newest = pg.newest(self.server.box, self.settings["KEEL_BACKUP_NEWEST"], "-d", pg.named(self.name))
        except Stop as e:
            if e.code != CONFIG:
                raise
            return [e.message]
        return pg_compare.late(newest, self.found.manifest.created, self.settings.seconds("KEEL_BACKUP_RPO"))

    def compare(self) -> None:
        """Level 4: everything that the manifest says, counted again."""
        self.checked.level, m, newest = 4, self.found.manifest, self.settings["KEEL_BACKUP_NEWEST"]
        with pg.Session(self.server.box, "-d", pg.named(self.name)) as session:
            with self.phase("analyze"):
                session.ask("ANALYZE")
            with self.phase("checks"):
                there = pg.look(session)
                there["roles"] = [r for r in there["roles"] if r != self.server.user]
                behind, as_before = pg_sequences.behind(session, m.facts["sequences"])
                wrong = [*pg_compare.findings(m.facts, there), *behind, *self.schema()]
                self.checked.aside += self.late() if newest else []
                if not any(there["rows"].values()):
                    wrong += self.emptied()
        self.checked.findings += wrong
        for note in [*pg_compare.notes(m.facts, there), *as_before]:
            cli.say(f"{m.id}: {note}")
        cli.say(f"{m.id}: {len(there['rows'])} tables with {sum(there['rows'].values())} rows compared in "
                f"{spent(self.checked.seconds['analyze'] + self.checked.seconds['checks'])}")

    def indexes(self) -> None:
        """Level 5: every table and every index against the other."""
        self.checked.level = 5
        with self.phase("amcheck"):
            said = scratch.tried(self.server.box, [
                "env", f"PGDATABASE={self.name}", "pg_amcheck", "--install-missing", "--heapallindexed", "--parent-check",
                f"--jobs={self.settings['KEEL_RESTORE_JOBS']}"])
        self.checked.findings += [said] if said else []
        cli.say(f"{self.found.manifest.id}: tables and indexes checked in {spent(self.checked.seconds['amcheck'])}")

    def schema(self) -> list[str]:
        """What of the schema is another; only told by the pg_dump that told it before, for each writes it its own way. The manifest has a
        digest of the living one, and the archive, where that is the one it holds, what it was."""
        m, box = self.found.manifest, self.server.box
        client = tools.ask(box, ["pg_dump", "--version"]).strip()
        if client != m.facts["client"]:
            cli.say(f"{m.id}: schema not compared: it was written by {m.facts['client']}, this is {client}")
            return []
        there = pg_schema.dumped(box, f"--dbname={pg.named(self.name)}")
        if pg_schema.digest(there) == m.facts["schema_sha256"]:
            return []
        wanted = pg_schema.archived(box, f"/keel/{DUMP}")
        if pg_schema.digest(wanted) != m.facts["schema_sha256"]:
            return ["the schema is not the one that was backed up"]
        wrong, alike = pg_schema.differ(wanted, there)
        if alike:
            cli.say(f"{m.id}: {alike} definitions are written otherwise since they were loaded, and mean the same")
        return [f"the schema is not the one that was backed up: {text}" for text in pg_compare.some(wrong)]

    def emptied(self) -> list[str]:
        """What an empty database has against it: an earlier backup had rows, or nobody said that it may be empty."""
        had = next((e for e in self.earlier() if any(e.facts.get("rows", {}).values())), None)
        if had:
            return [f"no table has a row; {had.id} had {sum(had.facts['rows'].values())}"]
        if self.settings.on("KEEL_BACKUP_EMPTY"):
            return []
        return [f"no table of the database {self.name} has a row: is it the right one? KEEL_BACKUP_EMPTY=on where it is meant to be empty"]

    def earlier(self) -> Iterator[Manifest]:
        """The backups of before, newest first; without those that do not verify."""
        m, store, keys = self.found.manifest, self.found.store, signed.trusted(self.settings.path("KEEL_BACKUP_SIGNERS"))
        for ident in manifest.ids(store, m.env, m.kind):
            if ident < m.id:
                try:
                    yield manifest.read(store, m.env, ident, keys)
                except Stop as e:
                    if e.code != DATA:
                        raise
