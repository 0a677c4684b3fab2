"""How long commands take: a switch, a rollback, each `--help`; and where the time of a switch goes."""
import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from scenarios.machine import ROOT, environ
from scenarios.platform import Platform

from bench import steps
from bench.report import Report
from bench.size import Size


def switches(report: Report, size: Size, platform: Platform) -> None:
    """swap-upstream and rollback between two releases that run, idle and under light load; the steps of a switch."""
    proxy = platform.proxy
    for tail, load in (("", contextlib.nullcontext()), ("-load", platform.unharmed())):
        with load:
            report.medians(f"swap{tail}", proxy, [timed(platform, swap(platform)) for _ in range(size.swaps)])
            report.medians(f"rollback{tail}", proxy, [rolled_back(platform) for _ in range(size.rollbacks)])
    runs = [steps.trace(platform, swap(platform)) for _ in range(size.traced)]
    for run in runs:
        report.sample("swap-steps", proxy, events=run.dump())
    report.steps[f"swap-upstream --no-drain, {proxy}"] = steps.command(runs, "swap-upstream")


def swap(platform: Platform) -> list[str]:
    return ["swap-upstream", "--no-drain", standby(platform)]


def rolled_back(platform: Platform) -> float:
    """Seconds of a rollback; to a release that has served since it was last rolled back from, or it would be refused."""
    platform.run(swap(platform)).well()
    return timed(platform, ["make", "rollback", f"ENV={platform.name}"])


def standby(platform: Platform) -> str:
    """The release at 0 %."""
    return next(s.release for s in platform.traffic().shares if s.percent == 0)


def timed(platform: Platform, argv: list[str]) -> float:
    """Seconds that a command takes, as whoever types it sees it."""
    begin = time.perf_counter()
    done = platform.run(argv)
    seconds = time.perf_counter() - begin
    done.well()
    return seconds


def helps(report: Report, size: Size) -> None:
    """`--help` of every command: the slowest median."""
    medians = {path.name: median_of(path, size.helps) for path in sorted((ROOT / "bin").iterdir()) if runnable(path)}
    for name, seconds in medians.items():
        report.sample("help", "", command=name, ms=round(seconds * 1000, 1))
    slowest = max(medians, key=lambda name: medians[name])
    report.figure("help", "", medians[slowest] * 1000, slowest=slowest, fastest_ms=min(medians.values()) * 1000, commands=len(medians))


def runnable(path: Path) -> bool:
    return path.is_file() and path.suffix != ".py" and os.access(path, os.X_OK)


def median_of(path: Path, runs: int) -> float:
    return middle([one_help(path) for _ in range(runs)])


def one_help(path: Path) -> float:
    begin = time.perf_counter()
    subprocess.run([path, "--help"], check=True, env=environ(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
