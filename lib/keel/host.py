"""This host: free disk, free ports, and whether an environment of this name is ours."""
import ipaddress
import shutil
import socket
from pathlib import Path

from keel import engine, proc
from keel.options import ACME_ROOT
from keel.settings import ROOT, Settings
from keel.stop import CONFIG, NO, Stop

IF_INET6 = Path("/proc/net/if_inet6")


def free(path: Path) -> int:
    """Free bytes of the file system that holds a path, or would hold it."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def enough_disk(settings: Settings) -> None:
    """Stop 1 when the state or the engine has less free disk than KEEL_MIN_FREE_DISK: a full disk stops the database."""
    wanted = settings.size("KEEL_MIN_FREE_DISK")
    for what, path in (("the state", settings.state), ("the engine", engine.root())):
        if path and free(path) < wanted:
            raise Stop(f"not enough disk for {what}: {free(path) >> 20} MiB free at {path}, "
                       f"KEEL_MIN_FREE_DISK={settings['KEEL_MIN_FREE_DISK']}", NO,
                       f"make room: prune-images, docker system df, journalctl --vacuum-size=500M (ENV={settings.env})")


def room(settings: Settings, path: Path, wanted: int) -> None:
    """Stop 1 when after `wanted` bytes at a path less than KEEL_MIN_FREE_DISK would be free there."""
    if free(path) < wanted + settings.size("KEEL_MIN_FREE_DISK"):
        raise Stop(f"not enough disk: {free(path) >> 20} MiB free at {path}, {wanted >> 20} MiB are needed and KEEL_MIN_FREE_DISK="
                   f"{settings['KEEL_MIN_FREE_DISK']} on top", NO, "make room there")


def memory(wanted: int) -> None:
    """Stop 1 when this host has less memory to give than `wanted` bytes: the kernel would kill somebody, and maybe the database."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    if available < wanted:
        raise Stop(f"not enough memory: {available >> 20} MiB available, {wanted >> 20} MiB are needed", NO, "do it on another host")


def ours(settings: Settings) -> None:
    """Stop 78 when the environment of this name was started from another checkout or with another state folder: its data is not ours."""
    state = settings.path("KEEL_STATE")
    for name in ("postgres", "redis", "nginx", "caddy"):
        labels = (engine.service(settings, name) or {}).get("Labels", {})
        theirs = labels.get("keel.state", "")
        if theirs and theirs != str(state):
            raise Stop(f"{settings.env} runs on this host with its state in {theirs}, not in {state}", CONFIG,
                       _way_back(settings, Path(theirs), Path(labels.get("com.docker.compose.project.working_dir", "/"))))


def _way_back(settings: Settings, theirs: Path, checkout: Path) -> str:
    """What to type where the state folder or the checkout of what runs is another: its own paths are in its containers' labels."""
    if not checkout.exists():
        return (f"if this checkout was moved, move it back: mv {ROOT} {checkout}; to move it for good: make down ENV={settings.env} there "
                f"first, and make up deploy ENV={settings.env} at the new place")
    if not theirs.exists():
        return f"that folder is gone: move it back there, or get it from a backup of {checkout}"
    where = f"KEEL_STATE={theirs} is meant" if checkout == ROOT else f"use the checkout {checkout}"
    return f"{where}, or give this environment another name (compose/NAME.env and compose/NAME.yml)"


def certificate(settings: Settings) -> None:
    """Stop 78 when the proxy would not start for want of its certificate files, or of the root that KEEL_ACME_ROOT promises."""
    folder = ROOT / "secrets" / "tls" / settings.env
    if settings["KEEL_TLS"] == "acme" and settings.on("KEEL_ACME_ROOT") and not (folder / ACME_ROOT).exists():
        raise Stop(f"{folder}: there is no {ACME_ROOT}", CONFIG,
                   "put the authority's root certificate there (mode 0644); KEEL_ACME_ROOT=off for one that everybody trusts")
    missing = [name for name in ("cert.pem", "key.pem") if not (folder / name).exists()]
    if settings["KEEL_TLS"] == "files" and missing:
        raise Stop(f"{folder}: there is no {' and no '.join(missing)}", CONFIG,
                   f"put them there (mode 0644, the folder is closed), or set KEEL_TLS=acme; for development: make cert ENV={settings.env}")


def public_ipv6() -> list[str]:
    """The addresses of this host by which the whole internet can come. Source: proc(5), net/if_inet6."""
    lines = IF_INET6.read_text().split("\n") if IF_INET6.exists() else []
    found = [ipaddress.IPv6Address(bytes.fromhex(line.split()[0])) for line in lines if line]
    return [str(address) for address in found if address.is_global]


def ports_free(settings: Settings) -> None:
    """Stop 78 when a port that the proxy is to publish belongs to somebody else; all of them at once."""
    proxies = [engine.service(settings, name) for name in ("nginx", "caddy")]
    # As it was told to publish: one that restarts again and again holds its ports only now and then.
    ours = {port for found in proxies if found and found["State"] in ("running", "restarting") for port in engine.publishes(found["Id"])}
    taken = [f"{name}={settings[name]} is taken by {_holder(settings.number(name))}" for name in ("KEEL_HTTP_PORT", "KEEL_HTTPS_PORT")
             if settings.number(name) not in ours and not _can_bind(settings.number(name))]
    if taken:
        raise Stop("\n".join(taken), CONFIG, f"stop it, or choose another port in {settings.file}")


def _holder(port: int) -> str:
    """Who has a port, as doctor says it: the container that publishes it, or the program that listens."""
    containers = engine.published()
    if port in containers:
        return f"the container {containers[port]['Names'][0].lstrip('/')}"
    return proc.holder(port) or "another program (ss -ltnp shows which)"


def _can_bind(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("0.0.0.0", port))
        except PermissionError:
            return True  # a port below 1024 that we may not bind ourselves: the engine will tell
        except OSError:
            return False
    return True
