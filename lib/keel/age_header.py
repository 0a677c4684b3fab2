"""The header of an age v1 file as text: who can open it, and where the payload begins. No secret is needed to read it (c2sp.org/age)."""
import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from keel.stop import DATA, Stop

VERSION = b"age-encryption.org/v1\n"
CHUNK, TAG, NONCE = 64 * 1024, 16, 16
SEALED = CHUNK + TAG   # a full chunk as it lies in the file
LIMIT = 64 * 1024      # bytes; the format sets none, but every stanza costs work before anything is authenticated
COLUMNS = 64
_ARGUMENTS = re.compile(rb"-> ([!-~]+(?: [!-~]+)*)")
_END = re.compile(rb"--- ([A-Za-z0-9+/]{43})")


@dataclass(frozen=True)
class Stanza:
    """One way to the file key: its arguments, the first of which is its kind, and the wrapped key."""

    arguments: tuple[str, ...]
    body: bytes

    @property
    def kind(self) -> str:
        return self.arguments[0]


@dataclass(frozen=True)
class Header:
    """The stanzas, what the MAC is over, the MAC, and how many bytes the header takes in the file."""

    stanzas: tuple[Stanza, ...]
    signed: bytes
    mac: bytes
    size: int

    @property
    def kinds(self) -> str:
        """The kinds of stanzas as words, such as `2 × X25519`."""
        kinds = [s.kind[:40] for s in self.stanzas]
        return ", ".join(f"{kinds.count(k)} × {k}" for k in dict.fromkeys(kinds))

    def plain_size(self, size: int) -> int:
        """Bytes of plaintext in a file of `size` bytes. Raises Stop 65 when no file has that size."""
        payload = size - self.size - NONCE
        full, rest = divmod(payload, SEALED)
        if payload < TAG or 0 < rest <= TAG and full:
            raise Stop(f"payload: {size} bytes is no size that an age file with this header can have", DATA)
        return payload - TAG * (full + (rest > 0))


def read(start: bytes) -> Header | None:
    """The header at the start of a file; nothing where it goes on beyond these bytes. Raises Stop 65 when it is damaged."""
    if not start.startswith(VERSION[:len(start)]):
        other = start.startswith((b"age-encryption.org/", b"-----BEGIN AGE"))
        raise Stop(f"header: {'a version or form of age that is not v1 in binary' if other else 'this is no age file'}", DATA)
    begin = start.find(b"\n---", 0, LIMIT)
    end = start.find(b"\n", begin + 1, LIMIT)
    if begin >= 0 and end >= 0:
        return _parse(start[:end + 1], begin + 4)
    if len(start) >= LIMIT:
        raise Stop(f"header: longer than {LIMIT} bytes", DATA)
    return None


def write(stanzas: tuple[Stanza, ...]) -> bytes:
    """The header up to and including `---`: what the MAC is over."""
    return VERSION + b"".join(_text(s) for s in stanzas) + b"---"


def finish(signed: bytes, mac: bytes) -> bytes:
    """The whole header. Raises Stop 65 when it is longer than `read` takes."""
    text = signed + b" " + encode(mac).encode() + b"\n"
    if len(text) > LIMIT:
        raise Stop(f"header: longer than {LIMIT} bytes: too many recipients", DATA)
    return text


def encode(data: bytes) -> str:
    """Base64 without padding (RFC 4648, 4)."""
    return base64.b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    """What `encode` made. Raises ValueError for any other text (RFC 4648, 3.5)."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("no base64") from None
    if encode(data) != text:
        raise ValueError("no canonical base64")
    return data


def _text(stanza: Stanza) -> bytes:
    """The body's last line is shorter than the others, and so empty where there is nothing left."""
    body = encode(stanza.body)
    lines = [body[n:n + COLUMNS] for n in range(0, len(body) + 1, COLUMNS)]
    return "".join(f"{line}\n" for line in (f"-> {' '.join(stanza.arguments)}", *lines)).encode()


def _parse(text: bytes, signed: int) -> Header:
    lines = text[:-1].split(b"\n")
    end = _END.fullmatch(lines[-1])
    if not end:
        raise Stop("header: its last line is not `--- MAC`", DATA)
    try:
        mac = decode(end[1].decode())
    except ValueError as e:
        raise Stop(f"header: its MAC is {e}", DATA) from None
    stanzas = tuple(_stanzas(lines[1:-1]))
    if not stanzas:
        raise Stop("header: it names no recipient", DATA)
    return Header(stanzas, text[:signed], mac, len(text))


def _stanzas(lines: list[bytes]) -> Iterator[Stanza]:
    rest = iter(enumerate(lines, 2))  # the first line is the version
    for number, line in rest:
        arguments = _ARGUMENTS.fullmatch(line)
        if not arguments:
            raise Stop(f"header: line {number} does not begin a recipient", DATA)
        body = []
        for _, part in rest:
            body.append(part)
            if len(part) != COLUMNS:
                break
        if not body or len(body[-1]) >= COLUMNS:
            raise Stop(f"header: the recipient in line {number} has no end", DATA)
        try:
            yield Stanza(tuple(arguments[1].decode().split(" ")), decode(b"".join(body).decode("latin-1")))
        except ValueError as e:
            raise Stop(f"header: the recipient in line {number} is {e}", DATA) from None
