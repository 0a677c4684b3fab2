"""What doctor looks at on every host: one function a subject, each answers with lines and changes nothing."""
import datetime as dt
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keel import engine, host, no_engine, proc, settings, state
from keel.settings import Settings
from keel.stop import Stop

ENGINE = (25, 0)  # start_interval in health checks
SKEW = 5  # seconds that two clocks may differ
COPYING = ("vfs", "devicemapper", "aufs")


@dataclass(frozen=True)
class Check:
    """One line of the report: the verdict is `ok`, `warn` or `bad`."""

    check: str
    verdict: str
    said: str
    hint: str = ""


Subject = Callable[[Settings, dict[str, Any]], list[Check]]  # with the engine's facts, none where it does not answer


def ok(check: str, said: str) -> Check:
    return Check(check, "ok", said)


def everything(s: Settings, work: Sequence[Subject]) -> list[Check]:
    """All checks, also those that do without the engine when it does not answer; `work` is what only this host's work needs."""
    found = [*configuration(s), python()]
    facts: dict[str, Any] = {}
    try:
        facts = engine.facts()
        found += [ok("engine", f"answers at {s.raw('DOCKER_HOST') or 'the default socket'}"), *the_engine(facts)]
    except Stop as e:
        found.append(Check("engine", "bad", e.message, no_engine.advice()))
    for subject in (disk, clock, *work):
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
             for f in [*settings.faults(s), *settings.uploads(s)]]
    well = {"settings": f"{len(s.variables)} settings", "timeouts": "nest", "secrets": f"secrets/{s.env}.env is its owner's alone"}
    return found + [ok(name, said) for name, said in well.items() if name not in {c.check for c in found}]


def python() -> Check:
    said = dotted(sys.version_info[:3])
    well = sys.version_info >= (3, 11)
    return ok("python", said) if well else Check("python", "bad", f"{said}: 3.11 is wanted", "install it, then make setup")


def the_engine(facts: dict[str, Any]) -> list[Check]:
    said = f"{facts['ServerVersion']}, API {facts['ApiVersion']}"
    fits = version(facts["ServerVersion"]) >= ENGINE
    driver = facts["Driver"]
    return [ok("version", said) if fits else
            Check("version", "bad", f"{said}: {dotted(ENGINE)} is wanted", "upgrade it: docs.docker.com/engine"),
            ok("storage", driver) if driver not in COPYING else
            Check("storage", "warn", f"{driver} is slow and copies much", "use overlay2: storage-driver in /etc/docker/daemon.json")]


def disk(s: Settings, facts: dict[str, Any]) -> list[Check]:
    """Room where images, data and state live, and whether the state can be written."""
    wanted, found = s.size("KEEL_MIN_FREE_DISK"), []
    for what, path in (("engine", Path(facts["DockerRootDir"]) if facts else None), ("state", s.state)):
        if path is None or (what == "engine" and not path.exists()):
            continue  # no answer, or on another machine
        free = host.free(path)
        said = f"{what}: {gib(free)} free at {path}"
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


def kernel(facts: dict[str, Any]) -> list[Check]:
    """What the data stores and the engine miss in the kernel."""
    return [ok("kernel", os.uname().release), *(Check("kernel", "warn", *lack) for lack in proc.lacking()),
            *(Check("kernel", "warn", w.removeprefix("WARNING: "), "see docs.docker.com/engine/install/linux-postinstall")
              for w in facts.get("Warnings") or [])]


def total(facts: dict[str, Any]) -> int:
    """The memory that the engine has, in bytes."""
    return int(facts["MemTotal"]) if facts else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def version(text: str) -> tuple[int, int]:
    match = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
