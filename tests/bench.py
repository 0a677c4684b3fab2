#!/usr/bin/env python3
"""bench: every figure that evenkeel promises, measured on this machine, for nginx and for Caddy.

    make bench                                  everything: about an hour, on a machine that does nothing else
    KEEL_BENCH=short make bench                 a twentieth of it: shows that everything works, and no figure worth keeping
    tests/bench.py --proxy nginx commands help  some parts (commands, deploys, latency, throughput, killed, help), with an engine that runs

A Markdown table goes to stdout; samples (JSON lines), summary and plots to a folder of the run below var/bench/, which `latest` names.
A goal that is missed is a figure. Exit 1: something could not be measured, or requests failed.
"""
import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "tests")]

from bench import commands, deploys, killed, latency, throughput  # noqa: E402
from bench.report import Report  # noqa: E402
from bench.size import Size  # noqa: E402
from scenarios import images  # noqa: E402
from scenarios.platform import Platform  # noqa: E402

Part = Callable[[Report, Size, Platform], None]
PARTS: dict[str, Part] = {"commands": commands.switches, "deploys": deploys.deploys, "latency": latency.latency,
                          "throughput": throughput.throughput, "killed": killed.killed}


def main() -> int:
    """The exit code."""
    wanted = arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # everything below is cleaned up by its `with`
    # As a user's shell has it: without .venv/bin, which a `make` around us may have put there, and without shims of Python managers.
    os.environ["PATH"] = ":".join(p for p in os.environ["PATH"].split(":") if Path(p) != ROOT / ".venv/bin" and Path(p).name != "shims")
    size, parts = wanted.size, wanted.parts or [*PARTS, "help"]
    report = Report(ROOT / "var" / "bench", size, wanted.proxy)
    try:
        if "help" in parts:
            attempt(report, "help", "", partial(commands.helps, report, size))
        for proxy in wanted.proxy if set(parts) & set(PARTS) else ():
            attempt(report, "a platform", proxy, partial(measure, report, size, proxy, parts))
    finally:
        images.remove()
        report.close()
    print(report.table(), flush=True)
    return 1 if report.failed else 0


def arguments() -> argparse.Namespace:
    """What is to be measured."""
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxy", action="append", choices=("nginx", "caddy"), help="one of them only")
    parser.add_argument("parts", nargs="*", metavar="PART", help="commands, deploys, latency, throughput, killed, help; all without one")
    wanted = parser.parse_args()
    if unknown := set(wanted.parts) - {*PARTS, "help"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    try:
        wanted.size = Size.named(os.environ.get("KEEL_BENCH") or "full")
    except ValueError as e:
        parser.error(f"KEEL_BENCH={e}")
    wanted.proxy = wanted.proxy or ["nginx", "caddy"]
    return wanted


def measure(report: Report, size: Size, proxy: str, parts: list[str]) -> None:
    """Every part for one proxy, each on a platform with a release that serves and a standby."""
    good, other = images.good(), images.other()
    with Platform(proxy) as platform:
        report.say(f"{proxy}: starting {platform.name} on {platform.url}")
        platform.up()
        for name, part in PARTS.items():
            if name in parts:
                platform.set()
                if platform.status()[0] or len(platform.traffic().shares) < 2:
                    platform.deploy(other).well()
                    platform.deploy(good).well()
                report.say(f"{proxy}: {name}")
                attempt(report, name, proxy, partial(part, report, size, platform))


def attempt(report: Report, name: str, proxy: str, act: Callable[[], None]) -> None:
    """Measure; what cannot be measured is in the report, and the rest goes on."""
    try:
        act()
    except Exception:
        report.broken(name, proxy, traceback.format_exc())


if __name__ == "__main__":
    sys.exit(main())
