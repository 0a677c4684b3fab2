"""How far a stream is: bytes, rate and the time to go."""
import time
from collections.abc import Iterator

from keel import cli

LIVE, DULL = 0.2, 30.0  # seconds between two reports: at a terminal, on one line that is written over, and elsewhere


def over(chunks: Iterator[bytes], what: str, total: int = 0) -> Iterator[bytes]:
    """The same chunks; says now and then how many came by. `total` may be a guess, 0 is none."""
    begin = shown = time.monotonic()
    live, done = cli.live(), 0
    for chunk in chunks:
        yield chunk
        done, now = done + len(chunk), time.monotonic()
        if now - shown >= (LIVE if live else DULL):
            shown = now
            (cli.overwrite if live else cli.say)(text(what, done, total, now - begin))
    if shown > begin and live:
        cli.overwrite("")


def text(what: str, done: int, total: int, seconds: float) -> str:
    """As 'dumped 1.2 of about 3.4 MB, 310 MB/s, 7 s to go'; without a total, or beyond it, no guess."""
    rate = done / max(seconds, 1e-6)
    if done >= total:
        return f"{what} {done / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s"
    return f"{what} {done / 1e6:.1f} of about {total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s, {(total - done) / max(rate, 1):.0f} s to go"
