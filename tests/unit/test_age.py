"""age v1: the public vectors, round trips at every boundary, no flipped or missing byte passes, and both ways with age and pyrage."""
import hashlib
import os
import re
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import age_command
import pyrage
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keel import age, age_crypt, age_header, age_keys, bech32, turns
from keel.age_header import CHUNK, NONCE, SEALED, TAG
from keel.age_keys import Identity, Passphrase, PublicKey, SecretKey
from keel.stop import CONFIG, DATA, Stop

VECTORS = Path(__file__).with_name("vectors") / "age"
OUT_OF_SCOPE = """
    armor_crlf armor_empty armor_empty_last_line armor_empty_line_begin armor_empty_line_end armor_eol_between_padding
    armor_full_last_line armor_garbage_encoded armor_garbage_leading armor_garbage_trailing armor_header_crlf armor_headers armor_hybrid
    armor_invalid_character_header armor_invalid_character_payload armor_long_line armor_lowercase armor_no_end_line armor_no_eol
    armor_no_match armor_no_padding armor_not_canonical armor_pgp_checksum armor_scrypt armor_short_line armor_whitespace_begin
    armor_whitespace_end armor_whitespace_eol armor_whitespace_last_line armor_whitespace_line_start armor_whitespace_outside
    armor_wrong_type armor_x25519 hybrid hybrid_and_x25519 hybrid_bad_tag hybrid_currupted_enc_mlkem hybrid_currupted_enc_x25519
    hybrid_extra_argument hybrid_grease hybrid_identity hybrid_long_file_key hybrid_long_share hybrid_low_order
    hybrid_multiple_recipients hybrid_no_match hybrid_not_canonical_body hybrid_not_canonical_enc hybrid_short_share hybrid_uppercase
    hybrid_x25519_arg
"""  # armored, and post-quantum
NAMES = sorted(p.name for p in VECTORS.iterdir() if p.name[0] != ".")
SAID = {"no match": "no identity matches: ",
        "HMAC failure": "header: its MAC does not match", "header failure": "header: ", "payload failure": "payload: "}

SECRET = SecretKey(bytes(range(32)))
PUBLIC = age_crypt.recipient(SECRET)
OTHERS = [SecretKey(bytes([n]) * 32) for n in (1, 2, 3)]
BATCH = age.BATCH * CHUNK
EDGES = sorted({max(0, n + d) for n in (0, CHUNK, BATCH, BATCH + CHUNK, 2 * BATCH, 3 * BATCH) for d in (-1, 0, 1)})
NOISE = os.urandom(3 * BATCH + 2 * CHUNK + 1)

sizes = st.one_of(st.sampled_from(EDGES), st.integers(0, 3 * BATCH + 2 * CHUNK))


def cut(data: bytes, step: int) -> Iterator[bytes]:
    """The data in pieces of `step` bytes, with an empty one before each, which is no end."""
    for at in range(0, len(data), step):
        yield b""
        yield data[at:at + step]


def sealed(data: bytes, *to: PublicKey) -> bytes:
    return b"".join(age.encrypt([data], to or [PUBLIC]))


def opened(data: bytes, *by: Identity) -> bytes:
    return b"".join(age.decrypt([data], by or [SECRET]))


def released(data: bytes, by: list[Identity], step: int = 1 << 20) -> tuple[bytes, str]:
    """What comes out, and what the Stop says, or nothing."""
    out = bytearray()
    try:
        for piece in age.decrypt(cut(data, step), by):
            out += piece
    except Stop as e:
        assert e.code == DATA
        assert not e.hint or "work factor" in e.message
        return bytes(out), e.message
    return bytes(out), ""


def released_by_threads(data: bytes, by: list[Identity]) -> tuple[bytes, str]:
    """The same, as `unseal` does it."""
    out = bytearray()

    def deliver(pieces: Iterable[memoryview]) -> None:
        for piece in pieces:
            out.extend(piece)

    try:
        turns.work_off(age.opening(cut(data, 300_000), by), deliver)
    except Stop as e:
        return bytes(out), e.message
    return bytes(out), ""


def vector(name: str) -> tuple[dict[str, list[str]], bytes]:
    head, _, data = (VECTORS / name).read_bytes().partition(b"\n\n")
    fields: dict[str, list[str]] = {}
    for line in head.decode().split("\n"):
        key, _, value = line.partition(": ")
        fields.setdefault(key, []).append(value)
    assert set(fields) <= {"expect", "payload", "identity", "passphrase", "file key", "comment", "compressed"}
    return fields, zlib.decompress(data) if "compressed" in fields else data


