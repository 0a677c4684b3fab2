"""What one store holds of an environment, as the retention planner has to know it, and the way out for what may go."""
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from keel import forms, held, keep, manifest
from keel.forms import moment
from keel.keep import Backup, Policy
from keel.manifest import Manifest, Verdict
from keel.settings import Settings
from keel.signed import Signer
from keel.stop import BUSY, CONFIG, DATA, Stop
from keel.stores import Object, Store, Unfinished

PLACES = ("manifests", "verdicts", "releases", "objects")  # the order in which they go: without its manifest a backup is none
RESTORED = 3  # from this level on a verdict says that the backup was restored, and not only that it can be read


@dataclass(frozen=True)
class Inventory:
    """Everything below ENV/ in a store: `keys` of each id in the order in which they go; `strange` are keys of no backup."""

    store: Store
    env: str
    backups: tuple[Backup, ...]
    keys: Mapping[str, tuple[str, ...]]
    faults: Mapping[str, Stop]
    strange: tuple[str, ...]
    manifests: tuple[Manifest, ...] = ()


def policy(settings: Settings) -> Policy:
    """The rules of an environment. Raises Stop 78."""
    numbers = {name: settings.number(f"KEEL_KEEP_{name.upper()}") for name in ("daily", "weekly", "monthly", "newest")}
    spans = {name: timedelta(seconds=settings.seconds(variable))
             for name, variable in (("min_age", "KEEL_KEEP_MIN_AGE"), ("max_age", "KEEL_BACKUP_MAX_AGE"))}
    try:
        return Policy(**numbers, **spans)  # type: ignore[arg-type]
    except ValueError as e:
        raise Stop(f"KEEL_KEEP_… and KEEL_BACKUP_MAX_AGE: {e}", CONFIG, f"edit {settings.file}") from None


def look(store: Store, env: str, keys: Mapping[str, Signer]) -> Inventory:
    """Read what is signed, and list the data. Raises as the store does: a part of a store is never taken for all of it.

    Manifests are read before the data is listed, so that the objects of each are in the list; and a backup that is finished in between
    has its manifest in the list, so that it is not taken for an unfinished one.
    """
    found, faults = manifest.all_of(store, env, keys)
    said, more = manifest.verdicts(store, env, keys)
    notes, forged = held.all_of(store, env, keys)
    lying = {o.key: o for o in store.list(f"{env}/")}
    by_id: dict[str, list[str]] = defaultdict(list)
    strange = []
    for key in lying:
        place, _, rest = key.removeprefix(f"{env}/").partition("/")
        ident, _, name = rest.partition("/")
        if place in PLACES and forms.ident(ident) and bool(name) == (place != "manifests"):
            by_id[ident].append(key)
        else:
            strange.append(key)
    ordered = {i: tuple(sorted(those, key=lambda k: (PLACES.index(k.split("/")[1]), k))) for i, those in by_id.items()}
    lacking = {f"{env}/manifests/{m.id}": fault for m in found if (fault := lacks(m, lying))}
    released = {m.id: held.judge(m, notes.get(m.id, [])) for m in found}
    forged |= {name: fault for _, faults_ in released.values() for name, fault in faults_.items()}
    backups = [_backup(m, said.get(m.id, []), f"{env}/manifests/{m.id}" not in lacking, "" if released[m.id][0] else m.held) for m in found]
    backups += _others(env, ordered, lying, faults, {m.id for m in found})
    return Inventory(store, env, tuple(backups), ordered, {**faults, **more, **forged, **lacking}, tuple(strange), tuple(found))


def remove(inventory: Inventory, ident: str) -> None:
    """Delete a backup: the manifest first, then what was said about it, then the data. Raises Stop 75 when it was finished meanwhile, and
    as the store does: Locked where it may not go yet."""
    name = f"{inventory.env}/manifests/{ident}"
    keys = inventory.keys[ident]
    if name not in keys and inventory.store.stat(name):
        raise Stop(f"{inventory.store.url}: {ident} has its manifest by now: it stays", BUSY, "again: read the new plan first")
    for key in keys:
        inventory.store.delete(key)


def unfinished(inventory: Inventory, rules: Policy, plan: keep.Plan, now: datetime) -> Iterator[Unfinished]:
    """The uploads that a killed backup left: older than anything that may still run, and followed by a good backup of their kind. None
    where the plan is refused."""
    if plan.refuse:
        return
    good = [b.id for b in inventory.backups if b.sound(now)]
    for upload in inventory.store.unfinished(f"{inventory.env}/", now - rules.min_age):
        # The host that prunes may be another one, which our lock does not keep waiting: there, too, however short the age is set, what may
        # still be at work is left alone. Backups of a kind are made one after the other, so a newer good one says that this one is dead.
        ident = forms.ID.fullmatch(upload.key.removeprefix(f"{inventory.env}/objects/").partition("/")[0])
        if not ident or any(other[:16] > ident[1] and other.split("-")[1] == ident[2] for other in good):
            yield upload


def standing(of: Manifest, verdicts: Collection[Verdict]) -> Verdict | None:
    """The verdict on exactly this manifest that counts: the newest bad one, until all of those before it were outdone by a newer good one
    that went as far; else, of the good ones since the last bad one, the newest that restored it, or that went the furthest.

    A look that goes less far says nothing against, and nothing for, what was found further down.
    """
    bad: list[Verdict] = []
    good: list[Verdict] = []
    for verdict in sorted((v for v in verdicts if v.manifest == of.digest), key=lambda v: v.time):
        if verdict.ok:
            bad = [b for b in bad if b.level > verdict.level]
            good.append(verdict)
        else:
            bad.append(verdict)
            good.clear()  # what was seen before says no longer that it restores
    return bad[-1] if bad else max(good, key=lambda v: (min(v.level, RESTORED), v.time), default=None)


def restores(verdict: Verdict | None) -> bool:
    """Whether the verdict says that the backup was restored."""
    return bool(verdict and verdict.ok and verdict.level >= RESTORED)


def _backup(m: Manifest, verdicts: Collection[Verdict], whole: bool, held_: str) -> Backup:
    verdict = standing(m, verdicts)
    return Backup(m.id, moment(m.created), m.lineage, m.kind, m.env, good=whole and (verdict is None or verdict.ok),
                  verified=restores(verdict), locked_until=moment(m.lock_until) if m.lock_until else None, held=held_,
                  judged=moment(verdict.time) if verdict and not verdict.ok else None)


def lacks(m: Manifest, lying: Mapping[str, Object]) -> Stop | None:
    """What a manifest names and the store has not, or has in another size; `lying` is what there is below ENV/objects/."""
    for part in m.objects:
        name = f"{m.env}/objects/{m.id}/{part.name}"
        there = lying.get(name)
        if there is None or there.size != part.size:
            return Stop(f"{name}: {f'has {there.size} bytes' if there else 'is not there'}, {part.size} are wanted", DATA)
    return None


def _others(env: str, ordered: Mapping[str, tuple[str, ...]], lying: Mapping[str, Object], faults: Mapping[str, Stop],
            known: Collection[str]) -> Iterator[Backup]:
    """What is there beside the manifests that were read: those that do not verify are for a person to judge, and data without any
    manifest is unfinished, and as old as the newest of it."""
    for ident, keys in ordered.items():
        name, kind = f"{env}/manifests/{ident}", ident.split("-")[1]
        if name in faults:
            yield Backup(ident, moment(ident[:16]), "", kind, env, good=False, held="its manifest does not verify")
        elif ident not in known and name not in keys:
            yield Backup(ident, max(moment(ident[:16]), *(lying[k].modified for k in keys)), "", kind, env, complete=False)
