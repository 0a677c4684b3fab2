"""A PostgreSQL of our own for a while: the environment's image, its own nameless volume, no network, a socket in its own container.

It shows what a backup is worth and is thrown away: nothing is synced to disk, nothing is archived, no trigger of an event fires.
"""
import re
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keel import boxes, cli, compose, engine, images, run, shortage, spool, tools
from keel.settings import Settings
from keel.stop import CONFIG, UNAVAILABLE, Stop

VOLUME = "/var/lib/postgresql"  # the image's own folder for it: a new volume gets its owner
DATA_FOLDER = f"{VOLUME}/scratch"
START = 120.0  # seconds
# What is passed to the server. Nothing reaches it from elsewhere, and nothing that it writes is to last.
OPTIONS = {
    "listen_addresses": "", "unix_socket_directories": "/tmp", "archive_mode": "off", "fsync": "off", "synchronous_commit": "off",
    "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "4GB", "autovacuum": "off", "jit": "off",
    "dynamic_shared_memory_type": "mmap", "log_line_prefix": "%e ",
}
LOCKS = 64  # for each of the 100 sessions that the server may have: PostgreSQL's own default
# Libraries that replicate or archive: what is restored here is nobody's copy.
NEVER = {"basic_archive", "bdr", "pg_failover_slots", "pgactive", "pgautofailover", "pglogical", "repmgr", "spock"}
# What a role's or a database's own settings must not do to us.
SESSION = ("statement_timeout=0", "lock_timeout=0", "idle_in_transaction_session_timeout=0", "temp_file_limit=-1",
           "default_transaction_read_only=off", "role=none", "session_preload_libraries=")
LOUD = "log_min_messages=warning"  # what the server lacks is told from its log
SCRIPT = """initdb --pgdata="$PGDATA" --username="$FIRST" --auth=trust --encoding=UTF8 --locale=C --no-sync >/dev/null
exec postgres "$@" """


@dataclass(frozen=True)
class Scratch:
    """A container in which the server answers; `user` is a superuser of our own, whom no dump knows; `lacking`: what the backup's server
    preloaded and this one does not."""

    box: str
    user: str
    lacking: tuple[str, ...] = ()


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
def server(settings: Settings, facts: dict[str, Any], folder: Path, tables: int) -> Iterator[Scratch]:
    """The server, empty, with `folder` at /keel; gone at the end. `facts` are those of the backup's server: the first role has the name
    of the one there, for grants name it. Raises Stop 78 for an older major version than the backup's, 69 when it does not start or has
    not enough of memory, disk or locks (for so many tables and sequences)."""
    pinned, user, theirs = image(settings), f"keel_{secrets.token_hex(6)}", facts["version_num"] // 10000
    first, preloaded = facts.get("bootstrap") or user, facts.get("preload") or ""
    version, have = _holds(settings, pinned, folder, bool(preloaded))
    ours = int(next(iter(re.findall(r"[0-9]+", version)), 0))
    if ours < theirs:
        raise Stop(f"the backup is of PostgreSQL {facts['version']}, {pinned} is {version}", CONFIG,
                   f"KEEL_IMAGE_POSTGRES in {settings['KEEL_IMAGES']}: an image of version {theirs}")
    if ours > theirs:
        cli.say(f"the backup is of PostgreSQL {facts['version']}: it is restored into {version}, as it would be today")
    libraries, lacking = preload(preloaded, have)
    if lacking:
        cli.warn(f"{pinned} has no {', '.join(lacking)}, which the backed-up server preloads: what needs that does not restore here")

    def start(those: Sequence[str]) -> str:
        return _started(settings, pinned, folder, {"FIRST": first, "PGUSER": user, **options(settings, ours, those, tables)})

    try:
        box = start(libraries)
    except Stop as e:
        if not libraries:
            raise
        cli.warn(f"{e.message}: it is started again, without what the backed-up server preloads: {', '.join(libraries)}")
        box, lacking = start([]), [*lacking, *libraries]
    try:
        if user != first:
            _psql(box, f'CREATE ROLE "{user}" SUPERUSER LOGIN', first)
        yield Scratch(box, user, tuple(lacking))
    except Stop as e:
        if e.code == UNAVAILABLE:
            fed(box)
            shortage.told(box)
        raise
    finally:
        boxes.remove(box)


def preload(wanted: str, have: Collection[str]) -> tuple[list[str], list[str]]:
    """Of shared_preload_libraries as the backed-up server had it: what is to be preloaded here too, in its order, and what there is not."""
    names = (re.sub(r'.*/|"|\.so$', "", w.strip().strip('"')) for w in wanted.split(","))
    named = [n for n in dict.fromkeys(names) if n and n not in NEVER]
    return [n for n in named if n in have], [n for n in named if n not in have]


