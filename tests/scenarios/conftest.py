"""What the scenarios share: one platform for each proxy, brought up when first asked for, and put in order before each scenario."""
import contextlib
import functools
import signal
from collections.abc import Callable, Iterator

import pytest

from scenarios import images
from scenarios.platform import Platform

# Timeouts that nest, as short as scenarios want them; one replica, where not two are the point.
SHORT = {"KEEL_SHUTDOWN_TIMEOUT": "8s", "KEEL_STOP_GRACE": "12s", "KEEL_DRAIN_TIMEOUT": "15s", "KEEL_HEALTH_TIMEOUT": "30s",
         "SHUTDOWN_LAMEDUCK": "500ms", "KEEL_REPLICAS": "1"}


def pytest_configure() -> None:
    """A run that is told to end (SIGTERM) cleans up as one that is interrupted at the keyboard."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def running() -> Iterator[Callable[[str], Platform]]:
    """A platform by its proxy: up, with a good release that serves."""
    with contextlib.ExitStack() as stack:
        stack.callback(images.remove)

        @functools.cache
        def one(proxy: str) -> Platform:
            platform = stack.enter_context(Platform(proxy, **SHORT))
            platform.up()
            platform.deploy(images.good()).well()
            return platform

        yield one


@pytest.fixture(params=["nginx", "caddy"])
def platform(request: pytest.FixtureRequest, running: Callable[[str], Platform]) -> Platform:
    """The same, with its own settings, and nothing half done, nor left to load: a reload of Caddy for another number of replicas, as a
    scenario may have left them, can cut a connection (README)."""
    one = running(request.param)
    one.set()
    code, said = one.status()
    if code:
        one.up()
        one.deploy(images.good()).well()
        code, said = one.status()
    if any(len(share.replicas) != int(SHORT["KEEL_REPLICAS"]) for share in one.traffic().shares):
        for image in (images.other(), images.good()):
            one.deploy(image).well()
        code, said = one.status()
    assert code == 0 and one.serving(), said
    return one
