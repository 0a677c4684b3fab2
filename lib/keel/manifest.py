"""Manifests and verdicts: what says that a backup exists and what is in it, and that it was restored; signed, in a store beside the data.

    ENV/manifests/ID        written last: the backup exists once this does
    ENV/verdicts/ID/TIME    what a restore of it showed
    ENV/releases/ID/TIME    that a person released it, where it is held (keel.held)
    ENV/objects/ID/NAME     the data
"""
from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from keel import forms, many, signed
from keel.forms import FORMAT, ID, KINDS, moment
from keel.signed import Signer
from keel.stop import CONFIG, DATA, Stop
from keel.stores import LARGE, Store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class Part:
    """One object of a backup: size and SHA-256 of what lies in the store, and of what it was before it was packed and encrypted."""

    name: str
    size: int
    sha256: str
    plain_size: int
    plain_sha256: str


@dataclass(frozen=True)
class Manifest:
    """What one backup is: every time is UTC text; `digest` is the SHA-256 of the signed text, and not in it."""

    id: str
    kind: str
    set: str
    env: str
    host: str
    created: str       # the time in its id
    finished: str
    lineage: str
    objects: tuple[Part, ...]
    period: str
    recipients: tuple[str, ...]
    tool: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    lock_until: str = ""
    previous: str = ""  # always so: hosts that read this format want the field
    held: str = ""
    format: int = FORMAT
    digest: str = field(default="", compare=False)


@dataclass(frozen=True)
class Verdict:
    """What a restore of a backup showed: to which level (0 to 5) it was tried, how long each phase took, what was wrong."""

    backup: str
    manifest: str      # the digest of the manifest that was restored
    time: str
    ok: bool
    level: int
    seconds: Mapping[str, float]
    findings: tuple[str, ...]
    host: str
    format: int = FORMAT


