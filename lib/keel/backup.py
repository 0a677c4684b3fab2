"""Making a backup of any kind: opened before anything is read, its objects into every store, its manifest last."""
from __future__ import annotations

import socket
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from keel import age_keys, fan, forms, inventory, keep, keyring, manifest, pack, run, signed, stores
from keel.inventory import Inventory
from keel.keep import PERIODS
from keel.manifest import Manifest, Part
from keel.settings import Settings
from keel.stop import NO, UNAVAILABLE, Stop
from keel.stores import Store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TOOL = "evenkeel 1"
COMPARED = 7  # predecessors whose median size a backup is held against
FEWEST = 3    # with fewer there is nothing to compare with


@dataclass
class Making:
    """A backup in the making; `failed` are the stores that are out, by URL, with why."""

    settings: Settings
    id: str
    kind: str
    set: str
    lineage: str
    looks: list[Inventory]
    key: Ed25519PrivateKey
    recipients: list[age_keys.PublicKey]
    period: str
    lock_until: str
    parts: list[Part] = field(default_factory=list)
    failed: dict[str, Stop] = field(default_factory=dict)
    releases: bool = False  # whether our own key may also release what is held

    def stores(self) -> list[Store]:
        """Those that have got everything so far."""
        return [look.store for look in self.looks if look.store.url not in self.failed]

    def add(self, name: str, chunks: Iterator[bytes]) -> Part:
        """Pack a stream into every store as ENV/objects/ID/NAME.zst.age. What the producer raises comes through, and nothing is published.

        Raises Stop 69 when no store is left.
        """
        packing = pack.Packing(name, chunks, self.recipients, self.settings.number("KEEL_BACKUP_LEVEL"))
        until = forms.moment(self.lock_until) if self.lock_until else None
        key = f"{self.settings.env}/objects/{self.id}/{packing.name}"
        for outcome in fan.upload_all(self.stores(), key, packing.chunks, lock_until=until):
            if outcome.error:
                self.failed[outcome.url] = outcome.error
        if not self.stores():
            raise _all_failed(self)
        self.parts.append(packing.part())
        return self.parts[-1]

    def finish(self, facts: Mapping[str, Any]) -> Manifest:
        """Write the manifest into every store that has all objects: from then on the backup exists. Raises Stop 69 when none is left,
        65 when it is more than can be read."""
        now = datetime.now(UTC)
        made = Manifest(
            self.id, self.kind, self.set, self.settings.env, socket.gethostname(), forms.text_of(forms.moment(self.id[:16])),
            forms.text_of(now), self.lineage, tuple(self.parts), self.period, tuple(str(r) for r in self.recipients), TOOL, facts,
            self.lock_until, _previous(self.looks, self.kind), _too_small(self))
        written = manifest.sign(made, self.key)[1]  # what no store could give back is no fault of one
        for store in self.stores():
            try:
                written = manifest.write(store, made, self.key)
            except Stop as e:
                self.failed[store.url] = e
        if not self.stores():
            raise _all_failed(self)
        return written


def begin(settings: Settings, kind: str, lineage: str, set_id: str = "") -> Making:
    """Everything that must be well before a byte is read: stores, keys, clock. An empty set id begins a new set.

    Raises Stop 78 for keys and clock, 69 and 78 as the stores do, when none of them is usable.
    """
    key = signed.load_key(settings.path("KEEL_BACKUP_SIGN_KEY"))
    trusted = signed.trusted(settings.path("KEEL_BACKUP_SIGNERS"))
    signed.able(settings.path("KEEL_BACKUP_SIGN_KEY"), key, trusted, signed.BACKUP)
    recipients = age_keys.recipients_file(settings.path("KEEL_BACKUP_RECIPIENTS"), keyring.NO_RECIPIENT)
    looks, failed = [], {}
    for store in stores.open_all(settings):
        try:
            looks.append(inventory.look(store, settings.env, trusted))
        except Stop as e:
            failed[store.url] = e
    now = manifest.time_after(max((b.id for look in looks for b in look.backups if b.kind == kind and b.complete), default=""))
    ident = manifest.new_id(kind, now)
    period, until = _period(looks, kind, lineage, settings, now)
    making = Making(settings, ident, kind, set_id or manifest.new_set(now), lineage, looks, key, recipients, period, until, failed=failed,
                    releases=signed.RELEASE in trusted[signed.public(key)].roles)
    if not looks:
        raise _all_failed(making)
    return making


