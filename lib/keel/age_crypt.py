"""How age v1 wraps the key of a file for each recipient, and the primitives under it; the only room of age that needs `cryptography`."""
from __future__ import annotations

import hmac
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keel import age_header
from keel.age_header import TAG, Header, Stanza
from keel.age_keys import Identity, Passphrase, PublicKey, Recipient, SecretKey
from keel.stop import CONFIG, DATA, Stop

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

FILE_KEY = 16
HIGHEST_FACTOR = 20  # scrypt with 1 GiB; whoever can write the file chooses it, and we pay
X25519, SCRYPT = "X25519", "scrypt"
LABEL = b"age-encryption.org/v1/"
ZERO = bytes(12)     # the nonce of a wrapped key, each of which has a key of its own


def new_identity() -> tuple[str, str]:
    """A new secret key and its recipient, as text."""
    secret = SecretKey(os.urandom(32))
    return secret.text(), str(recipient(secret))


def recipient(secret: SecretKey) -> PublicKey:
    """The public half."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return PublicKey(X25519PrivateKey.from_private_bytes(secret.data).public_key().public_bytes_raw())


def seal_header(file_key: bytes, recipients: Sequence[Recipient]) -> bytes:
    """A header from which each recipient gets the key of the file. Raises Stop 78 for a recipient that cannot be."""
    signed = age_header.write(tuple(_wrap(file_key, r) for r in recipients))
    return age_header.finish(signed, _mac(file_key, signed))


def open_header(header: Header, identities: Sequence[Identity]) -> bytes:
    """The key of the file. Raises Stop 65 that begins with `no identity matches` or `header:`."""
    if len(header.stanzas) > 1 and any(s.kind == SCRYPT for s in header.stanzas):
        raise Stop("header: a passphrase (scrypt) beside other recipients", DATA)
    known = [(s, _parameter(s)) for s in header.stanzas if s.kind in (X25519, SCRYPT)]
    for stanza, parameter in known:
        for identity in identities:
            key = _try(stanza, parameter, identity)
            if key is None:
                continue
            if not hmac.compare_digest(_mac(key, header.signed), header.mac):
                raise Stop("header: its MAC does not match: it was changed", DATA)
            return key
    raise Stop(f"no identity matches: it is sealed to {header.kinds}", DATA)


def payload_cipher(file_key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    """The cipher of the chunks."""
    return _cipher(_hkdf(file_key, nonce, b"payload"))


def verified(cipher: ChaCha20Poly1305, nonce: bytes, data: bytes) -> bytes | None:
    """The plaintext, or nothing where it does not verify."""
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(nonce, data, None)
    except InvalidTag:
        return None


def opened(cipher: ChaCha20Poly1305, nonce: bytes, data: memoryview, out: memoryview) -> bool:
    """Put the plaintext there, which has its size; false where it does not verify."""
    from cryptography.exceptions import InvalidTag

    try:
        cipher.decrypt_into(nonce, data, None, out)
    except InvalidTag:
        return False
    return True


def _wrap(file_key: bytes, to: Recipient) -> Stanza:
    if isinstance(to, Passphrase):
        salt = os.urandom(16)
        key = _scrypt(to.data, salt, to.work_factor)
        return Stanza((SCRYPT, age_header.encode(salt), str(to.work_factor)), _cipher(key).encrypt(ZERO, file_key, None))
    mine = SecretKey(os.urandom(32))
    share = recipient(mine).data
    try:
        key = _agreed(mine, to.data, share + to.data)
    except ValueError:
        raise Stop(f"{to}: a key of low order: everybody could open the file", CONFIG) from None
    return Stanza((X25519, age_header.encode(share)), _cipher(key).encrypt(ZERO, file_key, None))


def _parameter(stanza: Stanza) -> bytes:
    """The share or salt of a well-formed stanza. Raises Stop 65; before anything is decrypted, as the format wants it."""
    scrypt = stanza.kind == SCRYPT
    try:
        if len(stanza.arguments) != (3 if scrypt else 2):
            raise ValueError("arguments")
        data = age_header.decode(stanza.arguments[1])
        if len(data) != (16 if scrypt else 32) or len(stanza.body) != FILE_KEY + TAG:
            raise ValueError("length")
        if scrypt and not re.fullmatch("[1-9][0-9]?", stanza.arguments[2], re.ASCII):
            raise ValueError("work factor")
    except ValueError as e:
        raise Stop(f"header: the recipient of kind {stanza.kind} is malformed: {e}", DATA) from None
    if scrypt and int(stanza.arguments[2]) > HIGHEST_FACTOR:
        raise Stop(f"header: its scrypt work factor is {stanza.arguments[2]}, more than {HIGHEST_FACTOR}", DATA,
                   "the age command may open it, if you trust who made it")
    return data


def _try(stanza: Stanza, parameter: bytes, identity: Identity) -> bytes | None:
    """The key of the file, when this identity opens this stanza. Raises Stop 65 for a share of low order."""
    if isinstance(identity, Passphrase) != (stanza.kind == SCRYPT):
        return None
    if isinstance(identity, Passphrase):
        key = _scrypt(identity.data, parameter, int(stanza.arguments[2]))
    else:
        try:
            key = _agreed(identity, parameter, parameter + recipient(identity).data)
        except ValueError:
            raise Stop("header: the share of a recipient is of low order", DATA) from None
    return verified(_cipher(key), ZERO, stanza.body)


def _agreed(secret: SecretKey, public: bytes, salt: bytes) -> bytes:
    """What both sides of an X25519 exchange derive (RFC 7748, 6.1). Raises ValueError when the secret would be zero."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    shared = X25519PrivateKey.from_private_bytes(secret.data).exchange(X25519PublicKey.from_public_bytes(public))
    return _hkdf(shared, salt, LABEL + b"X25519")


def _scrypt(passphrase: bytes, salt: bytes, factor: int) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt=LABEL + b"scrypt" + salt, length=32, n=1 << factor, r=8, p=1).derive(passphrase)


def _hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


def _mac(file_key: bytes, signed: bytes) -> bytes:
    return hmac.digest(_hkdf(file_key, b"", b"header"), signed, "sha256")


def _cipher(key: bytes) -> ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)
