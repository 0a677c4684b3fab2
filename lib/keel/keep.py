"""Which backups stay and which go: a pure plan over what a store holds. No I/O, no clock of its own, all times UTC.

The first good backup of a day, week or month is the one that is kept for it, never the newest: so a later backup, be it bad or an
intruder's, cannot push out an earlier one, and how long a backup stays (and is locked) is known when it is made. Periods are counted
where there are backups: days without any delete nothing.
"""
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SKEW = timedelta(minutes=5)      # clocks differ by so much without anything being wrong
FEW = 3                          # so many may always go
MARGIN = timedelta(days=7)       # how much longer a backup is locked than it is kept
PERIODS: dict[str, Callable[[datetime], str]] = {
    "daily": lambda t: t.strftime("%Y-%m-%d"),
    "weekly": lambda t: "{}-W{:02}".format(*t.isocalendar()[:2]),  # ISO year and week together: a week at New Year is one week
    "monthly": lambda t: t.strftime("%Y-%m"),
}


@dataclass(frozen=True)
class Policy:
    """How many of each period stay, and the limits within which a plan is carried out. Raises ValueError."""

    daily: int = 30
    weekly: int = 13
    monthly: int = 12
    newest: int = 3
    min_age: timedelta = timedelta(hours=48)  # nothing younger goes; an unfinished backup may still be running
    max_age: timedelta = timedelta(hours=52)  # a newest good backup older than this (two nights missed) stops all deleting
    share: float = 0.25                       # more than this share at once (and more than FEW) is refused

    def __post_init__(self) -> None:
        if self.newest < 3 or min(self.daily, self.weekly, self.monthly) < 0:
            raise ValueError(f"newest={self.newest}: at least 3 is wanted; daily, weekly and monthly: at least 0")
        if min(self.min_age, self.max_age) <= timedelta(0) or self.share < 0:
            raise ValueError(f"min_age={self.min_age}, max_age={self.max_age}: more than 0 is wanted; share={self.share}: at least 0")


@dataclass(frozen=True)
class Backup:
    """What the plan has to know of one backup. Raises ValueError for a time without a zone."""

    id: str
    created: datetime
    lineage: str                      # what it is a backup of: for pg the system identifier; nothing where no manifest says it
    kind: str
    env: str
    good: bool = True                 # its signature is well and no verification found it bad
    verified: bool = False            # it has been restored
    locked_until: datetime | None = None
    held: str = ""                    # why a person must release it
    complete: bool = True             # its manifest is there
    judged: datetime | None = None    # when the verdict was given by which it is bad

    def __post_init__(self) -> None:
        if any(t is not None and t.tzinfo is None for t in (self.created, self.locked_until, self.judged)):
            raise ValueError(f"{self.id}: a time without its zone")

    def sound(self, now: datetime) -> bool:
        """Whether it counts: failed, unfinished and held ones never take the place of another, nor does one from the future."""
        return self.good and self.complete and not self.held and self.created <= now


@dataclass(frozen=True)
class Plan:
    """Every backup is in one of the two, with why; a plan that is refused is not carried out."""

    keep: dict[str, list[str]]
    delete: dict[str, str]
    refuse: str


def plan(backups: Iterable[Backup], now: datetime, policy: Policy) -> Plan:
    """What stays and what goes of these backups, each lineage of each kind by itself. Raises ValueError when an id is there twice."""
    everything = sorted(backups, key=lambda b: (b.created, b.id))
    if len({b.id for b in everything}) != len(everything):
        raise ValueError("an id is there twice")
    keep: dict[str, list[str]] = {b.id: _always(b, now, policy) for b in everything}
    delete: dict[str, str] = {}
    newest: dict[tuple[str, ...], datetime] = {}  # the newest sound one of a lineage, and of a kind whatever its lineage
    for group in _groups(everything, lambda b: (b.env, b.kind, b.lineage)).values():
        sound = [b for b in group if b.sound(now)]
        _by_period(sound, policy, keep)
        for b in sound[-policy.newest:]:
            keep[b.id].append(f"among the newest {policy.newest}")
        for b in [b for b in sound if b.verified][-1:]:
            keep[b.id].append("newest verified")
        for b in sound:
            newest[b.env, b.kind, b.lineage] = b.created
            newest[b.env, b.kind] = max(b.created, newest.get((b.env, b.kind), b.created))
    for b in everything:
        if not keep[b.id]:
            # Without a manifest nobody knows the lineage: there any good one of the kind will do.
            after = newest.get((b.env, b.kind, b.lineage) if b.lineage else (b.env, b.kind))
            why = _why_kept(b, after, now, policy)
            if why:
                keep[b.id].append(why)
            else:
                delete[b.id] = _why_deleted(b, now, policy)
    return Plan({name: reasons for name, reasons in keep.items() if reasons}, delete, refusal(everything, delete, now, policy))