def options(settings: Settings, major: int, libraries: Sequence[str], tables: int) -> dict[str, str]:
    """What a server of that version is started with. A quarter of its memory is for building indexes, all jobs together; pg_dump, which
    tells the schema, holds a lock on each table to the end."""
    memory, jobs = settings.size("KEEL_RESTORE_MEMORY") >> 20, settings.number("KEEL_RESTORE_JOBS")
    return {**OPTIONS, "shared_buffers": f"{max(1, memory // 8)}MB", "maintenance_work_mem": f"{max(1, memory // 4 // jobs)}MB",
            "shared_preload_libraries": ",".join(libraries), "max_locks_per_transaction": f"{LOCKS + tables // 50}",
            # Jobs, replicators, whatever a library would start by itself and let loose on the data: none of it.
            **({"max_worker_processes": "0"} if libraries else {}), **({"event_triggers": "off"} if major >= 17 else {})}


def _holds(settings: Settings, pinned: str, folder: Path, libraries: bool) -> tuple[str, list[str]]:
    """The version of an image's PostgreSQL, and where it is asked for, the libraries that it has."""
    with tools.container(settings, pinned, folder) as box:
        version = tools.insist(box, ["postgres", "--version"])
        there = tools.insist(box, ["sh", "-euc", 'ls "$(pg_config --pkglibdir)"']) if libraries else ""
    return version, [name.removesuffix(".so") for name in there.split() if name.endswith(".so")]


def _started(settings: Settings, pinned: str, folder: Path, given: dict[str, str]) -> str:
    """A container in which the server answers; `given`: FIRST, PGUSER, and its options. Raises Stop 69, and leaves nothing."""
    env = {name: given.pop(name) for name in ("FIRST", "PGUSER")}
    box = boxes.create(f"{settings.project}-scratch-{secrets.token_hex(4)}", pinned, labels={
        "keel.env": settings.env, "keel.role": "scratch", spool.LABEL: str(folder)}, binds=[f"{folder}:/keel"], user="postgres",
        entrypoint=["sh", "-euc", SCRIPT, "sh"], command=[w for k, v in given.items() for w in ("-c", f"{k}={v}")], volumes=[VOLUME],
        environment={**env, "PGDATA": DATA_FOLDER, "PGHOST": "/tmp", "PGDATABASE": "template1",
                     "PGOPTIONS": " ".join(f"-c {o}" for o in (*SESSION, LOUD))}, memory=settings.size("KEEL_RESTORE_MEMORY"))
    try:
        _wait(box, env["FIRST"])
    except BaseException:
        boxes.remove(box)
        raise
    return box


def _wait(box: str, first: str) -> None:
    end = time.monotonic() + START
    while _inside(box, ["pg_isready", "--quiet", f"--username={first}"])[0]:
        running = engine.inspect(box)["State"]["Running"]
        if not running or time.monotonic() > end:
            fed(box)
            raise Stop("the scratch PostgreSQL does not start: " + "; ".join(engine.logs(box, 5)), UNAVAILABLE, "its own words stand above")
        time.sleep(0.05)


def _inside(box: str, argv: list[str]) -> tuple[int, str]:
    """As engine.execute; 1 and nothing in a container that has ended by now: why is for the caller to say, from its log."""
    try:
        return engine.execute(box, argv)
    except Stop:
        if engine.inspect(box)["State"]["Running"]:
            raise
        return 1, ""


def fed(box: str, less: str = "fewer KEEL_RESTORE_JOBS") -> None:
    """That the kernel ended nothing in a container for want of memory. Raises Stop 69: what failed there says nothing against a backup;
    with `less` it would take less.

    Source: memory.events of cgroup v2, memory.oom_control of v1; the engine's own flag where nothing runs there any more.
    """
    found = engine.inspect(box)
    killed = bool(found["State"]["OOMKilled"])
    if not killed and found["State"]["Running"]:
        said = _inside(box, ["sh", "-c", "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control"])[1]
        killed = bool(re.search(r"^oom_kill [1-9]", said, re.MULTILINE))
    limit = found["HostConfig"]["Memory"] >> 20
    more = ", or ".join(filter(None, ["a larger KEEL_RESTORE_MEMORY" if limit else "", less]))
    if killed:
        raise Stop(f"{found['Name'].lstrip('/')}: out of memory: " + (f"it may have {limit} MiB" if limit else "this host has no more"),
                   UNAVAILABLE, "; ".join(filter(None, [more, "the backup may be well"])))


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
    fed(box)
    shortage.told(box)
    if not engine.inspect(box)["State"]["Running"]:
        raise Stop(f"the scratch PostgreSQL ended while {argv[0]} ran", UNAVAILABLE, "is memory or disk short?")
    said = [line.strip() for line in [*out.splitlines()[-tools.SAID:], *program.said().splitlines()] if line.strip()]
    return f"{argv[0]}: {'; '.join(said) or f'ended with {code}'}"
