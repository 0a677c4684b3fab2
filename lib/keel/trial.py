"""What a backup is worth: tried from the first store whose copy is well; the other copies are read and held against the manifest."""
from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keel import cli, expected, forms, manifest, pg_data, recover, signed, spool, stores
from keel.checked import Checked
from keel.manifest import Manifest
from keel.phases import Phases, spent
from keel.recover import Found
from keel.settings import Settings
from keel.signed import Signer
from keel.stop import BUSY, CONFIG, DATA, UNAVAILABLE, Stop
from keel.stores import Missing, Store


@dataclass(frozen=True)
class Wanted:
    """How far to go, and what to hold the backup against."""

    level: int = 5
    lineage: str = ""
    newest: bool = False   # it is to be recent
    older: bool = False    # it may be of a server that was there before
    urls: tuple[str, ...] = ()


@dataclass
class Trial:
    """A backup, who has it, and what is wrong with each copy."""

    found: list[Found]
    faults: dict[str, Stop] = field(default_factory=dict)     # by the URL of the store
    away: dict[str, Stop] = field(default_factory=dict)       # of stores that did not answer: nothing is known of their copies
    aside: list[str] = field(default_factory=list)         # findings that say nothing against the data: whose it is, age, time
    checked: Checked = field(default_factory=lambda: Checked(0))

    @property
    def manifest(self) -> Manifest:
        return self.found[0].manifest

    def findings(self, url: str = "") -> list[str]:
        """What is wrong with the data, in one store or in any."""
        faults = [f.message for u, f in self.faults.items() if url in ("", u)]
        return [*self.checked.findings, *faults]

    @property
    def well(self) -> bool:
        return not self.findings() and not self.aside

    @property
    def code(self) -> int:
        """The exit code for what could not be tried; that the others are well does not make up for it."""
        return max((e.code for e in self.away.values()), default=0)


def begin(settings: Settings, ident: str, urls: Sequence[str]) -> Trial:
    """Level 0: the signed manifest, and every object in its size, in each store. Raises Stop 65 when no store has a manifest to trust, 69
    and 78 as the stores do when none of those that answer has one."""
    if not forms.ident(ident):
        raise Stop(f"{ident!r} is not a backup id", DATA, "an id looks like 20260102T031500Z-pg-1a2b3c4d; `backups` lists them")
    keys, seconds = signed.trusted(settings.path("KEEL_BACKUP_SIGNERS")), dict[str, float]()
    with Phases(seconds)("find"):
        trial = _copies(stores.open_all(settings, urls), settings.env, ident, keys)
    trial.checked.seconds = seconds
    if not trial.found:
        faults = [*trial.away.values(), *trial.faults.values()]
        worst = min(faults, key=lambda f: isinstance(f, Missing))
        worst.message = "\n".join(e.message for e in faults)
        raise worst
    for url in [u for u, f in trial.faults.items() if isinstance(f, Missing)]:
        cli.warn(f"{ident} is not in {url}")
        del trial.faults[url]
    for fault in trial.away.values():
        cli.warn(fault.message)
    return trial


def _copies(opened: Sequence[Store], env: str, ident: str, keys: Mapping[str, Signer]) -> Trial:
    """Only what is wrong with the data (65) is a fault of a copy. A store that does not answer, or lets us in no longer, says nothing."""
    trial = Trial([])
    for store in opened:
        try:
            copy = Found(manifest.read(store, env, ident, keys), store)
            if trial.found and copy.manifest.digest != trial.manifest.digest:
                raise Stop(f"{store.url}: {ident} is another backup than in {trial.found[0].store.url}", DATA)
            trial.found.append(copy)
            recover.present(copy)
        except Stop as e:
            e.message = e.message if e.message.startswith(store.url) else f"{store.url}: {e.message}"
            (trial.faults if e.code == DATA else trial.away)[store.url] = e
    trial.found = [c for c in trial.found if c.store.url not in trial.away]
    return trial


def carry_out(settings: Settings, trial: Trial, wanted: Wanted) -> None:
    """Try the copies until one was read whole, and read the others. Raises Stop 1 for want of disk, 69 and 78 when the trial cannot go on,
    or in no store."""
    expected.openable(settings, trial.manifest)
    read: Found | None = None
    for copy in [c for c in trial.found if c.store.url not in trial.faults]:
        try:
            checked = _tried(settings, copy, wanted)
        except Stop as e:
            _failed(trial, copy, _meant(copy, e))
            continue
        checked.seconds = {**trial.checked.seconds, **checked.seconds}
        trial.checked, read = checked, copy
        break
    if wanted.level and read:
        _compare(trial, read)
    strange = expected.strange(settings, trial.found[0], wanted.lineage)
    for text in strange if wanted.older else []:
        cli.say(f"{trial.manifest.id}: {text}, which may have come after it")
    trial.aside += [*trial.checked.aside, *([] if wanted.older else strange)]
    trial.aside += expected.late(settings, trial.manifest, sum(trial.checked.seconds.values()), wanted.newest)


def _compare(trial: Trial, read: Found) -> None:
    """Read the copies that were not tried: what was found holds for each that has the very bytes that its manifest names, and no other."""
    for copy in [c for c in trial.found if c is not read and c.store.url not in trial.faults]:
        began = time.monotonic()
        try:
            recover.same(copy)
        except Stop as e:
            fault = _meant(copy, e)
            if fault.code == BUSY:
                cli.warn(fault.message)
                trial.found.remove(copy)
            else:
                _failed(trial, copy, fault)
        else:
            cli.say(f"{trial.manifest.id}: {copy.store.url} has the same, read in {spent(time.monotonic() - began)}")


def _meant(copy: Found, fault: Stop) -> Stop:
    """What a failure was: a copy that lacks something may be one that is being deleted, or that is in a store which is just going away."""
    try:
        gone = fault.code == DATA and not copy.store.stat(f"{copy.manifest.env}/manifests/{copy.manifest.id}")  # which goes first
    except Stop as e:
        return e
    return Stop(f"{copy.store.url}: {copy.manifest.id} was deleted while it was read", BUSY, "by backup-prune?") if gone else fault


def _failed(trial: Trial, copy: Found, fault: Stop) -> None:
    """Note why a copy could not be tried, so that the next one is. Raises it when it is not about this copy, or no other is left."""
    if fault.code == DATA:
        trial.faults[copy.store.url] = fault
        trial.checked.level = max(trial.checked.level, 1)
    elif fault.code in (UNAVAILABLE, CONFIG) and fault.message.startswith(f"{copy.store.url}: ") and len(trial.found) > 1:
        trial.away[copy.store.url] = fault
        trial.found.remove(copy)
        cli.warn(fault.message)
    else:
        raise fault


def _tried(settings: Settings, copy: Found, wanted: Wanted) -> Checked:
    kind, level = copy.manifest.kind, wanted.level
    if level == 0:
        return Checked(0)
    if level == 1:
        checked, keys = Checked(1), recover.identities(settings)
        with Phases(checked.seconds)("download"):
            for part in copy.manifest.objects:
                deque(copy.content(part, keys), maxlen=0)
        return checked
    room = pg_data.room(copy.manifest) if kind == "pg" else 2 * sum(p.plain_size for p in copy.manifest.objects)
    with spool.folder(settings, room) as folder:
        if kind == "pg":
            return pg_data.verify(settings, copy, folder, level)
        other: Checked = importlib.import_module(f"keel.{kind}_data").verify(settings, copy, folder)
        return other
