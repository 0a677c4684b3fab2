"""How long the deploy of a built image takes beyond what the containers themselves need, and where that time goes."""
import re
from datetime import datetime
from typing import Any

from scenarios import images
from scenarios.platform import Platform

from bench import steps
from bench.report import Report
from bench.size import Size

PIPE = ("pull-image", "migrate", "start-release", "health-wait", "smoke-test", "swap-upstream")
LIVE = "swap-upstream: live:"
# The engine's own record of what happened to a container.
EVENTS = ("create", "start", "kill", "die", "destroy", "exec_start: nginx")


def deploys(report: Report, size: Size, platform: Platform) -> None:
    """Deploys one after the other, with nobody connected; the drain comes after `live` and is apart."""
    overheads, lives = [], []
    for number in range(size.deploys):
        run = steps.watch(platform, argv(platform, number))
        live, ready = run.line(LIVE), own_time(platform)
        overheads.append(live - max(ready))
        lives.append(live)
        report.sample("deploy-detail", platform.proxy, live=live, ready=ready, whole=run.seconds, lines=run.lines)
    report.medians("deploy", platform.proxy, overheads)
    report.medians("deploy-live", platform.proxy, lives)
    runs = []
    for number in range(size.traced):
        run = steps.trace(platform, argv(platform, number + size.deploys))
        runs.append(run)
        report.sample("deploy-steps", platform.proxy, ready=own_time(platform), engine=happened(platform, run), events=run.dump())
    report.steps[f"make deploy IMAGE=…, {platform.proxy}"] = steps.medians([table(run) for run in runs])


def argv(platform: Platform, number: int) -> list[str]:
    return ["make", "deploy", f"ENV={platform.name}", f"IMAGE={images.good() if number % 2 else images.other()}"]


def own_time(platform: Platform) -> list[float]:
    """Seconds from the start of each container that serves to its own line `ready`."""
    colour = next(s.colour for s in platform.traffic().shares if s.percent)
    found = []
    for container in platform.containers(colour):
        lines = container.logs(timestamps=True).decode().splitlines()
        ready = next((line.split()[0] for line in lines if '"message":"ready"' in line), None)
        assert ready, f"{container.name} never said that it is ready:\n" + "\n".join(lines)
        found.append(seconds(ready) - seconds(container.attrs["State"]["StartedAt"]))
    return found


def seconds(stamp: str) -> float:
    """The engine's times have nanoseconds, one digit more than datetime reads."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", stamp)).timestamp()


def happened(platform: Platform, run: steps.Run) -> list[dict[str, Any]]:
    """What the engine did to the environment's containers during a run; seconds since it began."""
    said = platform.docker.events(since=run.began, until=run.began + run.seconds, decode=True,
                                  filters={"label": f"keel.env={platform.name}"})
    return [{"at": round(e["timeNano"] / 1e9 - run.began, 3), "what": e["Action"], "container": e["Actor"]["Attributes"].get("name")}
            for e in said if e["Type"] == "container" and e["Action"].startswith(EVENTS)]


def table(run: steps.Run) -> dict[str, float]:
    """Seconds by stage of the pipe, from one handle to the next; below each, the steps of its process in that time."""
    found: dict[str, float] = {}
    before = 0.0
    for name in PIPE:
        events = [e for e in run.events if e.command == name]
        done = next(e.end for e in events if e.step == "cli.put") if name != PIPE[-1] else run.line(LIVE)
        found[f"**{name}**"] = done - before
        here = [e for e in events if e.begin >= before and e.end <= done and e.step not in ("cli.main", "python")]
        for step, spent in steps.own(here).items():
            if spent >= 5 * steps.LEAST:
                found[f"{name}: {step}"] = spent
        before = done
    return {**found, "**drain and end**": run.seconds - before, "**whole**": run.seconds}
