"""Signed text: what was signed is read back, any change is seen and named, and openssl alone agrees."""
import base64
import inspect
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from keel import signed
from keel.stop import CONFIG, DATA, Stop

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = {signed.public(KEY): signed.Signer("backup host")}
DOCUMENT = {"id": "20260102T031500Z-pg-1a2b3c4d", "objects": [{"name": "events.dump", "size": 7}], "host": "größe"}
TEXT = signed.sign(DOCUMENT, KEY)
plain = st.recursive(st.none() | st.booleans() | st.integers(-2**63, 2**63) | st.text(),
                     lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=10)


def by_hand(body: bytes, key: Ed25519PrivateKey = KEY) -> bytes:
    """Bytes of any kind under a good signature."""
    return body + f"signature ed25519 {signed.public(key)} {base64.b64encode(key.sign(body)).decode()}\n".encode()


def refused(text: bytes | str) -> str:
    with pytest.raises(Stop) as stopped:
        signed.verify(text, KEYS, "backup", "production/manifests/X")
    assert stopped.value.code == DATA and stopped.value.message.startswith("production/manifests/X: ")
    return stopped.value.message


@given(st.dictionaries(st.text(), plain))
def test_what_is_signed_is_read_back(document: dict[str, Any]) -> None:
    assert signed.verify(signed.sign(document, KEY), KEYS, "backup", "x") == document


def test_the_form() -> None:
    """Sorted, one name a line, newline at the end, then the one line: the same document is the same text."""
    body, line = TEXT[:TEXT.rindex("signature")], TEXT[TEXT.rindex("signature"):]
    assert body == json.dumps(DOCUMENT, sort_keys=True, indent=1) + "\n" and TEXT.isascii()
    assert re.fullmatch(r"signature ed25519 \S{44} \S{88}\n", line)
    assert signed.sign(dict(reversed(DOCUMENT.items())), KEY) == TEXT
    with pytest.raises(ValueError):
        signed.sign({"ratio": float("nan")}, KEY)


@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    text = bytearray(TEXT.encode())
    text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
    refused(bytes(text))


def test_any_cut_is_refused() -> None:
    for end in range(len(TEXT)):
        refused(TEXT[:end])


@pytest.mark.parametrize(("text", "reason"), [
    ("", "has no signature line"), (TEXT[:TEXT.rindex("signature")], "has no signature line"),
    (TEXT.replace("signature ed25519", "signature ed448"), "has no signature line"), (TEXT[:-1], "has no signature line"),
    (TEXT + "\n", "1 bytes follow its signature line"), (TEXT + "{}\n", "3 bytes follow its signature line"),
    (TEXT.replace('"size": 7', '"size": 8'), "its signature does not verify"),
    (by_hand(b"{}\n", Ed25519PrivateKey.generate()), "which is no trusted key"),
    (TEXT + by_hand(b"").decode(), "its signature does not verify"),
    (by_hand(TEXT.encode()), "is signed and not JSON"),
    (by_hand(b"nonsense\n"), "is signed and not JSON"), (by_hand(b"[]\n"), "is signed and no JSON object"),
    (by_hand(b'{"a": 1} {}\n'), "is signed and not JSON"), (by_hand(b'{"a": NaN}\n'), "NaN is no number"),
    (by_hand(b'{"a": {"b": 1, "c": 2, "b": 3}}\n'), "a name is there twice: b"), (by_hand(b'{"a": "\xff"}\n'), "is signed and not JSON"),
    (by_hand(b"[" * 100000 + b"\n"), "is signed and not JSON"),
])
def test_what_is_refused_and_why(text: bytes | str, reason: str) -> None:
    assert reason in refused(text)


