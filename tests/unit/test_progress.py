"""How far a stream is, as a person reads it."""
import time
from collections.abc import Iterator

import pytest

from keel import cli, progress


@pytest.mark.parametrize("done,total,seconds,said", [
    (50_000_000, 200_000_000, 0.5, "dumped 50.0 of about 200.0 MB, 100.0 MB/s, 2 s to go"),
    (200_000_000, 200_000_000, 2.0, "dumped 200.0 MB, 100.0 MB/s"),     # a guess that was too low is not repeated
    (300_000_000, 200_000_000, 2.0, "dumped 300.0 MB, 150.0 MB/s"),
    (1_500_000, 0, 1.0, "dumped 1.5 MB, 1.5 MB/s"),
    (0, 10, 0.0, "dumped 0.0 of about 0.0 MB, 0.0 MB/s, 10 s to go"),
])
def test_the_words(done: int, total: int, seconds: float, said: str) -> None:
    assert progress.text("dumped", done, total, seconds) == said


class Clock:
    """A time that passes by as much as each chunk took."""

    def __init__(self) -> None:
        self.now = 100.0

    def chunks(self, step: float, count: int) -> Iterator[bytes]:
        for _ in range(count):
            self.now += step
            yield b"x" * 1_000_000


@pytest.mark.parametrize("live,step,lines", [(False, 10.0, 3), (False, 1.0, 0), (True, 0.25, 10), (True, 0.001, 0)])
def test_a_line_every_30_s_off_a_terminal_and_five_a_second_on_one(
        monkeypatch: pytest.MonkeyPatch, live: bool, step: float, lines: int) -> None:
    clock, said = Clock(), list[str]()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(cli, "live", lambda: live)
    monkeypatch.setattr(cli, "say", said.append)
    monkeypatch.setattr(cli, "overwrite", said.append)
    assert b"".join(progress.over(clock.chunks(step, 10), "dumped", 20_000_000)) == b"x" * 10_000_000
    reports = [line for line in said if line]
    assert len(reports) == lines, said
    assert all(line.startswith("dumped ") and "MB/s" in line for line in reports)
    if live and lines:
        assert said[-1] == "", "the line is taken away in the end"
