"""Certificates: what a folder with cert.pem and key.pem is worth, and a local authority that issues one for trials (RFC 5280)."""
from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keel import private, state
from keel.stop import DATA, NO, Stop

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    Key = EllipticCurvePrivateKey | RSAPrivateKey

AUTHORITY = "CN=evenkeel local authority"
AUTHORITY_DAYS, LEAF_DAYS, RENEW_DAYS = 3650, 397, 30  # browsers refuse leaf certificates of more than 398 days


@dataclass(frozen=True)
class Pair:
    """A certificate whose key is there too: the names it is for, when it ends, who signed it."""

    certificate: x509.Certificate
    names: tuple[str, ...]

    @property
    def issuer(self) -> str:
        return self.certificate.issuer.rfc4514_string()

    @property
    def days(self) -> int:
        """Whole days left, or as a negative number those since it has ended: 0 on either side of that moment."""
        return int((self.certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)) / dt.timedelta(days=1))

    def covers(self, name: str) -> bool:
        """Whether it is for this name; a `*` stands for one label (RFC 9525, 6.3)."""
        name = name.lower()
        return any(n in (name, f"*.{name.partition('.')[2]}") for n in map(str.lower, self.names))


def read(certificate: Path, key: Path) -> Pair:
    """A certificate (the first of its file) and its key. Raises Stop 1 when there is none, 65 when they are no pair or cannot be read."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    file = certificate
    try:
        found = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        names = names_of(found)
        file = key
        secret = load_pem_private_key(key.read_bytes(), None)
    except FileNotFoundError:
        raise Stop(f"{file}: there is no such file", NO) from None
    except OSError as e:
        raise Stop(f"{file}: {e.strerror}", DATA) from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:  # TypeError: the key wants a passphrase
        raise Stop(f"{file}: {str(e).partition('.')[0]}", DATA) from None
    if secret.public_key() != found.public_key():
        raise Stop(f"{key}: is not the key of {certificate.name}", DATA)
    return Pair(found, names)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))


def issue(folder: Path, env: str, domain: str) -> str:
    """See to a certificate in folder/ENV for a domain and this machine, signed by the authority in folder; why one was made, or ''.

    A key that is there is kept, so that at no moment a certificate stands beside a key that is not its own.
    Raises Stop 1 when the certificate there is somebody else's, 65 when a file there cannot be read, OSError.
    """
    leaf = folder / env
    with private.folder(folder.parent), private.folder(folder), private.folder(leaf, 0o755):
        _refuse_foreign(leaf / "cert.pem")
        _refuse_foreign(folder / "ca.pem")
        authority, signer = _authority(folder)
        names = tuple(dict.fromkeys([domain, "localhost", "127.0.0.1", "::1"]))
        reason = _reason(leaf, authority, names)
        if reason:
            # The proxy runs as a user of its own and sees this folder through a mount, which bypasses the modes above it. So folder and
            # key are readable, and secrets/tls and secrets/ (both 0700) keep every other user of this host away from them. Owner or
            # group would not do instead: a user who deploys without being root cannot give files away.
            key = _key(leaf / "key.pem", 0o644)
            state.write(leaf / "cert.pem", _pem(_sign(key, names, signer)) + _pem(authority))
    return reason


def _refuse_foreign(certificate: Path) -> None:
    from cryptography import x509

    try:
        issuer = x509.load_pem_x509_certificates(certificate.read_bytes())[0].issuer.rfc4514_string()
    except FileNotFoundError:
        return
    except ValueError:
        issuer = "nobody: it cannot be read"
    if issuer != AUTHORITY:
        raise Stop(f"{certificate}: is not ours to replace: it is from {issuer}", NO, "move cert.pem and key.pem away first")


def _reason(leaf: Path, authority: x509.Certificate, names: tuple[str, ...]) -> str:
    """Why a certificate has to be made, or ''."""
    from cryptography.exceptions import InvalidSignature

    if not (leaf / "cert.pem").exists():
        return "there was none"
    try:
        present = read(leaf / "cert.pem", leaf / "key.pem")
        present.certificate.verify_directly_issued_by(authority)
    except Stop as e:
        return e.message
    except (InvalidSignature, ValueError, TypeError):
        return "the authority is another one now"
    if set(present.names) != set(names):
        return f"it was for {', '.join(present.names)}"
    return f"it had {present.days} days left" if present.days < RENEW_DAYS else ""


def _authority(folder: Path) -> tuple[x509.Certificate, Key]:
    """The authority that is there; or a new certificate for its key when there is none, or it would end before what it signs."""
    file, key_file = folder / "ca.pem", folder / "ca-key.pem"
    key = _key(key_file, 0o600)
    if file.exists() and (present := read(file, key_file)).days > LEAF_DAYS:
        return present.certificate, key
    certificate = _sign(key, (), key)
    state.write(file, _pem(certificate))
    return certificate, key


def _key(path: Path, mode: int) -> Key:
    """The key in a file, or a new one (P-256) written there. Raises Stop 65 when the one there cannot be used."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if path.exists():
        try:
            there = serialization.load_pem_private_key(path.read_bytes(), None)
        except (ValueError, TypeError) as e:
            raise Stop(f"{path}: {str(e).partition('.')[0]}", DATA, "move it away, then try again") from None
        if not isinstance(there, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise Stop(f"{path}: is neither an EC nor an RSA key", DATA, "move it away, then try again")
        return there
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    state.write(path, key.private_bytes(*form).decode(), mode)
    return key


def _sign(key: Key, names: tuple[str, ...], signer: Key) -> x509.Certificate:
    """A certificate for a key, signed by the authority's; without names it is the authority's own. Source: RFC 5280, 4.2.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = dt.datetime.now(dt.UTC)
    authority = x509.Name.from_rfc4514_string(AUTHORITY)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]) if names else authority  # 64: RFC 5280, appendix A
    usage = x509.KeyUsage(digital_signature=bool(names), key_cert_sign=not names, crl_sign=not names, content_commitment=False,
                          key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False)
    made = (x509.CertificateBuilder()
            .subject_name(subject).issuer_name(authority)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))  # clients whose clock is a little behind
            .not_valid_after(now + dt.timedelta(days=LEAF_DAYS if names else AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=not names, path_length=None if names else 0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False))
    if names:
        made = (made.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False))
    return made.sign(signer, SHA256())


def _general(name: str) -> x509.GeneralName:
    """A name of a certificate: an address where it is one, else a host name."""
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()
