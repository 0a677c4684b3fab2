"""What the scratch PostgreSQL is started with."""
import pytest

from keel import schema, scratch, settings

VARIABLES = schema.load(settings.ROOT / "compose" / "example.env")
HAVE = ("auto_explain", "pg_stat_statements", "pg_cron", "pglogical", "plpgsql")


@pytest.mark.parametrize(("wanted", "here", "lacking"), [
    ("", [], []), (" ", [], []), ("pg_stat_statements", ["pg_stat_statements"], []),
    ('pg_stat_statements, "auto_explain",pg_cron', ["pg_stat_statements", "auto_explain", "pg_cron"], []),
    ("$libdir/auto_explain, /usr/lib/postgresql/16/lib/pg_cron.so,auto_explain", ["auto_explain", "pg_cron"], []),
    ("timescaledb, pg_stat_statements,../../tmp/evil", ["pg_stat_statements"], ["timescaledb", "evil"]),
    ("pglogical,repmgr", [], []),
])
def test_which_libraries_are_preloaded(wanted: str, here: list[str], lacking: list[str]) -> None:
    assert scratch.preload(wanted, HAVE) == (here, lacking)


def given(memory: str, jobs: int, major: int = 17, libraries: tuple[str, ...] = (), tables: int = 5) -> dict[str, str]:
    return scratch.options(settings.Settings("x", {"KEEL_RESTORE_MEMORY": memory, "KEEL_RESTORE_JOBS": str(jobs)}, {}, VARIABLES), major,
                           libraries, tables)


@pytest.mark.parametrize("memory", ["6m", "256m", "1g", "16g"])
@pytest.mark.parametrize("jobs", [1, 2, 16])
def test_its_buffers_and_index_builds_fit_into_its_memory(memory: str, jobs: int) -> None:
    said = given(memory, jobs)
    buffers, work = (int(said[name].removesuffix("MB")) for name in ("shared_buffers", "maintenance_work_mem"))
    assert buffers >= 1 and work >= 1 and (memory == "6m" or (buffers + jobs * work) << 20 <= schema.size(memory) // 2)


def test_nothing_that_is_preloaded_works_by_itself_or_sends_anything_away() -> None:
    bare, loaded = given("1g", 2), given("1g", 2, libraries=("pg_cron", "auto_explain"))
    assert bare["shared_preload_libraries"] == "" and "max_worker_processes" not in bare
    assert loaded["shared_preload_libraries"] == "pg_cron,auto_explain" and loaded["max_worker_processes"] == "0"
    for options in (bare, loaded):
        assert (options["archive_mode"], options["max_wal_senders"], options["listen_addresses"]) == ("off", "0", "")
    assert given("1g", 2, 17)["event_triggers"] == "off" and "event_triggers" not in given("1g", 2, 16)


def test_a_session_may_lock_every_table_and_sequence() -> None:
    """As pg_dump does, to tell the schema; 100 sessions share the room for locks."""
    assert all(100 * int(given("1g", 2, tables=tables)["max_locks_per_transaction"]) > 2 * tables for tables in (0, 5, 6400, 100_000))
