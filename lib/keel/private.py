"""What only its owner may read: the folder of secrets, and the passwords in it."""
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keel import run, schema, settings, state


@contextmanager
def folder(path: Path, mode: int = 0o700) -> Iterator[None]:
    """Make a folder of this mode whatever the umask, and keep other writers of it out meanwhile. Raises OSError."""
    if run.dry:
        run.dry(f"make the folder {path} with mode {mode:04o}")
        yield
        return
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    path.chmod(mode)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def close(path: Path) -> None:
    """Make a file its owner's alone (0600). Raises OSError."""
    if run.dry:
        run.dry(f"chmod 600 {path}")
        return
    path.chmod(0o600)


def fill(env: str) -> list[str]:
    """Give every required secret that has no value yet a random one, in secrets/ENV.env; their names. Raises Stop 78, OSError.

    192 bits as hexadecimal: no character that a URL, a shell, Compose or an env file could read as anything else.
    """
    path = settings.ROOT / "secrets" / f"{env}.env"
    with folder(path.parent):
        known = settings.read(path)  # also stops at a line that cannot be read, before anything is written
        wanted = [v.name for v in schema.load(settings.ROOT / "compose" / "example.env").values()
                  if v.secret and v.required and known.get(v.name, "") in ("", v.default)]
        if not wanted:
            return []
        text = path.read_text() if path.exists() else f"# The secrets of {env}: never commit this file.\n"
        for name in wanted:  # an empty line or the placeholder makes room for the value; two lines of one name would be a fault
            text = re.sub(rf"(?m)^\s*(export\s+)?{name}\s*=.*\n?", "", text)
        text += "" if text.endswith("\n") or not text else "\n"
        state.write(path, text + "".join(f"{name}={secrets.token_hex(24)}\n" for name in wanted), 0o600)
    return wanted
