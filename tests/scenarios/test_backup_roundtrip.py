"""A database with all that a dump could lose goes through backup, verification and restore, and is the same to the last row and right."""
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from keel import age_crypt, signed
from scenarios.machine import ROOT, Result
from scenarios.platform import Platform

DATABASE = "shop_icu"
# 60 md5 sums that no compressor makes much of: a row is about 1 KB.
ROWS = 1_000_000 if os.environ.get("KEEL_LOAD") == "full" else 30_000
CREATE = f"""CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LOCALE 'C.UTF-8'"""
TABLES = """SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relname <> 'stale' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1"""
LARGE = "SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid"
ITSELF = """SELECT datcollate, datctype, datlocprovider, datlocale, pg_encoding_to_char(encoding), pg_get_userbyid(datdba), datacl,
 (SELECT array_agg(format('%s %s', setrole::regrole, setconfig) ORDER BY 1) FROM pg_db_role_setting WHERE setdatabase = d.oid)
 FROM pg_database d WHERE datname = current_database()"""
SEQUENCES = "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2"
RIGHTS = """SELECT oid::regclass::text, relowner::regrole, relacl, relrowsecurity FROM pg_class
 WHERE relnamespace = 'shop'::regnamespace ORDER BY 1"""
PEOPLE = """SELECT rolname, rolcanlogin, rolconnlimit, rolpassword, (SELECT setconfig FROM pg_db_role_setting
 WHERE setrole = a.oid AND setdatabase = 0), shobj_description(oid, 'pg_authid') FROM pg_authid a
 WHERE rolname !~ '^(pg_|events$)' ORDER BY 1"""
MEMBERS = "SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members WHERE roleid = 'reader'::regrole ORDER BY 1, 2"
SORTED = "SELECT string_agg(name, ',' ORDER BY name, id) FROM (SELECT * FROM shop.customers LIMIT 50) s"


class Shop:
    """A platform whose server holds the database, with keys and a store of its own."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def sql(self, text: str, database: str = DATABASE) -> str:
        code, said = self.platform.service("postgres").exec_run(
            ["psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-U", "events", "-d", database, "-c", text])
        assert code == 0, said
        return str(said.decode())

    def schema(self, database: str) -> list[str]:
        """Every line of the schema, whatever the order; what pg_dump makes up anew each time is left out."""
        code, said = self.platform.service("postgres").exec_run(["pg_dump", "--schema-only", "-U", "events", database])
        assert code == 0, said
        return sorted(line for line in said.decode().splitlines() if not re.match(r"\\(un)?restrict", line))

    def state(self, database: str) -> dict[str, object]:
        """All that must be the same afterwards."""
        tables = self.sql(TABLES, database).splitlines()
        rows = {t: self.sql(f"SELECT count(*), md5(string_agg(h, '' ORDER BY h)) FROM (SELECT md5(t::text) h FROM {t} t) r", database)
                for t in tables}
        asked = {"large objects": LARGE, "itself": ITSELF, "sequences": SEQUENCES, "rights": RIGHTS, "order": SORTED}
        return {"rows": rows, "schema": self.schema(database), **{what: self.sql(query, database) for what, query in asked.items()}}

    def run(self, command: str) -> Result:
        return self.platform.run(["bash", "-o", "pipefail", "-c", command], seconds=1800, PGDATABASE=DATABASE)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with Platform("nginx") as platform:
        root = platform.root
        (root / "disk").mkdir()
        (root / "backup").mkdir(exist_ok=True)
        pem, line = signed.new_key("tests")
        secret, recipient = age_crypt.new_identity()
        files = {"secrets/backup-sign.pem": pem, "secrets/backup-identity.txt": secret, "backup/signers": line,
                 "backup/recipients": recipient}
        for name, text in files.items():
            path: Path = root / name
            path.write_text(f"{text}\n")
            path.chmod(0o600)
        platform.set(KEEL_BACKUP_STORES=f"file://{root / 'disk'}")
        platform.up()
        one = Shop(platform)
        one.sql(CREATE, "postgres")
        rich = (ROOT / "tests" / "rich.sql").read_text().replace("DATABASE events", f"DATABASE {DATABASE}")
        one.sql(f"SET rich.rows = {ROWS}; {rich}")
        yield one


@pytest.mark.timeout(3600 if ROWS > 100_000 else 400)
def test_round_trip(shop: Shop) -> None:
    done = shop.run("pg-backup | restore-verify").well()
    ident = done.stdout.strip()
    assert re.fullmatch(r"\d{8}T\d{6}Z-pg-[0-9a-f]{8}", ident) and f"{ident}: restores, L5, " in done.stderr, str(done)
    before = shop.state(DATABASE)
    shop.run(f"restore {ident} --to copy").well()
    after = shop.state("copy")
    for what, was in before.items():
        assert after[what] == was, what
    assert shop.sql("SELECT count(*) FROM shop.orders", "copy").strip() == str(ROWS)
    # the control: a single row, a right, a trigger, an order that differs is seen
    for change, what in (("UPDATE shop.orders SET payload = payload || 'x' WHERE id = 77", "rows"),
                         ("REVOKE SELECT ON shop.orders FROM reader", "rights"), ("DROP TRIGGER stamp ON shop.orders", "schema"),
                         ("SELECT setval('shop.orders_id_seq', 1)", "sequences"),
                         ("SELECT lo_put(max(oid), 3, 'x') FROM pg_largeobject_metadata", "large objects"),
                         ("ALTER DATABASE copy RESET work_mem", "itself")):
        shop.sql(change, "copy")
        assert shop.state("copy")[what] != before[what], change


@pytest.mark.timeout(300)
def test_a_server_that_knows_none_of_the_roles(shop: Shop) -> None:
    """A bare server, as after a fire: roles come with their passwords, rights and memberships; the scratch server has shown the same."""
    ident = shop.run("pg-backup").well().stdout.strip()
    before = shop.sql(PEOPLE), shop.sql(MEMBERS), shop.state(DATABASE)
    assert all(f"{name}|" in before[0] for name in ('Odd "role', "owner_of_shop", "reader")) and "SCRAM-SHA-256$" in before[0]
    shop.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)", "postgres")
    shop.sql("DROP DATABASE IF EXISTS copy", "postgres")
    shop.sql('DROP ROLE "Odd ""role", owner_of_shop, reader', "postgres")
    done = shop.run(f"restore {ident} --to {DATABASE}").well()
    assert 'made the roles Odd "role, owner_of_shop, reader' in done.stderr
    assert (shop.sql(PEOPLE), shop.sql(MEMBERS), shop.state(DATABASE)) == before
