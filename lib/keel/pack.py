"""The way of a backup's bytes: zstd, then age, measured on both sides; and back again, held against what its manifest says.

Without us: age --decrypt --identity FILE X.zst.age | zstd -d
"""
import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from keel import age
from keel.age_keys import Identity, Recipient
from keel.fan import Feed
from keel.manifest import Part
from keel.stop import DATA, Stop

SUFFIX = ".zst.age"
STEP = 1 << 20   # bytes that come out of the decompressor at a time, however well they were compressed
READ = 1 << 17
STAGE = 4        # chunks that wait between two threads


class Meter:
    """How many bytes came by, and their SHA-256."""

    def __init__(self) -> None:
        self.size = 0
        self._sha = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._sha.hexdigest()

    def over(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same chunks, counted."""
        for chunk in chunks:
            self.size += len(chunk)
            self._sha.update(chunk)
            yield chunk


class Packing:
    """One object on its way into the stores: `chunks` is what they get, `part` what the manifest says of it once they ended."""

    def __init__(self, name: str, plain: Iterator[bytes], recipients: Sequence[Recipient], level: int = 1) -> None:
        self.name = f"{name}{SUFFIX}"
        self.plain, self.sealed = Meter(), Meter()
        small = aside(_compressed(self.plain.over(plain), level))
        self.chunks = self.sealed.over(age.encrypt(small, recipients))

    def part(self) -> Part:
        """The sizes and digests."""
        return Part(self.name, self.sealed.size, self.sealed.sha256, self.plain.size, self.plain.sha256)


def unpacked(chunks: Iterator[bytes], part: Part, identities: Sequence[Identity], name: str) -> Iterator[bytes]:
    """The bytes as they were before they were packed; to be trusted once this has ended without an exception.

    Raises Stop 65 that begins with `name`: damaged, cut short, swapped for another object, or sealed to somebody else.
    """
    sealed, plain = Meter(), Meter()
    try:
        yield from plain.over(_decompressed(aside(age.decrypt(sealed.over(chunks), identities))))
    except Stop as e:
        if e.code != DATA or e.message.startswith(name):
            raise
        raise Stop(f"{name}: {e.message}", DATA, e.hint) from None
    for what, there, wanted in (("bytes", sealed.size, part.size), ("SHA-256", sealed.sha256, part.sha256),
                                ("bytes unpacked", plain.size, part.plain_size), ("SHA-256 unpacked", plain.sha256, part.plain_sha256)):
        if there != wanted:
            raise Stop(f"{name}: {what} {there}, its manifest says {wanted}", DATA, "it is not the object that was stored")


def file(path: Path) -> Iterator[bytes]:
    """What lies in a file, in pieces."""
    with open(path, "rb") as f:
        while piece := f.read(STEP):
            yield piece


def aside(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks, made in a thread of their own, so that two stages work at once; what it raises is raised here."""
    feed = Feed(STAGE)

    def work() -> None:
        error: BaseException | None = None
        try:
            for chunk in chunks:
                if not feed.put(chunk):
                    break
        except BaseException as e:
            error = e
        feed.end(error)

    threading.Thread(target=work, name="stage", daemon=True).start()
    try:
        yield from feed.chunks()
    finally:
        feed.leave()


def _compressed(chunks: Iterator[bytes], level: int) -> Iterator[bytes]:
    """One zstd frame (RFC 8878) with its own checksum."""
    import zstandard

    frame = zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()
    for chunk in chunks:
        out = frame.compress(chunk)
        if out:
            yield out
    yield frame.flush()


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The content of one zstd frame. A frame that is cut short ends early without a word: sizes and digests are the caller's to compare."""
    import zstandard

    source = Reader(chunks)
    try:
        with zstandard.ZstdDecompressor().stream_reader(source, read_size=READ) as frame:  # type: ignore[arg-type]
            while out := frame.read(STEP):
                yield out
    except zstandard.ZstdError as e:
        raise Stop(f"is no zstd frame: {e}", DATA) from None
    if source.read(1):
        raise Stop("something follows its zstd frame", DATA)


class Reader:
    """An iterator of chunks as the file-like object that the decompressor reads."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        out, self._rest = self._rest[:size], self._rest[size:]
        return bytes(out)
