"""Caddy as the proxy: how it is checked, reloaded and watched, over its admin socket in the traffic folder."""
import http.client
import json
import socket
from collections.abc import Callable
from pathlib import Path

from keel import traffic, traffic_file
from keel.options import Options
from keel.settings import ROOT
from keel.stop import NO, UNAVAILABLE, Stop


class _Socket(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Caddy:
    """Source: Caddy manual: API (POST /load takes all or nothing), Conventions ({file.*} is read when a request needs it)."""

    file = "traffic.caddy"
    by_alias = False  # is told each container by name
    gentle = False  # each load can cost a request

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def render(t: traffic.Traffic, options: Options) -> str:
        return traffic_file.render_caddy(t, options)

    def check(self, container: str, *, afresh: bool) -> tuple[str, str]:
        """What Caddy has against the staged file, '' where it takes it, and a warning or ''; the adapter runs in the proxy's own container.

        What has to be loaded is loaded here, while the file in force says who serves: its rename is the switch, so that a load which is
        refused after it would have moved traffic. A switch that needs no load but for the certificate does without.
        """
        staged = (ROOT / "proxy" / "caddy" / "check.Caddyfile").read_bytes()
        code, said = self._ask("POST", "/adapt", staged)
        text = (self.folder / f"{self.file}.next").read_text()
        if code != 200 or traffic.digests(text) == (loaded := self._loaded()):
            return ("" if code == 200 else _error(said)), ""
        code, said = self._ask("POST", "/load", staged)
        if code == 200:
            return "", ""
        if traffic.digests(text)[0] == loaded[0]:
            return "", f"caddy cannot load the certificate and goes on with the one that it has: {_error(said)}"
        return _error(said), ""

    def reload(self, container: str, *, afresh: bool = False) -> None:
        """Make Caddy load its files anew where it has not the ones of the traffic file: it was started in between. Raises Stop 1, 69.

        `afresh` loads them all the same: what Caddy does by itself, such as asking for a certificate, begins anew.
        """
        if not afresh and not self.lacks((self.folder / self.file).read_text()):
            return
        code, said = self._ask("POST", "/load", (ROOT / "proxy" / "caddy" / "Caddyfile").read_bytes())
        if code != 200:
            raise Stop(f"caddy refuses the new configuration: {_error(said)}", NO, "logs proxy")

    def lacks(self, text: str) -> bool:
        """Whether it would have to load more than a certificate for this traffic file. Raises Stop 69."""
        return traffic.digests(text)[0] != self._loaded()[0]

    def _loaded(self) -> tuple[str, str]:
        """The digests of what it was made from, which each configuration carries."""
        code, said = self._ask("GET", "/config/")
        return traffic.digests(said if code == 200 else "")

    @staticmethod
    def point(now: traffic.Traffic) -> None:
        """Nothing: the rename of the traffic file was the switch."""

    def in_flight(self, shares: list[traffic.Share]) -> Callable[[], str]:
        """Asks how many requests the containers that are left still work on, '' when none: Caddy goes on counting those it removed."""
        replicas = {name for s in shares for name in s.replicas}

        def left() -> str:
            code, said = self._ask("GET", "/reverse_proxy/upstreams")
            if code != 200:
                return f"caddy answers {code}"
            count = sum(u["num_requests"] for u in json.loads(said) or () if u["address"].rpartition(":")[0] in replicas)
            return f"{count} requests or streams are still open" if count else ""

        return left

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
        connection = _Socket(self.folder / "admin.sock")
        try:
            connection.request(method, path, body, {"Content-Type": "text/caddyfile", "Cache-Control": "must-revalidate"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as e:
            raise Stop(f"caddy's admin socket {self.folder / 'admin.sock'} does not answer: {e}", UNAVAILABLE, "logs proxy") from None
        finally:
            connection.close()


def _error(said: str) -> str:
    try:
        return str(json.loads(said)["error"])
    except (ValueError, KeyError, TypeError):
        return said.strip()
