"""The container engine: what runs where, its logs, and the few things we ask it to do (docker SDK). `images` is what it stores."""
import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keel import health, no_engine, run
from keel.settings import Settings
from keel.stop import NO, UNAVAILABLE, Stop


@dataclass(frozen=True)
class Replica:
    """One container of a release; `address` is its IP in the edge network, empty when it is not running."""

    name: str
    id: str
    address: str
    state: str
    release: str
    colour: str

    @property
    def running(self) -> bool:
        return self.state == "running"


@functools.cache
def client(timeout: int = 60) -> Any:
    """The engine at DOCKER_HOST or the default socket; `timeout` in seconds for each answer. Raises Stop 69 when it does not answer."""
    import docker
    from docker.utils import kwargs_from_env

    with reachable():
        return docker.APIClient(timeout=timeout, version="auto", **kwargs_from_env())


def warm_up() -> None:
    """Import the SDK before it is needed; asks the engine nothing."""
    import docker.utils  # noqa: F401


def errors() -> Any:
    """The SDK's exceptions, imported when they are wanted."""
    import docker.errors

    return docker.errors


@contextlib.contextmanager
def reachable() -> Iterator[None]:
    """Calls to the engine. Raises Stop 69 when it does not answer, when it fails, and when what was asked for has changed meanwhile; for
    any other answer that is no what the SDK raises.
    """
    import requests

    try:
        yield
    except (errors().DockerException, requests.RequestException) as e:
        if isinstance(e, errors().APIError):
            if e.status_code in (404, 409):
                raise Stop(f"the engine: {e.explanation}", UNAVAILABLE, "it was ended, removed or changed meanwhile: try again") from None
            if e.status_code >= 500:
                raise Stop(f"the engine: {e.explanation}", UNAVAILABLE, "its own log says more: journalctl -u docker") from None
            raise
        raise Stop(f"the engine does not answer: {health.reason(e)}", UNAVAILABLE,
                   f"is the engine running? {no_engine.advice()}; make doctor ENV=… says more") from None


def replicas(settings: Settings, colour: str = "") -> list[Replica]:
    """The application's containers of this environment, by name; all colours unless one is named."""
    labels = [f"keel.env={settings.env}", "keel.role=app"] + ([f"keel.colour={colour}"] if colour else [])
    with reachable():
        found = client().containers(all=True, filters={"label": labels})
    return sorted((_replica(settings, c) for c in found), key=lambda r: r.name)


def _replica(settings: Settings, c: dict[str, Any]) -> Replica:
    network = c["NetworkSettings"]["Networks"].get(f"{settings.project}_edge") or {}
    labels = c["Labels"]
    return Replica(c["Names"][0].lstrip("/"), c["Id"], network.get("IPAddress", ""), c["State"],
                   labels.get("keel.release", ""), labels.get("keel.colour", ""))


def migrations(settings: Settings) -> list[Replica]:
    """The containers that run migrations of this environment, or were made for that and never started."""
    with reachable():
        found = client().containers(all=True, filters={"label": [f"keel.env={settings.env}", "keel.role=migrate"]})
    return [_replica(settings, c) for c in found]


def developing(settings: Settings) -> list[str]:
    """The ids of containers that start-dev made for this environment, whether they run or were left by Ctrl-C."""
    with reachable():
        found = client().containers(all=True, filters={"label": [f"keel.env={settings.env}", "keel.role=app-dev"]})
    return [str(c["Id"]) for c in found]


def inspect(container: str) -> dict[str, Any]:
    """All that the engine knows of a container. Raises Stop 1 when there is none of that name."""
    with reachable():
        try:
            return dict(client().inspect_container(container))
        except errors().NotFound:
            raise Stop(f"{container}: there is no such container", NO) from None


def service(settings: Settings, name: str) -> dict[str, Any] | None:
    """The container of a base service (`postgres`, `nginx`, …) as listed, running or not; None when there is none."""
    labels = [f"com.docker.compose.project={settings.project}", f"com.docker.compose.service={name}"]
    with reachable():
        found = client().containers(all=True, filters={"label": labels})
    return dict(found[0]) if found else None


def publishes(container: str) -> set[int]:
    """The ports of this host that a container is to publish, whether it runs just now or not."""
    bindings = inspect(container)["HostConfig"]["PortBindings"] or {}
    return {int(b["HostPort"]) for each in bindings.values() for b in each}


def logs(container: str, tail: int = 20) -> list[str]:
    """The last lines that a container wrote; none of one that is gone."""
    with reachable(), contextlib.suppress(errors().NotFound):
        text: bytes = client().logs(container, tail=tail)
        # Not splitlines: a line is what ends with a line feed, whatever the separators in what a program quotes.
        return text.decode(errors="replace").removesuffix("\n").split("\n") if text else []
    return []


def execute(container: str, argv: list[str]) -> tuple[int, str]:
    """Run a program inside a container: its exit code and all that it wrote."""
    with reachable():
        api = client()
        call = api.exec_create(container, argv)["Id"]
        output: bytes = api.exec_start(call)
        return int(api.exec_inspect(call)["ExitCode"]), output.decode(errors="replace")


def keep_alive(container: str) -> None:
    """From now on the engine restarts this container when it ends by itself, and after its own restart."""
    if run.dry:
        return
    if inspect(container)["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped":
        return
    with reachable():
        client().update_container(container, restart_policy={"Name": "unless-stopped"})


def stop(containers: list[str]) -> dict[str, int]:
    """Stop containers side by side, each within its own grace, and remove them; their exit codes by id (137: it had to be killed)."""
    from concurrent.futures import ThreadPoolExecutor

    def one(container: str) -> int:
        code = 0
        try:
            grace = client().inspect_container(container)["Config"].get("StopTimeout")
            client().stop(container, timeout=grace)  # named, so that the SDK waits for as long as the engine
            code = int(client().inspect_container(container)["State"]["ExitCode"])
            client().remove_container(container, force=True)
        except errors().APIError as e:
            if e.status_code == 409:  # `docker compose run --rm`, whose container it is, removes it just now
                with contextlib.suppress(errors().NotFound):
                    client().wait(container, condition="removed")
            elif e.status_code != 404:
                raise
        return code

    if run.dry:
        for container in containers:
            run.dry(f"stop and remove {container[:12]}")
        return {}
    with reachable(), ThreadPoolExecutor(max_workers=8) as pool:
        return dict(zip(containers, pool.map(one, containers), strict=True))


def has_volume(name: str) -> bool:
    """Whether there is a volume of this name."""
    with reachable():
        return any(v["Name"] == name for v in client(5).volumes({"name": name})["Volumes"] or [])


def root() -> Path | None:
    """Where the engine keeps images and volumes; None when that is not on this host."""
    with reachable():
        path = Path(client().info()["DockerRootDir"])
    return path if path.exists() else None


def facts() -> dict[str, Any]:
    """What the engine says of itself: its answers to `info` and `version` in one."""
    with reachable():
        return {**client(5).version(), **client(5).info()}


def published() -> dict[int, dict[str, Any]]:
    """The running containers by the TCP port of this host that they publish."""
    with reachable():
        return {p["PublicPort"]: c for c in client(5).containers() for p in c["Ports"] if p.get("PublicPort") and p["Type"] == "tcp"}
