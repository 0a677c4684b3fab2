"""What a restored database must have in common with what its manifest says; pure: facts in, sentences out."""
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from keel import keep
from keel.forms import moment

MOST = 10  # sentences of one sort; a thousand tables that differ are one fault
VERSIONS = ("extension", "collation")
SAME = {"encoding": "encoding", "collate": "collation", "ctype": "character type", "provider": "locale provider"}


def findings(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What is wrong; both are facts as pg.look gives them."""
    said = rows(wanted, found)
    for key, what in SAME.items():
        if wanted["database"][key] != found["database"][key]:
            said.append(f"the database has the {what} {found['database'][key]!r}, not {wanted['database'][key]!r}")
    said += some([f"{what} {name} is not there" for what in VERSIONS for name in wanted[f"{what}s"] if name not in found[f"{what}s"]])
    said += some([f"sequence {name} is not there" for name in wanted["sequences"] if name not in found["sequences"]])
    said += some([f"sequence {name} was never used" for name, value in wanted["sequences"].items()
                   if value is not None and found["sequences"].get(name, value) is None])
    if wanted["large_objects"] != found["large_objects"]:
        said.append(f"{found['large_objects']} large objects, {wanted['large_objects']} wanted")
    said += _differ("constraint not validated", wanted["not_validated"], found["not_validated"])
    # An index that was invalid is not dumped at all.
    said += some([f"index {name} is invalid" for name in found["invalid_indexes"] if name not in wanted["invalid_indexes"]])
    return said + some([f"role {name} is not there" for name in sorted(set(wanted["roles"]) - set(found["roles"]))])


def versions(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The versions that differ, of extensions and of the libraries that order text. They are those of the image that it is restored into,
    today or in earnest, and say nothing against a dump: it makes extensions in the version that is there, and builds indexes anew."""
    of_all = {"collation of the database": (wanted["database"]["collation_version"], found["database"]["collation_version"])}
    of_all |= {f"{what} {name}": (version, found[f"{what}s"].get(name, version))
               for what in VERSIONS for name, version in wanted[f"{what}s"].items()}
    return some([f"{what}: version {there!r} here, {version!r} where it was backed up" for what, (version, there) in of_all.items()
                  if there != version])


def rows(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The tables whose exact number of rows differs, or that are not there, or that nobody knows.

    Backups of before counted materialised views and extensions' own tables too, whose rows no dump has: that they are there is enough.
    """
    uncounted, there = set(found["uncounted"]), found["rows"]
    known = {*wanted["rows"], *wanted.get("uncounted", ())}
    counts = {name: count for name, count in wanted["rows"].items() if name not in uncounted}
    gone = [f"{name} is not there; it had {count} rows" for name, count in counts.items() if name not in there]
    gone += [f"{name} is not there" for name in wanted.get("uncounted", ()) if name not in uncounted and name not in there]
    more = [f"{name} is there and was not when the backup was made" for name in there if name not in known]
    return some([f"{name}: {there[name]} rows, {count} wanted" for name, count in counts.items() if there.get(name, count) != count]
                 + gone + more)


def late(newest: str, taken: str, most: float) -> list[str]:
    """Whether the newest business event is more than `most` seconds older than its backup, or there is none."""
    if not newest:
        return ["KEEL_BACKUP_NEWEST finds no event at all"]
    age = moment(taken) - moment(newest)
    if age <= timedelta(seconds=most):
        return []
    return [f"the newest event is of {newest}, {keep.age(age)} before the backup: KEEL_BACKUP_RPO is {keep.age(timedelta(seconds=most))}"]


def notes(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What differs and is no fault."""
    moved = [name for name, value in wanted["sequences"].items() if found["sequences"].get(name, value) != value]
    gone = [name for name in wanted["invalid_indexes"] if name not in found["invalid_indexes"]]
    return versions(wanted, found) + ([f"{len(moved)} sequences have moved between dump and count, as {moved[0]}"] if moved else []) + (
        [f"{len(gone)} indexes were invalid when they were to be dumped, as {gone[0]}: not in the backup"] if gone else [])


def _differ(what: str, wanted: Collection[str], found: Collection[str]) -> list[str]:
    return some([f"{what}: {name} {'too' if name in found else 'no more'}" for name in sorted(set(wanted) ^ set(found))])


def some(said: list[str]) -> list[str]:
    """The first of what is said, and how many more there are."""
    return said[:MOST] + ([f"and {len(said) - MOST} more like it"] if len(said) > MOST else [])
