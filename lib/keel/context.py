"""The build context of an image: what would enter it, and what it was made from."""
import fnmatch
import os
import time
from collections.abc import Iterator
from pathlib import Path

from keel import run
from keel.settings import Settings
from keel.stop import CONFIG, Stop

# Names under which secrets are kept (a list in the spirit of gitleaks' and GitHub's path rules), and heads of private keys.
NAMES = (".env", ".env.*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "id_rsa*", "id_ed25519*", "id_ecdsa*",
         ".npmrc", ".netrc", ".pgpass", ".htpasswd", "credentials", "credentials.json", "service-account*.json", "*.kdbx", "secrets.*",
         "*.tfstate", ".dockerconfigjson", "age.txt", "*.age-key")
HARMLESS = (".env.example", "example.env", ".env.sample", ".env.template", "*.pub")
HEADS = (b"-----BEGIN RSA PRIVATE", b"-----BEGIN PRIVATE", b"-----BEGIN EC PRIVATE", b"-----BEGIN OPENSSH PRIVATE", b"AGE-SECRET-KEY-1")


def folder(settings: Settings) -> Path:
    """The application's folder. Raises Stop 78 when it is not there."""
    found = settings.path("KEEL_APP_DIR").resolve()
    if not found.is_dir():
        raise Stop(f"KEEL_APP_DIR: there is no folder {found}", CONFIG, f"edit {settings.file}")
    return found


def secrets(folder: Path) -> list[str]:
    """The files, relative to the folder, that look like secrets and would enter the context. Raises OSError."""
    return sorted(name for name in files(folder) if _looks(folder / name))


def files(folder: Path) -> Iterator[str]:
    """The files that .dockerignore lets into the context. Source: Docker manual, .dockerignore: last match wins, `!` lets in again."""
    rules = [r.strip() for r in _lines(folder / ".dockerignore") if r.strip() and not r.startswith("#")]
    for top, folders, names in os.walk(folder):
        here = os.path.relpath(top, folder)
        if not any(r.startswith("!") for r in rules):  # nothing below an ignored folder can come back: do not walk node_modules
            folders[:] = [d for d in folders if not ignored(os.path.normpath(os.path.join(here, d)), rules)]
        for name in names:
            relative = os.path.normpath(os.path.join(here, name))
            if not ignored(relative, rules):
                yield relative


def ignored(name: str, rules: list[str]) -> bool:
    """Whether the rules keep a path out: a rule also holds for everything below what it matches."""
    out = False
    for rule in rules:
        pattern = rule.lstrip("!").strip("/")
        parts = name.split("/")
        if any(_match("/".join(parts[:n]), pattern) for n in range(1, len(parts) + 1)):
            out = not rule.startswith("!")
    return out


def _match(name: str, pattern: str) -> bool:
    """Go's filepath.Match with Docker's `**`: `*` stays within one folder."""
    return _parts(name.split("/"), pattern.split("/"))


def _parts(name: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_parts(name[n:], pattern[1:]) for n in range(len(name) + 1))
    return bool(name) and fnmatch.fnmatchcase(name[0], pattern[0]) and _parts(name[1:], pattern[1:])


def _looks(path: Path) -> bool:
    name = path.name.lower()
    if any(fnmatch.fnmatch(name, h) for h in HARMLESS):
        return False
    if any(fnmatch.fnmatch(name, n) for n in NAMES):
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as f:
        head = f.read(4096)
    return any(h in head for h in HEADS)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def revision(folder: Path) -> dict[str, str]:
    """REVISION, VERSION and CREATED of the folder's last commit: the same commit gives the same labels, so the same image."""
    try:
        sha, stamp = run.ask(["git", "-C", str(folder), "log", "-1", "--format=%H %ct", "--", "."]).split()
        dirty = bool(run.ask(["git", "-C", str(folder), "status", "--porcelain", "--", "."]).strip())
    except (run.Failed, ValueError):
        return {"REVISION": "unknown", "VERSION": "unversioned", "CREATED": "1970-01-01T00:00:00Z"}
    created = time.strftime("%FT%TZ", time.gmtime(int(stamp)))
    return {"REVISION": sha + ("-dirty" if dirty else ""), "VERSION": sha[:12] + ("-dirty" if dirty else ""), "CREATED": created}
