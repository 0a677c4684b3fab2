"""A platform of its own for a scenario: a scratch checkout, an environment with an unused name and ports, all of it removed at the end.

    with Platform("nginx") as platform:
        platform.up()
        platform.deploy(images.good())
        with platform.unharmed() as load:   # the load goes on while the scenario acts; a failed request fails the scenario
            …
"""
import contextlib
import json
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import requests
from docker.models.containers import Container
from dotenv import dotenv_values
from load.child import Load

from keel import traffic
from scenarios.machine import HOST, ROOT, Result, Running, engine, environ, free_ports

COPIED = ("bin", "lib", "compose", "proxy", "Makefile")
DOMAIN = "events.test"
made: set[str] = set()  # the names of this run's environments


class Platform:
    """One environment under test."""

    def __init__(self, proxy: str, **settings: str) -> None:
        self.proxy, self.name = proxy, f"t{secrets.token_hex(3)}"
        made.add(self.name)
        self.root = Path(tempfile.mkdtemp(prefix=f"keel-{self.name}-"))
        self.state = self.root / "state" / self.name
        self.docker, self.domain, self.cafile = engine(), DOMAIN, str(self.root / "secrets" / "tls" / "ca.pem")
        self.http_port, self.port = free_ports(2)
        self.url = f"https://127.0.0.1:{self.port}"
        self.fixed = {"KEEL_DOMAIN": DOMAIN, "KEEL_PROXY": proxy, "KEEL_HTTP_PORT": str(self.http_port), "KEEL_HTTPS_PORT": str(self.port),
                      "KEEL_STATE": str(self.root / "state"), "KEEL_APP_DIR": str(ROOT / "examples" / "events"), **settings}

    def __enter__(self) -> Self:
        """Make the checkout; nothing runs yet."""
        try:
            for name in COPIED:
                (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, self.root / name)
            (self.root / ".venv").symlink_to(ROOT / ".venv")
            (self.root / "var").mkdir()
            here = {**HOST, **({"KEEL_IMAGES": str(ROOT / HOST["KEEL_IMAGES"])} if "KEEL_IMAGES" in HOST else {})}
            (self.root / "var" / "host.env").write_text("".join(f"{k}={v}\n" for k, v in here.items()))
            compose = self.root / "compose"
            shutil.copy(compose / "development.yml", compose / f"{self.name}.yml")
            self.set()
            self.run(["make-secrets"]).well()
            self.run(["dev-cert"]).well()
        except BaseException:
            shutil.rmtree(self.root)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Remove everything; what the commands left behind is a failure, unless the scenario has failed already."""
        left = self.destroy()
        assert kind or not left, f"left behind by {self.name}: {left}"

    def set(self, **settings: str) -> None:
        """The settings of the environment: development's, ours, and these; those of an earlier call are forgotten."""
        base = {k: v or "" for k, v in dotenv_values(ROOT / "compose" / "development.env", interpolate=False).items()}
        text = "".join(f"{k}={v}\n" for k, v in {**base, **self.fixed, **settings}.items())
        (self.root / "compose" / f"{self.name}.env").write_text(text)

    def env(self, **more: str) -> dict[str, str]:
        """The process environment of a command."""
        base = environ(KEEL_ENV=self.name, **more)
        return {**base, "PATH": f"{self.root}/bin:{base['PATH']}"}

    def run(self, argv: list[str], seconds: float = 120, **env: str) -> Result:
        """Run a command of the checkout to its end."""
        done = subprocess.run(argv, cwd=self.root, env=self.env(**env), check=False, capture_output=True, text=True, timeout=seconds,
                              stdin=subprocess.DEVNULL)
        return Result(argv, done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def start(self, argv: list[str], **env: str) -> Iterator[Running]:
        """Start a command of the checkout in a session of its own; what is left of it in the end is killed."""
        running = Running(argv, self.root, self.env(**env))
        try:
            yield running
        finally:
            running.kill()

    def make(self, target: str, *flags: str, **variables: str) -> Result:
        """A Make target of the checkout; `make` turns every failure into 2."""
        return self.run(["make", *flags, target, f"ENV={self.name}", *(f"{k}={v}" for k, v in variables.items())])

    def up(self) -> Result:
        """Start the base services."""
        return self.make("up").well()

    def pipe(self, image: str) -> tuple[list[str], str]:
        """The deploy as the Makefile writes it: what stands before the pipe, and the pipe."""
        *head, pipe = shlex.split(self.make("deploy", "--dry-run", IMAGE=image).well().stdout)
        return head, pipe

    def deploy(self, image: str, **env: str) -> Result:
        """The Makefile's deploy; the exit code of each command in the pipe is in `codes`."""
        head, pipe = self.pipe(image)
        folder = Path(tempfile.mkdtemp(dir=self.root, prefix="codes"))
        commands = {command.split()[0]: command for command in pipe.split("|")}
        done = self.run([*head, " | ".join(f"{{ {command}; code=$?; echo $code >{folder}/{name}; (exit $code); }}"
                                           for name, command in commands.items())], **env)
        codes = {name: int((folder / name).read_text()) for name in commands if (folder / name).exists()}
        return Result(done.argv, done.code, done.stdout, done.stderr, codes)

    def status(self) -> tuple[int, dict[str, Any]]:
        """The exit code of `status`, and what it says."""
        done = self.run(["status", "--json"])
        assert done.stdout, str(done)
        return done.code, json.loads(done.stdout)

    @property
    def traffic_file(self) -> Path:
        return self.state / "proxy" / ("traffic.conf" if self.proxy == "nginx" else "traffic.caddy")

    def traffic(self) -> traffic.Traffic:
        """Who serves, as the traffic file says."""
        return traffic.parse(self.traffic_file.read_text())

    def serving(self) -> str:
        """The release with all the traffic."""
        return next(s.release for s in self.traffic().shares if s.percent == 100)

    def history(self) -> list[dict[str, Any]]:
        """The journal."""
        file = self.state / "history"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def lock(self) -> str:
        """Who holds the lock, as `status` says it."""
        return str(self.status()[1]["locked"])

    def get(self, path: str, **options: Any) -> requests.Response:
        """One GET at the public address, on a connection of its own."""
        headers = {"Host": self.domain, "Connection": "close"}
        return requests.get(self.url + path, verify=self.cafile, timeout=10, headers=headers, **options)

    def containers(self, colour: str = "") -> list[Container]:
        """The application's containers, by name."""
        labels = [f"keel.env={self.name}", "keel.role=app", *([f"keel.colour={colour}"] if colour else [])]
        return sorted(self.docker.containers.list(all=True, ignore_removed=True, filters={"label": labels}), key=lambda c: str(c.name))

    def service(self, name: str) -> Container:
        """The container of a base service, `proxy` for whichever proxy it is."""
        labels = [f"keel.env={self.name}", f"keel.role={name}"]
        return self.docker.containers.list(all=True, ignore_removed=True, filters={"label": labels})[0]

    def load(self, **options: Any) -> Load:
        """A light load that goes on until it is stopped: keep-alive and fresh GETs, POSTs of which each must be stored once."""
        light = {"get": 4, "get_rate": 80, "new": 2, "new_rate": 20, "post": 1, "post_rate": 15, "seconds": 900}
        return Load(url=self.url, host=self.domain, cafile=self.cafile, **{**light, **options})

    @contextlib.contextmanager
    def unharmed(self, **options: Any) -> Iterator[Load]:
        """Load while a scenario acts; afterwards not one request has failed, and no registration is lost or doubled."""
        with self.load(**options) as load:
            load.until(lambda now: now.ok() > 20)
            yield load
            seen = load.now.ok()
            load.until(lambda now: now.ok() > seen + 20)
            account = load.stop()
        assert account.faults == 0 and account.data["end"] == "stopped", account.table()

    def destroy(self) -> list[str]:
        """Remove the environment as a user would, then whatever that left; its names."""
        done = self.run(["stop-base", "--destroy", self.name])
        left = [] if done.code == 0 else [str(done)]
        projects = [f"keel-{self.name}{tail}" for tail in ("", "-blue", "-green", "-dev")]
        for found in (self.docker.containers.list(all=True, filters={"label": f"keel.env={self.name}"}),
                      self.docker.networks.list(filters={"label": f"com.docker.compose.project={projects[0]}"}),
                      self.docker.volumes.list(filters={"label": f"com.docker.compose.project={projects[0]}"})):
            for one in found:
                left.append(str(one.name))
                one.remove(**({"force": True, "v": True} if isinstance(one, Container) else {}))
        if self.state.exists():
            left += [str(p) for p in self.state.iterdir() if p.name != "history" and not p.name.endswith("lock")]
        shutil.rmtree(self.root)
        return left
