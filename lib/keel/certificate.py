"""The certificate files of an environment (KEEL_TLS=files): are they a pair, what is wrong with it, is it the one that is served."""
import datetime as dt
import hashlib
import os
from pathlib import Path

from keel import health, probe, tls
from keel.settings import ROOT, Settings
from keel.stop import DATA, NO, Stop

MOUNT = "/etc/keel/tls"  # where the proxy's container has the folder


def folder(settings: Settings) -> Path:
    """Where cert.pem and key.pem lie."""
    return ROOT / "secrets" / "tls" / settings.env


def name(settings: Settings) -> str:
    """The certificate as a person would type it."""
    return f"secrets/tls/{settings.env}/cert.pem"


def digest(settings: Settings) -> str:
    """By which a renewed certificate is told; '' where there is to be none, or none that we may read."""
    file = folder(settings) / "cert.pem"
    if settings["KEEL_TLS"] != "files" or not os.access(file, os.R_OK):
        return ""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def hint(settings: Settings) -> str:
    return f"put a whole certificate and its key into secrets/tls/{settings.env}/; doctor says whether they are a pair"


def fault(settings: Settings) -> str:
    """Why the proxy cannot load what is there; '' where it can, where it fetches its own, and where we may not look ourselves."""
    try:
        if _ours_to_judge(settings):
            pair(settings)
    except Stop as e:
        return e.message
    return ""


def pair(settings: Settings) -> tls.Pair:
    """The certificate that is there, with its key. Raises Stop as `tls.read`, 65 for a link that only this host can follow."""
    files = _files(settings)
    for file in files:
        if _leads_out(file):
            raise Stop(f"{file}: is a link out of its folder, which the proxy's container cannot follow: copy the file itself", DATA)
    return tls.read(*files)


def _leads_out(file: Path) -> bool:
    """Whether it is a link that only this host can follow: the container has the folder, under another name."""
    if not file.is_symlink():
        return False
    return os.path.isabs(os.readlink(file)) or not file.resolve().is_relative_to(file.parent.resolve())


def warnings(settings: Settings) -> list[str]:
    """What visitors will hold against a pair that the proxy can load. Raises Stop as `pair`."""
    if not _ours_to_judge(settings):
        return []
    return [f"{name(settings)}: {flaw}" for flaw in flaws(pair(settings), settings["KEEL_DOMAIN"])]


def flaws(found: tls.Pair, domain: str) -> list[str]:
    """Why a client that asks for this name refuses it, as far as the certificate itself tells."""
    begin, days = found.certificate.not_valid_before_utc, -found.days
    said = [] if found.covers(domain) else [f"is for {', '.join(found.names) or 'no name'} and not for {domain}"]
    if ended(found):
        said.append(f"ended {days} day{'s' if days > 1 else ''} ago" if days else "ended less than a day ago")
    return [*said, f"begins only at {begin:%FT%TZ}"] if dt.datetime.now(dt.UTC) < begin else said


def ended(found: tls.Pair) -> bool:
    return dt.datetime.now(dt.UTC) > found.certificate.not_valid_after_utc


def prove(settings: Settings) -> None:
    """After a reload: the certificate in the file is the one that is served. Raises Stop 1 where it is not, with the way out; 69."""
    if _ours_to_judge(settings) and other_served(settings):
        raise Stop(f"the proxy serves another certificate than the one in {name(settings)}: it still has the folder that was there before",
                   NO, again(settings))


def other_served(settings: Settings, seconds: float = 2.0) -> bool:
    """Whether new connections get another certificate than the one in the file. Raises Stop as `pair`, 69 for no handshake."""
    from cryptography.hazmat.primitives.serialization import Encoding

    wanted = pair(settings).certificate.public_bytes(Encoding.DER)
    return bool(health.wait(lambda: "" if probe.certificate(settings) == wanted else "another", seconds, every=0.1))


def refused(settings: Settings, said: str) -> tuple[str, str]:
    """What a proxy said that takes no traffic file, with what is wrong with the certificate, and the hint that goes with it."""
    if ours := fault(settings):
        return f"{said}\n{ours}", hint(settings)
    if MOUNT not in said or not _ours_to_judge(settings):
        return said, "the settings that go into it are explained in compose/example.env"
    if "denied" in said.lower():
        return said, f"doctor says who can read secrets/tls/{settings.env}/"
    return f"{said}\n{name(settings)} is well: the proxy still has the folder that was there before", again(settings)


def again(settings: Settings) -> str:
    """How a container gets a folder that was replaced by another one: what is mounted is the folder, not its name."""
    return (f"docker restart {settings.project}-{settings['KEEL_PROXY']}-1 mounts the one that is there now; until it is up nobody serves\n"
            "or without that: put the folder of before back, copy both files into it, then reload-proxy")


def _files(settings: Settings) -> tuple[Path, Path]:
    return folder(settings) / "cert.pem", folder(settings) / "key.pem"


def _ours_to_judge(settings: Settings) -> bool:
    """Whether there are to be files, and none that only the proxy's user may read: that is no reason to hold a deploy up."""
    if settings["KEEL_TLS"] != "files" or (folder(settings).exists() and not os.access(folder(settings), os.X_OK)):
        return False
    return all(os.access(file, os.R_OK) or not file.exists() for file in _files(settings))
