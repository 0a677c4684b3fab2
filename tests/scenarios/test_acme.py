"""KEEL_TLS=acme with Caddy and a real authority: none to be reached, then one that gives a certificate, then one that refuses.

One platform, in this order; each test needs what the one before has left.
"""
import http.client
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from scenarios import images
from scenarios.authority import DIRECTORY, REFUSING, Authority, authority
from scenarios.conftest import SHORT
from scenarios.machine import Result
from scenarios.platform import Platform

pytestmark = pytest.mark.timeout(180)
ACME = {"KEEL_TLS": "acme", "KEEL_ACME_DIRECTORY": DIRECTORY, "KEEL_ACME_EMAIL": "ops@events.test", "KEEL_ACME_ROOT": "on"}
REFUSED = {**ACME, "KEEL_ACME_DIRECTORY": REFUSING}
NONE = "caddy has no certificate for events.test: "


@pytest.fixture(scope="module")
def ours() -> Iterator[Authority]:
    """A platform that is to get its certificate from an authority which it cannot reach yet; nothing is up."""
    with Platform("caddy", **SHORT) as platform, authority(platform) as one:
        folder = platform.root / "secrets" / "tls" / platform.name
        for file in folder.iterdir():
            file.unlink()
        platform.set(**ACME)
        platform.cafile = str(folder / "acme-root.pem")
        yield one


def get(platform: Platform, path: str) -> tuple[int, str, dict[str, object]]:
    """A GET by the domain's name, as a client that trusts the authority's root and nobody else: status, body, certificate."""
    trusting = ssl.create_default_context(cafile=platform.cafile)
    connection = http.client.HTTPConnection(platform.domain)
    with (socket.create_connection(("127.0.0.1", platform.port), 10) as plain,
          trusting.wrap_socket(plain, server_hostname=platform.domain) as sock):
        certificate = sock.getpeercert() or {}
        connection.sock = sock
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(certificate)


def serial(platform: Platform) -> str:
    return str(get(platform, "/__keel/generation")[2]["serialNumber"])


def doctor(platform: Platform) -> str:
    """What doctor says of the certificate."""
    return next(line for line in platform.run(["doctor"]).stdout.splitlines() if line[5:].startswith("certificate"))


def errors(done: Result) -> list[str]:
    return [line for line in done.stderr.splitlines() if "error: " in line]


def test_without_its_root_nothing_is_started(ours: Authority) -> None:
    done = ours.platform.run(["start-base"])
    assert done.code == 78 and "there is no acme-root.pem" in done.stderr and "KEEL_ACME_ROOT" in done.stderr, str(done)
    file = ours.platform.root / "secrets" / "tls" / ours.platform.name / "acme-root.pem"
    file.write_text(ours.root())
    file.chmod(0o644)


def test_an_authority_that_cannot_be_reached_is_said(ours: Authority) -> None:
    """One error with the authority's name and where to look, by whatever is asked; all else runs; and nothing is deployed in vain."""
    platform = ours.platform
    done = platform.run(["start-base"])
    assert done.code == 69 and "up, proxy caddy" in done.stderr, str(done)
    assert len(errors(done)) == 1 and NONE in errors(done)[0] and "no such host" in errors(done)[0], str(done)
    assert "hint: logs proxy; does port 80 of events.test lead to KEEL_HTTP_PORT=" in done.stderr, str(done)
    code, said = platform.status()
    assert code == 1 and len(said["problems"]) == 1 and said["problems"][0].startswith(NONE), said
    assert doctor(platform).startswith(f"bad  certificate {NONE}") and "does port 80" in doctor(platform)
    before, begin = platform.traffic_file.read_text(), time.monotonic()
    done = platform.deploy(images.good())
    assert done.codes["migrate"] == 69 and NONE in errors(done)[0] and not platform.containers(), str(done)
    assert time.monotonic() - begin < 60, "it hung"
    assert platform.traffic_file.read_text() == before
    done = platform.run(["dev-cert"])
    assert done.code == 1 and "the proxy fetches its certificate itself" in done.stderr, str(done)


