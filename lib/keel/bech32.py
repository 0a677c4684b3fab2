"""Bech32, the text form of age's keys (BIP 173, without its limit on length)."""
from collections.abc import Iterable

LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHECKSUM = 6


def encode(prefix: str, data: bytes) -> str:
    """The data as `prefix1…`, in lower case."""
    words = _regroup(data, 8, 5)
    if bits := len(data) * 8 % 5:
        last = data[-1] & (1 << bits) - 1 if data else 0
        words.append(last << 5 - bits)
    sums = _polymod([*_expand(prefix), *words, *[0] * CHECKSUM]) ^ 1
    words += [sums >> 5 * (CHECKSUM - 1 - n) & 31 for n in range(CHECKSUM)]
    return f"{prefix}1{''.join(LETTERS[w] for w in words)}"


def decode(text: str) -> tuple[str, bytes]:
    """The prefix, in the case that it was written in, and the data. Raises ValueError, which never repeats the text: it may be a secret."""
    if text not in (text.lower(), text.upper()):
        raise ValueError("it mixes upper and lower case")
    prefix, one, rest = text.rpartition("1")
    if not one or not prefix or len(rest) < CHECKSUM or not all("!" <= c <= "~" for c in prefix):
        raise ValueError("it has not the form PREFIX1…")
    words = [LETTERS.find(c) for c in rest.lower()]
    if -1 in words:
        raise ValueError(f"character {len(prefix) + 2 + words.index(-1)} does not occur in such a key")
    if _polymod([*_expand(prefix.lower()), *words]) != 1:
        raise ValueError("its checksum is wrong: a character is mistyped or missing")
    words = words[:-CHECKSUM]
    bits = len(words) * 5 % 8
    if bits >= 5 or (bits and words[-1] & (1 << bits) - 1):
        raise ValueError("its last character carries more than padding")
    return prefix, bytes(_regroup(words, 5, 8))


def _regroup(values: Iterable[int], size: int, wanted: int) -> list[int]:
    """Numbers of `size` bits as whole numbers of `wanted` bits; bits that are left over stay out."""
    held = bits = 0
    out = []
    for value in values:
        held, bits = held << size | value, bits + size
        while bits >= wanted:
            bits -= wanted
            out.append(held >> bits)
            held &= (1 << bits) - 1
    return out


def _expand(prefix: str) -> list[int]:
    codes = prefix.encode("ascii")
    return [*(c >> 5 for c in codes), 0, *(c & 31 for c in codes)]


def _polymod(words: list[int]) -> int:
    """The remainder of BIP 173's checksum polynomial."""
    sums = 1
    for word in words:
        top = sums >> 25
        sums = (sums & 0x1FFFFFF) << 5 ^ word
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            if top >> bit & 1:
                sums ^= generator
    return sums