def test_all_vectors_are_here_or_out_of_scope_by_name() -> None:
    others = OUT_OF_SCOPE.split()
    assert (len(NAMES), len([n for n in others if n.startswith("armor_")]), len(set(others))) == (92, 33, 51)
    assert not set(NAMES) & set(others)
    expected = [vector(name)[0]["expect"][0] for name in NAMES]
    assert {e: expected.count(e) for e in expected} == {
        "success": 15, "no match": 7, "HMAC failure": 1, "header failure": 51, "payload failure": 18}


@pytest.mark.parametrize("name", NAMES)
def test_vector(name: str) -> None:
    """The outcome, and that exactly what the suite allows was released before it."""
    fields, data = vector(name)
    by: list[Identity] = [age_keys.secret(text) for text in fields.get("identity", [])]
    by += [Passphrase(text.encode()) for text in fields.get("passphrase", [])]
    expect = fields["expect"][0]
    for step in (1 << 20, 4099):
        out, said = released(data, by or [SECRET], step)
        assert said.startswith(SAID[expect]) if expect in SAID else not said
        if expect == "header failure":
            assert not said.startswith(SAID["HMAC failure"])
        wanted = fields.get("payload", [hashlib.sha256().hexdigest()])
        assert [hashlib.sha256(out).hexdigest()] == wanted
    assert released_by_threads(data, by or [SECRET]) == (out, said)


@settings(deadline=None, max_examples=60)
@given(sizes, st.integers(1, 3 * SEALED), st.integers(1, 3 * SEALED))
@example(0, 1, 1)
@example(CHUNK, 1, 1)
@example(BATCH, CHUNK, SEALED)
def test_round_trip(size: int, inner: int, outer: int) -> None:
    """Any size, cut in any way before and after."""
    steps = [step if size < 2 * CHUNK else max(step, 1000) for step in (inner, outer)]
    data = NOISE[:size]
    file = b"".join(age.encrypt(cut(data, steps[0]), [PUBLIC]))
    assert b"".join(age.decrypt(cut(file, steps[1]), [SECRET])) == data
    header = age_header.read(file)
    assert header and header.plain_size(len(file)) == size and header.kinds == "1 × X25519"
    assert file[:header.size].endswith(b"\n") and len(file) == header.size + NONCE + size + TAG * max(1, -(-size // CHUNK))


@pytest.mark.parametrize("size", EDGES)
def test_round_trip_at_each_edge(size: int) -> None:
    assert opened(sealed(NOISE[:size])) == NOISE[:size]
    file = bytearray()
    turns.work_off(age.sealing(cut(NOISE[:size], 500_000), [PUBLIC]), lambda pieces: file.extend(b"".join(pieces)))
    assert released_by_threads(bytes(file), [SECRET]) == (NOISE[:size], "")


def test_what_comes_out_stays_as_it_is() -> None:
    """The room of a thread is used again for each batch; whoever iterates gets a copy."""
    pieces = list(age.encrypt([NOISE], [PUBLIC]))
    assert len(pieces) > 4 and b"".join(age.decrypt(pieces, [SECRET])) == NOISE


SHORT, LONG = sealed(b"hello"), sealed(NOISE[:2 * CHUNK + 5])


def test_every_flipped_byte_of_a_short_file_is_refused() -> None:
    for at in range(len(SHORT)):
        for bit in (1, 0x20, 0x80):
            out, said = released(SHORT[:at] + bytes([SHORT[at] ^ bit]) + SHORT[at + 1:], [SECRET])
            assert said and not out, at


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(LONG) - 1), st.integers(1, 255))
def test_a_flipped_byte_of_a_long_file_is_refused(at: int, flip: int) -> None:
    out, said = released(LONG[:at] + bytes([LONG[at] ^ flip]) + LONG[at + 1:], [SECRET])
    assert said and out in (b"", NOISE[:CHUNK], NOISE[:2 * CHUNK])


START = len(LONG) - len(NOISE[:2 * CHUNK + 5]) - 3 * TAG
CUTS = sorted({n for k in range(3) for n in (START + k * SEALED - 1, START + k * SEALED, START + k * SEALED + 1)}
              | {START - NONCE - 1, START - NONCE, START - NONCE + 1, len(LONG) - 1, 0, 1})


@pytest.mark.parametrize("size", CUTS)
def test_a_truncation_at_each_boundary_is_refused(size: int) -> None:
    out, said = released(LONG[:size], [SECRET])
    assert re.match("(header|payload): ", said) and NOISE.startswith(out) and len(out) <= 2 * CHUNK
    assert "truncated after chunk" in said or size not in (START + SEALED, START + 2 * SEALED)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(LONG) - 1))
