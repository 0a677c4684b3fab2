"""Releases: one image with one configuration, started once on one colour; its record is a file."""
import hashlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keel import engine, health, images, proxy, run, state
from keel.engine import Replica
from keel.settings import Settings
from keel.stop import DATA, NO, Stop
from keel.traffic import COLOURS, Traffic

FORM = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{7}")
KEPT = 100  # records that prune-images leaves, whatever became of their releases
IMAGE = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")


def new_id(image: str, settings: Mapping[str, str], when: float) -> str:
    """A release's id: UTC time and seven digits of what it is made of, as 20260102T030405Z-1a2b3c4."""
    digest = hashlib.sha256(repr((image, sorted(settings.items()), when)).encode()).hexdigest()
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(when))}-{digest[:7]}"


def by_digest(image: str) -> str:
    """The handle itself. Raises Stop 65 when it is not an image by digest."""
    if not IMAGE.fullmatch(image):
        raise Stop(f"{image}: not an image by digest", DATA, "name it NAME@sha256:DIGEST: a tag may be another image tomorrow")
    return image


def image_here(image: str) -> dict[str, Any]:
    """What the engine knows of an image. Raises Stop 65 as by_digest, Stop 1 for one that is not on this host."""
    found = images.find(by_digest(image))
    if found is None and run.dry:  # the rehearsal of a build made none: take it for a good one
        return {"Id": image.partition("@")[2], "Config": {"User": "1000", "Healthcheck": {"Test": ["CMD"]}}}
    if found is None:
        raise Stop(f"{image}: there is no such image on this host", NO, "build-image makes one; pull-image fetches one")
    return found


def startable(image: str) -> dict[str, Any]:
    """As image_here, also Stop 1 for an image that could not be watched, or that runs as root: said before its migrations run."""
    found = image_here(image)
    config = found["Config"]
    if not (config.get("Healthcheck") or {}).get("Test") or config["Healthcheck"]["Test"] == ["NONE"]:
        raise Stop(f"{image}: has no HEALTHCHECK: nobody could tell when a container of it is sick", NO, "add one to its Dockerfile")
    if config.get("User", "").partition(":")[0] in ("", "0", "root"):
        raise Stop(f"{image}: runs as root", NO, "add a USER to its Dockerfile")
    return found


def idle(now: Traffic) -> str:
    """The colour that a new release starts on: the one that serves nothing. Raises Stop 1 when both serve."""
    busy = {s.colour for s in now.shares if s.percent}
    free = next((c for c in COLOURS if c not in busy), "")
    if not free:
        raise Stop(f"both colours serve: {proxy.describe(now)}", NO, "end the canary first: swap-upstream RELEASE, or rollback")
    return free


def path(settings: Settings, release: str) -> Path:
    return settings.state / "releases" / release


def find(settings: Settings, release: str) -> dict[str, str]:
    """A release's record. Raises Stop 65 for what is no release id, Stop 1 for one that never was."""
    if not FORM.fullmatch(release):
        raise Stop(f"{release!r} is not a release id", DATA, "an id looks like 20260102T030405Z-1a2b3c4; `releases` lists them")
    file = path(settings, release)
    if not file.exists():
        raise Stop(f"{release}: {settings.env} never had this release", NO, "`releases` lists those it had")
    return state.record(file)


def write(settings: Settings, record: Mapping[str, object]) -> None:
    state.write_record(path(settings, str(record["id"])), record)


def all_of(settings: Settings) -> list[dict[str, str]]:
    """The records, newest first."""
    folder = settings.state / "releases"
    names = sorted((p.name for p in folder.iterdir() if FORM.fullmatch(p.name)), reverse=True) if folder.exists() else []
    return [state.record(folder / name) for name in names]


def replicas(settings: Settings, release: str) -> list[Replica]:
    """The containers of a release. Raises Stop 1 when it has none (it was replaced or stopped)."""
    record = find(settings, release)
    found = [r for r in engine.replicas(settings, record["colour"]) if r.release == release]
    if not found:
        raise Stop(f"{release}: has no containers: it was stopped or replaced on {record['colour']}", NO,
                   f"deploy its image again: make deploy ENV={settings.env} IMAGE={record['image']}")
    return found


def clear(settings: Settings, colour: str) -> list[str]:
    """Stop and remove whatever stands on a colour, gracefully; the names of those that did not end in time and were killed."""
    standing = engine.replicas(settings, colour)
    codes = engine.stop([r.id for r in standing])
    return [r.name for r in standing if codes.get(r.id) == 137]


def last_words(replica: Replica, lines: int = 20) -> str:
    """What a container wrote last, for a person: shown when it is found dead or sick."""
    said = engine.logs(replica.id, lines)
    return "\n".join([f"last {len(said)} lines of {replica.name}:", *(f"  | {line}" for line in said)])


def unready(settings: Settings, replica: Replica) -> str:
    """'' when a replica that runs says that it is ready, asked directly; else what it says."""
    return health.http(f"http://{replica.address}:{settings['KEEL_APP_PORT']}{settings['KEEL_READY_PATH']}", direct=True)


def wait_ready(settings: Settings, release: str, seconds: float, passes: int) -> tuple[Replica, str] | None:
    """None once every replica answered ready `passes` times in a row; else one that did not, and why.

    Asks each container directly. One that has exited or was restarted is sick at once: waiting would not mend it.
    """
    known = {r.id for r in replicas(settings, release)}
    wanted = int(find(settings, release)["replicas"])
    sick: list[tuple[Replica, str]] = []

    def ask() -> str:
        sick.clear()
        found = replicas(settings, release)
        for replica in found:
            if replica.id not in known or not replica.running:
                code = engine.inspect(replica.id)["State"]["ExitCode"]
                raise _Dead(replica, f"{replica.state}, exit code {code}")
            said = unready(settings, replica)
            if said:
                sick.append((replica, said))
        if len(found) != wanted:
            sick.append((found[0], f"{len(found)} of {wanted} replicas exist"))
        return sick[0][1] if sick else ""

    try:
        said = health.wait(ask, seconds, passes)
    except _Dead as e:
        return e.replica, e.said
    return (sick[0] if sick else (replicas(settings, release)[0], said)) if said else None


class _Dead(Exception):
    def __init__(self, replica: Replica, said: str) -> None:
        super().__init__(said)
        self.replica, self.said = replica, said
