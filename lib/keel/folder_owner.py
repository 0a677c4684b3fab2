"""Who besides us may delete or replace what lies in a folder of backups: to the kernel that is a right of the folder, not of its files."""
import os
import pwd
import stat
from pathlib import Path

from keel.stop import Stop
from keel.store_errors import of_disk


def others(root: Path) -> tuple[str, str]:
    """In words who may, root excepted, and what to type; nothing where nobody may. Raises as of_disk.

    Source: unlink(2), EACCES and EPERM: with the sticky bit only the owner of a file, or of the folder, removes it.
    """
    with of_disk(root, ""):
        found = root.stat()
    said, hints = [], []
    if found.st_uid not in (0, os.geteuid()):
        said.append(f"belongs to {_name(found.st_uid)}, who can delete and replace what is in it")
        hints.append(f"chown {_name(os.geteuid())} {root}")
    who = [word for word, bit in (("its group", stat.S_IWGRP), ("everybody here", stat.S_IWOTH)) if found.st_mode & bit]
    if who and not found.st_mode & stat.S_ISVTX:
        said.append(f"has mode {stat.S_IMODE(found.st_mode):04o}: {who[-1]} can delete and replace what is in it")
        hints.append(f"chmod go-w {root}")
    return "; ".join(said), "; ".join(hints)


def ours_alone(root: Path) -> str:
    """Nothing. Raises Stop 1 that says who else may and what to type, and as of_disk."""
    said, hint = others(root)
    if said:
        raise Stop(f"{said}: {hint}")
    return ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