def _period(looks: list[Inventory], kind: str, lineage: str, settings: Settings, now: datetime) -> tuple[str, str]:
    """The longest period that any store lacks a first backup of, and until when to lock it."""
    rules = inventory.policy(settings)
    mine = [[b for b in look.backups if (b.kind, b.lineage) == (kind, lineage)] for look in looks]
    order = list(PERIODS)
    period = max((keep.period_of(those, now, rules) for those in mine), key=order.index, default=order[0])
    locks = any(getattr(look.store, "lock", "off") != "off" for look in looks)  # a folder locks only where a bucket does
    return period, forms.text_of(keep.lock_until(period, now, rules)) if locks else ""


def _previous(looks: list[Inventory], kind: str) -> str:
    """The digest of the newest manifest of this kind."""
    return max(((m.id, m.digest) for look in looks for m in look.manifests if m.kind == kind), default=("", ""))[1]


def _too_small(making: Making) -> str:
    """Why a person must look at it first: it is much smaller than its good predecessors, in the objects that it has; or nothing.

    Where a person released one that was held, its size is accepted: it is the first predecessor, and one is enough.
    """
    names = {p.name for p in making.parts}
    good = {b.id for look in making.looks for b in look.backups if b.good and not b.held}
    those = {m.id: m for look in making.looks for m in look.manifests
             if (m.kind, m.lineage) == (making.kind, making.lineage) and m.id in good}
    released = max((i for i, m in those.items() if m.held), default="")
    last = [sum(p.plain_size for p in those[i].objects if p.name in names) for i in sorted(those) if i >= released][-COMPARED:]
    if len(last) < FEWEST and not released:
        return ""
    size, usual, least = sum(p.plain_size for p in making.parts), statistics.median(last), making.settings.number("KEEL_BACKUP_HOLD_BELOW")
    if size * 100 >= usual * least:
        return ""
    many = f"{len(last)} predecessors" if len(last) > 1 else "predecessor"
    return f"{size} bytes, less than {least} % of the {usual:.0f} that its {many} had"


def _all_failed(making: Making) -> Stop:
    """The one end of a backup that no store took: every store with its reason."""
    errors = list(making.failed.values())
    return Stop("\n".join(e.message for e in errors), errors[0].code if len(errors) == 1 else UNAVAILABLE, errors[0].hint)


def rehearsed(making: Making, what: str) -> bool:
    """Whether this is a rehearsal, in which nothing is read from the source: then says what would be stored where."""
    if run.dry:
        run.dry(f"store {what} as {making.id} in {' '.join(store.url for store in making.stores())}")
    return run.dry is not None


def verdict(making: Making, made: Manifest) -> tuple[list[str], int]:
    """What a person has to know of a backup that exists, and the exit code: 0 only when every store has it and nothing holds it."""
    size, plain = sum(p.size for p in made.objects), sum(p.plain_size for p in made.objects)
    said = [f"{made.id}: {plain} bytes, {size} packed, {made.period}, in {store.url}" for store in making.stores()]
    said += [f"error: {made.id} is not in {url}: {e.message}" for url, e in making.failed.items()]
    if made.held:
        said.append(f'error: {made.id} is held: {made.held}')
        said.append("hint: look into it; then " + (f'backup-release {made.id} "REASON"' if making.releases else
                    f'backup-release --key FILE {made.id} "REASON", with the key of an operator (role=release): docs/keys.md'))
    return said, UNAVAILABLE if making.failed else NO if made.held else 0
