"""Files in age v1 (c2sp.org/age), as streams in constant memory: what `age -d` opens without us, and what `age` wrote.

The format says who can read a file and that nobody changed it, not who wrote it: anybody can seal to a public key.
"""
from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from keel import age_crypt, age_header
from keel.age_header import CHUNK, NONCE, SEALED, TAG, Header
from keel.age_keys import Identity, Passphrase, Recipient
from keel.stop import CONFIG, DATA, Stop

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

BATCH = 8  # chunks of one job; what goes in and what comes out then stay in a processor's own cache
Job = Callable[[], Iterable[memoryview]]  # what one returns is to be used or copied before its thread does the next


class Chunk(NamedTuple):
    """Its number, its bytes, whether it is the last of the file."""

    n: int
    data: memoryview
    last: bool

    def nonce(self, last: bool) -> bytes:
        """A counter of 11 bytes, and whether it is (or were) the last."""
        return self.n.to_bytes(11, "big") + (b"\1" if last else b"\0")


class Room(threading.local):
    """Where the jobs of a thread put what they make: new memory for each would take longer than the cipher itself."""

    def __init__(self) -> None:
        self.out = memoryview(bytearray(BATCH * SEALED))


def encrypt(chunks: Iterable[bytes], recipients: Sequence[Recipient]) -> Iterator[bytes]:
    """The bytes as an age file that any of the recipients opens, or one passphrase, which goes alone.

    What `chunks` raises comes through, and then the file has no end. Raises Stop 78 for recipients that cannot be.
    """
    return (piece.tobytes() for job in sealing(chunks, recipients) for piece in job())


def decrypt(chunks: Iterable[bytes], identities: Sequence[Identity]) -> Iterator[bytes]:
    """The bytes that were sealed; they are to be trusted once this has ended without an exception.

    Raises Stop 65 that begins with `no identity matches`, `header:` or `payload:`; Stop 78 without identities.
    """
    return (piece.tobytes() for job in opening(chunks, identities) for piece in job())


def sealing(chunks: Iterable[bytes], recipients: Sequence[Recipient]) -> Iterator[Job]:
    """`encrypt` as jobs that several threads can do at once: what they return is the file, in the order of the jobs."""
    if not recipients:
        raise Stop("no recipient: nobody could open it", CONFIG)
    if len(recipients) > 1 and any(isinstance(r, Passphrase) for r in recipients):
        raise Stop("a passphrase goes with no other recipient", CONFIG)
    return _sealing(chunks, recipients)


def opening(chunks: Iterable[bytes], identities: Sequence[Identity]) -> Iterator[Job]:
    """`decrypt` as jobs that several threads can do at once; what one raises comes with its bytes, and ends those after it too."""
    if not identities:
        raise Stop("no identity: nothing to open it with", CONFIG)
    return _opening(chunks, identities)


def _sealing(chunks: Iterable[bytes], recipients: Sequence[Recipient]) -> Iterator[Job]:
    file_key, nonce = os.urandom(age_crypt.FILE_KEY), os.urandom(NONCE)
    start = memoryview(age_crypt.seal_header(file_key, recipients) + nonce)
    cipher, room = age_crypt.payload_cipher(file_key, nonce), Room()
    for batch in _batches(chunks, CHUNK):
        if not batch[0].n:  # not before there is something: the producer may have failed
            yield lambda: [start]
        yield functools.partial(_seal, cipher, room, batch)


def _opening(chunks: Iterable[bytes], identities: Sequence[Identity]) -> Iterator[Job]:
    source = iter(chunks)
    header, rest = _header(source)
    file_key = age_crypt.open_header(header, identities)
    while len(rest) < NONCE:
        more = next(source, None)
        if more is None:
            raise Stop("header: the file ends after it", DATA)
        rest += more
    cipher, room = age_crypt.payload_cipher(file_key, rest[:NONCE]), Room()
    for batch in _batches(itertools.chain([rest[NONCE:]], source), SEALED):
        yield functools.partial(_open, cipher, room, batch)


def _seal(cipher: ChaCha20Poly1305, room: Room, batch: list[Chunk]) -> Iterable[memoryview]:
    size = 0
    for chunk in batch:
        end = size + len(chunk.data) + TAG
        cipher.encrypt_into(chunk.nonce(chunk.last), chunk.data, None, room.out[size:end])
        size = end
    return [room.out[:size]]


def _open(cipher: ChaCha20Poly1305, room: Room, batch: list[Chunk]) -> Iterable[memoryview]:
    """The plaintext. Where something is wrong, what is well before it comes, and then Stop 65."""
    size = 0
    for chunk in batch:
        more, wrong = _open_chunk(cipher, chunk, room.out[size:])
        size += more
        if wrong:
            return _then(room.out[:size], Stop(f"payload: {wrong}", DATA))
    return [room.out[:size]]


def _then(out: memoryview, fault: Stop) -> Iterator[memoryview]:
    if out:
        yield out
    raise fault


def _open_chunk(cipher: ChaCha20Poly1305, chunk: Chunk, out: memoryview) -> tuple[int, str]:
    """How many bytes of plaintext it put there, and what is wrong, which may be only that a chunk has no business where it is."""
    n, data, last = chunk
    size = len(data) - TAG
    if size < 0:
        return 0, f"truncated in chunk {n}"
    if age_crypt.opened(cipher, chunk.nonce(last), data, out[:size]):
        return size, f"chunk {n} is empty" if n and not size else ""
    if len(data) == SEALED and age_crypt.opened(cipher, chunk.nonce(not last), data, out[:size]):
        return size, f"{'truncated' if last else 'trailing data'} after chunk {n}"
    return 0, f"chunk {n} is damaged{' or truncated' if last else ''}"


def _header(source: Iterator[bytes]) -> tuple[Header, bytes]:
    """The header and what was read beyond it."""
    start = bytearray()
    for chunk in source:
        start += chunk
        header = age_header.read(bytes(start[:age_header.LIMIT]))
        if header:
            return header, bytes(start[header.size:])
    raise Stop(f"header: {'truncated' if start else 'there is nothing at all'}", DATA)


def _batches(chunks: Iterable[bytes], size: int) -> Iterator[list[Chunk]]:
    """The same bytes as chunks of `size`, some at a time; only the last one is shorter, or empty where there are no bytes at all."""
    n = 0
    for data, last in _blocks(chunks, size):
        batch = [Chunk(n + i, data[at:at + size], last and at + size >= len(data)) for i, at in enumerate(range(0, len(data) or 1, size))]
        n += len(batch)
        yield batch


def _blocks(chunks: Iterable[bytes], size: int) -> Iterator[tuple[memoryview, bool]]:
    """The same bytes in blocks of one to BATCH times `size`, each with whether it is the last: only that one has another size."""
    held = bytearray()              # a chunk that is not full yet
    full: memoryview | None = None  # whole ones, with which the file may end
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            if full:
                yield full, False
                full = None
            whole = min(len(view) // size, BATCH) * size
            if whole and not held:  # nothing to copy
                full, view = view[:whole], view[whole:]
                continue
            need = size - len(held)
            held += view[:need]
            view = view[need:]
            if len(held) == size:
                full, held = memoryview(held), bytearray()
    yield full or memoryview(held), True
