"""Where the time of a command goes: its steps, written down by the interpreter itself (trace/sitecustomize.py)."""
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from scenarios.platform import Platform

TRACE = Path(__file__).parent / "trace"
LEAST = 0.002  # seconds; what is shorter is not shown
SHARED = ("health.wait",)  # says nothing without who waits


@dataclass(frozen=True)
class Event:
    """One step of one process; seconds since the run began."""

    pid: int
    thread: int
    command: str
    step: str
    begin: float
    end: float


@dataclass(frozen=True)
class Run:
    """A command that ended well: when it began (since 1970), its seconds, its lines on stderr as they came, its steps if traced."""

    began: float
    seconds: float
    lines: list[tuple[float, str]]
    events: list[Event]

    def line(self, words: str) -> float:
        """When the first line with these words came. Raises AssertionError where there is none."""
        found = [at for at, text in self.lines if words in text]
        assert found, f"no line with {words!r} in\n" + "\n".join(text for _, text in self.lines)
        return found[0]

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {"began": self.began, "seconds": self.seconds, "lines": self.lines,
                "steps": [[e.pid, e.command, e.step, round(e.begin, 4), round(e.end, 4)] for e in self.events]}


def watch(platform: Platform, argv: list[str], seconds: float = 180, **env: str) -> Run:
    """Run a command to its end, with the time at which each line on stderr came. Raises AssertionError when it does not end well."""
    lines: list[tuple[float, str]] = []
    began, begin = time.time(), time.monotonic()
    with subprocess.Popen(argv, cwd=platform.root, env=platform.env(**env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True) as child:
        late = threading.Timer(seconds, child.terminate)
        late.start()
        try:
            for line in child.stderr or ():
                lines.append((time.monotonic() - begin, line.rstrip()))
            code = child.wait()
        finally:
            late.cancel()
    took = time.monotonic() - begin
    assert code == 0, f"{argv} ended with {code}\n" + "\n".join(text for _, text in lines)
    return Run(began, took, lines, [])


def trace(platform: Platform, argv: list[str]) -> Run:
    """The same with its steps."""
    with tempfile.NamedTemporaryFile("r", prefix="bench-trace-") as file:
        begin = time.monotonic()
        run = watch(platform, argv, PYTHONPATH=str(TRACE), BENCH_TRACE=file.name)
        events = []
        for line in file:
            pid, thread, command, step, first, last = line.rstrip("\n").split("\t")
            events.append(Event(int(pid), int(thread), command, step, float(first) - begin, float(last) - begin))
    return Run(run.began, run.seconds, run.lines, sorted(events, key=lambda e: e.begin))


def own(events: Sequence[Event]) -> dict[str, float]:
    """Seconds that each step took by itself, without the steps inside it; of one process, in order of their first appearance."""
    spent: dict[str, float] = {}
    stacks: dict[int, list[tuple[Event, str]]] = {}  # threads run side by side
    for event in sorted(events, key=lambda e: (e.begin, -e.end)):
        stack = stacks.setdefault(event.thread, [])
        while stack and stack[-1][0].end <= event.begin:
            stack.pop()
        name = event.step
        if stack:
            spent[stack[-1][1]] -= event.end - event.begin
            if name in SHARED:
                name = f"{name}, of {stack[-1][0].step}"
        spent[name] = spent.get(name, 0.0) + event.end - event.begin
        stack.append((event, name))
    return spent


def command(runs: Sequence[Run], name: str) -> dict[str, float]:
    """Milliseconds by step of a command that is one process: the median of the runs."""
    return medians([_one(run, name) for run in runs])


def _one(run: Run, name: str) -> dict[str, float]:
    events = [e for e in run.events if e.command in (name, "python")]
    starts = [e.begin for e in events if e.step == "python"]
    main = next(e for e in events if e.step == "cli._outcome")
    imports = own([e for e in events if e.step.startswith("import") and e.begin < main.begin])
    inside = own([e for e in events if e.begin >= main.begin])
    return {"first python, up to its first line": starts[0], "first python, until it became the venv's": starts[-1] - starts[0],
            **imports, "before the command's own code, apart from these": main.begin - starts[-1] - sum(imports.values()),
            **{step: spent for step, spent in inside.items() if spent >= LEAST}, "exit": run.seconds - main.end, "whole": run.seconds}


def medians(tables: Sequence[dict[str, float]]) -> dict[str, float]:
    """Step by step, in milliseconds; one that a run does not have counts as 0."""
    return {step: median([t.get(step, 0.0) for t in tables]) * 1000 for step in dict.fromkeys(s for t in tables for s in t)}
