"""What a backup is worth: tried from the first store whose copy is well, judged, and the signed verdict written beside each copy."""
from __future__ import annotations

import importlib
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from keel import cli, expected, forms, manifest, pg_data, recover, run, signed, spool, stores
from keel.checked import Checked
from keel.manifest import Manifest, Verdict
from keel.phases import Phases
from keel.recover import Found
from keel.settings import Settings
from keel.signed import Signer
from keel.stop import BUSY, DATA, Stop
from keel.stores import Exists, Missing, Store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


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


def begin(settings: Settings, ident: str, urls: Sequence[str]) -> Trial:
    """Level 0: the signed manifest, and every object in its size, in each store. Raises Stop 65 when no store has a manifest to trust."""
    if not forms.ident(ident):
        raise Stop(f"{ident!r} is not a backup id", DATA, "an id looks like 20260102T031500Z-pg-1a2b3c4d; `backups` lists them")
    keys, phases = signed.trusted(settings.path("KEEL_BACKUP_SIGNERS")), Checked(0)
    with Phases(phases.seconds)("find"):
        found, faults = _copies(stores.open_all(settings, urls), settings.env, ident, keys)
    if not found:
        worst = next((f for f in faults.values() if not isinstance(f, Missing)), next(iter(faults.values())))
        worst.message = "\n".join(e.message for e in faults.values())
        raise worst
    for url in (u for u, f in faults.items() if isinstance(f, Missing)):
        cli.warn(f"{ident} is not in {url}")
    return Trial(found, {u: f for u, f in faults.items() if not isinstance(f, Missing)}, [], phases)


def _copies(opened: Sequence[Store], env: str, ident: str, keys: Mapping[str, Signer]) -> tuple[list[Found], dict[str, Stop]]:
    found: list[Found] = []
    faults: dict[str, Stop] = {}
    for store in opened:
        try:
            copy = Found(manifest.read(store, env, ident, keys), store)
            if found and copy.manifest.digest != found[0].manifest.digest:
                raise Stop(f"{store.url}: {ident} is another backup than in {found[0].store.url}", DATA)
            found.append(copy)
            recover.present(copy)
        except Stop as e:
            e.message = e.message if e.message.startswith(store.url) else f"{store.url}: {e.message}"
            faults[store.url] = e
    return found, faults


def carry_out(settings: Settings, trial: Trial, wanted: Wanted) -> None:
    """Try the copies until one has been read whole, and note what was found. Raises Stop 1 for want of disk, 69 and 78 when the trial
    itself cannot go on: that says nothing about the backup."""
    expected.openable(settings, trial.manifest)
    for copy in trial.found:
        if copy.store.url in trial.faults:
            continue
        try:
            checked = _tried(settings, copy, wanted)
        except Stop as e:
            if e.code != DATA:
                raise
            if not copy.store.stat(f"{settings.env}/manifests/{trial.manifest.id}"):  # which goes first
                raise Stop(f"{copy.store.url}: {trial.manifest.id} was deleted while it was read", BUSY, "by backup-prune?") from None
            trial.faults[copy.store.url] = e
            trial.checked.level = max(trial.checked.level, 1)
            continue
        checked.seconds = {**trial.checked.seconds, **checked.seconds}
        trial.checked = checked
        break
    strange = expected.strange(settings, trial.found[0], wanted.lineage)
    for text in strange if wanted.older else []:
        cli.say(f"{trial.manifest.id}: {text}, which may have come after it")
    trial.aside += [] if wanted.older else strange
    trial.aside += expected.late(settings, trial.manifest, sum(trial.checked.seconds.values()), wanted.newest)


def _tried(settings: Settings, copy: Found, wanted: Wanted) -> Checked:
    kind, level = copy.manifest.kind, wanted.level
    if level == 0:
        return Checked(0)
    if level == 1:
        checked, keys = Checked(1), recover.identities(settings)
        with Phases(checked.seconds)("download"):
            for part in copy.manifest.objects:
                for _ in copy.content(part, keys):
                    pass
        return checked
    room = pg_data.room(copy.manifest) if kind == "pg" else 2 * sum(p.plain_size for p in copy.manifest.objects)
    with spool.folder(settings, room) as folder:
        return pg_data.verify(settings, copy, folder, level) if kind == "pg" else _other(settings, copy, folder)


def _other(settings: Settings, copy: Found, folder: Path) -> Checked:
    room = importlib.import_module(f"keel.{copy.manifest.kind}_data")
    checked: Checked = room.verify(settings, copy, folder)
    return checked


def record(settings: Settings, trial: Trial, key: Ed25519PrivateKey) -> None:
    """Sign the verdict on each copy and write it beside it: a copy is bad when its own data is. Raises as the store does, once the others
    have theirs."""
    failed: list[Stop] = []
    for copy in trial.found:
        wrong = trial.findings(copy.store.url)
        said = tuple("".join(c if c.isprintable() else " " for c in line) for line in [*wrong, *trial.aside])
        verdict = Verdict(trial.manifest.id, trial.manifest.digest, forms.text_of(datetime.now(UTC)), not wrong, trial.checked.level,
                          trial.checked.seconds, said, socket.gethostname())
        try:
            _write(copy.store, settings.env, verdict, key)
        except Stop as e:
            failed.append(e)
    if failed:
        raise Stop("\n".join(e.message for e in failed), failed[0].code, failed[0].hint)


def _write(store: Store, env: str, verdict: Verdict, key: Ed25519PrivateKey) -> None:
    """One of the same second may be there already: then this is one of the next."""
    while True:
        try:
            return manifest.write_verdict(store, env, verdict, key)
        except Exists:
            verdict = replace(verdict, time=forms.text_of(forms.moment(verdict.time) + timedelta(seconds=1)))


def rehearsed(settings: Settings, ident: str, urls: Sequence[str]) -> bool:
    """Whether this is a rehearsal; then says what would be done. In a pipe that is rehearsed the backup is not there yet."""
    if not run.dry:
        return False
    try:
        found = begin(settings, ident, urls).found
        run.dry(f"restore {ident} from {found[0].store.url} beside everything, and write the verdict into "
                f"{' '.join(c.store.url for c in found)}")
    except Missing:
        run.dry(f"restore {ident}, which is not there, beside everything")
    return True
