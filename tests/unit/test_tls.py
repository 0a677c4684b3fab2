"""Certificates: real handshakes with what is issued, and what is found in files of other makers."""
import datetime as dt
import pathlib
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from keel import acme, certificate, probe, schema, settings, tls
from keel.stop import DATA, NO, Stop


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "secrets" / "tls"


def greet(folder: pathlib.Path, name: str) -> str:
    """'' when a client that trusts only our authority accepts the server for this name, otherwise its reason."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "trial" / "cert.pem", folder / "trial" / "key.pem")
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    near, far = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(far, server_side=True).close()
        except (ssl.SSLError, OSError):
            far.close()  # the client went away: it says why

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(near, server_hostname=name):
            return ""
    except ssl.SSLCertVerificationError as e:
        return e.verify_message
    finally:
        near.close()
        thread.join()


@pytest.mark.parametrize("domain", ["events.test", "192.0.2.7", "localhost", f"{'x' * 63}.{'y' * 63}.test"])
def test_a_strict_client_accepts_the_domain_and_this_machine_and_nothing_else(folder: pathlib.Path, domain: str) -> None:
    assert tls.issue(folder, "trial", domain) == "there was none"
    for name in (domain, "localhost", "127.0.0.1"):
        assert greet(folder, name) == ""
    assert "mismatch" in greet(folder, "other.test")
    pair = tls.read(folder / "trial/cert.pem", folder / "trial/key.pem")
    assert pair.covers(domain) and not pair.covers("other.test")
    assert tls.LEAF_DAYS - 1 <= pair.days <= 397
    assert tls.issue(folder, "trial", domain) == ""


def test_environments_share_the_authority(folder: pathlib.Path) -> None:
    tls.issue(folder, "trial", "a.test")
    before = (folder / "ca.pem").read_bytes()
    tls.issue(folder, "second", "b.test")
    assert (folder / "ca.pem").read_bytes() == before
    assert greet(folder, "a.test") == ""


def test_an_authority_that_is_gone_is_made_anew_and_the_certificate_with_it(folder: pathlib.Path) -> None:
    tls.issue(folder, "trial", "a.test")
    for name in ("ca.pem", "ca-key.pem"):
        (folder / name).unlink()
    assert tls.issue(folder, "trial", "a.test") == "the authority is another one now"
    assert greet(folder, "a.test") == ""


def test_an_authority_near_its_end_gets_a_new_certificate_for_the_same_key(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "AUTHORITY_DAYS", tls.LEAF_DAYS)
    tls.issue(folder, "trial", "a.test")
    monkeypatch.undo()
    key = (folder / "ca-key.pem").read_bytes()
    assert tls.issue(folder, "trial", "a.test") == ""  # the leaf still verifies: same name, same key
    assert tls.read(folder / "ca.pem", folder / "ca-key.pem").days > tls.LEAF_DAYS
    assert (folder / "ca-key.pem").read_bytes() == key
    assert greet(folder, "a.test") == ""


@pytest.mark.parametrize("days,renewed", [(29, True), (30, True), (31, False)])
def test_renewal_below_thirty_whole_days(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, days: int, renewed: bool) -> None:
    monkeypatch.setattr(tls, "LEAF_DAYS", days)
    tls.issue(folder, "trial", "a.test")
    monkeypatch.undo()
    assert bool(tls.issue(folder, "trial", "a.test")) is renewed


@pytest.mark.parametrize("step", ["leaf key", "authority key"])
def test_a_run_that_was_killed_half_way_is_finished_by_the_next(folder: pathlib.Path, step: str) -> None:
    tls.issue(folder, "trial", "a.test")
    (folder / "trial/cert.pem").unlink()
    if step == "authority key":
        (folder / "trial/key.pem").unlink()
        (folder / "ca.pem").unlink()
    assert tls.issue(folder, "trial", "a.test")
    assert greet(folder, "a.test") == ""


def other(folder: pathlib.Path, names: list[str], start: int = -1, end: int = 90) -> tuple[pathlib.Path, pathlib.Path]:
    """A certificate of another maker, valid from day `start` to day `end`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bought")])
    now = dt.datetime.now(dt.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now + dt.timedelta(days=start))
            .not_valid_after(now + dt.timedelta(days=end, minutes=1)))
    if names:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(_pem(key))
    return files


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


