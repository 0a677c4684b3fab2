"""One change at a time in an environment: flock on a file, inherited by what the holder starts, freed by the kernel when they are gone."""
import contextlib
import fcntl
import json
import os
from pathlib import Path

from keel import health, run, state
from keel.settings import Settings
from keel.stop import BUSY, Stop

DEPLOY, BACKUPS = "lock", "backups.lock"  # a deploy does not wait for a backup, nor a backup for a deploy
VERIFY, RESTORE = "verify.lock", "restore.lock"  # nor either for what is restored, in scratch or in earnest
QUESTION = 0.1  # seconds: many times what `holder` takes
WORDS = {DEPLOY: "{} is", BACKUPS: "the backups of {} are", VERIFY: "restore-verify of {} is", RESTORE: "restore of {} is"}


def path(settings: Settings, name: str = DEPLOY) -> Path:
    return settings.state / name


def inherited(settings: Settings, name: str = DEPLOY) -> bool:
    """Whether the process that started us holds this lock of this environment and handed it down."""
    fd = os.environ.get(_handed(name), "")
    try:
        ours, wanted = os.fstat(int(fd)), path(settings, name).stat()
    except (ValueError, OSError):
        return False
    return (ours.st_dev, ours.st_ino) == (wanted.st_dev, wanted.st_ino)


def hold(settings: Settings, what: str, name: str = DEPLOY) -> None:
    """Take a lock until this process and all that it starts (but for run.start) have ended. Raises Stop 75 saying who holds it."""
    if inherited(settings, name) or run.dry:
        return
    file = path(settings, name)
    state.make_folder(file.parent)
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if not _taken(fd):
        held = _holder(file)
        os.close(fd)
        raise Stop(f"{WORDS[name].format(settings.env)} locked by {held}", BUSY,
                   "wait for it, or stop it: the lock goes with its processes") from None
    os.ftruncate(fd, 0)
    with contextlib.suppress(OSError):  # no room for it, maybe: the lock holds all the same, and what makes room wants one too
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "since": state.now(), "what": what}).encode(), 0)
    os.set_inheritable(fd, True)
    os.environ[_handed(name)] = str(fd)


def _taken(fd: int) -> bool:
    """Whether we have it now. `status` holds it shared for the time of a question, which must turn nobody away."""
    def ask() -> str:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "held"
        return ""

    return not health.wait(ask, QUESTION, every=QUESTION / 20)


def holder(settings: Settings, name: str = DEPLOY) -> str:
    """Who holds the lock, in words; nothing where it is free. Asks without taking it for longer than the question."""
    file = path(settings, name)
    if not file.exists():
        return ""
    with open(file) as f:
        try:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(file)
    return ""


def _handed(name: str) -> str:
    """The variable that hands a lock down: each has its own, for what holds one may need another as well."""
    return run.LOCKS if name == DEPLOY else f"{run.LOCKS}_{name.partition('.')[0].upper()}"


def _holder(file: Path) -> str:
    """'pid 12 (deploy) since …', or the processes it left behind when it is gone itself."""
    try:
        said = json.loads(file.read_text())
        pid, words = said["pid"], f"{said['what']} since {said['since']}"
    except (ValueError, KeyError):
        pid, words = 0, "a process that has just begun"
    if pid and os.path.exists(f"/proc/{pid}"):
        return f"pid {pid}: {words}"
    left = ", ".join(f"{p} ({_title(p)})" for p in _openers(file))
    if not pid:
        return f"{words}, or found no room for its name: pid {left or 'unknown'}"
    return f"{words}; pid {pid} is gone, what it started still runs: pid {left or 'unknown'}"


def _openers(file: Path) -> list[int]:
    """The processes that have the file open, as far as we may look."""
    wanted = str(file.resolve())
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if any(os.readlink(fd) == wanted for fd in (entry / "fd").iterdir()):
                found.append(int(entry.name))
        except OSError:
            continue  # ended meanwhile, or not ours to look at
    return sorted(found)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended"
