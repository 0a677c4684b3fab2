"""What the scenarios share: one platform for each proxy, brought up once, and put in order before each scenario."""
from collections.abc import Iterator

import pytest

from scenarios import images
from scenarios.platform import Platform

# Timeouts that nest, as short as scenarios want them.
SHORT = {"KEEL_SHUTDOWN_TIMEOUT": "8s", "KEEL_STOP_GRACE": "12s", "KEEL_DRAIN_TIMEOUT": "15s", "KEEL_HEALTH_TIMEOUT": "20s",
         "SHUTDOWN_LAMEDUCK": "500ms"}


@pytest.fixture(scope="session", autouse=True)
def _images() -> Iterator[None]:
    yield
    images.remove()


@pytest.fixture(scope="session", params=["nginx", "caddy"])
def running(request: pytest.FixtureRequest) -> Iterator[Platform]:
    """A platform that is up."""
    good = images.good()
    with Platform(request.param, **SHORT) as platform:
        platform.up()
        platform.deploy(good).well()
        yield platform


@pytest.fixture
def platform(running: Platform) -> Platform:
    """The same, with its own settings, a good release that serves, and nothing half done."""
    running.set()
    code, said = running.status()
    if code or not running.traffic().shares:
        running.up()
        running.deploy(images.good()).well()
        code, said = running.status()
    assert code == 0, said
    return running
