"""Reading a backup back: found in the first store that has it whole, its objects opened and held against the signed manifest.

A copy that turns out to be damaged while it is read is named, and the object is taken from the next store.
"""
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from keel import age_keys, cli, forms, keyring, manifest, pack, progress, run, signed, store_as_of, stores
from keel.age_keys import Identity
from keel.manifest import Manifest, Part
from keel.settings import Settings
from keel.stop import DATA, USAGE, Stop
from keel.stores import Missing, Store


@dataclass(frozen=True)
class Found:
    """A backup whose manifest was signed by somebody we trust, the store that has it, the others that may be asked for its objects, what
    was wrong in those that were passed over, and the URLs of those that objects were taken from, in the order in which that began."""

    manifest: Manifest
    store: Store
    others: tuple[Store, ...] = ()
    passed: tuple[Stop, ...] = ()
    taken: list[str] = field(default_factory=list, compare=False)

    def part(self, name: str) -> Part:
        """One of its objects, as `database.dump` or with its suffix. Raises Stop 65 naming those there are."""
        for part in self.manifest.objects:
            if part.name in (name, f"{name}{pack.SUFFIX}"):
                return part
        raise Stop(f"{self.manifest.id}: has no object {name}", DATA, f"it has {', '.join(p.name for p in self.manifest.objects)}")

    def key(self, part: Part) -> str:
        """Where the object lies in the store."""
        return f"{self.manifest.env}/objects/{self.manifest.id}/{part.name}"

    def content(self, part: Part, identities: Sequence[Identity]) -> Iterator[bytes]:
        """The object as it was before it was packed, to be trusted once this ended well. Raises Stop 65 naming the object, and as the
        store does."""
        yield from pack.unpacked(self.store.read(self.key(part)), part, identities, f"{self.store.url}/{self.key(part)}")


def wanted(found: Found, name: str) -> Part:
    """The object with a name; the only one where none is named. Raises Stop 2 where there are several, 65 where there is none such."""
    parts = found.manifest.objects
    if not name and len(parts) > 1:
        raise Stop(f"{found.manifest.id} has several objects", USAGE,
                   f"--object {'|'.join(p.name.removesuffix(pack.SUFFIX) for p in parts)}")
    return found.part(name) if name else parts[0]


def elsewhere(found: Found, urls: Sequence[str]) -> str:
    """What is left to do when no store that was asked has a well copy; `urls` are those that somebody named."""
    if urls:
        return "without --store the other stores are asked too"
    return "no other store has it" if found.others else "an older backup may be well: `backups` lists them"


def fetch(settings: Settings, found: Found, part: Part, path: Path) -> None:
    """Write one object as it was into a file, from the first store that has it whole and well: whoever has it, the bytes are held against
    the manifest that was found. Says what is wrong with a copy before it asks the next store.

    Raises Stop when no store has it so: 65, or 69 or 78 where a store did not answer or let us in, which may have it.
    """
    keys, faults, name = identities(settings), list[Stop](), part.name.removesuffix(pack.SUFFIX)
    for store in (found.store, *found.others):
        try:
            with open(path, "wb") as f:
                for chunk in progress.over(replace(found, store=store).content(part, keys), f"{name}: read", part.plain_size):
                    f.write(chunk)
            if store.url not in found.taken:
                found.taken.append(store.url)
            if faults:
                cli.say(f"{name}: taken from {store.url}, where it is well")
            return
        except Stop as e:
            if not e.message.startswith(store.url):  # not about this copy
                raise
            faults.append(e)
            if len(faults) <= len(found.others):
                cli.warn(f"{e.message}: the next store is asked")
    raise Stop("\n".join(e.message for e in faults), max(e.code for e in faults), faults[0].hint)


def rehearsed(found: Found, where: str) -> bool:
    """Whether this is a rehearsal; then says what would be brought back."""
    if run.dry:
        run.dry(f"restore {found.manifest.id} from {found.store.url} to {where}")
    return run.dry is not None


def identities(settings: Settings) -> list[age_keys.SecretKey]:
    """The keys of KEEL_BACKUP_IDENTITY. Raises Stop 78."""
    return age_keys.identities_file(settings.path("KEEL_BACKUP_IDENTITY"), keyring.NO_IDENTITY)


def find(settings: Settings, ident: str, urls: Sequence[str] = (), as_of: datetime | None = None) -> Found:
    """The backup with this id, in the first of KEEL_BACKUP_STORES (or of these) that has all of it, now or as of an earlier time.

    Raises Stop 65 when it is no id, is nowhere, or does not verify anywhere; as the stores do when none answers.
    """
    if not forms.ident(ident):
        raise Stop(f"{ident!r} is not a backup id", DATA, "an id looks like 20260102T031500Z-pg-1a2b3c4d; `backups` lists them")
    keys = signed.trusted(settings.path("KEEL_BACKUP_SIGNERS"))
    faults: list[Stop] = []
    opened = store_as_of.all_of(stores.open_all(settings, urls), as_of)
    for store in opened:
        try:
            found = Found(manifest.read(store, settings.env, ident, keys), store, tuple(s for s in opened if s is not store), tuple(faults))
            present(found)
            return found
        except Stop as e:
            faults.append(e)
    worst = next((e for e in faults if not isinstance(e, Missing)), faults[0])
    raise Stop("\n".join(e.message for e in faults), worst.code, worst.hint)


def present(found: Found) -> None:
    """That every object is there in its size, and none that the manifest does not name. Raises Stop 65 naming it."""
    folder = f"{found.manifest.env}/objects/{found.manifest.id}/"
    there = {o.key: o.size for o in found.store.list(folder)}
    wanted = {found.key(p): p.size for p in found.manifest.objects}
    for key, size in wanted.items():
        if there.get(key) != size:
            raise Stop(f"{found.store.url}/{key}: {f'has {there[key]} bytes' if key in there else 'is not there'}, {size} are wanted", DATA)
    for key in there.keys() - wanted.keys():
        raise Stop(f"{found.store.url}/{key}: is in no manifest", DATA, "somebody put it there: look into it")


def same(found: Found) -> None:
    """That every object has the very bytes that the manifest names, without opening it. Raises Stop 65 naming it, and as the store does."""
    for part in found.manifest.objects:
        meter = pack.Meter()
        deque(meter.over(found.store.read(found.key(part))), maxlen=0)
        if (meter.size, meter.sha256) != (part.size, part.sha256):
            raise Stop(f"{found.store.url}/{found.key(part)}: {meter.size} bytes, SHA-256 {meter.sha256}, its manifest says {part.size}, "
                       f"{part.sha256}", DATA, "it is not the object that was stored")
