"""A Redis backup brought back: tried in a scratch Redis, or put into the environment's own, which copies it as a replica would."""
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keel import cli, engine, health, host, into, pack, redis, redis_scratch, scratch, state, tools
from keel.checked import Checked
from keel.phases import Phases
from keel.recover import Found
from keel.redis import Server
from keel.settings import Settings
from keel.stop import DATA, NO, UNAVAILABLE, Stop

DUMP = "dump.rdb"
STALL = 30.0  # seconds without a connection between the two
ALIKE = ("keys", "expires", "subexpires", "rdb_version", "made_by")


def verify(settings: Settings, found: Found, folder: Path) -> Checked:
    """Read the dump, check it, load it into a scratch Redis in which nothing expires, and count. Raises Stop 65 when it cannot be read,
    1 when this host has no memory for it, 69 and 78 when the trial cannot go on."""
    checked, facts = Checked(1), found.manifest.facts
    phase = Phases(checked.seconds)
    host.memory(facts["used_memory"])
    with phase("download"):
        path = into.fetched(settings, found, DUMP, folder)
    with redis_scratch.box(settings, folder, memory=settings.size("KEEL_RESTORE_MEMORY")) as box:
        redis_scratch.new_enough(box, facts["version"])
        checked.level = 2
        with phase("check"):
            checked.findings += _checked(box, path, facts)
        if checked.findings:
            scratch.fed(box, "")
            return checked
        checked.level = 3
        try:
            with phase("restore"), redis_scratch.alone(box, folder, DUMP, settings.seconds("KEEL_BACKUP_RTO")) as server:
                info = server.info()
        except Stop as e:
            scratch.fed(box, "")
            if e.code != DATA:
                raise
            checked.findings.append(f"{DUMP}: {e.message}")
            return checked
    checked.level = 5
    there = {"keys": redis.keys(info), "expires": sum(n for _, n in redis.keyspace(info).values())}
    checked.findings += [f"{DUMP}: {there[name]} {name} were loaded, the manifest says {facts[name]}"
                         for name in there if there[name] != facts[name]]
    return checked


def _checked(box: str, path: Path, facts: Mapping[str, Any]) -> list[str]:
    """What redis-check-rdb has against a dump, or against what the manifest says of it."""
    said, wrong = redis.check(box, path.name)
    if wrong:
        return [f"{path.name}: {wrong}"]
    there = redis.facts(path, said, {"redis_version": facts["version"], "used_memory": facts["used_memory"]})
    return [f"{path.name}: {name} is {there[name]}, the manifest says {facts[name]}" for name in ALIKE if there[name] != facts[name]]


def restore(settings: Settings, found: Found, target: str, confirm: str, folder: Path) -> None:
    """Put the dump into a folder or, where the target is `redis`, into the environment's running Redis, which must have no keys or be
    confirmed by the name of the environment. Its password, its volume and its append-only file stay.

    Raises Stop 1 when it is not confirmed or does not fit, 65 when the dump is not whole and well: nothing has changed then. 69 when Redis
    or the engine fails: then it says what Redis holds.
    """
    if target != "redis":
        place = into.folder(target, confirm)
        host.room(settings, place, found.part(DUMP).plain_size)
        fetched, aside = into.fetched(settings, found, DUMP, folder), place / f".{DUMP}"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as f:
            f.writelines(pack.file(fetched))
            f.flush()
            os.fsync(f.fileno())
        state.rename(aside, place / DUMP)
        return
    with tools.beside(settings, "redis", folder, {}) as beside:
        live = redis.at(settings, beside, folder, "KEEL_BACKUP_RTO")  # emptying a large one takes it minutes
        info = _own_master(live)
        held = redis.keys(info)
        if held and confirm != settings.env:
            raise Stop(f"redis holds {held} keys: nothing was changed", NO,
                       f"--confirm {settings.env} (with make: CONFIRM={settings.env}): they are replaced, all of them, in every database")
        host.memory(2 * found.manifest.facts["used_memory"])  # both hold it for a while
        path = into.fetched(settings, found, DUMP, folder)
        with redis_scratch.box(settings, folder, network=f"{settings.project}_data") as box:
            redis_scratch.new_enough(box, found.manifest.facts["version"])
            wrong = _checked(box, path, found.manifest.facts)
            if wrong:
                raise Stop("\n".join(wrong), DATA, "nothing was changed")
            with redis_scratch.master(box, folder, DUMP, settings.seconds("KEEL_BACKUP_RTO")) as (source, password):
                _copy(settings, live, source, password)
        _written(live, time.monotonic() + settings.seconds("KEEL_BACKUP_RTO"))
        cli.say(f"redis holds {redis.keys(live.info())} keys")


