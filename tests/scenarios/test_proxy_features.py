"""What both proxies do with a request, asked of real ones: TLS, headers, compression, limits, pages, caches, streams, addresses.

Each proxy runs in a container as in compose/base.yml (ordinary user, read-only root, no capabilities), in front of tiny real applications.
A setting is changed by writing the traffic file and reloading, never by a restart.
"""
import concurrent.futures
import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import re
import secrets
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from dotenv import dotenv_values

from keel.options import Options
from keel.traffic import Share, Traffic, digests
from keel.traffic_file import live, render_caddy, render_nginx

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = dotenv_values(ROOT / "var" / "host.env", interpolate=False)
IMAGES = dotenv_values(ROOT / (HOST.get("KEEL_IMAGES") or "compose/images.env"), interpolate=False)
ENGINE = {**os.environ, **{k: v for k, v in HOST.items() if v and k.startswith("DOCKER_")},
          "PATH": f"{HOST.get('KEEL_TOOLS') or ''}:{os.environ['PATH']}"}
DOMAIN = "events.example.test"
BLUE, GREEN = "20260102T030405Z-b1b1b1b", "20260102T040506Z-9e9e9e9"
OPTIONS = Options(domain=DOMAIN, body_limit=1 << 20, read_timeout=3)


def docker(*argv: str, check: bool = True, errors: bool = False) -> str:
    """What it says on stdout, or on stderr where `errors` is asked for."""
    done = subprocess.run(["docker", *argv], env=ENGINE, check=False, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(argv)}: {done.stderr}")
    return (done.stderr if errors else done.stdout).strip()


