"""Asking whether something is well: http, tcp, postgres and redis addresses; and waiting until it says so N times in a row."""
import socket
import struct
import time
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from keel.stop import USAGE, Stop

EVERY = 0.05  # seconds between two questions
WORDS = ("No such file or directory", "Permission denied", "Connection refused", "timed out", "No route to host",
         "Name or service not known", "Temporary failure in name resolution", "Connection reset by peer", "RemoteDisconnected",
         "Connection aborted")


def http(url: str, timeout: float = 2.0, *, direct: bool = False) -> str:
    """'' when the answer is 200 to 399, otherwise a short reason. `direct`: by no proxy that the shell names (http_proxy)."""
    import requests

    try:
        with requests.Session() as session:
            session.trust_env = not direct
            with session.get(url, timeout=timeout, headers={"Connection": "close"}) as answer:
                return "" if answer.ok else f"{answer.status_code} {answer.text.strip()[:200]}".strip()
    except requests.RequestException as e:
        return reason(e)


def tcp(host: str, port: int, timeout: float = 2.0) -> str:
    """'' when a connection can be made."""
    try:
        with socket.create_connection((host, port), timeout):
            return ""
    except OSError as e:
        return reason(e)


def postgres(host: str, port: int, timeout: float = 2.0) -> str:
    """'' when PostgreSQL takes connections, as pg_isready finds out: a start packet is answered by anything but 57P03.

    Source: PostgreSQL manual, Frontend/Backend Protocol, Start-up and ErrorResponse; SQLSTATE 57P03 cannot_connect_now.
    """
    body = struct.pack("!i", 3 << 16) + b"user\0evenkeel\0database\0postgres\0\0"
    try:
        with socket.create_connection((host, port), timeout) as s:
            s.sendall(struct.pack("!i", len(body) + 4) + body)
            answer = s.recv(4096)
    except OSError as e:
        return reason(e)
    if not answer:
        return "closed the connection"
    return "starting up or shutting down" if answer[:1] == b"E" and b"57P03" in answer else ""


def redis(host: str, port: int, password: str = "", timeout: float = 2.0) -> str:
    """'' when Redis answers PING (with a password: AUTH first; without one NOAUTH counts as up). Source: Redis protocol, RESP2."""
    lines = [b"AUTH " + password.encode()] if password else []
    try:
        with socket.create_connection((host, port), timeout) as s:
            for line in [*lines, b"PING"]:
                s.sendall(line + b"\r\n")
                answer = s.recv(512)
                if answer.startswith(b"-") and not answer.startswith(b"-NOAUTH"):
                    return answer[1:].decode(errors="replace").strip()
    except OSError as e:
        return reason(e)
    return "" if answer.startswith((b"+PONG", b"-NOAUTH")) else "closed the connection"


def plain(address: str) -> str:
    """An address without the user and password that it may carry."""
    head, at, tail = address.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at and "://" in head else address


def question(url: str) -> Callable[[], str]:
    """What to ask for an address. Raises Stop 2 for a scheme that is not known."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as e:
        raise Stop(f"{plain(url)}: {str(e)[:1].lower()}{str(e)[1:]}", USAGE) from None
    if not host:
        raise Stop(f"{plain(url)}: names no host", USAGE)
    try:
        host.encode("idna")  # as whoever connects does: a label that is empty or too long would fail there
    except UnicodeError:
        raise Stop(f"{plain(url)}: {host!r} is no host name", USAGE) from None
    if parts.scheme in ("http", "https"):
        return lambda: http(url)
    if parts.scheme == "tcp" and port:
        return lambda: tcp(host, port)
    if parts.scheme in ("postgres", "postgresql"):
        return lambda: postgres(host, port or 5432)
    if parts.scheme == "redis":
        return lambda: redis(host, port or 6379, unquote(parts.password or ""))
    raise Stop(f"{plain(url)}: neither a release nor an address", USAGE,
               "a release id, http://…, tcp://HOST:PORT, postgres://… or redis://…")


def wait(ask: Callable[[], str], seconds: float, passes: int = 1, every: float = EVERY) -> str:
    """'' once the answer was well `passes` times in a row; the last reason when the time is up."""
    end, well, said = time.monotonic() + seconds, 0, "not asked"
    while True:
        said = ask()
        well = 0 if said else well + 1
        if well >= passes:
            return ""
        if time.monotonic() >= end:
            return said or f"well only {well} of {passes} times in a row"
        time.sleep(every)


def reason(e: Exception) -> str:
    """The innermost words of an error: 'Connection refused', not four wrappers around it."""
    text = str(e)
    for words in WORDS:
        if words.lower() in text.lower():
            return words.lower()
    return text or type(e).__name__
