"""Moving traffic between releases: what swap-upstream and rollback share."""
import re
import time
from collections.abc import Callable

from keel import acme, engine, host, in_flight, lock, probe, proxy, releases, run, state, traffic, traffic_file
from keel import settings as rooms
from keel.proxy import Say
from keel.settings import Settings
from keel.stop import CONFIG, NO, Stop

# All that a switch reads of the settings.
NEEDS = {"DOCKER_CONFIG", "DOCKER_HOST", "KEEL_TOOLS", *(f"KEEL_{name}" for name in (
    "ACME_DIRECTORY", "ACME_EMAIL", "ACME_ROOT", "APP_PORT", "BALANCE", "BODY_LIMIT", "CACHE", "DOMAIN", "DRAIN_TIMEOUT", "HTTPS_PORT",
    "HTTP_PORT", "KEEPALIVE_PROXY", "PROXY", "RATE_BURST", "RATE_LIMIT", "READ_TIMEOUT", "READY_PATH", "REPLICAS", "STATE", "TLS"))}


def enough(found: Settings, warn: Say) -> Settings:
    """The settings, where all that a switch needs of them is well-formed; each other fault is warned of: a rollback is not held up by it.

    Raises Stop 78 with all faults where one of them matters.
    """
    faults = rooms.faults(found)
    if any(_matters(fault) for fault in faults if fault not in rooms.nesting(found)):
        raise Stop("\n".join(faults), CONFIG, f"edit {found.file} or secrets/{found.env}.env; compose/example.env explains each")
    for fault in faults:
        warn(f"{fault} (not needed for this)")
    for crowded in rooms.uploads(found):
        warn(crowded)
    return found


def _matters(fault: str) -> bool:
    """Whether it names what a switch needs, or is of a line or file that cannot be read, which may hold it; none of it is a secret."""
    unread = " is not NAME=value" in fault or " cannot be read: " in fault
    return not NEEDS.isdisjoint(re.findall(r"[A-Z][A-Z0-9_]+", fault)) or (unread and not fault.startswith("secrets/"))


def to(settings: Settings, release: str, percent: int, say: Say, drain: bool) -> None:
    """Give a release its share; returns once it is proven live (and the old release drained, where asked).

    Raises Stop 1 when it cannot take traffic or never went live, then the old traffic is back; 65, 69, 75, 78 as `proxy.switch`.
    """
    begin = time.monotonic()
    lock.hold(settings, "swap-upstream")
    host.ours(settings)
    if run.dry:
        run.dry(f"give {release} {percent} % of the traffic, prove it, drain the old release")
        return
    acme.granted(settings)
    replicas = _all_run(settings, release)
    before = proxy.current(settings)
    share = traffic.Share(release, replicas[0].colour, percent, tuple(r.name for r in replicas))
    if not percent and all(s.colour == share.colour for s in before.shares):
        raise Stop(f"{release}: is alone: nobody else could take its share", NO, "deploy another release first, or maintenance on")
    wanted = traffic.Traffic(0, proxy.shares(before, share), before.maintenance)
    state.note(settings.state, command="swap-upstream", step="begin", release=release, share=percent, generation=before.generation,
               whole=_whole(before))
    try:
        left = _move(settings, share, wanted, say)
    except BaseException:
        state.note(settings.state, command="swap-upstream", step="failed", release=release, share=percent)
        raise
    live = proxy.current(settings)
    state.note(settings.state, command="swap-upstream", step="live", release=release, share=percent, generation=live.generation,
               whole=_whole(live))
    say(f"live: {proxy.describe(live)} (proven in {time.monotonic() - begin:.2f} s)")
    drained = not drain or left is None or in_flight.drain(settings, left, say)
    state.note(settings.state, command="swap-upstream", step="end", release=release, share=percent, drained=bool(drained))


def _move(settings: Settings, share: traffic.Share, wanted: traffic.Traffic, say: Say) -> Callable[[], str] | None:
    """Make the shares live; answers what is still in flight on a release that lost its last share, None where none did."""
    before = proxy.current(settings)
    if not _configured(settings, before, share):
        # The proxy must know the names of these containers before their first request: configured at 0 % first, then switched.
        proxy.switch(settings, _introduced(before, share), say)
    replicas = _all_run(settings, share.release)
    said = probe.reaches(settings, share.colour, replicas)
    if said:
        _all_run(settings, share.release)  # one that died meanwhile is the reason
        raise Stop(f"{share.release}: ready when asked directly, but not through the proxy: {said}\nno traffic was moved", NO,
                   "is the proxy in the edge network, and does KEEL_APP_PORT match?")
    for replica in replicas:
        engine.keep_alive(replica.id)
    proxy.switch(settings, wanted, say)
    # Only a release that has nothing more to do is waited for; one that keeps a share never has nothing in flight.
    served = {s.release for s in before.shares if s.percent}
    old = [s for s in wanted.shares if not s.percent and s.release in served]
    return proxy.kind(settings).in_flight(old) if old else None


