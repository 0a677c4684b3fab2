"""Caddy as the proxy: how it is checked, reloaded and watched, over its admin socket in the traffic folder."""
import hashlib
import http.client
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

from keel import traffic
from keel.options import ACME_ROOT
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

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def render(t: traffic.Traffic, options: traffic.Options) -> str:
        return traffic.render_caddy(t, options)

    def check(self, container: str) -> str:
        """'' when Caddy takes the staged file, else what it says; the adapter runs in the proxy's own container."""
        code, said = self._ask("POST", "/adapt", (ROOT / "proxy" / "caddy" / "check.Caddyfile").read_bytes())
        return "" if code == 200 else _error(said)

    def reload(self, container: str, *, afresh: bool = False) -> None:
        """Make Caddy load its files anew where it must: a switch alone is in force as soon as the file is renamed. Raises Stop 1, 69.

        Loaded configurations carry a digest of what they were made from. `afresh` loads them whatever that says: what Caddy does by
        itself, such as asking for a certificate, begins anew.
        """
        wanted = re.search(rf"{traffic.CONFIG}[0-9a-f]+", (self.folder / self.file).read_text())
        code, said = self._ask("GET", "/config/")
        if code == 200 and wanted and wanted[0] in said and not afresh:
            return
        code, said = self._ask("POST", "/load", (ROOT / "proxy" / "caddy" / "Caddyfile").read_bytes())
        if code != 200:
            raise Stop(f"caddy refuses the new configuration: {_error(said)}", NO, "logs proxy")

    def in_flight(self, container: str, replicas: tuple[str, ...]) -> Callable[[], str]:
        """Asks how many requests the containers that are left still work on, '' when none: Caddy goes on counting those it removed."""
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


def static(env: str) -> str:
    """A digest of the static files, the certificate and the authority's root: after an upgrade or a renewal the next switch loads them."""
    tls = ROOT / "secrets" / "tls" / env
    files = [*sorted((ROOT / "proxy" / "caddy").glob("*[Cc]addy*")), tls / "cert.pem", tls / ACME_ROOT]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


def _error(said: str) -> str:
    try:
        return str(json.loads(said)["error"])
    except (ValueError, KeyError, TypeError):
        return said.strip()