def wait(what: Callable[[], object], seconds: float = 15) -> None:
    """Until it is true; an error counts as not yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            if what():
                return
            said: object = "not true"
        except (OSError, AssertionError, requests.RequestException) as e:
            said = e
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {said}")
        time.sleep(0.02)


class Rig:
    """One proxy, its network, and the applications behind it; everything is removed by `close`."""

    def __init__(self, proxy: str, folder: Path, image: str = "") -> None:
        self.image = image or str(IMAGES[f"KEEL_IMAGE_{proxy.upper()}"])
        self.proxy, self.folder, self.name = proxy, folder, f"pxy-{secrets.token_hex(3)}"
        self.file = folder / "traffic" / ("traffic.conf" if proxy == "nginx" else "traffic.caddy")
        self.container, self.started = f"{self.name}-{proxy}", [f"{self.name}-{proxy}"]
        self.now, self.options = Traffic(1, ()), OPTIONS
        for part in ("traffic", "tls", "data"):
            (folder / part).mkdir()
            (folder / part).chmod(0o777)
        certificate(folder / "tls")
        docker("network", "create", self.name)

    def start(self) -> None:
        """The proxy, as compose/base.yml starts it."""
        self.write()
        self.point()
        mounts = [f"{ROOT}/proxy/pages:/etc/keel/pages:ro", f"{self.folder}/tls:/etc/keel/tls:ro"]
        hard = ["--init", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--tmpfs", "/tmp:mode=1777"]
        if self.proxy == "nginx":
            mounts += [f"{ROOT}/proxy/nginx:/etc/nginx/keel:ro", f"{self.folder}/traffic:/etc/keel/traffic:ro"]
            own = ["--user", "101", "--entrypoint", "nginx"]
            tail = ["-c", "/etc/nginx/keel/nginx.conf", "-g", "daemon off;"]
        else:
            mounts += [f"{ROOT}/proxy/caddy:/etc/caddy:ro", f"{self.folder}/traffic:/etc/keel/traffic", f"{self.folder}/data:/data"]
            own = ["--user", "1000", "--cap-add", "NET_BIND_SERVICE", "--tmpfs", "/config:mode=1777", "--entrypoint", "caddy"]
            tail = ["run", "--config", "/etc/caddy/Caddyfile"]
        volumes = [a for m in mounts for a in ("-v", m)]
        docker("run", "-d", "--name", self.container, "--network", self.name, *hard, *own, *volumes, self.image, *tail)
        self.address = docker("inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{self.name}").IPAddress}}}}', self.container)
        try:
            wait(lambda: self.generation() == self.now.generation)
        except AssertionError as e:
            raise AssertionError(f"{self.proxy} did not start: {docker('logs', self.container, errors=True)}") from e

    def app(self, colour: str, number: int = 1, *extra: str) -> str:
        """Start one replica of a colour; its name."""
        name = f"{self.name}-{colour}-app-{number}"
        release = BLUE if colour == "blue" else GREEN
        docker("run", "-d", "--init", "--name", name, "--network", self.name, "--network-alias", f"app-{colour}",
               "-e", f"KEEL_RELEASE={release}",
               "-v", f"{ROOT}/tests/scenarios/proxy_upstream.mjs:/srv/upstream.mjs:ro", *extra, str(IMAGES["KEEL_IMAGE_NODE"]),
               "node", "/srv/upstream.mjs")
        self.started += [name]
        return name

    def share(self, colour: str, percent: int, replicas: int = 1) -> Share:
        names = tuple(f"{self.name}-{colour}-app-{n}" for n in range(1, replicas + 1))
        return Share(BLUE if colour == "blue" else GREEN, colour, percent, names)

    def write(self) -> None:
        render = render_nginx if self.proxy == "nginx" else render_caddy
        staged = self.file.with_name(self.file.name + ".next")
        staged.write_text(render(self.now, self.options))
        staged.rename(self.file)

    def reload(self) -> None:
        """Only when more has changed than who serves, which both look up themselves."""
        wanted = digests(self.file.read_text())
        if digests(self.inside("/__keel/config").text) == wanted:
            return
        if self.proxy == "nginx":
            docker("kill", "-s", "HUP", self.container)
        else:
            docker("exec", self.container, "caddy", "reload", "--config", "/etc/caddy/Caddyfile",
                   "--address", "unix//etc/keel/traffic/admin.sock", "--force")
        wait(lambda: all(digests(self.inside("/__keel/config").text) == wanted for _ in range(8)))

    def point(self) -> None:
        """What nginx decides by."""
        target, link = self.file.with_name(live(self.now)), self.file.with_name("live.next")
        target.touch()
        link.symlink_to(target.name)
        before = {self.file.with_name("live").resolve(), target.resolve()}
        link.rename(self.file.with_name("live"))
        for old in set(self.file.parent.resolve().glob("live,*")) - before:
            old.unlink()

    def apply(self, *shares: Share, maintenance: bool = False, options: Options = OPTIONS) -> None:
        """Write, reload, and wait until only the new generation answers, and until the colours that serve do."""
        self.now, self.options = Traffic(self.now.generation + 1, shares, maintenance), options
        self.write()
        self.reload()
        self.point()
        wait(lambda: all(self.generation() == self.now.generation for _ in range(8)))
        for share in shares:
            wait(lambda c=share.colour: self.inside(f"/colour/{c}/").status_code == 200)

    def generation(self) -> int:
        return int(self.get("/__keel/generation").text)

    def inside(self, path: str) -> requests.Response:
        return requests.get(f"http://{self.address}:9000{path}", timeout=5)

    def get(self, path: str, method: str = "GET", **more: object) -> requests.Response:
        """One request on a connection of its own, to the public listener, with a checked certificate."""
        with self.session() as s:
            return s.request(method, f"https://{DOMAIN}:8443{path}", timeout=20, allow_redirects=False, **more)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def session(self) -> Iterator[requests.Session]:
        with requests.Session() as s:
            s.trust_env = False
            s.verify = str(self.folder / "tls" / "cert.pem")
            s.mount("https://", Pinned(self.address))
            yield s

    def tls(self, low: ssl.TLSVersion | None = None, high: ssl.TLSVersion | None = None) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.folder / "tls" / "cert.pem"))
        context.set_alpn_protocols(["h2", "http/1.1"] if low is None and high is None else ["http/1.1"])
        context.minimum_version, context.maximum_version = low or context.minimum_version, high or context.maximum_version
        return context.wrap_socket(socket.create_connection((self.address, 8443), 5), server_hostname=DOMAIN)

    def stream(self, request: str) -> ssl.SSLSocket:
        """A raw HTTP/1.1 connection on which `request` was sent."""
        s = self.tls(high=ssl.TLSVersion.TLSv1_3)
        s.sendall(request.encode())
        return s

    def log(self) -> list[dict[str, object]]:
        """The access log: nginx's stdout, Caddy's file; the lines that are JSON."""
        text = docker("logs", self.container) if self.proxy == "nginx" else (self.file.parent / "access.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and '"status"' in line]

    def close(self) -> None:
        docker("rm", "-f", "-v", *self.started, check=False)
        docker("network", "rm", self.name, check=False)


class Pinned(requests.adapters.HTTPAdapter):
    """Sends https://DOMAIN to one address, with the name checked as usual."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *args, **more):  # type: ignore[no-untyped-def]
        super().init_poolmanager(*args, **more, server_hostname=DOMAIN, assert_hostname=DOMAIN)

    def send(self, request, **more):  # type: ignore[no-untyped-def]
        request.headers.setdefault("Host", DOMAIN)
        request.url = request.url.replace(f"https://{DOMAIN}", f"https://{self.address}", 1)
        return super().send(request, **more)