def standby(settings: Settings) -> str:
    """The release to roll back to: the one at 0 %, or of two that serve the one that last had it all. Raises Stop 1 without one."""
    now = proxy.current(settings)
    waiting = [s for s in now.shares if s.percent == 0]
    if not waiting:
        last = next(filter(None, map(_had_all, state.latest(settings.state))), None)
        waiting = [s for s in now.shares if s.release == last]
    if len(now.shares) < 2 or not waiting:
        host.ours(settings)  # beside another state folder there is never a standby
        raise Stop(f"{settings.env}: there is no standby to roll back to", NO,
                   f"releases lists what was; make deploy ENV={settings.env} IMAGE=… deploys it again")
    return waiting[0].release


def back(settings: Settings) -> str:
    """The release that a rollback gives all traffic to: the standby. Raises Stop 1 as `standby`, for one that never had all traffic (a
    canary, or its switch failed), and for one that was itself rolled back from and has not had all traffic since: a rollback typed twice
    must not put the bad release back.

    After a rollback that was cut short it is that one's release again, also where the file says already that it serves.
    """
    found, after, had = standby(settings), {}, False  # and how the switch ended that came next after a line
    for line in state.latest(settings.state):
        if line.get("command") == "swap-upstream" and line.get("step") in ("live", "failed"):
            given_up = line.get("share") == 0 and line.get("release") != found and "whole" not in line  # to this one, in a line of before
            if line["step"] == "live" and (given_up or _had_all(line) == found):
                return found
            after = line
        elif line.get("command") == "rollback" and line.get("left") == found:
            if not after:
                return str(line["release"])
            if (after["step"], after.get("release")) == ("live", line["release"]):
                raise Stop(f"{found}: was rolled back from at {line['time']}: rollback does not put it back\nnothing was changed", NO,
                           f"where that is meant: swap-upstream {found}")
        elif line.get("command") == "start-release" and line.get("release") == found and not had:
            raise Stop(f"{found}: never had all of the traffic: rollback does not give it all\nnothing was changed", NO,
                       f"where that is meant: swap-upstream {found}")
        had = had or _had_all(line) == found  # also by the first line of the next switch, where its own last one is missing: it was killed
    return found


def _whole(now: traffic.Traffic) -> str:
    """The release that has all of the traffic, '' where it is shared or nobody's."""
    return next((s.release for s in now.shares if s.percent == 100), "")


def _had_all(line: dict[str, object]) -> str:
    """The release that had all of the traffic by a line of the history, '' where it does not say; older lines have no `whole`."""
    if line.get("command") != "swap-upstream" or line.get("step") not in ("begin", "live"):
        return ""
    return str(line.get("whole", line.get("release") if (line["step"], line.get("share")) == ("live", 100) else ""))


def _all_run(settings: Settings, release: str) -> list[engine.Replica]:
    """The replicas of a release. Raises Stop 1 with the last words of one that does not run."""
    found = releases.replicas(settings, release)
    down = [r for r in found if not r.running]
    if down:
        raise Stop(f"{release}: not running: {', '.join(r.name for r in down)}\n{releases.last_words(down[0])}", NO, f"logs {release}")
    return found


def _configured(settings: Settings, before: traffic.Traffic, share: traffic.Share) -> bool:
    """Whether the proxy already knows this colour's containers."""
    kind = proxy.kind(settings)
    if kind.by_alias:  # in the file, and not only there: whoever wrote it may have been killed before the proxy had it
        return any(s.colour == share.colour for s in before.shares) and not kind.lacks(proxy.path(settings).read_text())
    return traffic_file.names(before, share.colour, proxy.options(settings)) == share.replicas


def _introduced(before: traffic.Traffic, share: traffic.Share) -> traffic.Traffic:
    """The traffic as it is, with the containers of this share: a colour that serves goes on with what it has."""
    others = tuple(s for s in before.shares if s.colour != share.colour)
    percent = next((s.percent for s in before.shares if s.colour == share.colour), 0)
    return traffic.Traffic(0, (*others, traffic.Share(share.release, share.colour, percent, share.replicas)), before.maintenance)