def test_a_certificate_of_the_authority_from_the_reload_on(ours: Authority) -> None:
    platform = ours.platform
    with pytest.raises(ssl.SSLError):
        get(platform, "/")
    ours.open()
    platform.make("reload").well()  # the proxy itself would ask again in a minute at the earliest
    platform.deploy(images.good()).well()
    status, _, certificate = get(platform, "/version")
    assert status == 200 and certificate["subjectAltName"] == (("DNS", platform.domain),), certificate
    assert "Caddy Local Authority" in str(certificate["issuer"]), certificate
    assert ours.asked() == 1 and platform.status()[0] == 0
    assert doctor(platform).startswith("ok   certificate until "), doctor(platform)
    assert "already off" in platform.run(["maintenance", "off"]).well().stderr
    stranger = ssl.create_default_context()  # trusts what this machine does, and so not this authority
    with socket.create_connection(("127.0.0.1", platform.port), 10) as plain, pytest.raises(ssl.SSLCertVerificationError):
        stranger.wrap_socket(plain, server_hostname=platform.domain)


def test_a_deploy_and_a_rollback_fail_no_request(ours: Authority) -> None:
    platform = ours.platform
    with platform.unharmed() as load:
        first = platform.serving()
        second = platform.deploy(images.other()).well().stdout.strip()
        load.until(lambda now: now.answers(second) > 20)
        assert platform.run(["rollback"]).well().stdout.strip() == first
    assert ours.asked() == 1


def test_the_certificate_outlives_the_proxys_container(ours: Authority) -> None:
    platform = ours.platform
    before, container = serial(platform), platform.service("proxy")
    container.remove(force=True)
    assert platform.status()[0] == 1
    platform.up()
    assert platform.service("proxy").id != container.id and serial(platform) == before and ours.asked() == 1
    platform.make("reload").well()
    assert serial(platform) == before and ours.asked() == 1 and platform.status()[0] == 0
    # the control: it is this folder that it lives in
    acme = platform.root / "secrets" / "acme" / platform.name / "caddy"
    platform.service("proxy").remove(force=True)
    acme.rename(acme.with_name("aside"))
    acme.mkdir(mode=0o500)  # where Caddy cannot write
    done = platform.run(["start-base"])
    assert done.code == 69 and NONE in errors(done)[0] and "permission denied" in errors(done)[0], str(done)
    acme.rmdir()
    platform.make("reload").well()
    assert serial(platform) != before and ours.asked() == 2


def test_another_domain_that_gets_no_certificate(ours: Authority) -> None:
    """The one that had it is served again: whether somebody could come in before is asked for the domain of then."""
    platform = ours.platform
    before = serial(platform)
    platform.set(**REFUSED, KEEL_DOMAIN="new.test")
    done = platform.run(["reload-proxy"])
    assert done.code == 69 and "caddy has no certificate for new.test: " in errors(done)[0], str(done)
    assert "the old traffic is back" in done.stderr and serial(platform) == before, str(done)
    platform.set(**ACME)
    assert platform.status()[0] == 0, platform.status()


def test_from_files_to_an_authority_that_refuses(ours: Authority) -> None:
    """The files are served again: what is put back has the settings of before, too."""
    platform = ours.platform
    platform.set()
    platform.run(["dev-cert"]).well()
    platform.make("reload").well()
    platform.cafile = str(platform.root / "secrets" / "tls" / "ca.pem")
    before = serial(platform)
    platform.set(**REFUSED)
    done = platform.run(["reload-proxy"])
    assert done.code == 69 and NONE in errors(done)[0] and "the old traffic is back" in done.stderr, str(done)
    assert serial(platform) == before
    platform.set()
    assert platform.status()[0] == 0, platform.status()
