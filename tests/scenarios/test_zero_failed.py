"""The promise: ten deploys and five rollbacks under load, and not one request of any kind fails; with what must fail, as control.

`make test` runs it at a modest rate (at least 20,000 requests for each proxy), KEEL_LOAD=full (`make test-load`) at full speed to 800,000.
"""
import asyncio
import contextlib
import json
import os
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Iterator

import pytest
from load.account import Account
from load.child import Load, Progress
from load.http1 import Answer
from load.http2 import Conn2
from load.wire import Target

from scenarios import images
from scenarios.conftest import SHORT
from scenarios.platform import Platform

FULL = os.environ.get("KEEL_LOAD") == "full"
REQUESTS = 800_000 if FULL else 20_000
# Slow answers take 5 s; the drain outlasts them. Behind Caddy it ends with its deadline because of the streams, which outlive a switch.
SETTINGS = {**SHORT, "KEEL_SHUTDOWN_TIMEOUT": "7s", "KEEL_STOP_GRACE": "8s", "KEEL_DRAIN_TIMEOUT": "9s", "KEEL_RATE_LIMIT": "100000"}
EVERYTHING = {"get": 16, "get_rate": 0 if FULL else 150, "new": 2, "new_rate": 30, "post": 2, "post_rate": 30, "slow": 4,
              "h2": 2, "h2_rate": 60, "h2_new": 1, "h2_new_rate": 10, "sse": 1, "ws": 1,
              "get_path": ("/version", "/events"), "seconds": 3600, "requests": 3_000_000, "timeout": 30}
# As the usual scripts do it: Compose recreates what serves; or the proxy is reloaded and the old containers go at once. No time to stop:
# Caddy's retries outlast a recreation that lets the application end, which only users behind nginx would notice; streams end in both.
RECREATE = """
import os, sys
sys.path.insert(0, "lib")
from keel import compose, proxy, releases, settings
s = settings.load()
share = max(proxy.current(s).shares, key=lambda x: x.percent)
image = releases.find(s, share.release)["image_id"]
env = compose.environment(s, KEEL_IMAGE=image, KEEL_COLOUR=share.colour, KEEL_RELEASE=share.release)
argv = [*compose.colour(s, share.colour), "up", "--detach", "--no-deps", "--force-recreate", "--timeout=0", "app"]
os.execvpe(argv[0], argv, {**os.environ, **env})
"""


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def served(request: pytest.FixtureRequest) -> Iterator[Platform]:
    """A platform with a release that serves, and both colours known to nginx: a reload for a new one refuses requests of HTTP/2."""
    with Platform(request.param, **SETTINGS) as platform:
        platform.up()
        platform.deploy(images.other()).well()
        platform.deploy(images.good()).well()
        yield platform


def goodbyes(now: Progress) -> int:
    return sum(int(now.kinds[kind]["goodbyes"]) for kind in ("sse", "ws"))


def go_on(load: Load, answers: int = 200) -> None:
    """Wait for more answers."""
    seen = load.now.ok()
    load.until(lambda now: now.ok() > seen + answers, 120)


@pytest.mark.timeout(3600)
def test_ten_deploys_and_five_rollbacks(served: Platform) -> None:
    releases = [served.serving()]
    with served.load(**EVERYTHING) as load:
        load.until(lambda now: all(now.ok(kind) for kind in ("get", "new", "h2", "h2_new", "post", "slow")), 60)
        load.until(lambda now: bool(now.events("sse") and now.events("ws")), 60)
        for number in range(10):
            done = served.deploy(images.good() if number % 2 else images.other()).well()
            releases.append(done.stdout.strip())
            if number == 0:
                go_on(load)
                assert goodbyes(load.now) == 0, "the first switch ended a stream: nothing was stopped, so nothing may have said goodbye"
            if number % 2:
                back = served.run(["rollback"]).well().stdout.strip()
                assert back == releases[-2] == served.serving()
                go_on(load)
        load.until(lambda now: now.requests() >= REQUESTS, 3000)
        account = load.stop()
    clean(account)
    assert account.requests >= REQUESTS
    assert set(releases) <= set(account.releases), "a release that was switched to never answered"
    assert account.data["kinds"]["sse"]["goodbyes"] > 0, "streams of stopped releases end with a goodbye; none was seen"


def clean(account: Account) -> None:
    """Nothing failed, of any kind, and no client had to ask twice."""
    assert account.data["end"] == "stopped", account.table()
    assert account.faults == 0, account.table()
    assert all(numbers["retried"] == 0 for numbers in account.data["kinds"].values()), account.table()
    for kind in ("sse", "ws"):
        assert account.data["kinds"][kind]["cuts"] == account.data["kinds"][kind]["missing"] == 0, account.table()


