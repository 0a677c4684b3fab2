"""What users feel of a switch: the p99 latency during switches against the steady state of the same run."""
import time

from load.account import Account
from load.child import Load
from load.ratios import ratio
from scenarios.platform import Platform

from bench import plot
from bench.commands import swap
from bench.report import Report
from bench.size import Size

CONNECTIONS = 32
RATES = {"p99-full": 0, "p99-rate": 1000}


def latency(report: Report, size: Size, platform: Platform) -> None:
    """Switches under 32 keep-alive connections, as fast as answers come and at a fixed rate; a plot of each."""
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