def test_any_truncation_is_refused(size: int) -> None:
    assert released(LONG[:size], [SECRET])[1]


@pytest.mark.parametrize("size", [0, 5, CHUNK, 2 * CHUNK, BATCH])
@pytest.mark.parametrize("more", [b"x", bytes(TAG), SHORT, bytes(SEALED)])
def test_trailing_data_is_refused(size: int, more: bytes) -> None:
    assert released(sealed(NOISE[:size]) + more, [SECRET])[1].startswith("payload: ")


def test_chunks_that_change_places_are_refused() -> None:
    first, second = LONG[START:START + SEALED], LONG[START + SEALED:START + 2 * SEALED]
    swapped = LONG[:START] + second + first + LONG[START + 2 * SEALED:]
    assert len(swapped) == len(LONG) and released(swapped, [SECRET]) == (b"", "payload: chunk 0 is damaged")


def test_each_of_several_recipients_opens_it_and_nobody_else() -> None:
    file = sealed(b"for three", *map(age_crypt.recipient, OTHERS))
    for secret in OTHERS:
        assert opened(file, secret) == opened(file, SECRET, secret) == b"for three"
    with pytest.raises(Stop, match=r"^no identity matches: it is sealed to 3 × X25519$"):
        opened(file, SECRET, Passphrase(b"for three"))


def test_nothing_is_the_same_twice() -> None:
    a, b = sealed(b"hello"), sealed(b"hello")
    assert a != b and a.split(b"\n")[1] != b.split(b"\n")[1] and a[-21 - NONCE:-21] != b[-21 - NONCE:-21]


def test_a_passphrase() -> None:
    file = b"".join(age.encrypt([b"hello"], [Passphrase(b"correct horse", 10)]))
    assert re.match(rb"age-encryption.org/v1\n-> scrypt \S{22} 10\n", file) and opened(file, Passphrase(b"correct horse")) == b"hello"
    with pytest.raises(Stop, match="^no identity matches: it is sealed to 1 × scrypt$"):
        opened(file, Passphrase(b"Correct horse"), SECRET)


def test_the_work_factor_when_sealing_is_18() -> None:
    assert Passphrase(b"x").work_factor == 18


def test_a_work_factor_beyond_the_limit_is_refused_before_any_work() -> None:
    stanza = age_header.Stanza(("scrypt", age_header.encode(bytes(16)), str(age_crypt.HIGHEST_FACTOR + 1)), bytes(32))
    file = age_header.finish(age_header.write((stanza,)), bytes(32)) + bytes(99)
    with pytest.raises(Stop, match=r"scrypt work factor is 21, more than 20") as e:
        opened(file, Passphrase(b"x"))
    assert e.value.hint


def test_recipients_that_cannot_be() -> None:
    for wanted in ([], [Passphrase(b"x"), PUBLIC], [PUBLIC, Passphrase(b"x")], [Passphrase(b"x"), Passphrase(b"y")]):
        with pytest.raises(Stop) as e:
            age.encrypt([b"x"], wanted)
        assert e.value.code == CONFIG
    with pytest.raises(Stop, match="low order") as e:
        sealed(b"x", PublicKey(bytes(32)))
    assert e.value.code == CONFIG
    with pytest.raises(Stop, match="too many recipients"):
        sealed(b"x", *[PUBLIC] * 700)
    with pytest.raises(Stop) as e:
        age.decrypt([SHORT], [])
    assert e.value.code == CONFIG


def test_a_header_without_end_is_refused_early() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield age_header.VERSION
        while True:
            taken += 1000
            yield b"-> grease\n" * 100

    with pytest.raises(Stop, match="^header: longer than 65536 bytes$"):
        next(age.decrypt(endless(), [SECRET]))
    assert taken < 70000


def test_a_failing_producer_comes_through_and_leaves_no_end() -> None:
    def failing() -> Iterator[bytes]:
        yield NOISE[:BATCH + 1]
        raise OSError("pg_dump ended with 1")

    out = bytearray()
    with pytest.raises(OSError, match="pg_dump"):
        for piece in age.encrypt(failing(), [PUBLIC]):
            out += piece
    assert out and released(bytes(out), [SECRET]) == (NOISE[:BATCH], f"payload: truncated after chunk {age.BATCH - 1}")