def certificate(folder: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, DOMAIN)])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(DOMAIN)]), critical=False).sign(key, hashes.SHA256()))
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                       serialization.NoEncryption()))


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(request.param, tmp_path_factory.mktemp(request.param))
    try:
        made.start()
        made.app("blue")
        made.app("green")
        yield made
    finally:
        made.close()


@pytest.fixture
def site(rig: Rig) -> Rig:
    """The rig with blue serving and green on standby, with the plain options."""
    if rig.options != OPTIONS or [(s.colour, s.percent) for s in rig.now.shares] != [("blue", 100), ("green", 0)] or rig.now.maintenance:
        rig.apply(rig.share("blue", 100), rig.share("green", 0))
    return rig


def test_nothing_is_deployed(rig: Rig) -> None:
    rig.apply()
    answer = rig.get("/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    assert "Back in a moment" in answer.text


def test_who_serves_and_what_reaches_it(site: Rig) -> None:
    answer = site.get("/a%2Fb//c?q=%20x", headers={"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6", "X-Request-Id": "mine"})
    said, seen = answer.json(), answer.json()["headers"]
    assert (said["release"], said["url"]) == (BLUE, "/a%2Fb//c?q=%20x")
    assert (seen["x-forwarded-proto"], seen["x-forwarded-host"], seen["host"]) == ("https", DOMAIN, DOMAIN)
    assert "6.6.6.6" not in (seen["x-forwarded-for"], seen["x-real-ip"]), "a client must not choose its own address"
    assert seen["x-request-id"] == answer.headers["X-Request-Id"] != "mine"
    assert site.get("/", method="POST", data=b"x" * 5000).json()["bytes"] == 5000


def test_tls(site: Rig) -> None:
    with site.tls() as s:
        assert (s.version(), s.selected_alpn_protocol()) == ("TLSv1.3", "h2")
    with site.tls(high=ssl.TLSVersion.TLSv1_2) as s:
        assert s.version() == "TLSv1.2"
    with pytest.raises((ssl.SSLError, ConnectionResetError)), pytest.warns(DeprecationWarning):
        site.tls(low=ssl.TLSVersion.TLSv1, high=ssl.TLSVersion.TLSv1_1)


@pytest.mark.parametrize("path", ["/", "/own-headers", "/busy", "/static/none.css"])
def test_security_headers(site: Rig, path: str) -> None:
    head = site.get(path).headers
    assert head["Strict-Transport-Security"] == "max-age=31536000"
    assert head["X-Content-Type-Options"] == "nosniff"
    own = path == "/own-headers"
    assert head["X-Frame-Options"] == ("DENY" if own else "SAMEORIGIN"), "the app's own word wins"
    assert head["Referrer-Policy"] == ("no-referrer" if own else "strict-origin-when-cross-origin")
    assert ("Content-Security-Policy" in head) == own
    assert not re.search(r"\d", head.get("Server", "")) and "X-Powered-By" not in head and "Via" not in head


def test_compression(site: Rig) -> None:
    best = "gzip" if site.proxy == "nginx" else "zstd"
    for wanted in ("gzip", best):
        answer = site.get("/big", headers={"Accept-Encoding": wanted}, stream=True)
        assert answer.headers["Content-Encoding"] == wanted and "Accept-Encoding" in answer.headers["Vary"]
        assert len(answer.raw.read(decode_content=False)) < 5000
    assert "Content-Encoding" not in site.get("/big", headers={"Accept-Encoding": "identity"}).headers


def test_body_limit(site: Rig) -> None:
    assert site.get("/", method="POST", data=b"x" * (1 << 20)).status_code == 200
    assert site.get("/", method="POST", data=b"x" * ((1 << 20) + 1)).status_code == 413
    site.apply(*site.now.shares, options=dataclasses.replace(OPTIONS, body_limit=2 << 20))
    assert site.get("/", method="POST", data=b"x" * ((1 << 20) + 1)).status_code == 200


def test_read_timeout(site: Rig) -> None:
    assert site.get("/slow?ms=1000").text == BLUE
    began = time.monotonic()
    answer = site.get("/slow?ms=30000")
    assert answer.status_code == 504 and "Retry-After" in answer.headers
    assert time.monotonic() - began < 10


def test_rate_limit(site: Rig) -> None:
    """nginx has one; stock Caddy has none, as the README says (proxy/caddy/Dockerfile.ratelimit adds it)."""
    site.apply(*site.now.shares, options=dataclasses.replace(OPTIONS, rate_limit=5, rate_burst=5))
    with site.session() as s:
        def ask(path: str) -> int:
            return s.get(f"https://{DOMAIN}:8443{path}", timeout=5).status_code
        codes = [ask("/") for _ in range(40)]
        if site.proxy == "caddy":
            assert set(codes) == {200}
            return
        assert codes[0] == 200 and set(codes) == {200, 429} and codes.count(429) >= 20
        assert {ask("/static/app.3f2a1b.css") for _ in range(40)} == {200}, "static files are not counted"
        assert {ask("/__keel/generation") for _ in range(40)} == {200}
    assert {site.inside("/colour/blue/").status_code for _ in range(40)} == {200}, "nor is the internal listener"


def test_redirect_to_https(site: Rig) -> None:
    site.apply(*site.now.shares, options=dataclasses.replace(OPTIONS, https_port=8443))
    for method in ("GET", "POST"):
        c = http.client.HTTPConnection(site.address, 8080, timeout=5)
        c.request(method, "/a/b?c=d", headers={"Host": DOMAIN})
        answer = c.getresponse()
        assert (answer.status, answer.headers["Location"]) == (308, f"https://{DOMAIN}:8443/a/b?c=d")
        assert not re.search(r"\d", answer.headers.get("Server", ""))
        c.close()
    site.apply(*site.now.shares)
    answer = requests.get(f"http://{site.address}:8080/", headers={"Host": DOMAIN}, allow_redirects=False, timeout=5)
    assert answer.headers["Location"] == f"https://{DOMAIN}/"


def test_generation(site: Rig) -> None:
    before = len(site.log())
    for host in (DOMAIN, "anything.example"):
        answer = site.get("/__keel/generation", headers={"Host": host})
        assert (answer.status_code, answer.text, answer.headers["Cache-Control"]) == (200, f"{site.now.generation}\n", "no-store")
    assert site.inside("/__keel/generation").text == f"{site.now.generation}\n"
    assert site.inside("/__keel/up").status_code == 200
    assert site.get("/__keel/other").status_code == 404
    site.get("/marker")
    wait(lambda: any("/marker" in json.dumps(line) for line in site.log()))
    assert not [line for line in site.log()[before:] if "generation" in json.dumps(line)], "the proof is not logged"


def test_one_colour_asked_directly(site: Rig) -> None:
    for colour, release in (("blue", BLUE), ("green", GREEN)):
        answer = site.inside(f"/colour/{colour}/a%2Fb?c=d")
        assert (answer.json()["release"], answer.json()["url"]) == (release, "/a%2Fb?c=d")
        assert re.fullmatch(r"[a-z0-9.-]+:3000", answer.headers["X-Keel-Upstream"])
    assert site.inside("/").status_code == 404


def test_maintenance(site: Rig) -> None:
    site.apply(*site.now.shares, maintenance=True)
    for method in ("GET", "POST"):
        answer = site.get("/anything", method=method)
        assert (answer.status_code, answer.headers["Retry-After"], answer.headers["Cache-Control"]) == (503, "30", "no-store")
        assert answer.headers["Content-Type"].startswith("text/html") and answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Back in a moment" in answer.text and "http" not in answer.text, "a page without anything to load"
    assert site.get("/static/app.3f2a1b.css").status_code == 503
    assert site.generation() == site.now.generation
    assert site.inside("/colour/green/").json()["release"] == GREEN, "a release can be tried meanwhile"
    site.apply(*site.now.shares)
    assert site.get("/").status_code == 200


def test_errors_of_the_app_pass(site: Rig) -> None:
    answer = site.get("/busy")
    assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
    assert "Retry-After" not in answer.headers


def test_static_files(site: Rig) -> None:
    answer = site.get("/static/app.3f2a1b.css")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    missing = site.get("/static/none.css")
    assert missing.status_code == 404 and "immutable" not in missing.headers.get("Cache-Control", "")
    assert "immutable" not in site.get("/").headers.get("Cache-Control", "")


def test_an_asset_of_the_other_release(site: Rig) -> None:
    """Pages of before the switch ask for it, and during a share pages of the one for files of the other."""
    for percent in (100, 0, 50):
        site.apply(site.share("blue", percent), site.share("green", 100 - percent))
        for _ in range(8):
            for release in (BLUE, GREEN):
                answer = site.get(f"/static/of-{release}.css")
                assert (answer.status_code, answer.text) == (200, release)
                assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    site.apply(site.share("blue", 100), site.share("green", 0))
    assert site.get(f"/static/of-{GREEN}.css", method="HEAD").status_code == 200
    assert site.get(f"/static/of-{GREEN}.css", method="POST").status_code == 404, "only what is idempotent is asked twice"
    assert site.get(f"/static/of-{GREEN}.css/..%2Fx").status_code == 404
    missing = site.get("/static/none.css")
    assert (missing.status_code, missing.text) == (404, "no such file") and "immutable" not in missing.headers.get("Cache-Control", "")
    assert site.get(f"/of-{GREEN}").json()["release"] == BLUE, "only files"


def test_an_asset_that_nobody_has_any_more(site: Rig) -> None:
    """Without another release, or with one that is not there, the answer is the 404 that it was, and at once."""
    name = f"{site.name}-green-app-1"
    docker("stop", "-t", "1", name)
    try:
        for _ in range(3):
            begun = time.monotonic()
            answer = site.get(f"/static/of-{GREEN}.css")
            assert answer.status_code == 404 and time.monotonic() - begun < 3
            assert "immutable" not in answer.headers.get("Cache-Control", "")
    finally:
        docker("start", name)
        site.apply(*site.now.shares)
    site.apply(site.share("blue", 100))
    answer = site.get(f"/static/of-{GREEN}.css")
    assert (answer.status_code, answer.text) == (404, "no such file")


def test_response_cache(site: Rig) -> None:
    """nginx has one; stock Caddy has none, as the README says (proxy/caddy/Dockerfile.cache adds it)."""
    assert site.get("/cacheable").text != site.get("/cacheable").text, "off unless asked for"
    site.apply(*site.now.shares, options=dataclasses.replace(OPTIONS, cache=60))
    if site.proxy == "caddy":
        assert site.get("/cacheable").text != site.get("/cacheable").text
        return
    assert site.get("/cacheable").text == site.get("/cacheable").text
    assert site.get("/unmarked").text != site.get("/unmarked").text, "only what allows it"
    assert site.get("/cacheable", headers={"Cookie": "a=b"}).text != site.get("/cacheable").text, "nothing personal"
    site.apply(site.share("green", 100), site.share("blue", 0), options=site.options)
    assert site.get("/cacheable").text.startswith(GREEN), "each release has its own"


@pytest.mark.parametrize("request_", ["GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                                      "GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n"], ids=["websocket", "events"])
def test_streams_survive_a_switch(site: Rig, request_: str) -> None:
    with site.stream(f"{request_}Host: {DOMAIN}\r\n\r\n") as s:
        assert (b" 101 " if "websocket" in request_ else b" 200 ") in s.recv(4096).partition(b"\r\n")[0]
        arrivals = [time.monotonic() for _ in range(5) if s.recv(4096)]
        assert arrivals[-1] - arrivals[0] > 0.2, "one by one, not saved up"
        site.apply(site.share("green", 100), site.share("blue", 0))
        assert site.get("/").json()["release"] == GREEN
        site.apply(site.share("green", 100))
        for _ in range(10):
            assert BLUE.encode() in s.recv(4096), "the open stream stays with its release"


def test_split(site: Rig) -> None:
    site.apply(site.share("blue", 75), site.share("green", 25))
    seen = [site.get("/", headers={"User-Agent": f"client {n}"}).json()["release"] for n in range(200)]
    assert 20 <= seen.count(GREEN) <= 85
    if site.proxy == "nginx":
        again = [site.get("/", headers={"User-Agent": f"client {n}"}).json()["release"] for n in range(20)]
        assert again == seen[:20], "the same client meets the same release"
    site.apply(site.share("blue", 100), site.share("green", 0))
    assert {site.get("/", headers={"User-Agent": f"client {n}"}).json()["release"] for n in range(100)} == {BLUE}


@pytest.mark.parametrize("balance", ["round-robin", "least-connections", "ip-hash", "cookie"])
def test_balance(site: Rig, balance: str) -> None:
    if f"{site.name}-green-app-2" not in site.started:
        site.app("green", 2)
    site.apply(site.share("green", 100, replicas=2), options=dataclasses.replace(OPTIONS, balance=balance))
    wait(lambda: len({site.inside("/colour/green/").headers["X-Keel-Upstream"] for _ in range(20)}) == 2 or balance == "ip-hash")
    marks = []
    with site.session() as s:
        for n in range(20):
            assert s.get(f"https://{DOMAIN}:8443/{balance}-{n}", timeout=5).status_code == 200
    wait(lambda: len([1 for line in site.log() if f"/{balance}-" in json.dumps(line)]) == 20)
    marks = [line["upstream"] for line in site.log() if f"/{balance}-" in json.dumps(line)]
    assert len(set(marks)) == (1 if balance in ("ip-hash", "cookie") else 2)


@pytest.mark.parametrize("balance", ["round-robin", "least-connections", "ip-hash"])
def test_a_replica_that_dies_or_moves(site: Rig, balance: str) -> None:
    """Killed: GETs go to the other one. Back with another address: found again."""
    if f"{site.name}-green-app-2" not in site.started:
        site.app("green", 2)
    site.apply(site.share("green", 100, replicas=2), options=dataclasses.replace(OPTIONS, balance=balance))
    first = f"{site.name}-green-app-1"
    address = ["inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{site.name}").IPAddress}}}}']
    before = docker(*address, first)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        killed = pool.submit(docker, "kill", first)
        codes = [site.get("/").status_code for _ in itertools.takewhile(lambda n: n < 20 or not killed.done(), itertools.count())]
        codes += [site.get("/").status_code for _ in range(100)]
    assert set(codes) == {200}
    docker("rm", first)
    holder = f"{site.name}-holder-{balance}"  # takes the address that has just become free
    docker("run", "-d", "--name", holder, "--network", site.name, str(IMAGES["KEEL_IMAGE_NODE"]), "sleep", "600")
    site.started += [holder]
    site.started.remove(first)
    site.app("green", 1)
    assert docker(*address, first) != before
    def found() -> bool:
        seen = {site.inside("/colour/green/").headers["X-Keel-Upstream"] for _ in range(10)}
        return len(seen) == (1 if balance == "ip-hash" else 2) and all(site.inside("/colour/green/").status_code == 200 for _ in range(10))
    wait(found)


