"""What goes into a store comes out the same, in little memory, or says what is wrong with it."""
import hashlib
import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keel import age_crypt, age_keys, pack
from keel.manifest import Part
from keel.stop import DATA, Stop

SECRET, RECIPIENT = age_crypt.new_identity()
MINE, TO = [age_keys.secret(SECRET)], [age_keys.public(RECIPIENT)]
NAME = "file:///d/development/objects/ID/x.zst.age"


def packed(chunks: list[bytes]) -> tuple[bytes, Part]:
    packing = pack.Packing("x", iter(chunks), TO)
    return b"".join(packing.chunks), packing.part()


def opened(data: bytes, part: Part) -> bytes:
    return b"".join(pack.unpacked(iter([data]), part, MINE, NAME))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=300_000), max_size=5))
def test_what_was_packed_comes_out(chunks: list[bytes]) -> None:
    data, part = packed(chunks)
    plain = b"".join(chunks)
    assert opened(data, part) == plain
    assert part == Part("x.zst.age", len(data), hashlib.sha256(data).hexdigest(), len(plain), hashlib.sha256(plain).hexdigest())


def test_what_the_producer_raises_comes_through() -> None:
    def failing() -> Iterator[bytes]:
        yield b"some"
        raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        list(pack.Packing("x", failing(), TO).chunks)


@pytest.mark.parametrize("cut", [1, 16, 17, 1000, 65_552, 65_553, -1])
def test_cut_short_is_named(cut: int) -> None:
    data, part = packed([os.urandom(300_000)])
    with pytest.raises(Stop) as e:
        opened(data[:-cut] if cut > 0 else data + b"x", part)
    assert e.value.code == DATA and e.value.message.startswith(NAME)


@pytest.mark.parametrize("at", [0, 30, 100, 300, 70_000, -1])
def test_a_flipped_byte_is_named(at: int) -> None:
    data, part = packed([os.urandom(300_000)])
    spoiled = bytearray(data)
    spoiled[at] ^= 1
    with pytest.raises(Stop) as e:
        opened(bytes(spoiled), part)
    assert e.value.code == DATA and e.value.message.startswith(NAME)
    assert not e.value.hint  # nothing of it has left us: what becomes of the bytes is for whoever has them to say


def test_another_object_of_the_same_keys_is_not_this_one() -> None:
    (_, part), (other, _) = packed([b"one"]), packed([b"two"])
    with pytest.raises(Stop, match="its manifest says"):
        opened(other, part)


def test_a_producer_that_sealed_half_a_frame_is_seen() -> None:
    import zstandard

    from keel import age

    whole = zstandard.ZstdCompressor().compress(os.urandom(100_000))
    for frame, said in ((whole[:-10], "its manifest says"), (whole + b"more", "zstd frame"), (b"no frame", "no zstd frame")):
        data = b"".join(age.encrypt([frame], TO))
        digest = hashlib.sha256(data).hexdigest()
        with pytest.raises(Stop, match=said):
            opened(data, Part("x.zst.age", len(data), digest, 100_000, "0" * 64))


def test_what_was_compressed_a_thousandfold_does_not_fill_the_memory() -> None:
    data, part = packed([bytes(1 << 20)] * 64)
    assert len(data) < 100_000
    assert max(len(chunk) for chunk in pack.unpacked(iter([data]), part, MINE, NAME)) <= pack.STEP


def test_aside_ends_when_nobody_reads_on() -> None:
    seen: list[int] = []

    def endless() -> Iterator[bytes]:
        for n in range(10_000):
            seen.append(n)
            yield b"x"

    chunks = pack.aside(endless())
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert len(seen) < 10_000
