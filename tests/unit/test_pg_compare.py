"""What is told apart between a restored database and its manifest: each fact by itself, and nothing where all is the same."""
import copy
from typing import Any

import pytest

from keel import pg_compare

WELL: dict[str, Any] = {
    "database": {"encoding": "UTF8", "collate": "C.UTF-8", "ctype": "C.UTF-8", "provider": "c", "collation_version": "2.41"},
    "rows": {"public.a": 5, "public.b": 0}, "uncounted": ["public.view"],
    "extensions": {"plpgsql": "1.0"}, "sequences": {"public.s": 7, "public.unused": None},
    "large_objects": 2,
    "collations": {"public.german": "153.1"}, "not_validated": ["public.c"], "invalid_indexes": [],
    "roles": ["events", "reader"]}
CASES: dict[str, tuple[Any, str]] = {
    "rows": ({"public.a": 4, "public.b": 0}, "public.a: 4 rows, 5 wanted"),
    "rows.gone": ({"public.a": 5}, "public.b is not there; it had 0 rows"),
    "rows.more": ({"public.a": 5, "public.b": 0, "public.z": 1}, "public.z is there and was not when the backup was made"),
    "uncounted": ([], "public.view is not there"),
    "extensions.gone": ({}, "extension plpgsql is not there"),
    "sequences": ({"public.s": None, "public.unused": None}, "sequence public.s was never used"),
    "sequences.gone": ({"public.s": 7}, "sequence public.unused is not there"),
    "large_objects": (1, "1 large objects, 2 wanted"),
    "collations.gone": ({}, "collation public.german is not there"),
    "not_validated": ([], "constraint not validated: public.c no more"),
    "not_validated.more": (["public.c", "public.d"], "constraint not validated: public.d too"),
    "invalid_indexes": (["public.i"], "index public.i is invalid"),
    "roles": (["events"], "role reader is not there"),
}


def test_nothing_where_nothing_differs() -> None:
    more_roles = {**WELL, "roles": [*WELL["roles"], "somebody"]}  # another server may have more
    assert pg_compare.findings(WELL, copy.deepcopy(WELL)) == [] == pg_compare.findings(WELL, more_roles)
    assert pg_compare.notes(WELL, copy.deepcopy(WELL)) == []


@pytest.mark.parametrize("case", CASES)
def test_each_fact(case: str) -> None:
    there, said = CASES[case]
    found = pg_compare.findings(WELL, {**WELL, case.partition(".")[0]: there})
    assert len(found) == 1 and found[0].startswith(said), found


@pytest.mark.parametrize("key", WELL["database"].keys() - {"collation_version"})
def test_the_database_itself(key: str) -> None:
    found = pg_compare.findings(WELL, {**WELL, "database": {**WELL["database"], key: "other"}})
    assert len(found) == 1 and "other" in found[0] and WELL["database"][key] in found[0]


@pytest.mark.parametrize(("changed", "said"), [
    ({"extensions": {"plpgsql": "1.1"}}, "extension plpgsql: version '1.1' here, '1.0' where it was backed up"),
    ({"collations": {"public.german": "154.0"}}, "collation public.german: version '154.0' here, '153.1' where it was backed up"),
    ({"database": {**WELL["database"], "collation_version": "2.42"}},
     "collation of the database: version '2.42' here, '2.41' where it was backed up"),
])
def test_versions_are_those_of_the_image_and_no_fault_of_the_backup(changed: dict[str, Any], said: str) -> None:
    """With a new image every old backup would be bad. That an extension is not there at all is one, whatever the image."""
    assert pg_compare.findings(WELL, {**WELL, **changed}) == []
    assert pg_compare.notes(WELL, {**WELL, **changed}) == [said]
    gone = {**WELL, "extensions": {}, "collations": {}}
    assert pg_compare.versions(WELL, gone) == [] and len(pg_compare.findings(WELL, gone)) == 2


def test_many_differences_are_one_fault() -> None:
    found = pg_compare.rows({"rows": {f"public.t{n}": n for n in range(50)}}, {"rows": {}, "uncounted": []})
    assert len(found) == pg_compare.MOST + 1 and found[-1] == "and 40 more like it"


def test_a_manifest_of_before_counted_views_too() -> None:
    """A view that was not fresh, and an extension's own queue: a dump has their rows from nowhere."""
    old = {"rows": {"public.a": 5, "public.view": 3, "net.queue": 7}}
    assert pg_compare.rows(old, {"rows": {"public.a": 5}, "uncounted": ["net.queue", "public.view"]}) == []
    assert pg_compare.rows(old, {"rows": {"public.a": 5}, "uncounted": ["public.view"]}) == ["net.queue is not there; it had 7 rows"]


def test_what_is_said_and_is_no_fault() -> None:
    assert pg_compare.notes(WELL, {**WELL, "sequences": {"public.s": 9, "public.unused": None}}) == [
        "1 sequences have moved between dump and count, as public.s"]
    assert pg_compare.notes({**WELL, "invalid_indexes": ["public.i"]}, WELL) == [
        "1 indexes were invalid when they were to be dumped, as public.i: not in the backup"]


def test_the_newest_event() -> None:
    assert pg_compare.late("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z", 86400) == []
    assert pg_compare.late("2026-02-28T23:59:59Z", "2026-03-02T00:00:00Z", 86400) != []
    assert pg_compare.late("", "2026-03-02T00:00:00Z", 86400) == ["KEEL_BACKUP_NEWEST finds no event at all"]
