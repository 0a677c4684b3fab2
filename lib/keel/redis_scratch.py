"""A Redis of our own for a while, with a dump loaded, in a container that also has redis-cli and redis-check-rdb.

Either nobody can reach it, and it does not expire a key, so that what it holds is what the dump holds; or it is the master that the
environment's Redis copies from.
"""
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from keel import cli, compose, images, redis, run, state, tools
from keel.redis import Server
from keel.settings import Settings
from keel.stop import CONFIG, DATA, UNAVAILABLE, Stop

SOCKET = "/tmp/redis.sock"
CONFIGURATION = "scratch.conf"
ALONE = {"port": "0", "unixsocket": SOCKET,
         # A replica leaves it to its master to expire keys; this one never finds it.
         "replicaof": "127.0.0.1 1"}
MASTER = {"bind": "* -::*", "protected-mode": "no", "repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0",
          # However slow the other side loads, it is not cut off.
          "client-output-buffer-limit": "replica 0 0 0", "enable-debug-command": "local"}
NEVER = {"dir": "/keel", "save": '""', "appendonly": "no", "loglevel": "warning", "pidfile": "/tmp/redis.pid"}


@contextmanager
def box(settings: Settings, folder: Path, **more: object) -> Iterator[str]:
    """A container of the environment's pinned image, which is fetched where it is not there; `folder` is at /keel, `more` as boxes.create
    takes it. Raises Stop 69."""
    pinned = compose.images(settings)["KEEL_IMAGE_REDIS"]
    if not images.find(pinned):
        cli.say(f"pulling {pinned}")
        try:
            run.do(["docker", "pull", "--quiet", pinned])
        except run.Failed as e:
            raise Stop(f"{pinned}: {e.said.strip()}", UNAVAILABLE, "is the registry reachable?") from None
    with tools.container(settings, pinned, folder, **more) as made:
        yield made


def new_enough(where: str, version: str) -> None:
    """That the image's Redis is no older than the one that was dumped. Raises Stop 78: an older one may not read the dump."""
    ours = tools.ask(where, ["redis-server", "--version"]).partition("v=")[2].split(" ")[0]
    if [int(n) for n in ours.split(".")[:2]] < [int(n) for n in version.split(".")[:2]]:
        raise Stop(f"the backup is of Redis {version}, the image of {ours}", CONFIG,
                   "pin an image of that version: KEEL_IMAGE_REDIS in the file that KEEL_IMAGES names")


@contextmanager
def alone(where: str, folder: Path, dump: str, seconds: float) -> Iterator[Server]:
    """The dump in a Redis that nobody reaches and in which nothing expires. Raises Stop 65 with its words when it does not load."""
    with _server(where, folder, {**NEVER, **ALONE, "dbfilename": dump}, seconds) as _:
        yield Server(where, ("-s", SOCKET), "")


@contextmanager
def master(where: str, folder: Path, dump: str, seconds: float) -> Iterator[tuple[Server, str]]:
    """The dump in a Redis that others can copy from, at the address and with the password given; nothing more expires in it.

    Raises Stop 65 with its words when it does not load.
    """
    password = secrets.token_hex(24)
    redis.pass_file(folder, password, "scratchpass")
    with _server(where, folder, {**NEVER, **MASTER, "dbfilename": dump, "requirepass": password}, seconds):
        server = Server(where, ("-h", "127.0.0.1"), "scratchpass")
        server.ask("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        yield server, password


@contextmanager
def _server(where: str, folder: Path, options: Mapping[str, str], seconds: float) -> Iterator[None]:
    """Start it and wait until it has loaded everything."""
    state.write(folder / CONFIGURATION, "".join(f"{name} {value}\n" for name, value in options.items()), 0o600)
    program = tools.Program(where, ["redis-server", f"/keel/{CONFIGURATION}"])
    server = Server(where, ("-s", SOCKET), "") if "unixsocket" in options else Server(where, ("-h", "127.0.0.1"), "scratchpass")
    end = time.monotonic() + seconds
    try:
        while not _loaded(server):
            if program.process.poll() is not None:
                assert program.process.stdout
                said = program.process.stdout.read().decode(errors="replace").splitlines()[-5:]
                raise Stop(f"does not load: {'; '.join(filter(None, [*said, program.said()]))}", DATA, "redis-check-rdb takes it")
            if time.monotonic() > end:
                raise Stop(f"the scratch Redis does not answer after {seconds:.0f} s", UNAVAILABLE,
                           "KEEL_BACKUP_RTO is how long it may take")
            time.sleep(0.05)
        yield
    finally:
        program.stop()


def _loaded(server: Server) -> bool:
    try:
        return server.info().get("loading") == "0"
    except Stop:  # it does not listen yet
        return False