def test_log(site: Rig) -> None:
    answer = site.get("/logged?a=%22b", headers={"User-Agent": 'quo"te\\'})
    wait(lambda: any("/logged" in json.dumps(line) for line in site.log()))
    line = next(line for line in site.log() if "/logged" in json.dumps(line))
    if site.proxy == "caddy":
        line = {**line, **line["request"], "request_time": line["duration"], "bytes": line["size"]}  # type: ignore[dict-item]
    assert (line["method"], line["uri"], line["status"]) == ("GET", "/logged?a=%22b", 200)
    assert (line["colour"], line["release"], line["agent"]) == ("blue", BLUE, 'quo"te\\')
    assert isinstance(line["request_time"], float) and int(str(line["bytes"])) > 100 and line["time"]
    assert line["request_id"] == answer.headers["X-Request-Id"] and "uuid" not in line
    assert str(line["upstream"]).endswith(":3000") and int(str(line["upstream_status"])) == 200


def test_the_checker(site: Rig) -> None:
    """The staged file is judged without touching what serves."""
    argv = (["nginx", "-t", "-q", "-c", "/etc/nginx/keel/check.conf"] if site.proxy == "nginx"
            else ["caddy", "validate", "--config", "/etc/caddy/check.Caddyfile"])
    staged = site.file.with_name(site.file.name + ".next")
    for text, well in ((site.file.read_text(), True), (site.file.read_text() + "nonsense {\n", False)):
        staged.write_text(text)
        done = subprocess.run(["docker", "exec", site.container, *argv], env=ENGINE, check=False, capture_output=True, text=True)
        assert (done.returncode == 0) == well, done.stderr
    staged.unlink()
    assert site.generation() == site.now.generation


