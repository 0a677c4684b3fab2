"""The retention planner: its properties P1 to P10, each with a wrong planner for which it is seen to fail, and what a person reads."""
import dataclasses
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, find, given, settings
from hypothesis import strategies as st

from keel.keep import PERIODS, Backup, Plan, Policy, lock_until, period_of, plan, refusal

Planner = Callable[[list[Backup], datetime, Policy], Plan]
NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
POLICY = Policy()
SMALL = Policy(daily=3, weekly=2, monthly=2)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
CLASSES = tuple(f"{p} " for p in PERIODS)


def backup(name: str, created: datetime, **more: object) -> Backup:
    return dataclasses.replace(Backup(name, created, "7001", "pg", "production"), **more)  # type: ignore[arg-type]


def daily(days: int, until: datetime = NOW - HOUR, **more: object) -> list[Backup]:
    """One a day, the last at `until`, ids in order."""
    return [backup(f"{days - n:04}", until - n * DAY, **more) for n in reversed(range(days))]


@st.composite
def a_backup(draw: st.DrawFn, ident: str = "") -> Backup:
    """Times crowd on few days, so that periods are shared; most backups are well."""
    rarely = st.sampled_from([False] * 9 + [True])
    return Backup(
        ident, NOW - draw(st.sampled_from([0, 1, 2, 3, 8, 9, 30, 33, 59, 60, 61, 62, 100, 364, 365, 400])) * DAY
        - draw(st.integers(-60, 1440)) * timedelta(minutes=1),
        draw(st.sampled_from(["7001", "7001", "7002"])), draw(st.sampled_from(["pg", "pg", "files"])), "production", good=not draw(rarely),
        verified=draw(st.booleans()), locked_until=NOW + draw(st.sampled_from([-DAY, DAY])) if draw(rarely) else None,
        held="too small" if draw(rarely) else "", complete=not draw(rarely), judged=NOW - 2 * DAY if draw(rarely) else None)


@st.composite
def many(draw: st.DrawFn) -> list[Backup]:
    found = draw(st.lists(a_backup(), max_size=25))
    return [dataclasses.replace(b, id=f"{n:04}") for n, b in enumerate(found)]


def lineages(backups: list[Backup]) -> list[list[Backup]]:
    keys = {(b.kind, b.lineage) for b in backups}
    return [[b for b in sorted(backups, key=lambda b: (b.created, b.id)) if (b.kind, b.lineage) == k] for k in sorted(keys)]


def sound(backups: list[Backup], now: datetime = NOW) -> list[Backup]:
    return [b for b in backups if b.good and b.complete and not b.held and b.created <= now]


# The properties: each is true of a planner and some backups, or false.

def p1(planner: Planner, backups: list[Backup]) -> bool:
    """The newest good backup stays."""
    gone = planner(backups, NOW, SMALL).delete
    return all(sound(group)[-1].id not in gone for group in lineages(backups) if sound(group))


def p2(planner: Planner, backups: list[Backup]) -> bool:
    """At least K good ones stay, or as many as there are."""
    gone = planner(backups, NOW, SMALL).delete
    return all(sum(b.id not in gone for b in sound(group)) >= min(SMALL.newest, len(sound(group))) for group in lineages(backups))


def p3(planner: Planner, backups: list[Backup]) -> bool:
    """The newest that was restored stays."""
    gone = planner(backups, NOW, SMALL).delete
    return all(b.id not in gone for group in lineages(backups) for b in [b for b in sound(group) if b.verified][-1:])


def p4(planner: Planner, backups: list[Backup]) -> bool:
    """A second plan deletes nothing more."""
    gone = planner(backups, NOW, SMALL).delete
    return not planner([b for b in backups if b.id not in gone], NOW, SMALL).delete


def p5(planner: Planner, backups: list[Backup], added: Backup) -> bool:
    """One more that failed, is from the future or of another lineage changes nothing for the others."""
    added = dataclasses.replace(added, id="added")
    if added in sound([added]):
        added = dataclasses.replace(added, lineage="7003")
    return _without(planner([*backups, added], NOW, SMALL).delete) == planner(backups, NOW, SMALL).delete


def _without(gone: dict[str, str]) -> dict[str, str]:
    return {name: why for name, why in gone.items() if name != "added"}


