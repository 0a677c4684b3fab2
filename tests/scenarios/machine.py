"""What every scenario needs of this machine: its engine, an environment without settings, unused ports, waiting for a condition."""
import contextlib
import os
import random
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import docker
from dotenv import dotenv_values

from keel import schema

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = {k: v for k, v in dotenv_values(ROOT / "var" / "host.env", interpolate=False).items() if v}
# Settings of this shell, and of a `make test` around us, are no business of the environments under test.
FOREIGN = {"ENV", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", *schema.load(ROOT / "compose" / "example.env")}


@dataclass(frozen=True)
class Result:
    """What a command did; `codes` are the exit codes of a pipe, by command."""

    argv: list[str]
    code: int
    stdout: str
    stderr: str
    codes: Mapping[str, int] = field(default_factory=dict)

    def well(self) -> Self:
        """The result itself, when the exit code is 0."""
        assert self.code == 0, str(self)
        return self

    def __str__(self) -> str:
        return f"{shlex.join(self.argv)} ended with {self.code} {dict(self.codes) or ''}\n{self.stdout}{self.stderr}"


class Running:
    """A command that runs, in a session of its own, so that it can be killed with all that it started."""

    def __init__(self, argv: list[str], folder: Path, env: Mapping[str, str]) -> None:
        self.argv, self.out, self.err = argv, tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err, text=True,
                                        start_new_session=True)

    def end(self, seconds: float = 120) -> Result:
        """Wait for its end."""
        code = self.process.wait(seconds)
        return Result(self.argv, code, self.said(self.out), self.said())

    def kill(self) -> None:
        """kill -9 of everything in its session; returns when nothing of it is left."""
        left = self.session()
        while left:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()
            left = self.session()
        self.process.wait()

    def session(self) -> list[int]:
        """The pids of its session that live; programs that make process groups of their own are among them."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _session(pid) == self.process.pid]

    def said(self, file: Any = None) -> str:
        """What it has written so far, to stderr where nothing else is asked; read without moving the position that it writes at."""
        return os.pread((file or self.err).fileno(), 1 << 20, 0).decode(errors="replace")


def _session(pid: int) -> int:
    """The session of a process that lives; 0 for one that is gone or a zombie."""
    try:
        state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return 0
    return 0 if state in "ZX" else int(session)


def top(container: str) -> list[tuple[int, str]]:
    """The processes of a container, by its whole id: their pids on this machine, and their words. The engine's own `top` would call ps,
    which a bare machine has not."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if container in (folder / "cgroup").read_text():
                found.append((int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()))
    return found


def until(what: Callable[[], Any], seconds: float = 30, every: float = 0.02) -> Any:
    """What it answers, once that is true."""
    end = time.monotonic() + seconds
    while not (said := what()):
        assert time.monotonic() < end, f"not so within {seconds:g} s"
        time.sleep(every)
    return said


def engine() -> docker.DockerClient:
    """The engine that tests/host/engine found or started."""
    return docker.DockerClient(base_url=os.environ.get("DOCKER_HOST") or HOST.get("DOCKER_HOST"), version="auto")


def environ(**more: str) -> dict[str, str]:
    """The process environment for commands of this machine, without settings."""
    env = {k: v for k, v in os.environ.items() if k not in FOREIGN and not k.startswith("KEEL_")}
    path = ":".join(p for p in (HOST.get("KEEL_TOOLS", ""), env["PATH"]) if p)
    return {**env, **{k: v for k, v in HOST.items() if k.startswith("DOCKER_")}, "PATH": path, **more}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the kernel gives to outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20000, 32000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("0.0.0.0", port))
            found += [port] if port not in found else []
    return found
