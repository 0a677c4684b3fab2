"""The hardest form of the promise: the old release is killed the moment the switch says that it is drained."""
import time

from scenarios.platform import Platform

from bench.commands import standby
from bench.report import Report
from bench.size import Size


def killed(report: Report, size: Size, platform: Platform) -> None:
    """Switches to and fro under 32 keep-alive connections; what is left gets SIGKILL, and starts again before it is switched to."""
    drains = []
    with platform.load(get=32, get_rate=0, new=0, post=0, requests=5_000_000, seconds=4 * 3600, timeout=30) as load:
        for _ in range(size.killed_swaps):
            old = next(s.colour for s in platform.traffic().shares if s.percent)
            begin = time.monotonic()
            platform.run(["swap-upstream", standby(platform)]).well()
            for container in platform.containers(old):
                container.kill()
            drains.append({"seconds": round(time.monotonic() - begin, 2), "drained": platform.history()[-1].get("drained")})
            for container in platform.containers(old):
                container.start()
            platform.run(["health-wait", standby(platform)]).well()
        load.until(lambda now: now.requests() >= size.killed_requests, 3600)
        account = load.stop()
    report.sample("killed", platform.proxy, switches=drains, kinds=account.kinds, failures=account.data["failures"])
    report.figure("killed", platform.proxy, account.failed, requests=account.requests, retried=account.data["retried"],
                  switches=size.killed_swaps, drained=sum(d["drained"] is True for d in drains),
                  seconds=round(account.data["seconds"]))
    if account.failed:
        report.broken("killed", platform.proxy, account.table())
