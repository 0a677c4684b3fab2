"""The account of a load, to be asked and shown; several accounts (child processes) add up to one."""
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from .latency import Latency

SHOWN = 20
SUMS = ("requests", "ok", "failed", "retried", "events", "goodbyes", "cuts", "missing")


class Account:
    """What one load, or several at once, saw. `data` is the JSON object."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = dict(data)
        self.kinds: dict[str, Any] = self.data["kinds"]
        self.latency = {kind: Latency.load(numbers["slots"]) for kind, numbers in self.kinds.items()}
        for name in ("requests", "ok", "failed", "retried"):
            self.data[name] = self.total(name)
        self.data["releases"] = self._releases()
        self.data["faults"] = self.faults
        for kind, numbers in self.kinds.items():
            numbers["latency_ms"] = {f"p{q:g}": _ms(self.latency[kind].percentile(q)) for q in (50, 99, 99.9, 100)}

    def total(self, name: str) -> int:
        """One number (requests, ok, failed, retried, …) over all kinds."""
        return sum(int(numbers.get(name, 0)) for numbers in self.kinds.values())

    @property
    def requests(self) -> int:
        """How many requests were made; each is in `ok` or in `failed`."""
        return self.total("requests")

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return self.total("failed")

    @property
    def faults(self) -> int:
        """Failed requests, and registrations lost, doubled or never sent."""
        return self.failed + sum(int(one["faults"]) for one in self.stores)

    @property
    def stores(self) -> list[dict[str, Any]]:
        """The proof of what was stored, of each load that sent POSTs."""
        found = self.data.get("stores")
        return found if isinstance(found, list) else [found] if found else []

    @property
    def releases(self) -> dict[str, dict[str, Any]]:
        """release -> answers, first, last (seconds since 1970), over all kinds."""
        return dict(self.data["releases"])

    def percentile(self, kind: str, q: float, start: float = 0.0, end: float = math.inf) -> float:
        """Seconds within which q percent of a kind's requests sent between two times were answered; NaN: there were none."""
        return self.latency[kind].percentile(q, start, end)

    def failures_between(self, start: float, end: float) -> list[dict[str, Any]]:
        """The failures, with their detail, recorded in a stretch of time."""
        return [failure for failure in self.data["failures"] if start <= failure["time"] <= end]

    def _releases(self) -> dict[str, dict[str, Any]]:
        made: dict[str, dict[str, Any]] = {}
        for numbers in self.kinds.values():
            _add_releases(made, numbers["releases"])
        return dict(sorted(made.items(), key=lambda item: float(item[1]["first"])))

    def json(self) -> str:
        """The account in one line of JSON."""
        return json.dumps(self.data)

    def table(self) -> str:
        """The account for a person."""
        lines = [f"{'kind':6} {'requests':>9} {'ok':>9} {'failed':>7} {'retried':>7} {'p50 ms':>8} {'p99 ms':>8} {'p99.9':>8} {'max':>8}"]
        for kind, n in self.kinds.items():
            times = "".join(f" {'-' if ms is None else format(ms, '.2f'):>8}" for ms in n["latency_ms"].values())
            lines.append(f"{kind:6} {n['requests']:9} {n['ok']:9} {n['failed']:7} {n['retried']:7}{times}")
        data, seconds = self.data, float(self.data["seconds"])
        lines.append(f"{'all':6} {data['requests']:9} {data['ok']:9} {data['failed']:7} {data['retried']:7}  "
                     f"{data['requests'] / seconds:.0f}/s for {seconds:.1f} s, ended by {data['end']}")
        for name, seen in self.releases.items():
            begin, end = (seen[at] - data["started"] for at in ("first", "last"))
            lines.append(f"release {name or '(none named)'}: {seen['answers']} answers, {begin:.2f} s to {end:.2f} s")
        for kind in ("sse", "ws"):
            if n := self.kinds.get(kind):
                lines.append(f"{kind}: {n['events']} events, {n['goodbyes']} goodbyes, {n['cuts']} cuts, {n['missing']} missing")
        for s in self.stores:
            proof = f"not verified: {s['unverified']}" if s["unverified"] else f"{s['found']} stored, {s['counted']} counted"
            lines.append(f"stores: {s['acknowledged']} acknowledged of {s['sent']}, {proof}; {s['lost']} lost, {s['surplus']} surplus")
        for kind, n in self.kinds.items():
            lines += [f"failed: {count} x {kind} {what}" for what, count in n["why"].items()]
        for failure in data["failures"][:SHOWN]:
            at = failure["time"] - data["started"]
            lines.append(f"  {at:8.3f} s {failure['kind']} {failure['client']}: {failure['what']}: {failure['detail']}")
        return "\n".join(lines)


def merge(accounts: Sequence[Account]) -> Account:
    """One account of several loads that ran at the same time."""
    kinds: dict[str, Any] = {}
    for account in accounts:
        for kind, numbers in account.kinds.items():
            into = kinds.setdefault(kind, {"why": {}, "releases": {}, "slots": {}})
            for name in SUMS:
                if name in numbers:
                    into[name] = into.get(name, 0) + numbers[name]
            for what, n in numbers["why"].items():
                into["why"][what] = into["why"].get(what, 0) + n
            _add_releases(into["releases"], numbers["releases"])
            latency = Latency.load(into["slots"])
            latency.merge(account.latency[kind])
            into["slots"] = latency.dump()
    data = [account.data for account in accounts]
    started, ended = min(d["started"] for d in data), max(d["ended"] for d in data)
    return Account({"started": started, "ended": ended, "seconds": ended - started, "end": ", ".join(sorted({d["end"] for d in data})),
                    "strict": all(d["strict"] for d in data), "client_cpu": sum(d["client_cpu"] for d in data), "kinds": kinds,
                    "stores": [one for account in accounts for one in account.stores],
                    "failures": sorted((f for d in data for f in d["failures"]), key=lambda f: float(f["time"]))})


def _add_releases(into: dict[str, dict[str, Any]], more: Mapping[str, Mapping[str, Any]]) -> None:
    for name, seen in more.items():
        have = into.get(name) or {"answers": 0, "first": seen["first"], "last": seen["last"]}
        into[name] = {"answers": have["answers"] + seen["answers"], "first": min(have["first"], seen["first"]),
                      "last": max(have["last"], seen["last"])}


def _ms(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1000, 3)