def refusal(backups: Sequence[Backup], delete: Mapping[str, str], now: datetime, policy: Policy) -> str:
    """Why these backups must not be deleted now, or nothing. Knows nothing of how they were chosen, so that it holds for any choice."""
    ahead = max(backups, key=lambda b: (b.created, b.id), default=None)
    if ahead and ahead.created > now + SKEW:
        return f"{ahead.id}: is {age(ahead.created - now)} in the future: did a clock go back?"
    for (env, kind), those in sorted(_groups(backups, lambda b: (b.env, b.kind)).items()):
        sound = [b for b in those if b.sound(now)]
        if not sound:
            return f"{env}: has no good {kind} backup"
        last = max(sound, key=lambda b: (b.created, b.id))
        if last.created < now - policy.max_age:
            return (f"{last.id}: the newest good {kind} backup of {env} is {age(now - last.created)} old, "
                    f"more than {age(policy.max_age)}: nothing goes until there is a new one")
        if any(b.id in delete for b in sound) and not any(b.verified and b.id not in delete for b in sound):
            return f"{env}: no {kind} backup that has been restored would be left"
        for (lineage,), group in sorted(_groups(sound, lambda b: (b.lineage,)).items()):
            left = sum(b.id not in delete for b in group)
            if left < min(policy.newest, len(group)):
                return f"{env}: {left} good {kind} backups of {lineage} would be left, fewer than {policy.newest}"
    most = max(FEW, int(policy.share * len(backups)))
    return f"{len(delete)} of {len(backups)} backups would go, more than {most} at once" if len(delete) > most else ""


def period_of(existing: Iterable[Backup], when: datetime, policy: Policy) -> str:
    """The period that a backup made now will be kept for, among the existing of its lineage: daily, weekly or monthly."""
    before = [b for b in existing if b.sound(when)]
    for period, count in (("monthly", policy.monthly), ("weekly", policy.weekly)):
        key = PERIODS[period]
        if count and all(key(b.created.astimezone(UTC)) != key(when.astimezone(UTC)) for b in before):
            return period
    return "daily"


def lock_until(period: str, when: datetime, policy: Policy) -> datetime:
    """Until when to lock a backup of this period: as long as it is kept with one backup a day, and seven days. Raises KeyError."""
    when = when.astimezone(UTC)
    months = when.month - 1 + policy.monthly
    later = when.replace(year=when.year + months // 12, month=months % 12 + 1, day=1) + timedelta(days=when.day - 1)
    ends = {"daily": when + timedelta(days=policy.daily), "weekly": when + timedelta(weeks=policy.weekly), "monthly": later}
    return ends[period] + MARGIN


def _groups(backups: Iterable[Backup], key: Callable[[Backup], tuple[str, ...]]) -> dict[tuple[str, ...], list[Backup]]:
    found: dict[tuple[str, ...], list[Backup]] = defaultdict(list)
    for b in backups:
        found[key(b)].append(b)
    return found


def _always(b: Backup, now: datetime, policy: Policy) -> list[str]:
    """The reasons that hold for any backup, good or not."""
    locked = b.locked_until if b.locked_until and b.locked_until > now else None
    holds = {f"held: {b.held}": bool(b.held), f"locked until {_text(locked or now)}": bool(locked),
             "dated in the future": b.created > now, f"younger than {age(policy.min_age)}": now - policy.min_age < b.created <= now}
    return [reason for reason, true in holds.items() if true]


def _by_period(sound: Sequence[Backup], policy: Policy, keep: dict[str, list[str]]) -> None:
    """Keep the first of each of the newest periods that have any; `sound` is one lineage, oldest first."""
    for period, count in (("daily", policy.daily), ("weekly", policy.weekly), ("monthly", policy.monthly)):
        first: dict[str, str] = {}
        for b in sound:
            first.setdefault(PERIODS[period](b.created.astimezone(UTC)), b.id)
        for name, chosen in list(first.items())[max(0, len(first) - count):]:
            keep[chosen].append(f"{period} {name}")


def _why_kept(b: Backup, newest: datetime | None, now: datetime, policy: Policy) -> str:
    """Why one stays that no rule keeps for its worth: a bad or unfinished one that nothing good has followed, or that is recent."""
    if b.good and b.complete:
        return ""
    what = "found bad" if b.complete else "incomplete"
    if newest is None or newest <= b.created:
        return f"{what}, and no good one is newer"
    since = max(b.created, b.judged or b.created)  # an old one that is found bad now is news
    fresh = b.complete and since > now - timedelta(days=policy.daily)
    return f"found bad, for a person to look into for {policy.daily} days" if fresh else ""


def _why_deleted(b: Backup, now: datetime, policy: Policy) -> str:
    if b.good and b.complete:
        return f"first of no kept day, week or month, and not among the newest {policy.newest}"
    found = f"found bad {age(now - b.judged)} ago" if b.judged else "found bad"
    return f"{found if b.complete else 'incomplete'}, {age(now - b.created)} old"


def _text(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(span: timedelta) -> str:
    """A span of time in words, as 9 d, 51 h or 6 m."""
    hours = span.total_seconds() / 3600
    return f"{span.days} d" if hours >= 72 else f"{hours:.0f} h" if hours >= 1 else f"{hours * 60:.0f} m"
