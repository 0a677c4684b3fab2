"""What doctor looks at: one function a subject, each answers with lines and changes nothing."""
import datetime as dt
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keel import compose, engine, host, proc, run, settings, state, tls
from keel.settings import Settings
from keel.stop import Stop

ENGINE, COMPOSE = (25, 0), (2, 30)  # start_interval in health checks; pre_stop and post_start hooks
SKEW = 5  # seconds that two clocks may differ
COPYING = ("vfs", "devicemapper", "aufs")


@dataclass(frozen=True)
class Check:
    """One line of the report: the verdict is `ok`, `warn` or `bad`."""

    check: str
    verdict: str
    said: str
    hint: str = ""


def ok(check: str, said: str) -> Check:
    return Check(check, "ok", said)


def everything(s: Settings) -> list[Check]:
    """All checks, also those that do without the engine when it does not answer."""
    found = [*configuration(s), python()]
    facts: dict[str, Any] = {}
    try:
        facts = engine.facts()
        found += [ok("engine", f"answers at {s.raw('DOCKER_HOST') or 'the default socket'}"), *the_engine(facts)]
    except Stop as e:
        where = s.raw("DOCKER_HOST") or "the default socket"
        found.append(Check("engine", "bad", e.message, f"start it, or set DOCKER_HOST (now {where}); make setup starts one for a trial"))
    found += [plugin("compose", ["docker", "compose", "version", "--short"], COMPOSE),
              plugin("buildx", ["docker", "buildx", "version"], (0, 0))]
    subjects: list[Callable[[Settings, dict[str, Any]], list[Check]]] = [disk, clock, ports, certificate, memory]
    for subject in subjects:
        try:
            found += subject(s, facts)
        except Stop as e:  # a setting that this check needs is faulty, which is a line of its own above
            found.append(Check(subject.__name__, "warn", f"not looked at: {e.message}"))
    return found + kernel(facts)


def configuration(s: Settings) -> list[Check]:
    """Settings, their files and the timeouts: all faults."""
    nesting = settings.nesting(s)
    hint = f"edit {s.file} or secrets/{s.env}.env; compose/example.env explains each"
    found = [Check("secrets" if f in s.flaws else "timeouts" if f in nesting else "settings", "bad", f, "" if f in s.flaws else hint)
             for f in settings.faults(s)]
    well = {"settings": f"{len(s.variables)} settings", "timeouts": "nest", "secrets": f"secrets/{s.env}.env is its owner's alone"}
    return found + [ok(name, said) for name, said in well.items() if name not in {c.check for c in found}]


def python() -> Check:
    said = _dotted(sys.version_info[:3])
    well = sys.version_info >= (3, 11)
    return ok("python", said) if well else Check("python", "bad", f"{said}: 3.11 is wanted", "install it, then make setup")


def the_engine(facts: dict[str, Any]) -> list[Check]:
    said = f"{facts['ServerVersion']}, API {facts['ApiVersion']}"
    fits = _version(facts["ServerVersion"]) >= ENGINE
    driver = facts["Driver"]
    return [ok("version", said) if fits else
            Check("version", "bad", f"{said}: {_dotted(ENGINE)} is wanted", "upgrade it: docs.docker.com/engine"),
            ok("storage", driver) if driver not in COPYING else
            Check("storage", "warn", f"{driver} is slow and copies much", "use overlay2: storage-driver in /etc/docker/daemon.json")]


def plugin(name: str, argv: list[str], wanted: tuple[int, int]) -> Check:
    """A plug-in of the docker client: there, and new enough."""
    hint = f"install docker-{name}-plugin {_dotted(wanted) if wanted > (0, 0) else ''}".strip() + "; make setup does for a trial"
    try:
        said = run.ask(argv).split()
    except (run.Failed, Stop):
        return Check(name, "bad", "is not there", hint)
    version = next((w for w in said if _version(w) > (0, 0)), "of no known version")
    return ok(name, version) if _version(version) >= wanted else Check(name, "bad", f"{version}: {_dotted(wanted)} is wanted", hint)