def p6(planner: Planner, backups: list[Backup], chosen: int, later: int) -> bool:
    """A later backup on a day that has one takes no period from those that hold it: this is what an intruder would try."""
    before = planner(backups, NOW, SMALL).keep
    on = sound(backups)[chosen % len(sound(backups))]
    midnight = on.created.replace(hour=0, minute=0) + DAY - timedelta(minutes=1)
    added = dataclasses.replace(on, id="added", created=min(NOW, midnight, on.created + later * timedelta(minutes=1)))
    after = planner([*backups, added], NOW, SMALL).keep
    return all(reason in after.get(name, []) for name, reasons in before.items() for reason in reasons if reason.startswith(CLASSES))


def p7(planner: Planner, backups: list[Backup], seed: int) -> bool:
    """Neither the order nor the time zone in which backups are told matters."""
    chance = random.Random(seed)
    told = [dataclasses.replace(b, created=b.created.astimezone(timezone(timedelta(hours=chance.randint(-12, 12))))) for b in backups]
    chance.shuffle(told)
    return planner(told, NOW, SMALL) == planner(backups, NOW, SMALL)


def p8(planner: Planner, backups: list[Backup]) -> bool:
    """Every backup stays or goes, never both, and each says why."""
    made = planner(backups, NOW, SMALL)
    return (made.keep.keys() | made.delete.keys() == {b.id for b in backups} and not made.keep.keys() & made.delete.keys()
            and all(made.keep.values()) and all(made.delete.values()))


def p9(planner: Planner) -> bool:
    """400 days of one backup a day, each pruned after: 30 dailies, 13 weeklies, 12 monthlies, the oldest at least 11 months old."""
    here: list[Backup] = []
    for n in range(400):
        now = NOW + n * DAY
        here.append(backup(f"{n:04}", now - HOUR, verified=True))
        made = planner(here, now, POLICY)
        if made.refuse:
            return False
        here = [b for b in here if b.id not in made.delete]
    held = {p: sum(any(r.startswith(f"{p} ") for r in made.keep[b.id]) for b in here) for p in PERIODS}
    return (held == {"daily": 30, "weekly": 13, "monthly": 12} and len(here) <= 30 + 13 + 12
            and now - min(b.created for b in here) >= timedelta(days=334))


def p10(planner: Planner, backups: list[Backup], waits: list[int]) -> bool:
    """With no new backups, no number of prunes takes what a period, the newest K or the newest verified keep; a stale end stops all."""
    here, now = [b for b in backups if b.created <= NOW], NOW
    worth = {name for name, reasons in planner(here, now, SMALL).keep.items()
             if any(r.startswith((*CLASSES, "among the newest", "newest verified")) for r in reasons)}
    for wait in waits:
        now += wait * HOUR
        made = planner(here, now, SMALL)
        for kind in {b.kind for b in here}:
            good = [b for b in sound(here) if b.kind == kind]
            if not made.refuse and (not good or max(b.created for b in good) < now - SMALL.max_age):
                return False
        if made.delete.keys() & worth:  # refused or not
            return False
        here = here if made.refuse else [b for b in here if b.id not in made.delete]
    return True


# Wrong planners, as they are found in the world.

def chosen(backups: list[Backup], keep: set[str], why: str = "some reason") -> Plan:
    return Plan({b.id: [why] for b in backups if b.id in keep}, {b.id: "some reason" for b in backups if b.id not in keep}, "")


def newest_of_period(backups: list[Backup], _now: datetime, policy: Policy) -> Plan:
    """As restic and others do: the newest of each period, failed ones and all, whatever they are copies of."""
    keep: dict[str, list[str]] = {}
    for period, count in (("daily", policy.daily), ("weekly", policy.weekly), ("monthly", policy.monthly)):
        last = {PERIODS[period](b.created): b.id for b in sorted(backups, key=lambda b: (b.created, b.id))}
        for name, one in list(last.items())[-count:]:
            keep.setdefault(one, []).append(f"{period} {name}")
    return Plan(keep, {b.id: "some reason" for b in backups if b.id not in keep}, "")


def by_age(backups: list[Backup], now: datetime, policy: Policy) -> Plan:
    """What is older than some days goes."""
    return chosen(backups, {b.id for b in backups if b.created > now - policy.daily * DAY}, "monthly 2026-01")


