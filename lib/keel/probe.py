"""Asking the proxy: is it there, which generation does it answer, whom does it reach."""
import contextlib
import functools
import os
import socket
import ssl
from collections.abc import Callable, Iterator

from keel import engine, health
from keel.engine import Replica
from keel.settings import Settings
from keel.stop import UNAVAILABLE, Stop

# Fresh connections in a row that must answer with the new generation: at least twice the proxy's workers.
PROOFS = max(8, 2 * (os.cpu_count() or 1))
PROVE = 10.0    # seconds until a switch that is not live counts as failed
NAMELESS = "without a generation"
INTERNAL = 9000  # the proxy's listener that is never published


def is_up(settings: Settings) -> bool:
    """Whether the proxy's container runs."""
    return (engine.service(settings, settings["KEEL_PROXY"]) or {}).get("State") == "running"


def running(settings: Settings) -> str:
    """The id of the proxy's container. Raises Stop 69 when it is not running."""
    name = settings["KEEL_PROXY"]
    found = engine.service(settings, name)
    if not found or found["State"] != "running":
        is_ = f"is {found['State']}" if found else "does not exist"
        raise Stop(f"the proxy ({settings.project}, {name}) {is_}", UNAVAILABLE, f"make up ENV={settings.env}")
    return str(found["Id"])


def prove(settings: Settings, generation: int, seconds: float = PROVE) -> str:
    """'' once PROOFS fresh connections in a row answered with the generation; else what the last one said."""
    return health.wait(lambda: first(lambda: _differs(live(settings), generation), PROOFS), seconds, every=0.005)


def first(ask: Callable[[], str], times: int) -> str:
    """'' when all of so many answers in a row, without a pause between them, are well; else the first that is not."""
    return next(filter(None, (ask() for _ in range(times))), "")


def _differs(said: int | str, wanted: int) -> str:
    return "" if said == wanted else f"it answers {said}"


def live(settings: Settings) -> int | str:
    """The generation that the public listener answers on a fresh connection, or a short reason why there is none."""
    request = f"GET /__keel/generation HTTP/1.1\r\nHost: {settings['KEEL_DOMAIN']}\r\nConnection: close\r\n\r\n".encode()
    try:
        with _connected(settings) as t:
            t.sendall(request)
            answer = b"".join(iter(lambda: t.recv(4096), b""))
    except ssl.SSLError as e:
        return f"tls: {e.reason or e}".lower().replace("_", " ")
    except OSError as e:
        return str(e.strerror or e).lower()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        return head.partition(b"\r\n")[0].decode(errors="replace") or "nothing"
    text = body.decode(errors="replace").strip()
    return int(text) if text.isdigit() else NAMELESS


def shown(settings: Settings) -> bytes | None:
    """The certificate (DER) that the public listener shows for the domain; None when it has none and says so. Raises OSError."""
    try:
        with _connected(settings) as t:
            return t.getpeercert(binary_form=True)
    except ssl.SSLError as e:
        if "ALERT" not in (e.reason or ""):
            raise
        return None


def certificate(settings: Settings) -> bytes:
    """The same, nothing where there is none. Raises Stop 69."""
    try:
        return shown(settings) or b""
    except OSError as e:
        raise Stop(f"the proxy's port {settings['KEEL_HTTPS_PORT']} does not answer: {str(e.strerror or e).lower()}", UNAVAILABLE,
                   "logs proxy") from None


@contextlib.contextmanager
def _connected(settings: Settings) -> Iterator[ssl.SSLSocket]:
    """A fresh connection to the public listener, as a user of the domain makes it. Raises OSError."""
    with socket.create_connection(("127.0.0.1", settings.number("KEEL_HTTPS_PORT")), 2) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Nagle's algorithm costs 40 ms a question with Caddy
        with _context().wrap_socket(s, server_hostname=settings["KEEL_DOMAIN"]) as t:
            yield t


@functools.cache
def _context() -> ssl.SSLContext:
    """TLS without looking at the certificate: it is our own proxy on this host. Without the CA bundle, whose loading takes 30 ms."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def reaches(settings: Settings, colour: str, replicas: list[Replica], seconds: float = 10.0) -> str:
    """'' once the proxy itself gets 200 from the replicas, and from nothing but them; else what it got.

    An address that the proxy remembers of a colour's earlier containers would show here, before any user meets it.
    """
    address = inside(settings)
    port = settings["KEEL_APP_PORT"]
    ours = {f"{host}:{port}" for r in replicas for host in (r.address, r.name)}
    url = f"http://{address}:{INTERNAL}/colour/{colour}{settings['KEEL_READY_PATH']}"
    return health.wait(lambda: first(lambda: _answered_by(url, ours), 2 * len(replicas)), seconds, every=0.02)


def _answered_by(url: str, ours: set[str]) -> str:
    import requests

    try:
        with requests.Session() as session:
            session.trust_env = False  # an http_proxy of the shell has no way to a container
            with session.get(url, timeout=2, headers={"Connection": "close"}) as answer:
                upstream = answer.headers.get("X-Keel-Upstream", "")
    except requests.RequestException as e:
        return str(e)
    if answer.status_code != 200:
        return f"{answer.status_code} from {upstream or 'the proxy'}"
    return "" if upstream.rpartition(", ")[2] in ours else f"an answer from {upstream}, which is not of this release"


def inside(settings: Settings) -> str:
    """The proxy's address in the edge network."""
    found = engine.inspect(running(settings))
    return str(found["NetworkSettings"]["Networks"][f"{settings.project}_edge"]["IPAddress"])
