"""Run a plan: all client kinds at once, then the proof of what was stored, then the account."""
import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable
from typing import Any

from .client import Client, Pacer, Run, gets
from .plan import Plan
from .stores import Ledger, an_event, posts, verify
from .streams import Sse, WebSocket, follow
from .tally import WALL, Tally

KINDS = ("get", "new", "h2", "h2_new", "post", "slow", "sse", "ws")


async def drive(plan: Plan) -> dict[str, Any]:
    """The account of one load (fields: README). Raises Broken when it cannot start: no event to register for."""
    run = Run(plan.target(), plan.authority(), plan.requests, timeout=plan.timeout, strict=plan.strict)
    sweep = asyncio.ensure_future(run.expire())
    event: int | str = int(plan.event_id) if plan.event_id.isdecimal() else plan.event_id
    if plan.post and not event:
        event = await an_event(run)
    tallies = {kind: Tally(kind) for kind in KINDS if getattr(plan, kind)}
    ledger = Ledger()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, run.stop, "stopped")
    if plan.until_eof:
        loop.add_reader(sys.stdin.fileno(), _stdin, loop, run)
    # a collection of millions of live counters would show up as latency
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    started, burnt = time.monotonic(), _cpu()
    timer = loop.call_later(plan.seconds, run.stop, "seconds")
    report = asyncio.ensure_future(_report(tallies)) if plan.progress else None
    async with asyncio.TaskGroup() as group:
        for work in _clients(plan, run, tallies, ledger, event):
            group.create_task(work)
    timer.cancel()
    ended, burnt = time.monotonic(), _cpu() - burnt
    stores = (await verify(run, ledger)).dump() if plan.post else None
    for task in (report, sweep):
        if task:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    return {"started": started + WALL, "ended": ended + WALL, "seconds": ended - started, "end": run.ended, "strict": plan.strict,
            "client_cpu": burnt, "kinds": {kind: tally.dump() for kind, tally in tallies.items()}, "stores": stores,
            "failures": sorted((f for tally in tallies.values() for f in tally.failures), key=lambda f: float(f["time"]))}


def _clients(plan: Plan, run: Run, tallies: dict[str, Tally], ledger: Ledger, event: int | str) -> Iterable[Any]:
    slow = (f"/slow?seconds={plan.slow_seconds:g}",)
    pacers = {kind: Pacer(run, getattr(plan, f"{kind}_rate", 0.0), plan.from_due) for kind in KINDS}
    for kind, tally in tallies.items():
        pacer = pacers[kind]
        if kind in ("h2", "h2_new"):
            from .client2 import Client2  # its library is among those of the tests, which `make demo` has not

            target = plan.target("h2")
            for client2 in (Client2(run, tally, number, target) for number in range(getattr(plan, kind))):
                for _ in range(plan.h2_streams if kind == "h2" else 1):
                    yield gets(client2, pacer, plan.get_path, fresh=kind == "h2_new")
            continue
        for number in range(getattr(plan, kind)):
            if kind in ("sse", "ws"):
                yield follow(run, tally, number, Sse.dial if kind == "sse" else WebSocket.dial, plan.silence)
                continue
            client = Client(run, tally, number)
            if kind == "post":
                yield posts(client, pacer, ledger, event)
            elif kind == "slow":
                yield gets(client, pacer, slow, wait=plan.slow_seconds)
            else:
                yield gets(client, pacer, plan.get_path, fresh=kind == "new")


async def _report(tallies: dict[str, Tally]) -> None:
    while True:
        kinds = {kind: {"requests": t.requests, "ok": t.ok, "failed": t.failed, "events": t.events, "goodbyes": t.goodbyes,
                        "releases": {name: seen.answers for name, seen in t.releases.items()}} for kind, t in tallies.items()}
        print(json.dumps({"progress": kinds}), flush=True)
        await asyncio.sleep(0.1)


def _stdin(loop: asyncio.AbstractEventLoop, run: Run) -> None:
    # the parent closes its end to stop the load, and a parent that died has closed it too
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        run.stop("stopped")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