def disk(s: Settings, facts: dict[str, Any]) -> list[Check]:
    """Room where images, data and state live, and whether the state can be written."""
    wanted, found = s.size("KEEL_MIN_FREE_DISK"), []
    for what, path in (("engine", Path(facts["DockerRootDir"]) if facts else None), ("state", s.state)):
        if path is None or (what == "engine" and not path.exists()):
            continue  # no answer, or on another machine
        free = host.free(path)
        said = f"{what}: {_gib(free)} free at {path}"
        if free < wanted:
            said += f", KEEL_MIN_FREE_DISK={s['KEEL_MIN_FREE_DISK']}"
            found.append(Check("disk", "bad", said, "make room: prune-images, docker system df"))
        else:
            found.append(ok("disk", said) if free >= 2 * wanted else Check("disk", "warn", said + ": room for little more", "prune-images"))
    folder = next(p for p in (s.state, *s.state.parents) if p.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        found.append(Check("state", "bad", f"{folder} cannot be written by you", f"sudo install -d -o $(id -un) {s.path('KEEL_STATE')}"))
    return found


def clock(s: Settings, facts: dict[str, Any]) -> list[Check]:
    """Our clock beside the engine's, and beside the newest line of the history: time does not go back."""
    now = time.time()
    hint = "set the clock: timedatectl set-ntp true"
    if facts:
        off = dt.datetime.fromisoformat(facts["SystemTime"]).timestamp() - now
        if abs(off) > SKEW:
            return [Check("clock", "bad", f"the engine's is {abs(off):.0f} s {'ahead' if off > 0 else 'behind'}", hint)]
    newest = next((str(line["time"]) for line in state.latest(s.state) if "time" in line), "")
    if newest and dt.datetime.fromisoformat(newest).timestamp() > now + SKEW:
        return [Check("clock", "bad", f"went back: it is {state.now()}, the history has {newest}", hint)]
    return [ok("clock", state.now())]


def ports(s: Settings, facts: dict[str, Any]) -> list[Check]:
    """The published ports: free, or held by this environment's own proxy."""
    found = []
    containers = engine.published() if facts else {}
    for name in ("KEEL_HTTP_PORT", "KEEL_HTTPS_PORT"):
        port = s.number(name)
        holder, ours = proc.holder(port), False
        if port in containers:
            labels = containers[port]["Labels"]
            ours = labels.get("com.docker.compose.project") == s.project or labels.get("keel.env") == s.env
            holder = containers[port]["Names"][0].lstrip("/")
        if holder and not ours:
            found.append(Check("ports", "bad", f"{name}={port} is held by {holder}", f"stop it, or choose another port in {s.file}"))
        else:
            found.append(ok("ports", f"{name}={port} is {f'held by our own {holder}' if ours else 'free'}"))
    return found


def certificate(s: Settings, _facts: dict[str, Any]) -> list[Check]:
    """The files that the proxy serves: there, a pair, for the domain, in time, readable by the proxy and by nobody else."""
    if s["KEEL_TLS"] != "files":
        return [ok("certificate", f"KEEL_TLS={s['KEEL_TLS']}: the proxy fetches it")]
    folder = settings.ROOT / "secrets" / "tls" / s.env
    hint = f"put a new one into secrets/tls/{s.env}/" if s.env == "production" else f"make cert ENV={s.env}"
    try:
        pair = tls.read(folder / "cert.pem", folder / "key.pem")
    except Stop as e:
        return [Check("certificate", "bad", e.message, hint)]
    said = f"{pair.days} days left, from {pair.issuer.removeprefix('CN=')}"
    found = []
    if not pair.covers(s["KEEL_DOMAIN"]):
        found.append(Check("certificate", "bad", f"is for {', '.join(pair.names)} and not for {s['KEEL_DOMAIN']}", hint))
    if pair.days < 0:
        found.append(Check("certificate", "bad", f"ended {-pair.days} days ago", hint))
    elif pair.days < tls.RENEW_DAYS or (s.env == "production" and pair.issuer == tls.AUTHORITY):
        found.append(Check("certificate", "warn", said, hint))
    key = (folder / "key.pem").stat()
    uid, gid = compose.proxy_user(s)
    if not key.st_mode & (0o400 if key.st_uid == uid else 0o040 if key.st_gid == gid else 0o004):
        found.append(Check("certificate", "bad", f"the proxy (uid {uid}) cannot read key.pem", f"chmod 644 {folder}/key.pem"))
    if key.st_mode & 0o044 and all(p.stat().st_mode & 0o011 for p in (folder, folder.parent, folder.parent.parent)):
        found.append(Check("certificate", "bad", "every user of this host can read key.pem", "chmod 700 secrets secrets/tls"))
    return found or [ok("certificate", said)]


def memory(s: Settings, facts: dict[str, Any]) -> list[Check]:
    """The limits of all containers, both colours at once as during a deploy, beside what there is."""
    there = int(facts["MemTotal"]) if facts else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = 2 * s.number("KEEL_REPLICAS") * s.size("KEEL_APP_MEMORY")
    limits += sum(s.size(f"KEEL_{name}_MEMORY") for name in ("POSTGRES", "REDIS", "PROXY"))
    limits += s.size("KEEL_RESTORE_MEMORY") if s["KEEL_BACKUP_STORES"] else 0
    said = f"limits {_gib(limits)} of {_gib(there)} (both colours at once)"
    hint = "lower KEEL_*_MEMORY or KEEL_REPLICAS, or add memory"
    return [ok("memory", said) if limits <= there else Check("memory", "warn", said, hint)]


def kernel(facts: dict[str, Any]) -> list[Check]:
    """What the data stores and the engine miss in the kernel."""
    return [ok("kernel", os.uname().release), *(Check("kernel", "warn", *lack) for lack in proc.lacking()),
            *(Check("kernel", "warn", w.removeprefix("WARNING: "), "see docs.docker.com/engine/install/linux-postinstall")
              for w in facts.get("Warnings") or [])]


def _version(text: str) -> tuple[int, int]:
    match = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
