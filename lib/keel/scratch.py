"""A PostgreSQL of our own for a while: the environment's image, its own nameless volume, no network, a socket in its own container.

It shows what a backup is worth and is thrown away: nothing is synced to disk, nothing is archived, no trigger of an event fires.
"""
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keel import boxes, cli, compose, engine, images, run, spool, tools
from keel.settings import Settings
from keel.stop import CONFIG, UNAVAILABLE, Stop

VOLUME = "/var/lib/postgresql"  # the image's own folder for it: a new volume gets its owner
DATA_FOLDER = f"{VOLUME}/scratch"
START = 120.0  # seconds
MEMORY = "128MB"
# What is passed to the server. Nothing reaches it from elsewhere, and nothing that it writes is to last.
OPTIONS = {
    "listen_addresses": "", "unix_socket_directories": "/tmp", "archive_mode": "off", "fsync": "off", "synchronous_commit": "off",
    "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "4GB", "autovacuum": "off", "jit": "off",
    "shared_buffers": MEMORY, "maintenance_work_mem": MEMORY, "dynamic_shared_memory_type": "mmap", "shared_preload_libraries": "",
}
# What a role's or a database's own settings must not do to us.
SESSION = ("statement_timeout=0", "lock_timeout=0", "idle_in_transaction_session_timeout=0", "default_transaction_read_only=off",
           "role=none", "session_preload_libraries=")
SCRIPT = """initdb --pgdata="$PGDATA" --username="$FIRST" --auth=trust --encoding=UTF8 --locale=C --no-sync >/dev/null
exec postgres "$@" """


@dataclass(frozen=True)
class Scratch:
    """A container in which the server answers; `user` is a superuser of our own, whom no dump knows."""

    box: str
    user: str


def image(settings: Settings) -> str:
    """The pinned image of PostgreSQL, which is fetched where it is not there. Raises Stop 69."""
    pinned = compose.images(settings)["KEEL_IMAGE_POSTGRES"]
    if not images.find(pinned):
        cli.say(f"pulling {pinned}")
        try:
            run.do(["docker", "pull", "--quiet", pinned])
        except run.Failed as e:
            raise Stop(f"{pinned}: {e.said.strip()}", UNAVAILABLE, "is the registry reachable?") from None
    return pinned


@contextmanager
def server(settings: Settings, facts: dict[str, Any], folder: Path) -> Iterator[Scratch]:
    """The server, empty, with `folder` at /keel; gone at the end. `facts` are those of the backup's server: the first role has the name
    of the one there, for grants name it. Raises Stop 78 for another major version than the backup's, 69 when it does not start."""
    pinned, user = image(settings), f"keel_{secrets.token_hex(6)}"
    major = facts["version_num"] // 10000
    options = {**OPTIONS, **({"event_triggers": "off"} if major >= 17 else {})}
    first = facts.get("bootstrap") or user
    box = boxes.create(f"{settings.project}-scratch-{secrets.token_hex(4)}", pinned, labels={
        "keel.env": settings.env, "keel.role": "scratch", spool.LABEL: str(folder)}, binds=[f"{folder}:/keel"], user="postgres",
        entrypoint=["sh", "-euc", SCRIPT, "sh"], command=[w for k, v in options.items() for w in ("-c", f"{k}={v}")], volumes=[VOLUME],
        environment={"PGDATA": DATA_FOLDER, "FIRST": first, "PGHOST": "/tmp", "PGUSER": user, "PGDATABASE": "template1",
                     "PGOPTIONS": " ".join(f"-c {o}" for o in SESSION)})
    try:
        version = tools.ask(box, ["postgres", "--version"])
        if f" {major}." not in version and not version.strip().endswith(f" {major}"):
            raise Stop(f"the backup is of PostgreSQL {facts['version']}, {pinned} is {version.strip()}", CONFIG,
                       f"KEEL_IMAGE_POSTGRES in {settings['KEEL_IMAGES']}: an image of version {major}")
        _wait(box, first)
        if user != first:
            _psql(box, f'CREATE ROLE "{user}" SUPERUSER LOGIN', first)
        yield Scratch(box, user)
    finally:
        boxes.remove(box)


def _wait(box: str, first: str) -> None:
    end = time.monotonic() + START
    while engine.execute(box, ["pg_isready", "--quiet", f"--username={first}"])[0]:
        running = engine.inspect(box)["State"]["Running"]
        if not running or time.monotonic() > end:
            raise Stop("the scratch PostgreSQL does not start: " + "; ".join(engine.logs(box, 5)), UNAVAILABLE, "its own words stand above")
        time.sleep(0.05)


def _psql(box: str, sql: str, user: str) -> None:
    tools.ask(box, ["psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", f"--username={user}", "-c", sql])


def tried(box: str, argv: list[str]) -> str:
    """Run a program that judges the backup; what it says against it when it ends with another code than 0, its last lines in one."""
    program = tools.Program(box, argv)
    assert program.process.stdout
    out = program.process.stdout.read().decode(errors="replace")
    code = program.process.wait()
    if not code:
        return ""
    if not engine.inspect(box)["State"]["Running"]:
        raise Stop(f"the scratch PostgreSQL ended while {argv[0]} ran", UNAVAILABLE, "is memory or disk short?")
    said = [line.strip() for line in [*out.splitlines()[-tools.SAID:], *program.said().splitlines()] if line.strip()]
    return f"{argv[0]}: {'; '.join(said) or f'ended with {code}'}"
