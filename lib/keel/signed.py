"""Signed text: a JSON object, then one line with an Ed25519 signature (RFC 8032) over all bytes before that line.

A person checks such a FILE with openssl alone; KEY is the signer's base64 from the list of trusted keys, never the one in FILE itself:

    printf -- '-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEA%s\\n-----END PUBLIC KEY-----\\n' "$KEY" >key.pem
    sed '$d' "$FILE" >body
    tail -n 1 "$FILE" | cut -d ' ' -f 4 | base64 -d >signature
    openssl pkeyutl -verify -rawin -pubin -inkey key.pem -in body -sigfile signature
"""
from __future__ import annotations

import base64
import binascii
import json
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keel import strict_json
from keel.stop import CONFIG, DATA, Stop

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

BACKUP, VERIFY, RELEASE = ROLES = ("backup", "verify", "release")  # what a key may sign: manifests, verdicts, notes of a release
MAKE = "backup-keys make signer --role backup makes one (--role verify on a host that only restores): docs/keys.md"
LIST = "backup-keys make signer adds the key that it makes; on another host than the first it comes with git: docs/keys.md"
ROLE = re.compile(r"roles?\s*[=:]", re.IGNORECASE)
LINE = re.compile(rb"^signature ed25519 ([A-Za-z0-9+/]{43}=) ([A-Za-z0-9+/]{86}==)\n", re.MULTILINE)


@dataclass(frozen=True)
class Signer:
    """A line of the list of trusted keys: whose it is, and what counts of all that the key signs."""

    comment: str = ""
    roles: tuple[str, ...] = ROLES


def sign(document: Mapping[str, Any], key: Ed25519PrivateKey) -> str:
    """The document as signed text. Raises ValueError for what JSON cannot hold (RFC 8259 knows no NaN)."""
    body = json.dumps(document, sort_keys=True, indent=1, allow_nan=False) + "\n"
    return f"{body}signature ed25519 {public(key)} {base64.b64encode(key.sign(body.encode())).decode()}\n"


def verify(text: bytes | str, keys: Mapping[str, Signer], role: str, name: str) -> dict[str, Any]:
    """The document of a signed text, when one of these public keys (base64) signed it that may in this role. Raises Stop 65 naming it and
    the reason.

    Nothing is parsed before the signature has been checked.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    data = text.encode() if isinstance(text, str) else text
    lines = list(LINE.finditer(data))
    if not lines:
        raise Stop(f"{name}: has no signature line", DATA, "it was cut short, or something else wrote it")
    last = lines[-1]
    if last.end() != len(data):
        raise Stop(f"{name}: {len(data) - last.end()} bytes follow its signature line", DATA, "something appended to it")
    signer, signature = _bytes(last[1]), _bytes(last[2])
    if signer is None or signature is None:
        raise Stop(f"{name}: its signature line is not canonical base64", DATA)
    if last[1].decode() not in keys:
        raise Stop(f"{name}: signed by {last[1].decode()}, which is no trusted key", DATA, "forged, or that key is missing in the list")
    may = keys[last[1].decode()].roles
    if role not in may:
        raise Stop(f"{name}: signed by {last[1].decode()}, which may sign for {', '.join(may)} only, not for {role}", DATA,
                   "forged with that key, or its line in the list lacks a role")
    body = data[:last.start()]
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, body)
    except InvalidSignature:
        raise Stop(f"{name}: its signature does not verify", DATA, "it was changed after it was signed") from None
    try:
        document = strict_json.parse(body.decode())
    except (ValueError, RecursionError) as e:
        raise Stop(f"{name}: is signed and not JSON: {e}", DATA) from None
    if not isinstance(document, dict):
        raise Stop(f"{name}: is signed and no JSON object", DATA)
    return document


def new_key(comment: str = "", roles: Collection[str] = ()) -> tuple[str, str]:
    """A new key: the private one as PEM (PKCS8, RFC 5958), and its line for the list of trusted keys; without roles it may sign anything.
    Raises ValueError for a comment that would be read as roles."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    if ROLE.match(comment.strip()):
        raise ValueError(f"{comment!r} reads as a role")
    return pem.decode(), " ".join(["ed25519", public(key), *granted(roles), *comment.split()]) + "\n"


