"""What a load consists of, from flags or from a test; wrong or unsafe plans are refused before anything is sent."""
import argparse
import dataclasses
import ipaddress
import ssl
import urllib.parse
from collections.abc import Sequence
from typing import Any

from .wire import Target

MOST_REQUESTS = 5_000_000
MOST_SECONDS = 4 * 3600
MOST_CLIENTS = 512
MOST_STREAMS = 100  # what RFC 9113 (6.5.2) wants servers to allow at least


def _flag(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class Plan:
    """One load. Each field is a flag of the command: `get_rate` is `--get-rate`."""

    url: str = _flag("", "where to: http:// or https://, and only this machine (127.0.0.1, ::1, localhost)")
    host: str = _flag("", "the name to ask for, in SNI and Host (default: the one in the URL)")
    cafile: str = _flag("", "certificates to trust, PEM")
    insecure: bool = _flag(False, "do not verify the certificate")
    seconds: float = _flag(20.0, f"start nothing more after this time, at most {MOST_SECONDS}")
    requests: int = _flag(100_000, f"start no more than this, at most {MOST_REQUESTS}")
    timeout: float = _flag(10.0, "seconds a request may take (slow ones: on top of their own)")
    strict: bool = _flag(False, "a request that died on a reused connection is a failure, not sent again")
    get: int = _flag(0, "keep-alive GET clients, one connection each")
    get_rate: float = _flag(0.0, "requests/s of all of them together; 0: as fast as answers come")
    get_path: tuple[str, ...] = _flag(("/version",), "path of the GETs of these kinds; may be repeated")
    new: int = _flag(0, "clients that open a new connection for each GET")
    new_rate: float = _flag(0.0, "requests/s of all of them together")
    h2: int = _flag(0, "HTTP/2 connections, each with --h2-streams GETs in flight")
    h2_rate: float = _flag(0.0, "requests/s of all of them together")
    h2_streams: int = _flag(4, f"GETs in flight on each of these, at most {MOST_STREAMS}")
    h2_new: int = _flag(0, "clients that open a new HTTP/2 connection for each GET")
    h2_new_rate: float = _flag(0.0, "requests/s of all of them together")
    post: int = _flag(0, "clients that POST registrations with unique ids, keep-alive")
    post_rate: float = _flag(0.0, "requests/s of all of them together")
    event_id: str = _flag("", "the event to register for (default: the first that GET /events lists)")
    slow: int = _flag(0, "clients with a slow response in flight at any time")
    slow_seconds: float = _flag(5.0, "how long a slow response takes")
    sse: int = _flag(0, "clients that hold GET /feed open")
    ws: int = _flag(0, "clients that hold a WebSocket on /ws open")
    silence: float = _flag(5.0, "seconds without an event after which a stream has failed")
    from_due: bool = _flag(False, "at a rate, latency counts from when a request was due, though every client was busy")
    until_eof: bool = _flag(False, "stop at the end of stdin too")
    progress: bool = _flag(False, "a JSON line on stdout every 0.1 s; the account is the last line")

    def faults(self) -> list[str]:
        """Everything that is wrong with the plan."""
        wrong = []
        if not 0 < self.seconds <= MOST_SECONDS:
            wrong.append(f"--seconds {self.seconds:g}: not above 0 and at most {MOST_SECONDS}")
        if not 0 < self.requests <= MOST_REQUESTS:
            wrong.append(f"--requests {self.requests}: not above 0 and at most {MOST_REQUESTS}")
        clients = {name: getattr(self, name) for name in ("get", "new", "h2", "h2_new", "post", "slow", "sse", "ws")}
        wrong += [f"{flag(name)} {n}: not from 0 to {MOST_CLIENTS}" for name, n in clients.items() if not 0 <= n <= MOST_CLIENTS]
        if not any(clients.values()):
            wrong.append("no client: give at least one of " + ", ".join(flag(name) for name in clients))
        if not 0 < self.h2_streams <= MOST_STREAMS:
            wrong.append(f"--h2-streams {self.h2_streams}: not from 1 to {MOST_STREAMS}")
        if (self.h2 or self.h2_new) and not self.url.startswith("https:"):
            wrong.append("--h2 and --h2-new want an https:// address")
        for name in ("get_rate", "new_rate", "h2_rate", "h2_new_rate", "post_rate"):
            if getattr(self, name) < 0:
                wrong.append(f"{flag(name)} {getattr(self, name):g}: below 0")
        for name in ("timeout", "silence", "slow_seconds"):
            if getattr(self, name) <= 0:
                wrong.append(f"{flag(name)} {getattr(self, name):g}: not above 0")
        if self.cafile and self.insecure:
            wrong.append("--cafile and --insecure exclude each other")
        return wrong + ([f"--url {self.url!r}: {why}"] if (why := outside(self.url)) else [])

    def target(self, *alpn: str) -> Target:
        """Where the load goes, and what TLS offers to speak. Raises OSError or ssl.SSLError for a certificate file that cannot be read."""
        at = urllib.parse.urlsplit(self.url)
        tls = None
        if at.scheme == "https":
            tls = ssl.create_default_context(cafile=self.cafile or None)
            # Python up to 3.11.3 (Debian 12) would take a connection that was cut for one that was ended.
            tls.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
            if self.insecure:
                tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
            if alpn:
                tls.set_alpn_protocols(alpn)
        address = "127.0.0.1" if at.hostname == "localhost" else at.hostname or ""
        return Target(address, at.port or (443 if tls else 80), self.host or at.hostname or "", tls)

    def authority(self) -> str:
        """The Host header, with the port where it is not the scheme's own."""
        at = urllib.parse.urlsplit(self.url)
        name = self.host or at.hostname or ""
        name = f"[{name}]" if ":" in name else name
        return name if at.port in (None, {"http": 80, "https": 443}[at.scheme]) else f"{name}:{at.port}"

    def argv(self) -> list[str]:
        """The flags that give this plan."""
        flags: list[str] = []
        for field in dataclasses.fields(self):
            value, name = getattr(self, field.name), flag(field.name)
            if value == field.default:
                continue
            if value is True:
                flags.append(name)
            else:
                for one in value if isinstance(value, tuple) else (value,):
                    flags += [name, str(one)]
        return flags


def flag(name: str) -> str:
    """The flag of a field."""
    return "--" + name.replace("_", "-")


def outside(url: str) -> str:
    """Why load must not go to this URL, or ''. Load is for this machine only: another one may be somebody's production."""
    try:
        at = urllib.parse.urlsplit(url)
        _ = at.port  # raises for a port that is none
    except ValueError as error:
        return str(error)
    if at.scheme not in ("http", "https"):
        return "not an http:// or https:// address"
    if at.path not in ("", "/") or at.query:
        return "give no path: the client kinds know theirs"
    if at.hostname == "localhost":
        return ""
    try:
        inside = ipaddress.ip_address(at.hostname or "").is_loopback
    except ValueError:
        inside = False
    return "" if inside else "load goes to 127.0.0.1, ::1 or localhost only"


def parse(argv: Sequence[str]) -> Plan:
    """The plan that the flags give; a wrong one ends the process with usage and exit 2."""
    parser = argparse.ArgumentParser(prog="run.py", description="Put an exactly accounted load on this machine's platform.",
                                     epilog="Exit: 0 nothing failed, 1 something did, 2 usage, 69 no event to register for.")
    for field in dataclasses.fields(Plan):
        name, text = flag(field.name), field.metadata["help"]
        if field.default is False:
            parser.add_argument(name, action="store_true", help=text)
        elif isinstance(field.default, tuple):
            parser.add_argument(name, action="append", metavar="PATH", help=f"{text} (default: {' '.join(field.default)})")
        else:
            shown = "" if field.default in ("", 0, 0.0) else f" (default: {field.default})"
            parser.add_argument(name, type=type(field.default), default=field.default, metavar=field.name.upper(), help=text + shown)
    given = vars(parser.parse_args(argv))
    given["get_path"] = tuple(given["get_path"] or Plan.get_path)
    plan = Plan(**given)
    for fault in plan.faults():
        parser.error(fault)
    return plan
