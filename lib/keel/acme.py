"""Certificates that the proxy fetches by itself (KEEL_TLS=acme, RFC 8555): whether it has one, why not, and waiting for it."""
import dataclasses
import datetime as dt
import json
import re

from keel import certificate, engine, health, probe, run, tls
from keel.settings import Settings
from keel.stop import UNAVAILABLE, Stop

WAIT = 30.0  # seconds that the first certificate may take; public authorities take two to ten
# What Caddy says then; the last two are for good, as where it cannot read or write in secrets/acme/ENV.
FAILED = ("will retry", "job failed", "initiating certificate management")


class Lacking(Stop):
    """The proxy runs, and nobody can come in: it has no certificate for the domain."""

    def __init__(self, settings: Settings, said: str) -> None:
        super().__init__(said, UNAVAILABLE, hint(settings))


def hint(settings: Settings) -> str:
    """Where to look: what the authority must reach, and how the proxy is told to ask again."""
    return (f"logs proxy; does port 80 of {settings['KEEL_DOMAIN']} lead to KEEL_HTTP_PORT={settings['KEEL_HTTP_PORT']} of this host, or "
            f"443 to KEEL_HTTPS_PORT={settings['KEEL_HTTPS_PORT']}? The proxy asks again by itself, and at once: make reload "
            f"ENV={settings.env}")


def then(settings: Settings, text: str) -> Settings:
    """The settings with the TLS and the domain that a traffic file was written for, which today's may have left."""
    found = re.search(r"(?:site\.caddy|server_name) ([^\s;:]+)", text)
    return dataclasses.replace(settings, values={**settings.values, **({"KEEL_TLS": "acme", "KEEL_DOMAIN": found[1]} if found else
                                                                        {"KEEL_TLS": "files"})})


def lacking(settings: Settings) -> str:
    """That the proxy ends every handshake for want of a certificate, and why; '' when it has one, or does not answer at all."""
    if not _lacks(settings):
        return ""
    why = complaint(settings) or f"{settings['KEEL_ACME_DIRECTORY']} has not given it one yet"
    return f"{settings['KEEL_PROXY']} has no certificate for {settings['KEEL_DOMAIN']}: {why}"


def _lacks(settings: Settings) -> bool:
    try:
        return settings["KEEL_TLS"] == "acme" and probe.shown(settings) is None
    except OSError:
        return False


def granted(settings: Settings) -> None:
    """Raises Lacking, a Stop 69, when no release could be proven live, as no handshake succeeds."""
    if not run.dry and (said := lacking(settings)):
        raise Lacking(settings, said)


def wait(settings: Settings) -> None:
    """Return once the proxy has a certificate. Raises Lacking, a Stop 69, as soon as it has failed to get one, or after WAIT."""
    if not run.dry:
        health.wait(lambda: "not yet" if _lacks(settings) and not complaint(settings) else "", WAIT, every=0.2)
    granted(settings)


def complaint(settings: Settings) -> str:
    """What Caddy wrote when it last asked for a certificate in vain, since its start or last reload; '' when it did not."""
    found = engine.service(settings, settings["KEEL_PROXY"])
    for line in reversed(engine.logs(found["Id"], 500) if found else []):
        try:
            said = json.loads(line)
        except ValueError:
            continue  # nginx, whose words no test has seen
        if not isinstance(said, dict):
            continue
        if said.get("msg") == "using config from file" or said.get("uri") == "/load":
            return ""
        # A reload ends the job of before, which is no failure.
        if said.get("msg") in FAILED and "context canceled" not in str(said.get("error", "")):
            return str(said.get("error", "")).strip() or str(said["msg"])
    return ""


def verdict(settings: Settings) -> tuple[str, str, str]:
    """For doctor: ok, warn or bad, what is said of the certificate that the proxy shows, and a hint."""
    from cryptography import x509

    try:
        der = probe.shown(settings)
    except ConnectionRefusedError:
        return "ok", f"the proxy, once it is up, fetches it from {settings['KEEL_ACME_DIRECTORY']}", ""
    except OSError as e:
        return "bad", f"the proxy does not show one: {str(e.strerror or e).lower()}", hint(settings)
    if der is None:
        return "bad", lacking(settings) or "the proxy had none a moment ago: look again", hint(settings)
    there = x509.load_der_x509_certificate(der)
    pair = tls.Pair(there, tls.names_of(there))
    begins, ends = there.not_valid_before_utc, there.not_valid_after_utc
    said = f"until {ends:%Y-%m-%dT%H:%MZ}, from {pair.issuer.removeprefix('CN=')}"
    if flaws := certificate.flaws(pair, settings["KEEL_DOMAIN"]):
        return "bad", ", ".join(flaws), hint(settings)
    if ends - dt.datetime.now(dt.UTC) < (ends - begins) / 4:  # whatever it lasts, both proxies renew it well before
        return "warn", f"{said}: should have been renewed", hint(settings)
    return "ok", said, ""