def granted(roles: Collection[str]) -> list[str]:
    """The word of a line that says what its key may sign; none where it may sign anything."""
    return [f"role={','.join(r for r in ROLES if r in roles)}"] if roles and set(roles) != set(ROLES) else []


def able(path: Path, key: Ed25519PrivateKey, keys: Mapping[str, Signer], role: str) -> None:
    """That what the key in this file signs counts in this role. Raises Stop 78: better before the work than after it."""
    signer = keys.get(public(key))
    if not signer:
        raise Stop(f"{path}: is no key of KEEL_BACKUP_SIGNERS: nobody would trust what it signs", CONFIG, "backup-keys list shows both")
    if role not in signer.roles:
        raise Stop(f"{path}: its line in KEEL_BACKUP_SIGNERS says {granted(signer.roles)[0]}: what it signs for {role} would not count",
                   CONFIG, "backup-keys list shows who may; docs/keys.md says why, and how a key gets a further role" +
                   ("; a server that is to restore nothing runs make backup-only" if role == VERIFY else ""))


def public(key: Ed25519PrivateKey) -> str:
    """The public half, as base64 of its 32 bytes."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def load_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file. Raises Stop 78 when it is missing, open to others or no Ed25519 key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = _read(path, MAKE)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise Stop(f"{path}: has mode {mode:04o}, so others can read it", CONFIG, f"chmod 600 {path}")
    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # its words may quote the key
        raise Stop(f"{path}: is no private key in PEM without a passphrase", CONFIG, MAKE) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Stop(f"{path}: is a private key and not Ed25519", CONFIG, MAKE)
    return key


def trusted(path: Path) -> dict[str, Signer]:
    """The trusted public keys (base64): a line `ed25519 BASE64 [role=ROLE,…] comment` each. Raises Stop 78 for any other line."""
    found: dict[str, Signer] = {}
    try:
        lines = _read(path, LIST).decode().splitlines()
    except UnicodeDecodeError:
        raise Stop(f"{path}: is not UTF-8 text", CONFIG) from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split(maxsplit=2)
        rest = words[2].strip() if len(words) > 2 else ""
        key = _bytes(words[1].encode()) if len(words) > 1 and words[0] == "ed25519" else None
        if key is None or len(key) != 32:
            raise Stop(f"{path}: line {number} is not ed25519 BASE64 comment", CONFIG, "backup-keys list shows the keys that are well")
        signer = _signer(rest)
        if signer is None:
            raise Stop(f"{path}: line {number}: {rest.split()[0]} names no role: role={'|'.join(ROLES)}, or several with commas between",
                       CONFIG, "without such a word the key may sign anything")
        if signer.roles != found.get(words[1], signer).roles:
            raise Stop(f"{path}: line {number} gives a key other roles than a line before it", CONFIG, "one line for each key")
        found[words[1]] = signer
    if not found:
        raise Stop(f"{path}: holds no key", CONFIG, LIST)
    return found


def _signer(rest: str) -> Signer | None:
    """What stands behind a key; nothing where it gives a role that there is not: a slip must not let a key sign anything."""
    if not ROLE.match(rest):
        return Signer(rest)
    word, *comment = rest.split(maxsplit=1)
    named = word.removeprefix("role=").split(",")
    return Signer("".join(comment), tuple(r for r in ROLES if r in named)) if set(named) <= set(ROLES) else None


def _read(path: Path, hint: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        hint = hint if isinstance(e, FileNotFoundError) else ""
        raise Stop(f"{path}: {(e.strerror or 'cannot be read').lower()}", CONFIG, hint) from None


def _bytes(text: bytes) -> bytes | None:
    """Base64 decoded; nothing unless it is the one way to write these bytes (RFC 4648, 3.5)."""
    try:
        found = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return found if base64.b64encode(found) == text else None
