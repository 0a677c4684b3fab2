"""What the proxies need from the settings, checked: whatever is in here may be written into a proxy's configuration."""
import hashlib
import re
from dataclasses import dataclass
from typing import Any, Self

from keel import certificate
from keel.settings import ROOT, Settings

BALANCE = {  # our word: nginx's directive, Caddy's policy
    "round-robin": ("", "round_robin"),
    "least-connections": ("least_conn;", "least_conn"),
    "ip-hash": ("ip_hash;", "client_ip_hash"),
    "cookie": ("sticky cookie keel_affinity path=/ httponly secure samesite=lax;", "cookie keel_affinity"),
}
STATIC = {"nginx": "*.conf", "caddy": "*[Cc]addy*"}  # the files in proxy/ that the traffic file comes to
# Nothing that matches can end a comment, a word, a string or a block in either proxy's language.
HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
EMAIL = r"([A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+)?"
URL = r"https://[A-Za-z0-9.:/_-]+"
LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
ACME_ROOT = "acme-root.pem"  # beside cert.pem and key.pem: the root certificate of a private ACME authority


@dataclass(frozen=True)
class Options:
    """What the proxies need from the settings. Times in seconds, sizes in bytes; a rate or cache of 0 is off."""

    domain: str
    app_port: int = 3000
    https_port: int = 443
    balance: str = "round-robin"
    rate_limit: int = 0
    rate_burst: int = 0
    body_limit: int = 10 << 20
    read_timeout: float = 60
    keepalive: float = 4
    cache: float = 0
    tls: str = "files"
    acme_email: str = ""
    acme_directory: str = LETSENCRYPT
    project: str = ""      # with the number of replicas: the names of containers that are not there yet
    replicas: int = 0
    acme_root: bool = False  # the authority is trusted by a root certificate of its own
    static: str = ""       # a digest of the static files around the traffic file
    certificate: str = ""  # a digest of the certificate file

    def __post_init__(self) -> None:
        match("domain", HOST, self.domain)
        match("project", "([a-z0-9][a-z0-9_-]*)?", self.project)
        match("certificate", "[0-9a-f]*", self.certificate)
        match("acme_email", EMAIL, self.acme_email)
        match("acme_directory", URL, self.acme_directory)
        whole("app_port", self.app_port, 1, 65535)
        whole("https_port", self.https_port, 1, 65535)
        for name in ("replicas", "rate_limit", "rate_burst", "body_limit"):
            whole(name, getattr(self, name), 0, 2**40)
        for name in ("read_timeout", "keepalive", "cache"):
            if not 0 <= getattr(self, name) <= 10**8:
                raise ValueError(f"{name} {getattr(self, name)!r}: seconds are wanted")
        if self.balance not in BALANCE or self.tls not in ("files", "acme"):
            raise ValueError(f"balance {self.balance!r} or tls {self.tls!r} is unknown")

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """What an environment's settings and files ask for. Raises Stop 78 for a bad setting, ValueError for one that no file may hold."""
        number, seconds = settings.number, settings.seconds
        return cls(settings["KEEL_DOMAIN"], number("KEEL_APP_PORT"), number("KEEL_HTTPS_PORT"), settings["KEEL_BALANCE"],
                   number("KEEL_RATE_LIMIT"), number("KEEL_RATE_BURST"), settings.size("KEEL_BODY_LIMIT"), seconds("KEEL_READ_TIMEOUT"),
                   seconds("KEEL_KEEPALIVE_PROXY"), seconds("KEEL_CACHE"), settings["KEEL_TLS"], settings["KEEL_ACME_EMAIL"],
                   settings["KEEL_ACME_DIRECTORY"] or LETSENCRYPT, settings.project, number("KEEL_REPLICAS"),
                   settings.on("KEEL_ACME_ROOT"), _static(settings), certificate.digest(settings))

    @property
    def hsts(self) -> str:
        """The Strict-Transport-Security value; a developer's localhost must not be bound to HTTPS for a year."""
        local = self.domain == "localhost" or self.domain.endswith(".localhost") or re.fullmatch(r"[0-9.]+", self.domain)
        return "max-age=0" if local else "max-age=31536000"


def _static(settings: Settings) -> str:
    """A digest of the static files and of the authority's root: after an upgrade the next switch loads them."""
    proxy = settings["KEEL_PROXY"]
    files = [*sorted((ROOT / "proxy" / proxy).glob(STATIC[proxy])), certificate.folder(settings) / ACME_ROOT]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


def match(what: str, pattern: str, value: Any) -> None:
    """Raises ValueError unless it is a text of that form."""
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(f"{what} {value!r} is not of the form {pattern}")


def whole(what: str, value: Any, low: int, high: int) -> None:
    """Raises ValueError unless it is a whole number in that range."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{what} {value!r}: a whole number from {low} to {high} is wanted")
