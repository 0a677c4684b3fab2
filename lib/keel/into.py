"""Where a restore puts what it brings: what --confirm has to name; a folder that is empty, or was confirmed; objects on their way there."""
import os
from pathlib import Path

from keel import forms, recover
from keel.pack import SUFFIX
from keel.recover import Found
from keel.settings import Settings
from keel.stop import NO, USAGE, Stop

WORDS = {"redis": "Redis", "engine": "files"}  # targets that no database is meant by


def sane(settings: Settings, backup: str, target: str, confirm: str) -> None:
    """That a backup of its kind goes there, and that `confirm`, where it is given, names what would be replaced: the database, the
    environment of the Redis, the folder by its absolute path; the same for every kind, before anything is asked. Raises Stop 2."""
    match = forms.ID.fullmatch(backup)
    if not match:
        return  # that it is no id, `recover.find` says
    kind = match[2]
    if kind == "pg" and target in WORDS:
        raise Stop(f"--to {target} is for a backup of {WORDS[target]}, {backup} is one of PostgreSQL", USAGE, "--to: a database")
    if kind == "pg" and "/" in target:
        raise Stop(f"--to {target} is a path, {backup} is one of PostgreSQL", USAGE, "--to: a database; --output FILE writes an object")
    wanted = target if kind == "pg" else settings.env if (kind, target) == ("redis", "redis") else os.path.abspath(target)
    if confirm and (kind, target) == ("files", "engine"):
        raise Stop(f"--confirm {confirm}: into the engine nothing is replaced", USAGE, "without --confirm")
    if confirm and confirm != wanted:
        raise Stop(f"--confirm {confirm} is not what would be replaced", USAGE, f"that is {wanted}: is it meant?")


def folder(target: str, confirm: str) -> Path:
    """The folder, which may not be there yet. Raises Stop 1 when it holds anything and `confirm` is not its absolute path, 2 for a bare
    name: who means a database must not find what was encrypted in a folder of this checkout."""
    if "/" not in target:
        raise Stop(f"{target!r} is no path of a folder: nothing was changed", USAGE, f"--to ./{target}, or an absolute one")
    path = Path(os.path.abspath(target))
    if path.exists() and not path.is_dir():
        raise Stop(f"{path} is no folder: nothing was changed", NO, "--to: another name")
    held = len(os.listdir(path)) if path.exists() else 0
    if held and confirm != str(path):
        raise Stop(f"{path} holds {held} files and folders: nothing was changed", NO,
                   f"--to an empty one, or --to {path} --confirm {path} (with make: CONFIRM={path}): what has the same name is written "
                   "over, the rest stays")
    return path


def fetched(settings: Settings, found: Found, name: str, spool: Path) -> Path:
    """An object in the spool folder, whole and well. Raises as recover.fetch does."""
    part = found.part(name)
    path = spool / part.name.removesuffix(SUFFIX)
    recover.fetch(settings, found, part, path)
    return path
