"""What was measured: samples as JSON lines while they come, a summary and a table at the end."""
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios.machine import ROOT, engine

from bench.size import Size


@dataclass(frozen=True)
class Figure:
    """One row of the table; without a goal it is only reported."""

    text: str
    unit: str
    goal: str = "report"
    met: Callable[[float], bool] | None = None


def at_most(limit: float, text: str, unit: str) -> Figure:
    return Figure(text, unit, f"≤ {limit:g}{unit and ' '}{unit}", lambda value: value <= limit)


def at_least(limit: float, text: str, unit: str) -> Figure:
    return Figure(text, unit, f"≥ {limit:g}{unit and ' '}{unit}", lambda value: value >= limit)


FIGURES = {
    "swap": at_most(0.5, "`swap-upstream --no-drain`, whole command, until proven live", "s"),
    "swap-load": at_most(0.5, "the same under light load", "s"),
    "rollback": at_most(1, "`make rollback`, whole command, proven live", "s"),
    "rollback-load": at_most(1, "the same under light load", "s"),
    "deploy": at_most(3, "deploy of a built image: time beyond the container's own time to ready (2 replicas)", "s"),
    "deploy-live": Figure("the same from start until live", "s"),
    "p99-run": at_most(1.5, "p99 latency of a run with a switch every 2 s ÷ of one without, 32 connections, as fast as answers come "
                            "(kamal-proxy's 1.04–1.4 is this)", ""),
    "p99-full": at_most(1.5, "p99 of the moments in which `swap-upstream` runs alone ÷ steady state, 32 connections, as fast as answers "
                             "come", ""),
    "p99-rate": at_most(1.5, "the same at 1,000 requests/s", ""),
    "throughput": at_least(0.9, "throughput with all features on ÷ bare proxy, sample application", ""),
    "throughput-cpu": Figure("CPU of the proxy per request ÷ bare proxy, sample application", ""),
    "instant": Figure("requests/s with all features on, instant backend", "/s"),
    "instant-cpu": Figure("CPU of the proxy per request, all features on, instant backend", "µs"),
    "instant-ratio": Figure("throughput with all features on ÷ bare proxy, instant backend", ""),
    "instant-cpu-ratio": Figure("CPU of the proxy per request ÷ bare proxy, instant backend", ""),
    "help": at_most(150, "`--help`, the slowest command", "ms"),
    "killed": at_most(0, "failed requests, old release killed right after the drain", ""),
}


class Report:
    """One run: a folder of its own below var/bench/."""

    def __init__(self, parent: Path, size: Size, proxies: Sequence[str]) -> None:
        self.folder = parent / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.folder.mkdir(parents=True)
        self.size, self.proxies, self.failed = size, proxies, False
        self.values: dict[str, dict[str, float]] = {}
        self.details: dict[str, dict[str, Any]] = {}
        self.steps: dict[str, Any] = {}
        self.faults: list[dict[str, str]] = []
        self.facts = facts(size)
        self.samples = open(self.folder / "samples.jsonl", "a", buffering=1)
        self.samples.write(json.dumps({"facts": self.facts}) + "\n")

    def say(self, text: str) -> None:
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def sample(self, figure: str, proxy: str, **values: Any) -> None:
        """One measurement, as it was."""
        self.samples.write(json.dumps({"time": round(time.time(), 3), "figure": figure, "proxy": proxy, **values}) + "\n")

    def figure(self, name: str, proxy: str, value: float, **detail: Any) -> None:
        """A row's value; `proxy` is empty where it does not matter."""
        self.values.setdefault(name, {})[proxy] = value
        self.details.setdefault(name, {})[proxy] = detail
        self.say(f"{proxy or 'all'}: {name}: {shown(value, FIGURES[name].unit)} {detail or ''}")

    def medians(self, name: str, proxy: str, values: Sequence[float]) -> None:
        """A row's value from several samples."""
        for value in values:
            self.sample(name, proxy, value=round(value, 6))
        self.figure(name, proxy, statistics.median(values), least=min(values), most=max(values), count=len(values))

    def broken(self, name: str, proxy: str, reason: str) -> None:
        """Something could not be measured."""
        self.failed = True
        self.faults.append({"part": name, "proxy": proxy, "reason": reason})
        self.say(f"{proxy}: {name} could not be measured\n{reason}")

    def met(self, name: str) -> bool | None:
        """Whether every measured value meets the goal; None where there is none."""
        goal, values = FIGURES[name].met, self.values.get(name)
        return all(goal(value) for value in values.values()) if goal and values else None

    def close(self) -> None:
        """Write the summary; `latest` names this run from now on."""
        self.facts["load_after"] = os.getloadavg()
        figures = {name: {"figure": f.text, "unit": f.unit, "goal": f.goal, "measured": self.values.get(name, {}), "met": self.met(name),
                          "detail": self.details.get(name, {})} for name, f in FIGURES.items()}
        said = {"facts": self.facts, "figures": figures, "steps": self.steps, "faults": self.faults}
        (self.folder / "summary.json").write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n")
        (self.folder / "table.md").write_text(self.table() + "\n")
        self.samples.close()
        latest = self.folder.with_name("latest.new")
        latest.unlink(missing_ok=True)
        latest.symlink_to(self.folder.name)
        latest.rename(self.folder.with_name("latest"))

    def table(self) -> str:
        """The figures, and where the time goes, in Markdown."""
        f = self.facts
        out = [f"{f['cores']} cores ({f['processor']}), engine {f['engine']}, load before {f['load_before'][0]:.1f}, {f['size']} run, "
               f"commit {f['commit'] or 'none'}; samples and plots: {self.folder.relative_to(ROOT)}", ""]
        if f["busy"]:
            out += ["**The machine was busy when this began: no figure here is worth keeping.**", ""]
        out += ["| figure | goal | " + " | ".join(self.proxies) + " | met? |", "|---" * (3 + len(self.proxies)) + "|"]
        for name, figure in FIGURES.items():
            values = self.values.get(name, {})
            cells = [shown(values.get(proxy, values.get("")), figure.unit) for proxy in self.proxies]
            met = {True: "yes", False: "no", None: "" if values or figure.met is None else "not measured"}[self.met(name)]
            out.append(f"| {figure.text} | {figure.goal} | {' | '.join(cells)} | {met} |")
        for title, steps in self.steps.items():
            out += ["", f"{title} (ms, median; time spent in a step itself, not in those below it)", "", "| step | ms |", "|---|---|"]
            out += [f"| {step} | {ms:.0f} |" for step, ms in steps.items()]
        return "\n".join(out)


def shown(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    digits = 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{unit and ' '}{unit}"


def facts(size: Size) -> dict[str, Any]:
    """What the figures depend on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())
    git = subprocess.run(["git", "-C", str(ROOT), "-c", "safe.directory=*", "rev-parse", "--short", "HEAD"], check=False,
                         capture_output=True, text=True)
    load, cores, client = os.getloadavg(), len(os.sched_getaffinity(0)), engine()
    return {"time": time.strftime("%FT%TZ", time.gmtime()), "size": size.name, "cores": cores, "processor": cpu[1] if cpu else "unknown",
            "memory_mib": int(memory[1]) >> 10 if memory else 0, "kernel": platform.release(), "python": platform.python_version(),
            "engine": client.version()["Version"], "commit": git.stdout.strip() if git.returncode == 0 else "", "load_before": load,
            "busy": load[0] > cores / 2}