def test_a_restart_keeps_what_the_file_says(site: Rig) -> None:
    docker("kill", site.container)
    docker("start", site.container)
    site.address = docker("inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{site.name}").IPAddress}}}}', site.container)
    wait(lambda: site.generation() == site.now.generation)
    wait(lambda: site.get("/").json()["release"] == BLUE)
    site.apply(site.share("green", 100), site.share("blue", 0))
    assert site.get("/").json()["release"] == GREEN


def test_a_traffic_file_of_an_earlier_evenkeel(tmp_path: Path) -> None:
    """A pull and a restart of the host: nginx has new files and, until the next switch, a traffic file that knows no link."""
    rig = Rig("nginx", tmp_path)
    now = render_nginx(Traffic(5, (rig.share("blue", 100),)), OPTIONS)
    text = "\n".join(line for line in now.splitlines() if "keel_config" not in line)
    old = f'''{text}
map "" $keel_generation {{ default 5; }}
map "" $keel_closed {{ default 0; }}
split_clients "$remote_addr$http_user_agent" $keel_colour {{ * blue; }}
map $keel_colour $keel_release {{ blue {BLUE}; default ""; }}
'''
    rig.now, rig.point = Traffic(5, ()), lambda: None  # type: ignore[method-assign]
    rig.write = lambda: rig.file.write_text(old)  # type: ignore[method-assign, assignment, return-value]
    try:
        rig.start()
        rig.app("blue")
        wait(lambda: rig.get("/").json()["release"] == BLUE)
        assert digests(rig.inside("/__keel/config").text) == ("", ""), "so that the next switch loads the new one"
        del rig.write, rig.point
        rig.point()
        rig.apply(rig.share("blue", 100))
        assert rig.get("/").json()["release"] == BLUE and digests(rig.inside("/__keel/config").text)[0]
    finally:
        rig.close()