def new_id(kind: str, when: datetime) -> str:
    """A backup's id, as 20260102T031500Z-pg-1a2b3c4d. Raises ValueError for an unknown kind."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r}: one of {', '.join(KINDS)} is wanted")
    return f"{forms.text_of(when, forms.STAMP)}-{kind}-{secrets.token_hex(4)}"


def new_set(when: datetime) -> str:
    """The id of a set: the backups of one run."""
    return f"{forms.text_of(when, forms.STAMP)}-{secrets.token_hex(4)}"


def time_after(newest: str) -> datetime:
    """Now, in whole seconds, and later than the id of the newest there is (or there is none): the very second of it is waited out.

    Raises Stop 78 where the clock is behind it: order by time is what retention stands on.
    """
    now = datetime.now(UTC)
    if newest and newest[:16] == forms.text_of(now, forms.STAMP):
        time.sleep(1 - now.microsecond / 1e6)
        now = datetime.now(UTC)
    if newest and forms.text_of(now, forms.STAMP) <= newest[:16]:
        raise Stop(f"a backup of {forms.text_of(now)} would not be later than {newest}, the newest there is", CONFIG,
                   "set the clock of this host (timedatectl), or find the host whose clock was ahead when it wrote that one")
    return now.replace(microsecond=0)


def write(store: Store, manifest: Manifest, key: Ed25519PrivateKey) -> Manifest:
    """Sign and store a manifest that is not there yet: from now on the backup exists. Returns it with its digest. Raises Stop 65."""
    text, written = sign(manifest, key)
    store.put(_name(manifest.env, manifest.id), text, absent=True, lock_until=moment(manifest.lock_until) if manifest.lock_until else None)
    return written


def sign(manifest: Manifest, key: Ed25519PrivateKey) -> tuple[bytes, Manifest]:
    """Its signed text, and what is read of it. Raises Stop 65 for what could not be read again."""
    name = _name(manifest.env, manifest.id)
    fields = {field: value for field, value in vars(manifest).items() if field != "digest"}
    text = signed.sign({**fields, "objects": [asdict(part) for part in manifest.objects]}, key).encode()
    if len(text) > LARGE:
        raise Stop(f"{name}: would have {len(text) >> 20} MiB, and none of more than {LARGE >> 20} is read: it was not written", DATA,
                   "so there is no such backup; it names each table and sequence, each image: there are too many of them for one backup")
    return text, _manifest(text, name, {signed.public(key): Signer()})


def read(store: Store, env: str, ident: str, keys: Mapping[str, Signer]) -> Manifest:
    """The manifest of a backup, signed by one of these keys. Raises Stop 65 naming it and what is wrong, and as the store does."""
    if not forms.ident(ident):
        raise Stop(f"{ident!r} is not a backup id", DATA, "an id looks like 20260102T031500Z-pg-1a2b3c4d; `backups` lists them")
    name = _name(env, ident)
    return _manifest(store.get(name, LARGE), name, keys)


def ids(store: Store, env: str, kind: str) -> list[str]:
    """The ids of the backups of a kind, newest first; told from the names alone, so that a spoiled manifest counts too."""
    found = (ID.fullmatch(item.key.rsplit("/", 1)[-1]) for item in store.list(f"{env}/manifests/"))
    return sorted((match[0] for match in found if match and match[2] == kind), reverse=True)


def all_of(store: Store, env: str, keys: Mapping[str, Signer], limit: int = 0) -> tuple[list[Manifest], dict[str, Stop]]:
    """The manifests of an environment (0: all, else the newest so many), newest first; and by its key what is wrong with each that is
    not to be trusted. Without their facts, which may be many MiB each: `read` has them. Raises as the store does."""
    items = sorted(store.list(f"{env}/manifests/"), key=lambda item: item.key, reverse=True)[:limit or None]
    found, faults = many.read(store, items, lambda text, name: replace(_manifest(text, name, keys), facts={}), LARGE)
    return sorted(found, key=lambda m: m.id, reverse=True), faults


def write_verdict(store: Store, env: str, verdict: Verdict, key: Ed25519PrivateKey) -> None:
    """Sign and store a verdict. Raises Stop 65 for one that could not be read again."""
    name, text = f"{env}/verdicts/{verdict.backup}/{forms.compact(verdict.time)}", signed.sign(asdict(verdict), key).encode()
    _verdict(text, name, {signed.public(key): Signer()})
    store.put(name, text, absent=True)


def verdicts(store: Store, env: str, keys: Mapping[str, Signer],
             of: Collection[str] | None = None) -> tuple[dict[str, list[Verdict]], dict[str, Stop]]:
    """The verdicts on each backup (or on these only) by its id, newest first; and by its key what is wrong with each that is not to be
    trusted. Raises as the store does."""
    items = [item for item in store.list(f"{env}/verdicts/") if of is None or item.key.split("/")[2] in of]
    found, faults = many.read(store, items, lambda text, name: _verdict(text, name, keys))
    by_id: dict[str, list[Verdict]] = {}
    for verdict in sorted(found, key=lambda v: v.time, reverse=True):
        by_id.setdefault(verdict.backup, []).append(verdict)
    return by_id, faults


def _name(env: str, ident: str) -> str:
    return f"{env}/manifests/{ident}"


def _manifest(text: bytes, name: str, keys: Mapping[str, Signer]) -> Manifest:
    """The manifest that lies under ENV/manifests/ID, and is that one: a good one under another name is a replay."""
    document = signed.verify(text, keys, signed.BACKUP, name)
    forms.check(document, forms.MANIFEST, name)
    for part in document["objects"]:
        forms.check(part, forms.PART, f"{name}: an object")
    (env, _, ident), (stamp, kind, _) = name.split("/", 2), document["id"].split("-")
    for what, said, wanted in (("env", document["env"], env), ("id", document["id"], ident), ("kind", document["kind"], kind),
                               ("created", forms.compact(document["created"]), stamp)):
        if said != wanted:
            raise Stop(f"{name}: its {what} is {said}, not {wanted}", DATA, "it was copied there from elsewhere")
    if document["finished"] < document["created"]:
        raise Stop(f"{name}: finished at {document['finished']}, before it was created", DATA)
    lists = {"objects": tuple(Part(**part) for part in document["objects"]), "recipients": tuple(document["recipients"])}
    return Manifest(**{**document, **lists}, digest=hashlib.sha256(text).hexdigest())


def _verdict(text: bytes, name: str, keys: Mapping[str, Signer]) -> Verdict:
    """The verdict that lies under ENV/verdicts/ID/TIME, and is that one."""
    document = signed.verify(text, keys, signed.VERIFY, name)
    forms.check(document, forms.VERDICT, name)
    said = f"{document['backup']}/{forms.compact(document['time'])}"
    if not name.endswith(f"/verdicts/{said}"):
        raise Stop(f"{name}: is the verdict {said}", DATA, "it was copied there from elsewhere")
    return Verdict(**{**document, "findings": tuple(document["findings"])})