def a_quarter(backups: list[Backup], _now: datetime, _policy: Policy) -> Plan:
    """Always the oldest quarter."""
    return chosen(backups, {b.id for b in sorted(backups, key=lambda b: b.created)[len(backups) // 4:]})


def local_days(backups: list[Backup], _now: datetime, _policy: Policy) -> Plan:
    """The first of each day, by the clock on the wall."""
    return chosen(backups, set({b.created.date(): b.id for b in sorted(backups, key=lambda b: b.created, reverse=True)}.values()))


def silent(backups: list[Backup], now: datetime, policy: Policy) -> Plan:
    """The right plan without its reasons."""
    return dataclasses.replace(plan(backups, now, policy), keep={name: [] for name in plan(backups, now, policy).keep})


PAIRED = st.tuples(many(), a_backup())
LATER = st.tuples(many().filter(lambda b: bool(sound(b))), st.integers(0, 99), st.integers(1, 1440))
CONTROLS: dict[str, tuple[Callable[..., bool], Planner, st.SearchStrategy[tuple[object, ...]]]] = {
    "P1 newest": (p1, newest_of_period, st.tuples(many())), "P1 age": (p1, by_age, st.tuples(many())),
    "P2 newest": (p2, newest_of_period, st.tuples(many())), "P2 age": (p2, by_age, st.tuples(many())),
    "P3": (p3, newest_of_period, st.tuples(many())), "P4": (p4, a_quarter, st.tuples(many())), "P5": (p5, newest_of_period, PAIRED),
    "P6": (p6, newest_of_period, LATER), "P7": (p7, local_days, st.tuples(many(), st.integers())), "P8": (p8, silent, st.tuples(many())),
    "P10 newest": (p10, newest_of_period, st.tuples(many(), st.lists(st.integers(0, 2000), max_size=4))),
    "P10 age": (p10, by_age, st.tuples(many(), st.lists(st.integers(0, 2000), max_size=4))),
}


@pytest.mark.parametrize("prop", [p1, p2, p3, p4, p8])
@given(backups=many())
def test_p1_p2_p3_p4_p8(prop: Callable[..., bool], backups: list[Backup]) -> None:
    assert prop(plan, backups)


@given(PAIRED)
def test_p5_a_failed_future_or_foreign_one_changes_nothing(given_: tuple[list[Backup], Backup]) -> None:
    assert p5(plan, *given_)


@given(LATER)
def test_p6_a_later_one_takes_no_period(given_: tuple[list[Backup], int, int]) -> None:
    assert p6(plan, *given_)


@given(many(), st.integers())
def test_p7_order_and_time_zone(backups: list[Backup], seed: int) -> None:
    assert p7(plan, backups, seed)


def test_p9_four_hundred_days() -> None:
    assert p9(plan)
    assert not p9(by_age) and not p9(newest_of_period), "control: the simulation sees what others would keep"


@given(many(), st.lists(st.integers(0, 2000), max_size=4))
def test_p10_nothing_is_lost_while_backups_stand_still(backups: list[Backup], waits: list[int]) -> None:
    assert p10(plan, backups, waits)


@pytest.mark.parametrize("name", CONTROLS)
def test_control_a_wrong_planner_is_seen(name: str) -> None:
    """find raises NoSuchExample when the property holds for the wrong planner too."""
    prop, wrong, strategy = CONTROLS[name]
    find(strategy, lambda args: not prop(wrong, *args), settings=settings(max_examples=2000, database=None), random=random.Random(1))


@given(many())
def test_no_refusal_hides_in_a_plan_that_is_carried_out(backups: list[Backup]) -> None:
    """A plan that deletes good ones leaves K good ones and one that was restored, in the words of the second, independent check."""
    made = plan(backups, NOW, SMALL)
    assert made.refuse == refusal(backups, made.delete, NOW, SMALL)
    for kind in {b.kind for b in sound(backups) if b.id in made.delete and not made.refuse}:
        assert any(b.verified and b.kind == kind and b.id not in made.delete for b in sound(backups))


# What is kept and what goes, by example.

def test_the_first_of_a_period_stays_and_the_week_at_new_year_is_one() -> None:
    days = [backup(f"{d:%m%d}", d) for d in (datetime(2025, 12, 29, 3, tzinfo=UTC) + n * DAY for n in range(8))]
    made = plan(days, datetime(2026, 1, 5, 4, tzinfo=UTC), Policy(daily=1, weekly=2, monthly=2))
    assert made.keep["1229"] == ["weekly 2026-W01", "monthly 2025-12"] and made.keep["0101"] == ["monthly 2026-01"]
    assert made.keep["0105"] == ["younger than 48 h", "daily 2026-01-05", "weekly 2026-W02", "among the newest 3"]
    assert list(made.delete) == ["1230", "1231", "0102"]
    assert made.delete["1230"] == "first of no kept day, week or month, and not among the newest 3"


@pytest.mark.parametrize(("more", "reason"), [
    ({"held": "a tenth of its predecessors"}, "held: a tenth of its predecessors"),
    ({"locked_until": NOW + DAY}, "locked until 2026-03-03T04:00:00Z"), ({"created": NOW + DAY}, "dated in the future"),
    ({"created": NOW - 47 * HOUR}, "younger than 48 h"), ({"good": False}, "found bad, for a person to look into for 30 days"),
    # counted from the verdict: an old one that a drill finds bad does not go at the next prune
    ({"created": NOW - 70 * DAY, "good": False, "judged": NOW - 29 * DAY}, "found bad, for a person to look into for 30 days"),
])
def test_what_is_kept_whatever_the_periods_say(more: dict[str, object], reason: str) -> None:
    """On a day with an earlier good one, so that nothing else keeps it; without its mark it goes."""
    others = [*daily(60, verified=True), backup("today", NOW - HOUR), backup("today too", NOW - HOUR)]
    there = {"created": NOW - 20 * DAY} | more
    assert plan([*others, backup("x", **there)], NOW, POLICY).keep["x"] == [reason]  # type: ignore[arg-type]
    assert "x" in plan([*others, backup("x", NOW - 20 * DAY)], NOW, POLICY).delete


@pytest.mark.parametrize(("more", "why"), [
    ({"created": NOW - 20 * DAY, "locked_until": NOW - DAY}, "first of no kept day"),
    ({"created": NOW - 40 * DAY, "good": False}, "found bad, 40 d old"),
    ({"created": NOW - 70 * DAY, "good": False, "judged": NOW - 31 * DAY}, "found bad 31 d ago, 70 d old"),
    ({"created": NOW - 49 * HOUR, "complete": False}, "incomplete, 49 h old"),
    ({"created": NOW - 3 * DAY, "complete": False, "lineage": ""}, "incomplete, 3 d old"),
])
def test_what_goes(more: dict[str, object], why: str) -> None:
    assert plan([*daily(60, verified=True), backup("x", **more)], NOW, POLICY).delete["x"].startswith(why)  # type: ignore[arg-type]


@pytest.mark.parametrize("lineage", ["", "7001"])
@pytest.mark.parametrize("more", [{"complete": False}, {"good": False}])
def test_a_bad_one_stays_until_a_good_one_is_newer(lineage: str, more: dict[str, object]) -> None:
    bad = backup("x", NOW - 50 * DAY, lineage=lineage, **more)
    made = plan([backup("a", NOW - 51 * DAY), bad], NOW, POLICY)
    assert made.keep["x"][0].endswith("and no good one is newer")
    assert "x" in plan([backup("a", NOW - 49 * DAY), bad], NOW, POLICY).delete


def test_lineages_do_not_mix() -> None:
    """After pg_upgrade the old system's backups neither age by the new one's nor take its places."""
    old = [dataclasses.replace(b, id=f"old{b.id}", lineage="7000") for b in daily(40, NOW - 100 * DAY, verified=True)]
    new = daily(40, verified=True)
    both, alone = plan([*old, *new], NOW, POLICY), plan(new, NOW, POLICY)
    assert {n for n in both.delete if not n.startswith("old")} == set(alone.delete)
    assert sum(n.startswith("old") for n in both.keep) >= POLICY.daily


# Refusals.

@pytest.mark.parametrize(("backups", "delete", "said"), [
    (daily(5, NOW - 53 * HOUR), [], "0005: the newest good pg backup of production is 53 h old, more than 52 h: "),
    (daily(5, NOW - 9 * DAY), [], "is 9 d old"),
    ([*daily(5), *daily(1, NOW - 9 * DAY, id="f", kind="files")], [], "f: the newest good files backup of production is 9 d old"),
    ([*daily(5), backup("x", NOW + 6 * timedelta(minutes=1))], [], "x: is 6 m in the future: did a clock go back?"),
    ([*daily(5), backup("x", NOW + 6 * HOUR, good=False)], [], "x: is 6 h in the future"),
    (daily(2, good=False), [], "production: has no good pg backup"), (daily(2, complete=False), [], "has no good pg backup"),
    (daily(2, held="small"), [], "has no good pg backup"),
    (daily(9), ["0001"], "production: no pg backup that has been restored would be left"),
    ([*daily(8), backup("v", NOW - 20 * DAY, verified=True)], ["v"], "no pg backup that has been restored would be left"),
    (daily(5, verified=True), ["0001", "0002", "0003"], "production: 2 good pg backups of 7001 would be left, fewer than 3"),
    (daily(2, verified=True), ["0001"], "1 good pg backups of 7001 would be left"),
    (daily(16, verified=True), ["0001", "0002", "0003", "0004", "0005"], "5 of 16 backups would go, more than 4 at once"),
    (daily(9, verified=True), ["0001", "0002", "0003", "0004"], "4 of 9 backups would go, more than 3 at once"),
    (daily(16, verified=True), ["0001", "0002", "0003", "0004"], ""), (daily(9, verified=True), ["0001", "0002", "0003"], ""),
    ([*daily(5), backup("x", NOW + 4 * timedelta(minutes=1))], [], ""), (daily(5, NOW - 51 * HOUR), [], ""), ([], [], ""),
])
def test_what_is_refused(backups: list[Backup], delete: list[str], said: str) -> None:
    found = refusal(backups, dict.fromkeys(delete, "some reason"), NOW, POLICY)
    assert said in found and bool(said) == bool(found)


def test_the_share_limit_alone_can_be_lifted_by_the_policy() -> None:
    first = daily(400, verified=True)
    assert "at once" in plan(first, NOW, POLICY).refuse
    assert plan(first, NOW, dataclasses.replace(POLICY, share=1)).refuse == ""
    assert "in the future" in plan([*first, backup("x", NOW + DAY)], NOW, dataclasses.replace(POLICY, share=1)).refuse


# The period and the lock, at upload.

def test_the_period_at_upload_is_the_one_it_is_kept_for() -> None:
    """A year of backups, each with the period it was given: whoever is kept as the first of a week or month was locked for that."""
    here: list[Backup] = []
    given_: dict[str, str] = {}
    for n in range(365):
        now = NOW + n * DAY
        given_[f"{n:04}"] = period_of(here, now, POLICY)
        here.append(backup(f"{n:04}", now, verified=True))
    made = plan(here, now, POLICY).keep
    order = ["daily", "weekly", "monthly"]
    for name, reasons in made.items():
        assert all(order.index(given_[name]) >= order.index(r.split()[0]) for r in reasons if r.startswith(CLASSES)), (name, reasons)
    assert [given_[f"{n:04}"] for n in range(8)] == ["monthly", *["daily"] * 6, "weekly"]


@given(st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)), st.integers(1, 40), st.integers(1, 30))
def test_a_lock_outlasts_the_time_a_backup_is_kept_for(when: datetime, months: int, weeks: int) -> None:
    policy = Policy(weekly=weeks, monthly=months)
    assert lock_until("daily", when, policy) == when + 37 * DAY
    assert lock_until("weekly", when, policy) == when + 7 * weeks * DAY + 7 * DAY
    end = lock_until("monthly", when, policy) - 7 * DAY
    assert (end.year * 12 + end.month) - (when.year * 12 + when.month) in (months, months + 1)
    assert timedelta(days=28 * months) <= end - when <= timedelta(days=31 * months)


def test_bad_ones_give_their_period_to_the_next() -> None:
    assert period_of([backup("x", NOW - DAY, good=False)], NOW, POLICY) == "monthly"
    assert period_of([backup("x", NOW - HOUR)], NOW, POLICY) == "daily"
    assert period_of([], NOW, Policy(monthly=0)) == "weekly" and period_of([], NOW, Policy(monthly=0, weekly=0)) == "daily"
    with pytest.raises(KeyError):
        lock_until("yearly", NOW, POLICY)


@pytest.mark.parametrize("make", [
    lambda: Policy(newest=2), lambda: Policy(daily=-1), lambda: Policy(weekly=-1), lambda: Policy(monthly=-1), lambda: Policy(share=-1),
    lambda: Policy(max_age=timedelta(0)), lambda: Policy(min_age=timedelta(0)), lambda: backup("x", datetime(2026, 1, 1)),
    lambda: backup("x", NOW, locked_until=datetime(2026, 1, 1)), lambda: backup("x", NOW, judged=datetime(2026, 1, 1)),
    lambda: plan([*daily(1), *daily(1)], NOW, POLICY),
])
def test_bad_values_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()


@given(many())
def test_a_period_of_none_keeps_none(backups: list[Backup]) -> None:
    assume(backups)
    kept = plan(backups, NOW, Policy(daily=0, weekly=0, monthly=0)).keep
    assert not any(r.startswith(CLASSES) for reasons in kept.values() for r in reasons)
