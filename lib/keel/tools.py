"""Containers that work for a backup or a restore: the programs of a server's own image, beside it, with a folder of this host at /keel.

So pg_dump is of the server's very version, and bytes go through a FIFO in that folder, past the engine.
"""
import fcntl
import os
import secrets
import select
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from keel import boxes, engine, run, spool
from keel.settings import Settings
from keel.silence import FOREVER, LOOK, Silence
from keel.stop import UNAVAILABLE, Stop

PIECE = 1 << 20
SAID = 20  # last lines of a program that are shown


@contextmanager
def beside(settings: Settings, service: str, folder: Path, env: Mapping[str, str]) -> Iterator[str]:
    """A container of the image that a base service runs, on its network, that does nothing yet; its id. `env` is for no secret.

    Raises Stop 69 when the service does not run.
    """
    found = engine.service(settings, service)
    if not found or found["State"] != "running":
        raise Stop(f"{service} is not running", UNAVAILABLE, f"make up ENV={settings.env}")
    with container(settings, found["ImageID"], folder, network=f"{settings.project}_data", environment=dict(env)) as name:
        yield name


@contextmanager
def container(settings: Settings, image: str, folder: Path, **more: object) -> Iterator[str]:
    """A container of an image with `folder` at /keel, removed at the end; `more` as boxes.create takes it. It runs as who runs us, and
    only sleeps, unless `more` says otherwise."""
    options = {"user": f"{os.getuid()}:{os.getgid()}", "entrypoint": ["sleep", "infinity"], **more}
    made = boxes.create(f"{settings.project}-tools-{secrets.token_hex(4)}", image, labels={
        "keel.env": settings.env, "keel.role": "tools", spool.LABEL: str(folder)}, binds=[f"{folder}:/keel"], **options)
    try:
        yield made
    finally:
        boxes.remove(made)


class Program:
    """A program in a container, `docker exec`: its streams, and the last lines it wrote on stderr."""

    def __init__(self, where: str, argv: Sequence[str], stdin: int | IO[bytes] = subprocess.DEVNULL) -> None:
        interactive = [] if stdin == subprocess.DEVNULL else ["--interactive"]
        self.name = argv[0]
        self.process = run.start(["docker", "exec", *interactive, where, *argv], stdin)
        self._said: deque[str] = deque(maxlen=SAID)
        self._reader = threading.Thread(target=self._listen, name="stderr", daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self._said.append(line.decode(errors="replace").rstrip())

    def piece(self, silence: Silence, wanted: str) -> bytes:
        """What comes next on stdout, nothing at its end. Raises Stop 69 where the server behind it is silent for too long."""
        assert self.process.stdout
        silence.wait(self.process.stdout.fileno(), wanted)
        return os.read(self.process.stdout.fileno(), PIECE)

    def said(self) -> str:
        """The last lines on stderr, once it ended."""
        self._reader.join()
        return "\n".join(self._said)

    def well(self) -> None:
        """Wait for its end. Raises Stop 69 with what it said when its code is not 0."""
        code = self.process.wait()
        if code:
            raise Stop("\n".join(filter(None, [f"{self.name} ended with {code}", self.said()])), UNAVAILABLE, "its own words stand above")

    @contextmanager
    def within(self, seconds: float, late: str, hint: str) -> Iterator[None]:
        """End our side of it when the block, which waits for it, still does after so many seconds (0: never). Raises Stop 69 then."""
        over = threading.Event()

        def end() -> None:
            over.set()
            self.process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        if seconds:
            timer.start()
        try:
            yield
        except Stop:
            if over.is_set():
                raise Stop(late, UNAVAILABLE, hint) from None
            raise
        finally:
            timer.cancel()

    def stop(self) -> None:
        """End our side of it, when it still runs; the container's end is the program's own."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def output(where: str, folder: Path, argv: Sequence[str], silence: Silence = FOREVER) -> Iterator[bytes]:
    """What a program writes on stdout, through a FIFO in the folder; ends only when it ended with 0. Raises Stop 69 with its words, or
    where it is silent for too long while we wait for it."""
    name = secrets.token_hex(4)
    fifo = folder / name
    os.mkfifo(fifo, 0o600)
    os.chmod(fifo, 0o666)  # the folder is closed to others; the container may have a user of its own
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with suppress(PermissionError):  # above /proc/sys/fs/pipe-max-size: then it is only slower
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIECE)  # 64 KiB as it is made: both sides would wait for each other all the time
    program = Program(where, ["sh", "-c", 'exec "$@" >"$0"', f"/keel/{name}", *argv])
    program.name = argv[0]
    try:
        yield from _read(fd, program, silence)
        program.well()
    finally:
        os.close(fd)
        program.stop()
        fifo.unlink()


def _read(fd: int, program: Program, silence: Silence) -> Iterator[bytes]:
    """Until the writer closed the FIFO, or ended before it opened it."""
    waiting, size = select.poll(), 0
    waiting.register(fd, select.POLLIN)
    silence.heard()
    while True:
        ended = program.process.poll() is not None  # before the look: what it wrote last is in the FIFO by then
        if waiting.poll(LOOK):
            piece = os.read(fd, PIECE)
            silence.heard()
            if not piece:
                return
            size += len(piece)
            with silence.held_up():
                yield piece
        elif ended:
            return
        else:
            silence.look(f"nothing came from {program.name} after {size} bytes")


def ask(where: str, argv: Sequence[str], silence: Silence = FOREVER) -> str:
    """The stdout of a short program in a container. Raises Stop 69 with its words, or where it is silent for too long."""
    program = Program(where, argv)
    try:
        said = b"".join(iter(lambda: program.piece(silence, f"nothing came from {program.name}"), b""))
        program.well()
    finally:
        program.stop()
    return said.decode(errors="replace")


def insist(where: str, argv: Sequence[str]) -> str:
    """The stdout of a program that says something: the engine now and then loses it where a program ends at once. Raises as ask."""
    said = ""
    for _ in range(3):
        said = said or ask(where, argv).strip()
    return said
