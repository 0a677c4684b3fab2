"""What only its owner may read: the folder of secrets, and the passwords in it."""
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keel import run, schema, settings, state
from keel.settings import Settings
from keel.stop import CONFIG, NO, Stop

# Source: PostgreSQL manual, appendix A, invalid_password; and the server's words, where a client leaves the code out.
REFUSED = re.compile(r"\b28P01\b|password authentication failed")


@contextmanager
def folder(path: Path, mode: int = 0o700) -> Iterator[None]:
    """Make a folder of this mode whatever the umask, and keep other writers of it out meanwhile. Raises OSError."""
    if run.dry:
        run.dry(f"make the folder {path} with mode {mode:04o}")
        yield
        return
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    path.chmod(mode)
    with alone(path):
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other writers of a folder out meanwhile. Raises OSError."""
    if run.dry:
        yield
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def new(path: Path, text: str) -> Iterator[None]:
    """Write a new file of mode 0600, never over another, and within the checkout only into secrets/, which is never committed; it is taken
    away again when what is done meanwhile fails. Raises Stop 78 for another place, 1 when there is one, and OSError."""
    path, root, ours = path.resolve(), settings.ROOT.resolve(), (settings.ROOT / "secrets").resolve()
    if path.is_relative_to(root) and not path.is_relative_to(ours):
        raise Stop(f"{path}: is in the checkout, where it could be committed: nothing was written", CONFIG, f"{ours}, or another disk")
    if path.parent == ours:
        with folder(ours):
            pass
    elif not path.parent.is_dir():
        raise Stop(f"{path.parent}: there is no such folder: nothing was written", CONFIG, f"mkdir -p -m 700 {path.parent}")
    try:
        state.create(path, text, 0o600)
    except FileExistsError:
        raise Stop(f"{path}: exists already: nothing was written", NO, "move it away, or choose another place") from None
    try:
        yield
    except BaseException:
        state.remove(path)
        raise


def close(path: Path) -> None:
    """Make a file its owner's alone (0600). Raises OSError."""
    if run.dry:
        run.dry(f"chmod 600 {path}")
        return
    path.chmod(0o600)


def lacking(env: str) -> list[str]:
    """The names of the required secrets that have no value yet in secrets/ENV.env. Raises Stop 78."""
    known = settings.read(settings.ROOT / "secrets" / f"{env}.env")
    return [v.name for v in schema.load(settings.ROOT / "compose" / "example.env").values()
            if v.secret and v.required and known.get(v.name, "") in ("", v.default)]


def fill(env: str) -> list[str]:
    """Give every required secret that has no value yet a random one, in secrets/ENV.env; their names. Raises Stop 78, OSError.

    192 bits as hexadecimal: no character that a URL, a shell, Compose or an env file could read as anything else.
    """
    path = settings.ROOT / "secrets" / f"{env}.env"
    with folder(path.parent):
        wanted = lacking(env)  # also stops at a line that cannot be read, before anything is written
        if not wanted:
            return []
        text = path.read_text() if path.exists() else f"# The secrets of {env}: never commit this file.\n"
        for name in wanted:  # an empty line or the placeholder makes room for the value; two lines of one name would be a fault
            text = re.sub(rf"(?m)^\s*(export\s+)?{name}\s*=.*\n?", "", text)
        text += "" if text.endswith("\n") or not text else "\n"
        state.write(path, text + "".join(f"{name}={secrets.token_hex(24)}\n" for name in wanted), 0o600)
    return wanted


def other_password(settings: Settings, said: str) -> str:
    """What to type when PostgreSQL refuses the password, by what a client of it or PgBouncer said; else nothing.

    It took its password when its volume was empty; a new checkout beside the volumes of an old one has another.
    """
    if not REFUSED.search(said):
        return ""
    return (f"the volumes of {settings.project} were made with another POSTGRES_PASSWORD than that of secrets/{settings.env}.env, as by an "
            f"older checkout: take its secrets/{settings.env}.env back; or make destroy ENV={settings.env} deletes their data (it asks)")
