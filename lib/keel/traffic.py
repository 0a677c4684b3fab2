"""The traffic: which releases receive which share of the requests; read back from the file of either proxy (written by traffic_file)."""
import json
import re
from dataclasses import dataclass

from keel.options import match, whole

COLOURS = ("blue", "green")
MARK = "# keel: "
CONFIG = "keel-config "  # followed by digests of the configuration that is loaded and of the certificate, and by nginx's generation then
RELEASE = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4,40}"
REPLICA = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"


@dataclass(frozen=True)
class Share:
    """What one release receives: percent 0 is the standby, configured and resolved, but without requests."""

    release: str
    colour: str
    percent: int
    replicas: tuple[str, ...]

    def __post_init__(self) -> None:
        match("release", RELEASE, self.release)
        if self.colour not in COLOURS:
            raise ValueError(f"colour {self.colour!r}: blue or green is wanted")
        whole("percent", self.percent, 0, 100)
        if not isinstance(self.replicas, tuple) or not self.replicas or len(set(self.replicas)) < len(self.replicas):
            raise ValueError(f"replicas of {self.release}: at least one is wanted, and each once")
        for name in self.replicas:
            match("replica", REPLICA, name)


@dataclass(frozen=True)
class Traffic:
    """One generation: who serves. Where none has a share the proxy shows its page, as during maintenance."""

    generation: int
    shares: tuple[Share, ...]
    maintenance: bool = False

    def __post_init__(self) -> None:
        whole("generation", self.generation, 0, 2**53)
        if type(self.maintenance) is not bool:
            raise ValueError(f"maintenance {self.maintenance!r}: true or false is wanted")
        if len({s.colour for s in self.shares}) < len(self.shares):
            raise ValueError("two shares have the same colour")
        total = sum(s.percent for s in self.shares)
        if total not in (0, 100) or (total == 0 and len(self.shares) > 1):
            raise ValueError(f"the percents add up to {total}: 100 is wanted, or one share of 0 before the first switch")

    @property
    def closed(self) -> bool:
        """Whether visitors get the maintenance page."""
        return self.maintenance or not any(s.percent for s in self.shares)


def parse(text: str) -> Traffic:
    """What a traffic file of either proxy says. Raises ValueError with the reason."""
    marked = [line[len(MARK):] for line in text.splitlines() if line.startswith(MARK)]
    if len(marked) != 1:
        raise ValueError(f"no traffic file: {len(marked)} lines begin with {MARK!r}, one is wanted")
    try:
        said = json.loads(marked[0])
        if not all(isinstance(share["replicas"], list) for share in said["shares"]):
            raise TypeError("replicas are no list")
        shares = tuple(Share(**{**share, "replicas": tuple(share["replicas"])}) for share in said["shares"])
        return Traffic(**{**said, "shares": shares})
    except (KeyError, TypeError) as e:
        raise ValueError(f"the line {MARK!r} of the traffic file is not of its form: {e!r}") from e


def renumbered(text: str, generation: int) -> str:
    """A traffic file as it was written, with the settings of then, under another number. Raises ValueError for one that is none."""
    old = parse(text).generation
    loaded = r'map "" \$keel_config { default "[^"]* |map "" \$keel_generation { default '  # the latter before nginx looked up a link
    places = rf'^(# live |# Written .* Generation |{MARK}.*"generation": |{loaded}){old}(?![0-9])'
    return re.sub(places, rf"\g<1>{generation}", text, flags=re.MULTILINE)


def digests(text: str) -> tuple[str, str]:
    """Of the configuration and of the certificate, as a traffic file says or a proxy that has loaded it; '' where it does not."""
    found = re.search(rf"{CONFIG}([0-9a-f]+) ([0-9a-f]+|-)", text)
    return (found[1], found[2]) if found else ("", "")
