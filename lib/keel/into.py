"""Where a restore writes files: a folder that is empty, or was confirmed by name; and objects on their way there."""
import os
from pathlib import Path

from keel import recover
from keel.pack import SUFFIX
from keel.recover import Found
from keel.settings import Settings
from keel.stop import NO, USAGE, Stop


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
                   f"--to an empty one, or --to {path} --confirm {path}: what has the same name is written over, the rest stays")
    return path


def fetched(settings: Settings, found: Found, name: str, spool: Path) -> Path:
    """An object in the spool folder, whole and well. Raises as recover.fetch does."""
    part = found.part(name)
    path = spool / part.name.removesuffix(SUFFIX)
    recover.fetch(settings, found, part, path)
    return path