def test_memory_stays_flat() -> None:
    import tracemalloc

    def peak(megabytes: int) -> int:
        piece = bytes(1 << 20)
        tracemalloc.start()
        for _ in age.decrypt(age.encrypt((piece for _ in range(megabytes)), [PUBLIC]), [SECRET]):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(40) < peak(4) + (1 << 20) < 8 << 20


@pytest.mark.parametrize("size", [-1, 0, TAG - 1, SEALED + 1, SEALED + TAG, 2 * SEALED + TAG])
def test_sizes_that_no_file_has(size: int) -> None:
    header = age_header.read(SHORT)
    assert header and age_header.read(SHORT[:header.size - 1]) is None
    with pytest.raises(Stop) as e:
        header.plain_size(header.size + NONCE + size)
    assert e.value.code == DATA


@pytest.mark.parametrize("size", [0, 5, CHUNK, BATCH + 1])
def test_both_ways_with_pyrage(size: int) -> None:
    theirs = pyrage.x25519.Identity.generate()
    ours = age_keys.secret(str(theirs))
    public = age_keys.public(str(theirs.to_public()))
    assert age_crypt.recipient(ours) == public and ours.text() == str(theirs) and str(public) == str(theirs.to_public())
    assert pyrage.decrypt(sealed(NOISE[:size], PUBLIC, public), [theirs]) == NOISE[:size]
    assert opened(pyrage.encrypt(NOISE[:size], [theirs.to_public(), pyrage.x25519.Recipient.from_str(str(PUBLIC))])) == NOISE[:size]


def test_a_passphrase_for_pyrage() -> None:
    file = b"".join(age.encrypt([b"hello"], [Passphrase("grün".encode(), 10)]))
    assert pyrage.passphrase.decrypt(file, "grün") == b"hello"


@pytest.mark.parametrize("size", [0, 5, CHUNK, BATCH + 1])
def test_both_ways_with_the_age_command(size: int, tmp_path: Path) -> None:
    key = tmp_path / "key.txt"
    text, recipient = age_crypt.new_identity()
    key.write_text(f"# ours\n{text}\n")

    def run(argv: list[str], data: bytes) -> bytes:
        return subprocess.run([age_command.program(), *argv], input=data, check=True, capture_output=True, timeout=60).stdout

    assert run(["--decrypt", "--identity", str(key)], sealed(NOISE[:size], PUBLIC, age_keys.public(recipient))) == NOISE[:size]
    assert opened(run(["--recipient", recipient], NOISE[:size]), age_keys.secret(text)) == NOISE[:size]


@given(st.binary(max_size=80), st.sampled_from(["age", "age-secret-key-", "x1y"]))
def test_bech32_is_read_back_in_either_case(data: bytes, prefix: str) -> None:
    text = bech32.encode(prefix, data)
    assert bech32.decode(text) == (prefix, data) and bech32.decode(text.upper()) == (prefix.upper(), data)


@given(st.integers(0, 200), st.sampled_from(bech32.LETTERS + "1bio!é "))
def test_bech32_one_wrong_character_is_noticed(at: int, letter: str) -> None:
    text = str(PUBLIC)
    wrong = text[:at % len(text)] + letter + text[at % len(text) + 1:]
    if wrong != text:
        with pytest.raises(ValueError):
            age_keys.public(wrong)


# The first two and the last are from BIP 173's own lists of valid and invalid strings.
@pytest.mark.parametrize(("text", "data"), [
    ("A12UEL5L", b""), ("abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", bytes.fromhex("00443214c74254b635cf84653a56d7c675be77df"))])
def test_bech32_of_the_standard(text: str, data: bytes) -> None:
    assert bech32.decode(text)[1] == data


@pytest.mark.parametrize("text", ["", "1", "pzry9x0s0muk", "1pzry9x0s0muk", "x1b4n0q5v", "li1dgmt3", "A1G7SGD8", "10a06t8", "1qzzfhee",
                                  "a12UEL5L", "split1checkupstagehandshakeupstreamerranterredcaperred2y9e2w", "\x201nwldj5"])
def test_what_is_no_bech32(text: str) -> None:
    with pytest.raises(ValueError):
        bech32.decode(text)


@pytest.mark.parametrize(("text", "reason"), [
    (SECRET.text(), "secret key"), (SECRET.text().lower(), "secret key"), ("ssh-ed25519 AAAA", "not supported"),
    ("age1pq1qqq", "not supported"), ("age1yubikey1qqqqqq", "not supported"),
    (str(PUBLIC).upper(), "begin with age1"), (str(PUBLIC)[:-1], "checksum"),
    (bech32.encode("age", bytes(31)), "length"), (f"{PUBLIC} # mine", "character"), ("", "form")])
