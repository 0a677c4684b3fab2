"""What users feel of switches: the p99 latency of a run that is full of them, and of the moments of a switch alone."""
import statistics
import time

from load.account import Account
from load.child import Load
from load.ratios import ratio
from scenarios.platform import Platform

from bench import plot
from bench.commands import standby, swap
from bench.report import Report
from bench.size import Size

CONNECTIONS = 32
RATES = {"p99-full": 0, "p99-rate": 1000}


EVERY = 2.0  # seconds from the begin of one switch to that of the next


def latency(report: Report, size: Size, platform: Platform) -> None:
    """Switches under 32 keep-alive connections, as fast as answers come and at a fixed rate; a plot of each."""
    stretches(report, size, platform)
    for figure, rate in RATES.items():
        account, windows = under_load(platform, size, rate)
        assert account.failed == 0, account.table()
        found = ratio(account, "get", 99, windows)
        half = ratio(account, "get", 50, windows)
        report.figure(figure, platform.proxy, found.ratio, switches=len(windows), p99_ms=round(found.outside * 1000, 2),
                      p99_switch_ms=round(found.inside * 1000, 2), p50_ratio=round(half.ratio, 2), requests=account.requests,
                      per_second=round(account.requests / account.data["seconds"]), requests_in_switches=found.inside_count)
        report.sample(figure, platform.proxy, windows=windows, started=account.data["started"], kinds=account.kinds)
        title = f"{platform.proxy}: {len(windows)} switches, {CONNECTIONS} connections, {rate or 'as many as possible'} requests/s"
        (report.folder / f"{figure}-{platform.proxy}.svg").write_text(plot.latency(account.latency["get"], windows, title))


def stretches(report: Report, size: Size, platform: Platform) -> None:
    """Stretches with a switch every two seconds and without any, in turn, within one load; a ratio is that of two neighbours."""
    took: list[float] = []
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with platform.load(get=CONNECTIONS, get_rate=0, new=0, post=0, requests=5_000_000, seconds=1800) as load:
        go_on(load, size.steady)
        for number in range(size.pairs):
            for switching in (False, True) if number % 2 == 0 else (True, False):
                begin = time.time()
                while switching and time.time() < begin + size.stretch:
                    start = time.monotonic()
                    platform.run(["swap-upstream", standby(platform)]).well()
                    took.append(time.monotonic() - start)
                    go_on(load, max(0.0, EVERY - took[-1]))
                go_on(load, max(0.0, begin + size.stretch - time.time()))
                found[switching].append((begin, time.time()))
                go_on(load, 1)  # belongs to neither
        account = load.stop()
    assert account.failed == 0, account.table()
    quiet, busy = ([account.percentile("get", 99, *at) for at in found[switching]] for switching in (False, True))
    ratios = [b / q for q, b in zip(quiet, busy, strict=True)]
    report.sample("p99-run", platform.proxy, quiet=quiet, busy=busy, took=took)
    report.figure("p99-run", platform.proxy, statistics.median(ratios), ratios=[round(r, 2) for r in ratios], switches=len(took),
                  p99_ms=round(statistics.median(quiet) * 1000, 2), p99_switching_ms=round(statistics.median(busy) * 1000, 2),
                  swap_s=round(statistics.median(took), 2), requests=account.requests,
                  per_second=round(account.requests / account.data["seconds"]))


def under_load(platform: Platform, size: Size, rate: int) -> tuple[Account, list[tuple[float, float]]]:
    """The account, and the stretches of time in which swap-upstream ran (from its start until it said that the release is live)."""
    windows = []
    with platform.load(get=CONNECTIONS, get_rate=rate, new=0, post=0, requests=5_000_000, seconds=1800) as load:
        go_on(load, 2 * size.steady)
        for _ in range(size.latency_swaps):
            begin = time.time()
            platform.run(swap(platform)).well()
            windows.append((begin, time.time()))
            go_on(load, 1 + size.steady)  # `ratio` leaves a second after each switch out
        return load.stop(), windows


def go_on(load: Load, seconds: float) -> None:
    """Let the load go on for a while, which fails when it ends before."""
    end = time.monotonic() + seconds
    load.until(lambda _: time.monotonic() >= end, seconds + 30)
