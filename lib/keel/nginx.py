"""nginx as the proxy: how it is checked, reloaded and watched."""
import os
import signal
from collections.abc import Callable
from pathlib import Path

from keel import engine, traffic
from keel.stop import NO, UNAVAILABLE, Stop


class Nginx:
    """Source: nginx manual, Controlling nginx: HUP starts workers with the new configuration and shuts the old ones down gracefully."""

    file = "traffic.conf"
    by_alias = True  # finds the containers of a colour by DNS, whatever their number and addresses

    @staticmethod
    def render(t: traffic.Traffic, options: traffic.Options) -> str:
        return traffic.render_nginx(t, options)

    @staticmethod
    def check(container: str) -> tuple[str, str]:
        """What `nginx -t` has against the staged file, '' where it takes it; it has no warnings that count."""
        code, said = engine.execute(container, ["nginx", "-t", "-q", "-c", "/etc/nginx/keel/check.conf"])
        return ("" if code == 0 else said.strip()), ""

    @staticmethod
    def lacks(_text: str) -> bool:
        """Each traffic file is loaded, and the certificate with it."""
        return True

    @staticmethod
    def reload(container: str, *, afresh: bool = False) -> None:
        """Returns before it is live; each one begins `afresh`. Raises Stop 1 when nginx says no, 69 when its container is gone.

        Never `docker kill -s HUP`: whatever the signal, the engine notes that somebody stopped the container by hand, and does not start
        it again after a crash or its own restart. The signal itself takes a tenth of the time of a program in the container.
        """
        if _hang_up(container):
            return
        code, said = engine.execute(container, ["nginx", "-c", "/etc/nginx/keel/nginx.conf", "-s", "reload"])
        if code:
            raise Stop(f"nginx does not reload: {said.strip()}", NO, "logs proxy")

    @staticmethod
    def in_flight(container: str, replicas: tuple[str, ...]) -> Callable[[], str]:
        """Remembers the workers of now; the answer says how many of them still finish requests, '' when none."""
        old = set(_workers(container))

        def left() -> str:
            still = old & {pid for pid, title in engine.processes(container) if "worker process" in title}
            return f"{len(still)} old workers still have connections" if still else ""

        return left


def _hang_up(container: str) -> bool:
    """Whether HUP was sent; False for an engine on another machine (the pid is somebody else's here) or another user's nginx.

    The container's first process is the engine's init, which passes signals on.
    """
    pid = int(engine.inspect(container)["State"]["Pid"])
    try:
        if not pid or container not in Path(f"/proc/{pid}/cgroup").read_text():
            return False
        os.kill(pid, signal.SIGHUP)
    except OSError:
        return False
    return True


def _workers(container: str) -> list[int]:
    """The workers that take new connections. Raises Stop 69 when there is none."""
    found = [pid for pid, title in engine.processes(container) if "worker process" in title and "shutting down" not in title]
    if not found:
        raise Stop("nginx has no worker", UNAVAILABLE, "logs proxy")
    return found