def test_what_is_no_recipient(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as e:
        age_keys.public(text)
    assert not text or text not in str(e.value)


@pytest.mark.parametrize(("text", "reason"), [
    (str(PUBLIC), "it is a recipient"), (SECRET.text().lower(), "begin with"), (SECRET.text()[:-1], "checksum"),
    (bech32.encode("age-secret-key-pq-", bytes(32)).upper(), "begin with"),
    (bech32.encode("age-secret-key-", bytes(33)).upper(), "length")])
def test_what_is_no_identity(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as e:
        age_keys.secret(text)
    assert text not in str(e.value)


def private(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def test_files_of_keys(tmp_path: Path) -> None:
    text = f"# operator\r\n{PUBLIC}\r\n\n  {age_crypt.recipient(OTHERS[0])}  \n# end".encode()
    file = tmp_path / "recipients.txt"
    file.write_bytes(text)
    assert age_keys.recipients_file(file) == [PUBLIC, age_crypt.recipient(OTHERS[0])]
    secrets = "".join(f"# public key: {age_crypt.recipient(s)}\n{s.text()}\n" for s in OTHERS).encode()
    assert age_keys.identities_file(private(tmp_path / "key.txt", secrets)) == OTHERS
    for data in (b"a b c", b"a b c\n", b"a b c\r\n"):
        assert age_keys.passphrase_file(private(tmp_path / "phrase.txt", data)).data == b"a b c"


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "there is no key in it"), (b"# only words\n", "there is no key in it"), (b"\n\nAGE-SECRET-KEY-1QQ\n", "line 3 is no key: "),
    (SECRET.text().encode() + b"x", "line 1 is no key: it mixes"), (b"\xff\xfe", "line 1 is no key: "), (b"#" * 70000, "no file of keys"),
    (SHORT, "is itself encrypted"), (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "is itself encrypted")])
def test_a_bad_file_of_identities_is_named_and_not_repeated(data: bytes, reason: str, tmp_path: Path) -> None:
    file = private(tmp_path / "key.txt", data)
    with pytest.raises(Stop) as e:
        age_keys.identities_file(file)
    assert e.value.code == CONFIG and e.value.message.startswith(str(file)) and reason in e.value.message
    assert "SECRET" not in e.value.message.replace("PREFIX", "") and "QQ" not in e.value.message


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "is empty"), (b"\n", "is empty"), (b"\r\n", "is empty"), (b"one\ntwo\n", "more than one line")])
def test_a_bad_file_of_a_passphrase(data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(Stop, match=reason) as e:
        age_keys.passphrase_file(private(tmp_path / "phrase.txt", data))
    assert e.value.code == CONFIG and "one\n" not in e.value.message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_secrets_that_others_can_read_are_refused(mode: int, tmp_path: Path) -> None:
    for read, data in ((age_keys.identities_file, SECRET.text().encode()), (age_keys.passphrase_file, b"a b c")):
        file = private(tmp_path / "file", data)
        read(file)
        file.chmod(mode)
        with pytest.raises(Stop, match=f"mode {mode:04o}") as e:
            read(file)
        assert (e.value.code, e.value.hint) == (CONFIG, f"chmod 600 {file}")
    file.write_text(f"{PUBLIC}\n")
    assert age_keys.recipients_file(file) == [PUBLIC]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for read in (age_keys.identities_file, age_keys.recipients_file, age_keys.passphrase_file):
        for path, reason in ((tmp_path / "none", "no such file"), (tmp_path, "is a directory")):
            with pytest.raises(Stop, match=reason) as e:
                read(path)
            assert e.value.code == CONFIG


@pytest.mark.parametrize("read", [age_keys.identities_file, age_keys.recipients_file])
def test_the_hint_of_a_caller_is_for_a_file_without_a_key(read: Callable[..., object], tmp_path: Path) -> None:
    empty, wrong = tmp_path / "empty", tmp_path / "wrong"
    for file, text in ((empty, "# nobody yet\n"), (wrong, "nonsense\n")):
        file.write_text(text)
        file.chmod(0o600)
    for path, hint in ((tmp_path / "none", "make one"), (empty, "make one"), (wrong, ""), (tmp_path, "")):
        with pytest.raises(Stop) as e:
            read(path, "make one")
        assert e.value.hint == hint, path


def test_secrets_do_not_show_in_a_repr() -> None:
    assert "\\x" not in repr(SECRET) and "horse" not in repr(Passphrase(b"horse"))
