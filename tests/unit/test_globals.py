"""The statements of pg_dumpall --globals-only: none is torn apart, and a restore takes those that it should."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel import globals

DUMP = '''--
-- Roles
--

SET default_transaction_read_only = off;

CREATE ROLE events;
ALTER ROLE events WITH SUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x';
CREATE ROLE "Odd ""role";
ALTER ROLE "Odd ""role" WITH NOSUPERUSER PASSWORD 'it''s';
COMMENT ON ROLE "Odd ""role" IS 'two lines
CREATE ROLE trap;
CREATE TABLESPACE trap';
CREATE ROLE reader;
ALTER ROLE reader SET search_path TO 'shop';
GRANT reader TO "Odd ""role" WITH ADMIN OPTION, INHERIT TRUE GRANTED BY events;
GRANT reader TO events GRANTED BY "Odd ""role";
CREATE TABLESPACE fast OWNER reader LOCATION '/mnt/fast';
ALTER TABLESPACE fast SET (seq_page_cost=2);
GRANT ALL ON TABLESPACE fast TO reader;
'''


def test_statements_keep_what_is_quoted_together() -> None:
    found = list(globals.statements(DUMP))
    assert len(found) == 13 and found[0] == "SET default_transaction_read_only = off;"
    assert "two lines\nCREATE ROLE trap;\nCREATE TABLESPACE trap';" in found[5]


def test_everything_but_the_first_role_and_tablespaces() -> None:
    all_of_it = globals.everything(DUMP, "events")
    assert all_of_it.roles == ('Odd "role', "reader") and all_of_it.tablespaces == ("fast",)
    assert "CREATE ROLE events" not in all_of_it.sql and "ALTER ROLE events WITH SUPERUSER" in all_of_it.sql
    assert "GRANTED BY events;" in all_of_it.sql and "fast" not in all_of_it.sql


def test_only_the_roles_that_are_missing() -> None:
    some = globals.missing(DUMP, ["events", "reader"])
    assert some.roles == ('Odd "role',)
    assert "ROLE events" not in some.sql and "ROLE reader" not in some.sql and "TO events" not in some.sql
    assert 'GRANT reader TO "Odd ""role" WITH ADMIN OPTION, INHERIT TRUE;' in some.sql and "GRANTED" not in some.sql
    assert globals.missing(DUMP, ["events", "reader", 'Odd "role']).roles == ()


def test_rights_are_words_without_passwords() -> None:
    text = """ALTER ROLE app WITH NOSUPERUSER LOGIN CONNECTION LIMIT 3 PASSWORD 'md5 LOGIN; ''x' VALID UNTIL '2027-01-01 00:00:00+00';
ALTER ROLE app SET search_path TO 'shop';
GRANT reader TO app WITH ADMIN OPTION, INHERIT FALSE GRANTED BY "SET FALSE";
GRANT writer TO app WITH INHERIT TRUE GRANTED BY events;
"""
    assert globals.rights(text) == {"app": {
        "NOSUPERUSER", "LOGIN", "CONNECTION LIMIT 3", "VALID UNTIL '2027-01-01 00:00:00+00'",
        "SET search_path TO 'shop'", "member of reader with ADMIN OPTION, INHERIT FALSE", "member of writer"}}


def test_only_roles_that_both_have_and_that_differ_are_told() -> None:
    assert globals.differ(DUMP, DUMP) == [], "the control"
    here = DUMP.replace("NOSUPERUSER PASSWORD 'it''s'", "SUPERUSER PASSWORD 'new'")
    here = here.replace("events GRANTED", "events WITH ADMIN OPTION GRANTED")
    assert globals.differ(here, DUMP) == [
        'the role Odd "role is there with other rights or settings, and stays so: here SUPERUSER; in the backup NOSUPERUSER',
        "the role events is there with other rights or settings, and stays so: here member of reader with ADMIN OPTION; "
        "in the backup member of reader"]
    older = DUMP.replace(", INHERIT TRUE", "").replace(" GRANTED BY events", "").replace("SCRAM", "md5")
    assert globals.differ(older, DUMP) == [], "dumps of before PostgreSQL 16, another grantor, another password"
    assert globals.differ("ALTER ROLE extra WITH LOGIN;\n", DUMP) == []


def test_settings_that_differ_are_told_without_their_values() -> None:
    secret = "ALTER ROLE reader SET \"app.key\" TO 'hunter2\n; x';\n"
    assert globals.differ(DUMP + secret, DUMP + secret) == [], "the control"
    assert globals.differ(DUMP + secret, DUMP.replace("'shop'", "'shop', 'public'")) == [
        'the role reader is there with other rights or settings, and stays so: here SET "app.key" TO …, SET search_path TO …; '
        "in the backup SET search_path TO …"]
    elsewhere = "ALTER ROLE reader IN DATABASE events SET search_path TO 'x';\n"
    assert globals.differ(DUMP + elsewhere, DUMP) == [], "that of one database is restored with the database"


@pytest.mark.parametrize("here, there", [
    ("2027-01-01 00:00:00+00", "2027-01-01 01:00:00+01"), ("2027-07-01 02:00:00+02", "2027-06-30 19:30:00-04:30"),
    ("2027-01-01 00:00:00.5+00", "2027-01-01 05:30:00.5+05:30")])
def test_a_password_s_last_moment_is_the_same_in_every_time_zone(here: str, there: str) -> None:
    def dump(until: str) -> str:
        return f"ALTER ROLE app WITH LOGIN VALID UNTIL '{until}';\n"

    assert globals.differ(dump(here), dump(there)) == []
    assert globals.differ(dump(here), dump(there.replace(":00", ":01", 1))) != [], "another moment"
    assert globals.differ(dump(here), dump(here[:-3])) != [], "no zone: nobody knows"


@pytest.mark.parametrize("until", ["infinity", "12027-01-01 00:00:00+00", "0044-03-15 12:00:00+00 BC", "9999-12-31 23:59:59-01",
                                   "Fri 01 Jan 00:00:00 2027 UTC"])
def test_a_last_moment_that_python_cannot_tell_is_compared_as_it_stands(until: str) -> None:
    other = "2027-01-01 00:00:00+00"
    assert globals.rights(f"ALTER ROLE app WITH VALID UNTIL '{until}';\n") == {"app": {f"VALID UNTIL '{until}'"}}
    assert globals.differ(f"ALTER ROLE app WITH VALID UNTIL '{until}';\n", f"ALTER ROLE app WITH VALID UNTIL '{other}';\n") != []


@pytest.mark.parametrize("written, meant", [("reader", "reader"), ('"Odd ""role"', 'Odd "role'), ('"a.b"', "a.b")])
def test_names(written: str, meant: str) -> None:
    assert globals.name(written) == meant


@given(st.lists(st.text(alphabet="ab'\"\n;-\\ ", max_size=12), max_size=8))
def test_no_comment_is_torn_apart(texts: list[str]) -> None:
    """Whatever stands in a comment, each statement comes out as it went in."""
    each = [f"COMMENT ON ROLE r IS '{t.replace(chr(39), chr(39) * 2)}';" for t in texts]
    assert list(globals.statements("".join(f"{s}\n" for s in each))) == each
