"""Files in age v1 (c2sp.org/age), as streams in constant memory: what `age -d` opens without us, and what `age` wrote.

The format says who can read a file and that nobody changed it, not who wrote it: anybody can seal to a public key.
"""
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from keel import age_crypt, age_header
from keel.age_header import CHUNK, NONCE, SEALED, TAG, Header
from keel.age_keys import Identity, Passphrase, Recipient
from keel.stop import CONFIG, DATA, Stop

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

BATCH = 2  # chunks per piece that comes out; of larger pieces malloc gives each back to the kernel, which doubles the time
UNTRUSTED = "delete what came out before this: it is not to be trusted"


def encrypt(chunks: Iterable[bytes], recipients: Sequence[Recipient]) -> Iterator[bytes]:
    """The bytes as an age file that any of the recipients opens, or one passphrase, which goes alone.

    What `chunks` raises comes through, and then the file has no end. Raises Stop 78 for recipients that cannot be.
    """
    if not recipients:
        raise Stop("no recipient: nobody could open it", CONFIG)
    if len(recipients) > 1 and any(isinstance(r, Passphrase) for r in recipients):
        raise Stop("a passphrase goes with no other recipient", CONFIG)
    return _encrypted(chunks, recipients)


def decrypt(chunks: Iterable[bytes], identities: Sequence[Identity]) -> Iterator[bytes]:
    """The bytes that were sealed; they are to be trusted once this has ended without an exception.

    Raises Stop 65 that begins with `no identity matches`, `header:` or `payload:`; Stop 78 without identities.
    """
    if not identities:
        raise Stop("no identity: nothing to open it with", CONFIG)
    return _decrypted(chunks, identities)


def _encrypted(chunks: Iterable[bytes], recipients: Sequence[Recipient]) -> Iterator[bytes]:
    file_key, nonce = os.urandom(age_crypt.FILE_KEY), os.urandom(NONCE)
    start = age_crypt.seal_header(file_key, recipients) + nonce
    cipher, n = age_crypt.payload_cipher(file_key, nonce), 0
    for block, last in _blocks(chunks, BATCH * CHUNK):
        out = [start]
        for at in range(0, len(block) or 1, CHUNK):  # an empty file has one chunk too
            out.append(cipher.encrypt(_nonce(n, last and at + CHUNK >= len(block)), block[at:at + CHUNK], None))
            n += 1
        yield b"".join(out)
        start = b""


def _decrypted(chunks: Iterable[bytes], identities: Sequence[Identity]) -> Iterator[bytes]:
    source = iter(chunks)
    header, rest = _header(source)
    file_key = age_crypt.open_header(header, identities)
    while len(rest) < NONCE:
        more = next(source, None)
        if more is None:
            raise Stop("header: the file ends after it", DATA)
        rest += more
    cipher, n = age_crypt.payload_cipher(file_key, rest[:NONCE]), 0
    for block, last in _blocks(_chain(rest[NONCE:], source), BATCH * SEALED):
        out: list[bytes] = []
        try:
            for at in range(0, len(block) or 1, SEALED):
                _open(cipher, n, block[at:at + SEALED], last and at + SEALED >= len(block), out)
                n += 1
        except Stop as e:
            if out:
                yield b"".join(out)
            e.hint = UNTRUSTED if n or out else ""
            raise
        yield b"".join(out)


def _open(cipher: ChaCha20Poly1305, n: int, chunk: memoryview, last: bool, out: list[bytes]) -> None:
    """Append the plaintext of chunk n. Raises Stop 65, after appending what is well in itself and only has no business there."""
    if len(chunk) < TAG:
        raise Stop(f"payload: truncated in chunk {n}", DATA)
    plain = age_crypt.verified(cipher, _nonce(n, last), chunk)
    if plain == b"" and n:
        raise Stop(f"payload: chunk {n} is empty", DATA)
    if plain is not None:
        out.append(plain)
        return
    other = age_crypt.verified(cipher, _nonce(n, not last), chunk) if len(chunk) == SEALED else None
    if other is None:
        raise Stop(f"payload: chunk {n} is damaged{' or truncated' if last else ''}", DATA)
    out.append(other)
    raise Stop(f"payload: {'truncated' if last else 'trailing data'} after chunk {n}", DATA)


def _header(source: Iterator[bytes]) -> tuple[Header, bytes]:
    """The header and what was read beyond it."""
    start = bytearray()
    for chunk in source:
        start += chunk
        header = age_header.read(bytes(start[:age_header.LIMIT]))
        if header:
            return header, bytes(start[header.size:])
    raise Stop(f"header: {'truncated' if start else 'there is nothing at all'}", DATA)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _blocks(chunks: Iterable[bytes], size: int) -> Iterator[tuple[memoryview, bool]]:
    """The same bytes in blocks of `size`, each with whether it is the last: only that one is shorter, or empty where there are no bytes."""
    held = bytearray()             # a block that is not full yet
    full: memoryview | None = None  # one that is, and may be the last
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            if full:
                yield full, False
                full = None
            if not held and len(view) >= size:  # nothing to copy
                full, view = view[:size], view[size:]
                continue
            need = size - len(held)
            held += view[:need]
            view = view[need:]
            if len(held) == size:
                full, held = memoryview(held), bytearray()
    yield full or memoryview(held), True


def _nonce(n: int, last: bool) -> bytes:
    """A counter of 11 bytes and whether the chunk is the last."""
    return n.to_bytes(11, "big") + (b"\1" if last else b"\0")