def test_another_way_to_write_the_same_signature_is_refused() -> None:
    """The last character before == carries four unused bits: 16 spellings of one signature would be 16 digests of one manifest."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = TEXT[-4]
    other = TEXT[:-4] + alphabet[alphabet.index(last) ^ 1] + "==\n"
    assert base64.b64decode(other.split()[-1]) == base64.b64decode(TEXT.split()[-1]), "Python takes both"
    assert "not canonical" in refused(other)


def recipe() -> str:
    """The commands that the docstring gives a person, as they stand there."""
    return "\n".join(line[4:] for line in inspect.cleandoc(signed.__doc__ or "").splitlines() if line.startswith("    "))


@pytest.mark.parametrize(("text", "key", "code"), [
    (TEXT, KEY, 0), (TEXT.replace('"size": 7', '"size": 8'), KEY, 1), (TEXT, Ed25519PrivateKey.generate(), 1),
])
def test_a_person_checks_it_with_openssl_alone(tmp_path: Path, text: str, key: Ed25519PrivateKey, code: int) -> None:
    (tmp_path / "file").write_text(text)
    done = subprocess.run(["sh", "-euc", recipe()], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={"PATH": os.environ["PATH"], "KEY": signed.public(key), "FILE": "file"})
    assert done.returncode == code, done.stderr
    assert ("Signature Verified Successfully" in done.stdout) == (code == 0)


def test_what_openssl_signs_is_taken(tmp_path: Path) -> None:
    """Both ways: a key and a signature that openssl made."""
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "key.pem"], cwd=tmp_path, check=True, umask=0o077)
    (tmp_path / "body").write_bytes(b'{"a": 1}\n')
    subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", "key.pem", "-in", "body", "-out", "sig"], cwd=tmp_path, check=True)
    public = signed.public(signed.load_key(tmp_path / "key.pem"))
    line = f"signature ed25519 {public} {base64.b64encode((tmp_path / 'sig').read_bytes()).decode()}\n"
    assert signed.verify(f'{{"a": 1}}\n{line}', {public: signed.Signer()}, "backup", "x") == {"a": 1}


def test_a_new_key_signs_and_its_line_is_trusted(tmp_path: Path) -> None:
    pem, line = signed.new_key("backup host, 2026")
    (tmp_path / "key").write_text(pem)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "trusted").write_text(f"# who may sign\n\n  # nobody else\ned25519 {signed.public(KEY)}\n{line}")
    key, keys = signed.load_key(tmp_path / "key"), signed.trusted(tmp_path / "trusted")
    assert keys == {signed.public(KEY): signed.Signer(), signed.public(key): signed.Signer("backup host, 2026")}
    assert signed.verify(signed.sign({"a": 1}, key), keys, "backup", "x") == {"a": 1}
    assert signed.new_key()[0] != pem and re.fullmatch(r"ed25519 \S{44}\n", signed.new_key()[1])
    assert signed.new_key("one\ned25519 two")[1].count("\n") == 1, "a comment cannot add a key"
    for comment in ("role=release", " Role: none"):
        with pytest.raises(ValueError, match="reads as a role"):
            signed.new_key(comment)


@pytest.mark.parametrize("given_", [("backup",), ("verify",), ("release",), ("release", "backup"), ("verify", "backup", "release"), ()])
def test_a_key_signs_what_its_line_says(tmp_path: Path, given_: tuple[str, ...]) -> None:
    pem, line = signed.new_key("verify host", given_)
    (tmp_path / "key").write_text(pem)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "trusted").write_text(line)
    key, keys = signed.load_key(tmp_path / "key"), signed.trusted(tmp_path / "trusted")
    assert [s.comment for s in keys.values()] == ["verify host"] and ("role=" in line) == (0 < len(given_) < 3)
    for role in signed.ROLES:
        if role in (given_ or signed.ROLES):
            assert signed.verify(signed.sign({"a": 1}, key), keys, role, "x") == {"a": 1}
            signed.able(tmp_path / "key", key, keys, role)
            continue
        with pytest.raises(Stop, match=rf"^x: signed by \S+, which may sign for [a-z, ]+ only, not for {role}$") as stopped:
            signed.verify(signed.sign({"a": 1}, key), keys, role, "x")
        assert stopped.value.code == DATA
        with pytest.raises(Stop, match=f"KEEL_BACKUP_SIGNERS says role=.*: what it signs for {role} would not count") as stopped:
            signed.able(tmp_path / "key", key, keys, role)
        assert stopped.value.code == CONFIG


def test_the_words_of_a_line(tmp_path: Path) -> None:
    path, key = tmp_path / "trusted", f"ed25519 {signed.public(KEY)}"
    for rest, signer in {"": signed.Signer(), " backup host": signed.Signer("backup host"), " a role=x": signed.Signer("a role=x"),
                         "\trole=backup\tdb1, since 2026 ": signed.Signer("db1, since 2026", ("backup",)),
                         " role=release,verify": signed.Signer("", ("verify", "release"))}.items():
        path.write_text(f"{key}{rest}\n")
        assert signed.trusted(path) == {signed.public(KEY): signer}
    path.write_text(f"{key} role=backup\n{key} role=backup again\n")
    assert list(signed.trusted(path).values()) == [signed.Signer("again", ("backup",))]


def pem(key: Any, cipher: Any = None) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cipher or NoEncryption()))


@pytest.mark.parametrize(("content", "mode", "reason"), [
    (pem(KEY), 0o640, "has mode 0640, so others can read it"), (pem(KEY), 0o604, "has mode 0604"),
    (pem(ec_key(SECP256R1())), 0o600, "is a private key and not Ed25519"),
    (pem(KEY, BestAvailableEncryption(b"word")), 0o600, "without a passphrase"), (b"secret nonsense", 0o600, "is no private key in PEM"),
    (None, 0o600, "no such file or directory"),
])
def test_private_keys_that_are_refused(tmp_path: Path, content: bytes | None, mode: int, reason: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(Stop, match=reason) as stopped:
        signed.load_key(path)
    assert stopped.value.code == CONFIG and str(path) in stopped.value.message and "secret" not in stopped.value.message
    if content is None:
        assert stopped.value.hint.startswith("backup-keys make signer --role backup makes one")


def spoiled(change: Callable[[str], str]) -> bytes:
    return f"# keys\n{change(f'ed25519 {signed.public(KEY)} host')}\n".encode()


@pytest.mark.parametrize(("content", "reason"), [
    (spoiled(lambda s: s.replace("ed25519", "rsa")), "line 2 is not ed25519"), (spoiled(lambda s: s.replace("=", "")), "line 2 is not"),
    (spoiled(lambda s: "ed25519"), "line 2 is not"), (spoiled(lambda s: "ed25519 AAAA short"), "line 2 is not"),
    *[(spoiled(lambda s, w=word: s.replace("host", f"{w} host")), f"line 2: {word} names no role")  # type: ignore[misc]
      for word in ("role=", "role=bakup", "role=backup,", "role=backup,all", "roles=backup", "Role=backup", "role:backup")],
    (spoiled(lambda s: f"{s}\n{s.replace('host', 'role=backup')}"), "line 3 gives a key other roles than a line before it"),
    (b"# none\n", "holds no key"), (b"", "holds no key"), (b"\xff", "is not UTF-8"), (None, "no such file"),
])
def test_lists_of_trusted_keys_that_are_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "trusted"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Stop, match=reason) as stopped:
        signed.trusted(path)
    assert stopped.value.code == CONFIG and str(path) in stopped.value.message
    if content is None or reason == "holds no key":
        assert stopped.value.hint.startswith("backup-keys make signer adds the key that it makes")


@pytest.mark.parametrize("read", [signed.load_key, signed.trusted])
def test_what_cannot_be_read_is_not_to_be_made_anew(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(Stop, match="is a directory") as stopped:
        read(tmp_path)
    assert not stopped.value.hint