@pytest.mark.timeout(600)
def test_the_first_release_of_a_colour(served: Platform) -> None:
    """The proxy learns of it by a reload: connections that are asked once a second, or only now, are still with what was before."""
    standby = next(s.release for s in served.traffic().shares if not s.percent)
    served.run(["stop-release", standby]).well()
    before = served.serving()
    context = ssl.create_default_context(cafile=served.cafile)
    port = urllib.parse.urlsplit(served.url).port
    with contextlib.ExitStack() as stack, served.load(get=20, get_rate=20, new=1, new_rate=5, post=0) as load:
        load.until(lambda now: now.ok("get") > 40)
        release = served.run(["bash", "-o", "pipefail", "-c", f"start-release {images.other()} | health-wait"]).well().stdout.strip()
        opened = [stack.enter_context(context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname=served.domain))
                  for _ in range(4)]
        served.run(["swap-upstream", release]).well()
        for one in opened:
            one.settimeout(10)
            one.sendall(f"GET /version HTTP/1.1\r\nHost: {served.domain}\r\nConnection: close\r\n\r\n".encode())
            assert one.recv(4096).startswith(b"HTTP/1.1 200 "), "a connection that was open before, and had asked nothing"
        go_on(load, 60)
        account = load.stop()
    assert account.faults == 0, account.table()
    assert {before, release} <= set(account.releases)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("drain", [True, False])
def test_slow_answers_on_one_connection_of_http2(served: Platform, drain: bool) -> None:
    """A drain waits for each request, though several share a connection: what they run on goes the moment it is over. Control: without."""
    before, (old, standby) = served.serving(), sorted(served.traffic().shares, key=lambda s: -s.percent)

    def act() -> None:
        said = served.run(["swap-upstream", *([] if drain else ["--no-drain"]), standby.release]).well().stderr
        assert ("drained in " in said) == drain, said
        for container in served.containers(old.colour):
            container.remove(force=True)

    answers = asyncio.run(_asked_while(served, act))
    assert all(isinstance(a, Answer) and a.status == 200 and json.loads(a.body)["release"] == before for a in answers) == drain, answers
    served.deploy(images.other()).well()


async def _asked_while(served: Platform, act: Callable[[], None]) -> list[Answer | BaseException]:
    """What came of three slow requests that were with the application before `act`."""
    context = ssl.create_default_context(cafile=served.cafile)
    context.set_alpn_protocols(["h2"])
    conn = await Conn2.open(Target("127.0.0.1", served.port, served.domain, context), 10)

    def get(path: str) -> "asyncio.Future[Answer]":
        return conn.exchange([(b":method", b"GET"), (b":scheme", b"https"), (b":authority", served.domain.encode()),
                              (b":path", path.encode())], 60)

    slow = [get("/slow?seconds=6") for _ in range(3)]
    assert (await get("/version")).status == 200  # the proxy takes them in this order
    await asyncio.to_thread(act)
    try:
        return await asyncio.gather(*slow, return_exceptions=True)
    finally:
        conn.close()


@pytest.mark.timeout(600)
def test_control_recreating_what_serves_fails_requests(served: Platform) -> None:
    with served.load(**EVERYTHING) as load:
        load.until(lambda now: now.ok("slow") > 0, 60)
        for _ in range(5):  # what was in flight at the moment differs from time to time
            served.run([str(served.root / ".venv/bin/python"), "-c", RECREATE]).well()
            go_on(load)
            if load.now.failed():
                break
        account = load.stop()
    assert account.failed > 0, "the harness does not see what `docker compose up --force-recreate` does to users"
    served.deploy(images.good()).well()


@pytest.mark.timeout(600)
def test_control_a_reload_and_an_immediate_stop_fail_requests(served: Platform) -> None:
    served.deploy(images.good()).well()
    with served.load(**EVERYTHING) as load:
        load.until(lambda now: now.ok("slow") > 0, 60)
        old = next(s.colour for s in served.traffic().shares if s.percent)
        standby = next(s.release for s in served.traffic().shares if not s.percent)
        served.run(["swap-upstream", "--no-drain", standby]).well()
        for container in served.containers(old):
            container.remove(force=True)
        load.until(lambda now: now.failed() > 0, 60)
        account = load.stop()
    assert account.failed > 0, "the harness does not see what stopping the old release without a drain does to users"
    served.deploy(images.good()).well()
