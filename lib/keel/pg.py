"""PostgreSQL: one psql that stays open (so that a snapshot lives), and what a database is, counted the same way at backup and restore."""
import json
import re
import secrets
import subprocess
from pathlib import Path
from typing import Any

from keel import spool, tools
from keel.settings import Settings
from keel.silence import FOREVER, Silence
from keel.stop import CONFIG, UNAVAILABLE, Stop

OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
# Everything in one row each; read inside the dump's own snapshot.
SERVER = """SELECT json_build_object(
 'system', (SELECT system_identifier::text FROM pg_control_system()), 'version', current_setting('server_version'),
 'version_num', current_setting('server_version_num')::int, 'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
 'bootstrap', (SELECT rolname FROM pg_roles WHERE oid = 10),
 'preload', (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'))"""  # null where we may not know
DATABASE = """SELECT json_build_object('name', d.datname, 'size', pg_database_size(d.oid), 'encoding', pg_encoding_to_char(d.encoding),
 'collate', d.datcollate, 'ctype', d.datctype, 'provider', d.datlocprovider, 'collation_version', coalesce(d.datcollversion, ''),
 'owner', pg_get_userbyid(d.datdba), 'time', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
 FROM pg_database d WHERE d.datname = current_database()"""
CONTENT = f"""SELECT json_build_object(
 'extensions', (SELECT coalesce(json_object_agg(extname, extversion ORDER BY extname), '{{}}') FROM pg_extension),
 'sequences', (SELECT coalesce(json_object_agg(format('%I.%I', schemaname, sequencename), last_value
               ORDER BY schemaname, sequencename), '{{}}') FROM pg_sequences),
 'large_objects', (SELECT count(*) FROM pg_largeobject_metadata),
 'collations', (SELECT coalesce(json_object_agg(format('%I.%I', n.nspname, c.collname), coalesce(c.collversion, '')
                ORDER BY n.nspname, c.collname), '{{}}') FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE {OURS}),
 'not_validated', (SELECT coalesce(json_agg(format('%I.%I', n.nspname, c.conname) ORDER BY n.nspname, c.conname), '[]')
                   FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE NOT c.convalidated),
 'invalid_indexes', (SELECT coalesce(json_agg(format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname), '[]')
                     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE NOT i.indisvalid),
 'roles', (SELECT json_agg(rolname ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'))"""
# Whose rows are not in a dump: a materialised view's, which is made anew, and those of an extension's own table, unless the extension has
# said that they are its user's (pg_extension_config_dump).
NOT_DUMPED = """(c.relkind = 'm' OR EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
 WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
 AND c.oid <> ALL (coalesce(e.extconfig, '{}'))))"""
# Partitions are counted, not their parents; foreign tables hold nothing of ours.
TABLES = f"""SELECT json_build_object('rows', coalesce(json_agg(name ORDER BY name) FILTER (WHERE dumped), '[]'),
 'uncounted', coalesce(json_agg(name ORDER BY name) FILTER (WHERE NOT dumped), '[]'))
 FROM (SELECT format('%I.%I', n.nspname, c.relname) AS name, NOT {NOT_DUMPED} AS dumped
 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm') AND {OURS} AND c.relpersistence <> 't') t"""

# How the server is set up, as far as SQL tells; a superuser's view, and in an encrypted object, for settings may hold passwords.
CONFIGURATION = """SELECT json_build_object(
 'settings', (SELECT json_object_agg(name, setting ORDER BY name) FROM pg_settings WHERE source <> 'default'),
 'hba', (SELECT coalesce(json_agg(h ORDER BY line_number), '[]') FROM pg_hba_file_rules h),
 'ident', (SELECT coalesce(json_agg(i ORDER BY line_number), '[]') FROM pg_ident_file_mappings i))"""

SQLSTATE = re.compile(r":\s+([0-9A-Z]{5}): ")
# Classes of errors that the statement is to blame for: cardinality, data, a read-only transaction, names, syntax and rights, what it raises
# itself. Source: PostgreSQL manual, appendix A.
FAULTS = ("0A", "21", "22", "25006", "26", "2F", "34", "3D", "3F", "42", "P0")
SHOWN = 80  # letters of a statement, in a message
HINT = ("does it hang, or wait for a lock? pg_stat_activity and pg_locks show what it is at, `logs postgres` its own words; "
        "KEEL_PG_TIMEOUT is how long it may be silent")


def pass_file(folder: Path, settings: Settings) -> None:
    """The password where libpq reads it (PGPASSFILE=/keel/pgpass): in no argv and no environment."""
    quoted = settings["POSTGRES_PASSWORD"].replace("\\", "\\\\").replace(":", "\\:")
    spool.write(folder / "pgpass", f"*:*:*:*:{quoted}\n")