def test_reading_one_of_another_maker(folder: pathlib.Path) -> None:
    pair = tls.read(*other(folder, ["example.org", "*.Example.org"]))
    assert pair.issuer == "CN=bought" and pair.days == 90
    assert pair.covers("example.org") and pair.covers("WWW.example.org")
    assert not pair.covers("a.b.example.org") and not pair.covers("xample.org")
    assert tls.read(*other(folder, ["a.test"], start=-9, end=-3)).days < 0
    assert tls.read(*other(folder, [])).names == ()


@pytest.mark.parametrize(("start", "end", "flaws"), [
    (-9, -4, ["ended 3 days ago"]),  # one minute less than four
    (-9, -2, ["ended 1 day ago"]), (-9, -1, ["ended less than a day ago"]), (-9, 0, []), (-9, 1, []),
    (2, 9, ["begins only at "])])
def test_what_a_client_holds_against_it(folder: pathlib.Path, start: int, end: int, flaws: list[str]) -> None:
    pair = tls.read(*other(folder, ["a.test"], start, end))
    found = certificate.flaws(pair, "a.test")
    assert len(found) == len(flaws) and all(f in got for f, got in zip(flaws, found, strict=True)), found
    assert certificate.flaws(pair, "b.test") == ["is for a.test and not for b.test", *found]
    assert certificate.ended(pair) is any("ended" in f for f in flaws)


@pytest.mark.parametrize(("name", "start", "end", "verdict", "said"), [
    ("a.test", -1, 90, "ok", "until "), ("a.test", -80, 9, "warn", "should have been renewed"),
    ("a.test", -90, -1, "bad", "ended less than"), ("a.test", 2, 90, "bad", "begins only at "),
    ("b.test", -1, 90, "bad", "is for a.test and not for b.test")])
def test_what_doctor_says_of_a_fetched_one(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str, start: int, end: int,
                                           verdict: str, said: str) -> None:
    pair = tls.read(*other(folder, ["a.test"], start, end))
    monkeypatch.setattr(probe, "shown", lambda _: pair.certificate.public_bytes(serialization.Encoding.DER))
    known = schema.load(settings.ROOT / "compose" / "example.env")
    found = acme.verdict(settings.Settings("staging", {"KEEL_DOMAIN": name, "KEEL_TLS": "acme"}, {}, known))
    assert found[0] == verdict and said in found[1], found


def test_one_of_another_maker_is_never_replaced(folder: pathlib.Path) -> None:
    files = other(folder / "trial", ["a.test"], start=-9, end=-3)
    before = [f.read_bytes() for f in files]
    with pytest.raises(Stop, match="not ours to replace: it is from CN=bought") as stop:
        tls.issue(folder, "trial", "a.test")
    assert stop.value.code == NO
    assert [f.read_bytes() for f in files] == before


@pytest.mark.parametrize("content,reason", [(b"", "key.pem"), (b"rubbish", "key.pem"),
                                            (_pem(ec.generate_private_key(ec.SECP256R1()), b"secret"), "encrypted"),
                                            (_pem(ec.generate_private_key(ec.SECP256R1())), "is not the key of cert.pem")])
def test_a_key_that_is_of_no_use(folder: pathlib.Path, content: bytes, reason: str) -> None:
    certificate, key = other(folder, ["a.test"])
    key.write_bytes(content)
    with pytest.raises(Stop, match=reason) as stop:
        tls.read(certificate, key)
    assert stop.value.code == DATA


@pytest.mark.parametrize("content", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_is_none(folder: pathlib.Path, content: bytes) -> None:
    certificate, key = other(folder, ["a.test"])
    certificate.write_bytes(content)
    with pytest.raises(Stop, match=r"cert\.pem") as stop:
        tls.read(certificate, key)
    assert stop.value.code == DATA


def test_a_key_of_a_kind_that_is_not_issued_for(folder: pathlib.Path) -> None:
    (folder / "trial").mkdir(parents=True)
    (folder / "trial/key.pem").write_bytes(_pem(ed25519.Ed25519PrivateKey.generate()))
    with pytest.raises(Stop, match="neither an EC nor an RSA key") as stop:
        tls.issue(folder, "trial", "a.test")
    assert stop.value.code == DATA