def _own_master(live: Server) -> dict[str, str]:
    """Its INFO, once it is nobody's replica: a restore that was killed may have left it as one."""
    info = live.info()
    if info["role"] == "slave":
        cli.warn("redis is a replica, as a restore that was killed leaves it: it is its own master again")
        _free(live)
    return live.info()


def _free(live: Server) -> None:
    """Make it its own master, as soon as it takes that: while it loads what it copied it refuses. Raises Stop 69 where it loads longer
    than it may give no sign of life."""
    told = False

    def ask() -> str:
        nonlocal told
        try:
            live.tell(["REPLICAOF", "NO", "ONE"], ["CONFIG", "SET", "masterauth", ""])
        except Stop as e:
            if "LOADING" not in e.message:
                raise
            if not told:
                cli.say("redis loads what it has copied: it is its own master again once it has done so")
            told = True
            return e.message
        return ""

    if said := health.wait(ask, live.patience, every=0.1):
        raise Stop(f"redis still loads what it copied, and is left a replica: {said}", UNAVAILABLE,
                   "once it has loaded, the next restore, or REPLICAOF NO ONE, makes it its own master again")


@contextmanager
def _replica(live: Server, address: str, password: str) -> Iterator[None]:
    """Redis as a replica of another for a while, and never for longer."""
    try:
        live.tell(["CONFIG", "SET", "masterauth", password], ["REPLICAOF", address, "6379"])
        yield
    finally:
        _free(live)


def _copy(settings: Settings, live: Server, source: Server, password: str) -> None:
    """Let the live one copy everything from the scratch one; both hold the same afterwards. Raises Stop 1 when it does not fit, 69."""
    there, limit = source.info(), int(live.info()["maxmemory"])
    if limit and int(there["used_memory_dataset"]) > limit:
        raise Stop(f"the dump takes {int(there['used_memory_dataset']) >> 20} MiB, redis may use {limit >> 20} MiB: nothing was changed",
                   NO, f"a larger KEEL_REDIS_MEMORY in {settings.file}, then make up ENV={settings.env}")
    address = engine.inspect(source.box)["NetworkSettings"]["Networks"][f"{settings.project}_data"]["IPAddress"]
    try:
        with _replica(live, address, password):
            _linked(live, source, time.monotonic() + settings.seconds("KEEL_BACKUP_RTO"))
            wanted, got = redis.keyspace(source.info()), redis.keyspace(live.info())
            if wanted != got:
                raise Stop(f"redis has {got} as a copy, {wanted} are wanted", UNAVAILABLE)
    except Stop as e:
        raise Stop(f"{e.message}\nredis is not restored, and may hold its old keys, none, or those of the backup", e.code,
                   "the same command again; `logs redis` shows its own words") from None


def _linked(live: Server, source: Server, end: float) -> None:
    """Wait until it has copied everything. Raises Stop 69 when it takes too long, or one of the two ended or started anew meanwhile."""
    since = time.monotonic()
    while True:
        info = live.info()
        if info["role"] != "slave":
            raise Stop("redis started anew while it copied", UNAVAILABLE)
        idle = info["master_sync_in_progress"] == "0" and info["loading"] == "0"
        if idle and info["master_link_status"] == "up":
            return
        now = time.monotonic()
        since = since if idle else now
        if now > end or now > since + STALL:
            raise Stop(f"redis does not copy: its link is {info['master_link_status']}", UNAVAILABLE)
        source.ask("PING")
        time.sleep(0.1)


def _written(live: Server, end: float) -> None:
    """Wait until the append-only file, if there is one, holds what was copied. Raises Stop 69."""
    while True:
        info = live.info()
        busy = any(info.get(name) == "1" for name in ("aof_rewrite_in_progress", "aof_rewrite_scheduled"))
        if info.get("aof_enabled") != "1" or not busy and info["aof_last_bgrewrite_status"] == "ok":
            return
        if not busy or time.monotonic() > end:
            raise Stop("redis has the keys in memory, and does not write them into its append-only file", UNAVAILABLE, "is its disk full?")
        time.sleep(0.1)
