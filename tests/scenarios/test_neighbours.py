"""Two environments on one host, one behind nginx and one behind Caddy, that deploy at the same time: neither notices the other."""
from collections.abc import Callable

import pytest

from scenarios import images
from scenarios.platform import Platform


@pytest.mark.timeout(240)
def test_two_environments_deploy_at_once(running: Callable[[str], Platform]) -> None:
    both = running("nginx"), running("caddy")
    for platform in both:
        platform.set()
    pipes = [[*head, pipe] for head, pipe in (platform.pipe(images.other()) for platform in both)]
    known, before = [len(platform.history()) for platform in both], {platform.serving() for platform in both}
    with both[0].unharmed(), both[1].unharmed(), both[0].start(pipes[0]) as first, both[1].start(pipes[1]) as second:
        done = [first.end(), second.end()]
    assert [d.code for d in done] == [0, 0], "\n".join(map(str, done))
    for platform, result in zip(both, done, strict=True):
        assert platform.serving() == result.stdout.strip() not in before
        assert platform.get("/version").json()["release"] == platform.serving()
        assert platform.status()[0] == 0
    times = [[line["time"] for line in platform.history()[n:]] for platform, n in zip(both, known, strict=True)]
    assert max(min(t) for t in times) < min(max(t) for t in times), f"one deployed after the other: {times}"
