"""What is: the traffic file, the proxy and the engine side by side, and where they differ."""
import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from keel import acme, engine, host, lock, probe, proxy, releases, state
from keel.settings import Settings
from keel.stop import Stop

BASE = ("postgres", "redis")


@dataclass
class Survey:
    """One look at an environment; `problems` are sentences for a person, empty when all agree."""

    env: str
    proxy: str
    generation: int = 0
    live: int | str = "not asked"
    maintenance: bool = False
    shares: list[dict[str, object]] = field(default_factory=list)
    services: dict[str, str] = field(default_factory=dict)
    locked: str = ""
    last: dict[str, object] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        return dict(self.__dict__)

    def lines(self) -> list[str]:
        """The report for people."""
        found = [f"environment  {self.env}",
                 f"proxy        {self.proxy}, generation {self.generation}, live {self.live}"]
        if self.maintenance:
            found.append("MAINTENANCE  the page is on: maintenance off")
        for share in self.shares:
            role = "serving" if share["percent"] else "standby"
            found.append(f"{role:12} {share['release']} on {share['colour']}, {share['percent']} %, "
                         f"{share['running']} of {share['wanted']} running")
        if not self.shares:
            found.append("serving      nothing yet")
        found += [f"{name:12} {is_}" for name, is_ in self.services.items()]
        if self.locked:
            found.append(f"locked by    {self.locked}")
        if self.last:
            found.append(f"last         {' '.join(str(self.last[k]) for k in ('time', 'command', 'step', 'release') if k in self.last)}")
        return found


def take(settings: Settings) -> Survey:
    """Look at everything once. Raises Stop 69 when the engine does not answer, 65 for a traffic file that is none, 78 as `host.ours`."""
    host.ours(settings)  # beside another state folder nothing would agree, and what serves would look like a leftover
    said = Survey(settings.env, settings["KEEL_PROXY"], locked=lock.holder(settings))
    now = proxy.current(settings)
    said.generation, said.maintenance = now.generation, now.maintenance
    for name in (*BASE, settings["KEEL_PROXY"]):
        found = engine.service(settings, name)
        said.services[name] = found["Status"] if found else "absent"
        if not found or found["State"] != "running":
            said.problems.append(f"{name} is not running ({said.services[name]}): make up ENV={settings.env}")
    said.live = probe.live(settings) if said.services[settings["KEEL_PROXY"]] != "absent" else "absent"
    if lacks := acme.lacking(settings):
        said.problems.append(f"{lacks}; {acme.hint(settings)}")
    elif said.live not in (now.generation, "absent"):  # no proxy, as before the first `make up`, is a line of its own above
        is_ = ("a switch was cut short; the next deploy, rollback or make reload writes and proves a new one" if isinstance(said.live, int)
               else f"make reload ENV={settings.env} makes it live" if said.live == probe.NAMELESS
               else f"logs proxy says more, or make doctor ENV={settings.env}")
        said.problems.append(f"the traffic file says generation {now.generation}, the proxy answers {said.live}: {is_}")
    try:
        proxy.there(settings)
        _releases(settings, said)
    except Stop as gone:
        said.problems = [f"{gone.message}: {gone.hint}", *said.problems]
    _journal(settings, said)
    return said


def _releases(settings: Settings, said: Survey) -> None:
    """Compare the shares of the traffic file with the containers."""
    replicas = engine.replicas(settings)
    shares = proxy.current(settings).shares
    for share in shares:
        ours = [r for r in replicas if r.release == share.release and r.running]
        said.shares.append({"release": share.release, "colour": share.colour, "percent": share.percent,
                            "running": len(ours), "wanted": len(share.replicas)})
        if len(ours) < len(share.replicas):
            count = f"{len(ours)} of its {len(share.replicas)} replicas run"
            said.problems.append(f"{share.release} serves {share.percent} %, but {count}" if share.percent else
                                 f"{share.release} is the standby: rollback cannot use it, because {count}")
        for replica, why in _unready(settings, ours):
            said.problems.append(f"{replica.name} runs and is not ready: {why}; logs {share.release} says more")
    known = {share.release for share in shares}
    if shares and not any(share.percent for share in shares):
        said.problems.append(f"nobody serves: the first deploy was cut short; make deploy ENV={settings.env}")
    for release in sorted({r.release for r in replicas} - known):
        said.problems.append(f"{release} has containers but no place in the traffic file: a deploy is under way or was cut short; "
                             f"make deploy ENV={settings.env} replaces it, stop-release {release} removes it")


def _unready(settings: Settings, running: list[engine.Replica]) -> list[tuple[engine.Replica, str]]:
    """Those of them that are not ready, and what each says; all are asked at once, as one that hangs takes its time."""
    with ThreadPoolExecutor(max(1, len(running))) as pool:
        said = pool.map(functools.partial(releases.unready, settings), running)
        return [(replica, why) for replica, why in zip(running, said, strict=True) if why]


def _journal(settings: Settings, said: Survey) -> None:
    """The last line of the history, and a step that began, never ended, and whose process holds no lock any more."""
    said.last = next(state.latest(settings.state), {})
    if said.last.get("step") == "begin" and not said.locked:
        said.problems.append(f"{said.last.get('command')} began at {said.last.get('time')} and did not end: run it again")
