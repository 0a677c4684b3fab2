"""Held backups, and the signed notes by which a person releases one: ENV/releases/ID/TIME, in each store that has it."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from keel import forms, many, signed
from keel.forms import FORMAT
from keel.manifest import Manifest
from keel.signed import Signer
from keel.stop import DATA, Stop
from keel.stores import Store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class Release:
    """That a person looked at a held backup, and why it counts: for exactly the manifest with that digest."""

    backup: str
    manifest: str
    time: str
    reason: str
    host: str
    format: int = FORMAT


def write(store: Store, env: str, release: Release, key: Ed25519PrivateKey) -> None:
    """Sign and store a note. Raises Stop 65 for one that could not be read again, and as the store does."""
    name, text = _name(env, release), signed.sign(asdict(release), key).encode()
    _release(text, name, {signed.public(key): Signer()})
    store.put(name, text, absent=True)


def all_of(store: Store, env: str, keys: Mapping[str, Signer],
           of: Collection[str] | None = None) -> tuple[dict[str, list[Release]], dict[str, Stop]]:
    """The notes on each backup (or on these only) by its id, newest first; and by its key what is wrong with each that is not to be
    trusted. Raises as the store does."""
    items = [item for item in store.list(f"{env}/releases/") if of is None or item.key.split("/")[2] in of]
    found, faults = many.read(store, items, lambda text, name: _release(text, name, keys))
    by_id: dict[str, list[Release]] = {}
    for release in sorted(found, key=lambda r: r.time, reverse=True):
        by_id.setdefault(release.backup, []).append(release)
    return by_id, faults


def judge(m: Manifest, notes: Collection[Release]) -> tuple[str, dict[str, Stop]]:
    """Why this backup was released (nothing: it was not), and by its key what is wrong with each note that is about another manifest of
    that id; `notes` are newest first."""
    faults = {(name := _name(m.env, n)): Stop(f"{name}: releases another manifest, {n.manifest[:12]}…, and not this one, {m.digest[:12]}…",
                                              DATA, "look at it again; backup-release writes a new one")
              for n in notes if n.manifest != m.digest}
    return next((n.reason for n in notes if n.manifest == m.digest), ""), faults


def _name(env: str, release: Release) -> str:
    return f"{env}/releases/{release.backup}/{forms.compact(release.time)}"


def _release(text: bytes, name: str, keys: Mapping[str, Signer]) -> Release:
    """The note that lies under ENV/releases/ID/TIME, and is that one: a good one under another name is a replay."""
    document = signed.verify(text, keys, signed.RELEASE, name)
    forms.check(document, forms.RELEASE, name)
    said = f"{document['backup']}/{forms.compact(document['time'])}"
    if not name.endswith(f"/releases/{said}"):
        raise Stop(f"{name}: is the note {said}", DATA, "it was copied there from elsewhere")
    return Release(**document)