def environment(settings: Settings) -> dict[str, str]:
    """What libpq needs in a container beside the environment's PostgreSQL."""
    return {"PGHOST": "postgres", "PGUSER": settings["PGUSER"], "PGDATABASE": settings["PGDATABASE"], "PGPASSFILE": "/keel/pgpass",
            "PGCONNECT_TIMEOUT": "10", "PGAPPNAME": f"evenkeel-{secrets.token_hex(4)}",  # by which pg_ours knows them
            # The last: a session of ours that waits for a lock does not outlive us, even where nobody can end it.
            "PGOPTIONS": "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c client_connection_check_interval=10s"}


def silence(settings: Settings) -> Silence:
    """The one clock for all that a backup asks PostgreSQL."""
    return Silence(settings.seconds("KEEL_PG_TIMEOUT"), "PostgreSQL", HINT)


class Session:
    """One psql in a container; `where` as `docker exec` takes it, `options` before the commands (as -d NAME)."""

    def __init__(self, where: str, *options: str, silence: Silence = FOREVER) -> None:
        self._silence = silence
        self._psql = tools.Program(where, ["psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", *options], subprocess.PIPE)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End it at once: whoever waits for an answer gets an error. Its transaction is rolled back when its container goes."""
        self._psql.stop()

    def ask(self, sql: str) -> list[str]:
        """The lines that a statement answers. Raises Stop 69 with PostgreSQL's own words, or when it is silent for too long."""
        end, pipe_in, said = f"end-{secrets.token_hex(8)}\n", self._psql.process.stdin, b""
        assert pipe_in
        try:
            pipe_in.write(f"{sql};\n\\echo {end}".encode())
            pipe_in.flush()
            while not said.endswith(end.encode()):
                piece = self._psql.piece(self._silence, f"no answer to {' '.join(sql.split())[:SHOWN]}")
                if not piece:
                    raise BrokenPipeError
                said += piece
        except BrokenPipeError:
            self._psql.process.wait()
            raise Stop(f"PostgreSQL: {self._psql.said() or 'psql ended'}", UNAVAILABLE, "its own words stand above") from None
        return said.decode().removesuffix(end).split("\n")[:-1]

    def one(self, sql: str) -> Any:
        """The JSON in the one row of an answer."""
        return json.loads("".join(self.ask(sql)))

    def tables(self) -> dict[str, Any]:
        """The exact number of `rows` of each table, and the names of those `uncounted` whose rows are in no dump."""
        found = self.one(TABLES)
        counted = {name: self.one(f"SELECT json_build_object('n', (SELECT count(*) FROM {name}))") for name in found["rows"]}
        return {**found, "rows": {name: int(answer["n"]) for name, answer in counted.items()}}


def look(session: Session) -> dict[str, Any]:
    """What the database of a session holds: facts of a manifest, compared after a restore; rows are counted exactly."""
    return {"database": session.one(DATABASE), **session.one(CONTENT), **session.tables()}


def newest(where: str, sql: str, *options: str, silence: Silence = FOREVER) -> str:
    """The time that KEEL_BACKUP_NEWEST answers, as UTC text; nothing where there is no row, or no such setting. `options` come before it,
    as -d NAME or -c STATEMENT.

    It is a person's SQL: a psql of its own sends it as it is (-c), as an open quote would keep a Session waiting for its end. Raises
    Stop 78 with PostgreSQL's own words where it is at fault, 69 where PostgreSQL is, or is silent for too long.
    """
    if not sql:
        return ""
    text = f"SELECT to_char(({sql}\n)::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    psql = tools.Program(where, ["psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", *options, "-c", text])
    try:
        answer = b"".join(iter(lambda: psql.piece(silence, "no answer to KEEL_BACKUP_NEWEST"), b""))
        if psql.process.wait() == 0:
            return answer.decode().strip()
    finally:
        psql.stop()
    said = "\n".join(line for line in psql.said().splitlines() if not line.startswith("LOCATION:"))
    states = SQLSTATE.findall(said)  # the error comes after notices; a snapshot that is gone is none of the statement's
    if states and states[-1].startswith(FAULTS) and 'snapshot "' not in said:
        raise Stop(f"KEEL_BACKUP_NEWEST: {said}", CONFIG, "a SELECT of one time is wanted, as SELECT max(created_at) FROM events")
    raise Stop(f"PostgreSQL: {said or 'psql ended'}", UNAVAILABLE, "its own words stand above")


def same_major(server: dict[str, Any], client: str) -> None:
    """That pg_dump (its --version) is of the server's major version. Raises Stop 78: a dump by another one may not load."""
    theirs = str(server["version_num"] // 10000)
    ours = next((word.split(".")[0] for word in client.split() if word[:1].isdigit()), "")
    if ours != theirs:
        raise Stop(f"pg_dump is of version {ours or 'unknown'} ({client.strip()}), the server of {theirs}: nothing was dumped", CONFIG,
                   "the image of the postgres container holds another client: pin the official one in compose/images.env")


def named(database: str) -> str:
    """A database as libpq takes it, whatever its name: one with = in it would be read as options."""
    quoted = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{quoted}'"


def identifier(name: str) -> str:
    """A name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL takes it, with standard_conforming_strings."""
    return "'" + text.replace("'", "''") + "'"