def test_a_switch_in_the_middle_of_a_request(site: Rig) -> None:
    """One request sees one generation, whatever it looks up, and however often: here it changes all the time, and so does its length."""
    both = ([site.share("blue", 100), site.share("green", 0)], [site.share("blue", 0), site.share("green", 100)])
    with concurrent.futures.ThreadPoolExecutor(1) as pool, site.session() as s:
        stop = threading.Event()

        def turn() -> int:
            for n in itertools.count(site.now.generation + 1):
                site.now = Traffic(n * 10 ** (n % 5), tuple(both[n % 2]))
                site.write()
                site.point()
                if stop.is_set():
                    return n
            return 0

        turning = pool.submit(turn)
        try:
            seen = [s.get(f"https://{DOMAIN}:8443/of", timeout=5) for _ in range(3000)]
        finally:
            stop.set()
        assert turning.result() > 300
    assert {answer.status_code for answer in seen} == {200}, [a.text for a in seen if a.status_code != 200][:3]
    assert {answer.json()["release"] for answer in seen} == {BLUE, GREEN}
    site.apply(site.share("blue", 100), site.share("green", 0))


def test_what_is_in_flight_is_counted(rig: Rig) -> None:
    """nginx: by colour; Caddy's own counters are asked by the scenarios of a drain."""
    if rig.proxy == "caddy":
        return
    rig.apply(rig.share("blue", 100), rig.share("green", 0))
    def idle(colour: str) -> int:
        return rig.inside(f"/__keel/idle/{colour}").status_code
    assert (idle("blue"), idle("green")) == (204, 204)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(rig.get, "/slow?ms=2700") for _ in range(2)]
        wait(lambda: idle("blue") == 409)
        rig.apply(rig.share("green", 100), rig.share("blue", 0))
        assert (idle("blue"), idle("green")) == (409, 204), "where it was sent, not where it would go now"
        assert [s.result().text for s in slow] == [BLUE, BLUE]
    wait(lambda: idle("blue") == 204, 2)
    with rig.stream(f"GET /events HTTP/1.1\r\nAccept: text/event-stream\r\nHost: {DOMAIN}\r\n\r\n") as s:
        assert s.recv(4096)
        assert (idle("blue"), idle("green")) == (204, 204), "a stream may last for hours"
    for _ in range(3):  # what ended in any way is no longer counted
        with rig.stream(f"GET /slow?ms=2000 HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n"):
            wait(lambda: idle("green") == 409)
        wait(lambda: idle("green") == 204)


def test_modules_that_the_image_enables(tmp_path: Path) -> None:
    """The recipe for an nginx with brotli: built from the stock image, which has the module but does not load it."""
    recipe, image = f"{ROOT}/proxy/nginx", f"pxy-modules-{secrets.token_hex(3)}"
    stock = str(IMAGES["KEEL_IMAGE_NGINX"])
    if not docker("run", "--rm", "--entrypoint", "sh", stock, "-c", "ls /etc/nginx/modules/ | grep brotli_filter || true"):
        pytest.skip(f"{stock} has no brotli module: the recipe needs an image that has")
    rig = Rig("nginx", tmp_path, image)
    try:
        docker("build", "-q", "-t", image, "-f", f"{recipe}/Dockerfile.modules", "--build-arg", f"NGINX={stock}", recipe)
        rig.start()
        rig.app("blue")
        rig.apply(rig.share("blue", 100))
        answer = rig.get("/big", headers={"Accept-Encoding": "br, gzip"}, stream=True)
        assert answer.headers["Content-Encoding"] == "br" and len(answer.raw.read(decode_content=False)) < 5000
    finally:
        rig.close()
        docker("rmi", "-f", image, check=False)
