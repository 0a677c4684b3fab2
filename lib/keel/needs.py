"""Which identities are still needed: what the manifests of all stores say of the recipients that backups are sealed to."""
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from keel import forms, inventory, keep, manifest, signed, stores
from keel.keyring import UNLISTED, Public
from keel.manifest import Manifest
from keel.settings import Settings
from keel.stop import NO, Stop


@dataclass(frozen=True)
class Need:
    """What a recipient can open: how many backups, the newest of them, and until when the last is kept at least, and locked; UTC text."""

    key: str
    comment: str
    state: str
    here: bool
    backups: int = 0
    last: str = ""
    kept_until: str = ""
    locked_until: str = ""

    def record(self, whole: bool) -> dict[str, object]:
        """As JSON has it; where not every manifest of every store was read (not `whole`), nobody knows how many."""
        return {**vars(self), "backups": self.backups if whole else None}

    def line(self, whole: bool) -> str:
        """The same for people."""
        said = "opens no backup" if whole else "opens none that was read"
        if self.backups:
            said = f"opens {self.backups}{'' if whole else ' or more'}, the last {self.last}, kept until {self.kept_until[:10]} at least"
        if self.locked_until:
            said += f", locked until {self.locked_until[:10]}"
        return f"{self.key}  {self.state:8}  {'HERE' if self.here else '-':4}  {said}  {self.comment}".rstrip()


def manifests(settings: Settings) -> tuple[list[Manifest], list[Stop]]:
    """Every manifest of every store, each once, newest first; and what is wrong, a store that does not answer too. Raises Stop 78."""
    keys = signed.trusted(settings.path("KEEL_BACKUP_SIGNERS"))
    found: dict[tuple[str, str], Manifest] = {}
    faults: list[Stop] = []
    for store in stores.open_all(settings):
        try:
            those, bad = manifest.all_of(store, settings.env, keys)
        except Stop as e:
            faults.append(e)
            continue
        found |= {(m.id, m.digest): m for m in those}
        faults += [Stop(f"{store.url}: {e.message}", e.code, e.hint) for e in bad.values()]
    return [found[name] for name in sorted(found, reverse=True)], faults


def of(settings: Settings, made: Iterable[Manifest], keys: Collection[Public]) -> list[Need]:
    """For each of these recipients, and for each other that a manifest names, what it is needed for. Raises Stop 78."""
    rules = inventory.policy(settings)
    found = {k.key: Need(k.key, k.comment, k.state, k.here) for k in keys}
    for m in made:
        kept = forms.text_of(keep.lock_until(m.period, forms.moment(m.created), rules) - keep.MARGIN)
        for key in dict.fromkeys(m.recipients):
            n = found.get(key, Need(key, "", UNLISTED, False))
            found[key] = replace(n, backups=n.backups + 1, last=max(n.last, m.id), kept_until=max(n.kept_until, kept),
                                 locked_until=max(n.locked_until, m.lock_until))
    return list(found.values())


def lost(made: Iterable[Manifest], keys: Collection[Public]) -> list[Stop]:
    """Each backup that none of these recipients can open, as a fault; the last one carries the hint."""
    able = {k.key for k in keys}
    closed = [m for m in made if able.isdisjoint(m.recipients)]
    hint = "where that identity exists, say so: `# retired age1…` in KEEL_BACKUP_RECIPIENTS"
    return [Stop(f"{m.id}: NO KNOWN IDENTITY OPENS IT: it is sealed to {', '.join(m.recipients) or 'nobody'}", NO,
                 hint if m is closed[-1] else "") for m in closed]
