"""Keys of age as values, and the files that hold them. No message ever repeats a line of such a file: it may be a secret."""
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from keel import bech32
from keel.stop import CONFIG, Stop

PUBLIC, SECRET = "age", "AGE-SECRET-KEY-"
WORK_FACTOR = 18  # 256 MiB and about a second
LONGEST = 64 * 1024
Key = TypeVar("Key")


@dataclass(frozen=True)
class PublicKey:
    """An X25519 recipient: who can open a file."""

    data: bytes

    def __str__(self) -> str:
        return bech32.encode(PUBLIC, self.data)


@dataclass(frozen=True)
class SecretKey:
    """An X25519 identity: opens what was sealed to its public key."""

    data: bytes = field(repr=False)

    def text(self) -> str:
        """AGE-SECRET-KEY-1…: for a file of mode 0600 and nothing else."""
        return bech32.encode(SECRET.lower(), self.data).upper()


@dataclass(frozen=True)
class Passphrase:
    """Both seals and opens; `work_factor` is the logarithm of scrypt's N (RFC 7914) when sealing."""

    data: bytes = field(repr=False)
    work_factor: int = WORK_FACTOR


Recipient = PublicKey | Passphrase
Identity = SecretKey | Passphrase


def public(text: str) -> PublicKey:
    """The recipient `age1…`. Raises ValueError with the reason, which does not repeat the text."""
    if text.upper().startswith(SECRET):
        raise ValueError("it is a secret key; here belongs its recipient, age1…")
    if text.startswith(("ssh-", "age1pq1", "age1tag")) or text.startswith("age1") and text.rfind("1") > len(PUBLIC):
        raise ValueError("a recipient of a kind that is not supported: age1… of X25519 is")
    return PublicKey(_key(text, PUBLIC))


def secret(text: str) -> SecretKey:
    """The identity `AGE-SECRET-KEY-1…`. Raises ValueError with the reason, which does not repeat the text."""
    if text.startswith(f"{PUBLIC}1"):
        raise ValueError("it is a recipient; here belongs the secret key, AGE-SECRET-KEY-1…")
    return SecretKey(_key(text, SECRET))


def recipients_file(path: Path, hint: str = "") -> list[PublicKey]:
    """The recipients in a file, one a line; # begins a comment. Raises Stop 78 that names the file and the line, with a hint where there is
    no key."""
    return _lines(path, _read(path, False, hint), public, hint)


def identities_file(path: Path, hint: str = "") -> list[SecretKey]:
    """The identities in a file that only its owner can read, one a line; # begins a comment. Raises as recipients_file."""
    data = _read(path, True, hint)
    if data.startswith((b"age-encryption.org/", b"-----BEGIN AGE")):
        raise Stop(f"{path}: is itself encrypted", CONFIG, "unseal it into a file of mode 0600 first")
    return _lines(path, data, secret, hint)


def passphrase_file(path: Path) -> Passphrase:
    """The one line of a file that only its owner can read. Raises Stop 78."""
    data = _read(path, True).removesuffix(b"\n").removesuffix(b"\r")
    if not data or b"\n" in data:
        raise Stop(f"{path}: {'has more than one line' if data else 'is empty'}: a passphrase is one line", CONFIG)
    return Passphrase(data)


def _key(text: str, wanted: str) -> bytes:
    prefix, data = bech32.decode(text)
    if prefix != wanted:
        raise ValueError(f"it does not begin with {wanted}1")
    if len(data) != 32:
        raise ValueError("it has not the length of an X25519 key")
    return data


def _read(path: Path, private: bool, hint: str = "") -> bytes:
    """The whole of a small file; the mode is that of the file that was opened, whatever lies at the path by then."""
    try:
        with open(path, "rb") as f:
            mode = stat.S_IMODE(os.fstat(f.fileno()).st_mode)
            if private and mode & 0o077:
                raise Stop(f"{path} has mode {mode:04o}, so others can read it", CONFIG, f"chmod 600 {path}")
            data = f.read(LONGEST + 1)
    except OSError as e:
        hint = hint if isinstance(e, FileNotFoundError) else ""
        raise Stop(f"{path}: {(e.strerror or 'cannot be read').lower()}", CONFIG, hint) from None
    if len(data) > LONGEST:
        raise Stop(f"{path}: longer than {LONGEST} bytes: no file of keys", CONFIG)
    return data


def _lines(path: Path, data: bytes, parse: Callable[[str], Key], hint: str) -> list[Key]:
    found = []
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            found.append(parse(text))
        except ValueError as e:
            raise Stop(f"{path}: line {number} is no key: {e}", CONFIG) from None
    if not found:
        raise Stop(f"{path}: there is no key in it", CONFIG, hint)
    return found
