"""What crashes comes back without anyone's help: a replica (also with another address), PostgreSQL, Redis, the proxy."""
import datetime
import json
import os
import signal
import time

import pytest
import requests
from docker.models.containers import Container

from scenarios import images
from scenarios.machine import until
from scenarios.platform import Platform

pytestmark = pytest.mark.timeout(180)
READERS = {"post": 0, "get": 6, "get_rate": 120}  # a POST that a dying replica had begun cannot be sent again by anyone


def serving(platform: Platform, count: int) -> list[Container]:
    """The replicas that serve; so many of them, after a deploy where there were not."""
    def found() -> list[Container]:
        release = platform.serving()
        return [c for c in platform.containers() if c.labels["keel.release"] == release]

    platform.set(KEEL_REPLICAS=str(count))
    if len(found()) != count:
        platform.deploy(images.other()).well()
    assert len(found()) == count
    return found()


def address(platform: Platform, container: Container) -> str:
    container.reload()
    return str(container.attrs["NetworkSettings"]["Networks"][f"keel-{platform.name}_edge"]["IPAddress"])


def ready(platform: Platform, container: Container) -> int:
    """The status of a replica's readiness, asked directly; 0 without an answer."""
    try:
        return requests.get(f"http://{address(platform, container)}:3000/health/ready", timeout=3).status_code
    except requests.RequestException:
        return 0


def serves_again(platform: Platform, container: Container, since: float) -> bool:
    """Whether the proxy has sent it a request that it answered, as the access log says."""
    known = {f"{address(platform, container)}:3000", f"{container.name}:3000"}
    done = platform.run(["logs", "--tail", "20000", "access"]).well()
    lines = (json.loads(line[line.index("{"):]) for line in done.stdout.splitlines() if "{" in line)
    return any(line.get("upstream") in known and line["status"] == 200 and moment(line["time"]) >= since for line in lines)


def moment(text: str) -> float:
    """Seconds since 1970 of a line's time, to the second that nginx writes."""
    return datetime.datetime.fromisoformat(text).timestamp() + 1


def crash(container: Container) -> None:
    """kill -9 from outside: a stop through the engine would count as wanted, and nothing would start it again."""
    container.reload()
    os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)


def test_a_replica_crashes(platform: Platform) -> None:
    one = serving(platform, 2)[0]
    restarts = one.attrs["RestartCount"]
    with platform.unharmed(**READERS):
        crash(one)
        until(lambda: one.reload() or one.attrs["RestartCount"] > restarts and ready(platform, one) == 200)
        back = time.time()
        until(lambda: serves_again(platform, one, back))
    assert platform.status()[0] == 0


def test_a_replica_comes_back_with_another_address(platform: Platform) -> None:
    one, squatters = serving(platform, 2)[0], []
    before = address(platform, one)
    try:
        with platform.unharmed(**READERS):
            one.stop()
            while before not in [address(platform, s) for s in squatters]:  # somebody else gets its address meanwhile
                assert len(squatters) < 20
                squatters.append(platform.docker.containers.run(one.image, ["tail", "-f", "/dev/null"], detach=True, entrypoint=[],
                                                                network=f"keel-{platform.name}_edge",
                                                                labels={"keel.env": platform.name, "keel.role": "squatter"}))
            one.start()
            until(lambda: ready(platform, one) == 200)
            assert address(platform, one) != before
            back = time.time()
            until(lambda: serves_again(platform, one, back))
    finally:
        for squatter in squatters:
            squatter.remove(force=True)


@pytest.mark.parametrize("platform", ["nginx"], indirect=True)
@pytest.mark.parametrize("service", ["postgres", "redis"])
def test_a_data_store_restarts(platform: Platform, service: str) -> None:
    """Readiness tells, the process lives on, and what needs no data goes on being answered."""
    one, store = serving(platform, 1)[0], platform.service(service)
    begun = one.attrs["State"]["StartedAt"]
    with platform.unharmed(post=0):
        store.kill()
        until(lambda: ready(platform, one) == 503)
        assert any(f"{service} is not running" in p for p in platform.status()[1]["problems"])
        store.start()
        until(lambda: ready(platform, one) == 200)
    one.reload()
    assert one.attrs["State"]["StartedAt"] == begun and one.attrs["RestartCount"] == 0
    with platform.unharmed(get_path=("/events",)):
        until(lambda: platform.status()[0] == 0)


def test_the_proxy_crashes(platform: Platform) -> None:
    """It comes back by itself with the same traffic. Nobody could answer meanwhile: this is the control, for the load must see that."""
    proxy, traffic = platform.service("proxy"), platform.traffic()
    restarts = proxy.attrs["RestartCount"]
    with platform.load() as load:
        load.until(lambda now: now.ok() > 20)
        crash(proxy)
        until(lambda: proxy.reload() or proxy.attrs["RestartCount"] > restarts)
        load.until(lambda now: now.failed() > 0)
        until(lambda: platform.status()[0] == 0)
        seen = load.now.ok()
        load.until(lambda now: now.ok() > seen + 20)
        account = load.stop()
    assert account.failed and platform.traffic() == traffic
    assert platform.get("/version").json()["release"] == platform.serving()


@pytest.mark.parametrize("platform", ["nginx"], indirect=True)
def test_control_a_single_replica_that_crashes_is_seen(platform: Platform) -> None:
    """The harness would notice: nobody else lives who could answer."""
    [one] = serving(platform, 1)
    with platform.load(**READERS) as load:
        load.until(lambda now: now.ok() > 20)
        crash(one)
        load.until(lambda now: now.failed() > 0)
        until(lambda: ready(platform, one) == 200)
        seen = load.now.ok()
        load.until(lambda now: now.ok() > seen + 20)
        assert load.stop().failed
