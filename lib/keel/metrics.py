"""Backups as Prometheus metrics: what one store holds as samples, and samples as text for node_exporter's textfile collector.

Names and units follow Prometheus' Metric and label naming; the text its exposition format 0.0.4.
"""
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from keel import inventory, manifest, stores
from keel.forms import moment
from keel.inventory import Inventory
from keel.keep import Backup
from keel.manifest import Manifest
from keel.signed import Signer
from keel.stores import Store

HELP = {
    "evenkeel_backup_store_up": "Whether the store answered.",
    "evenkeel_backup_faults": "Manifests, verdicts and objects that do not verify or are not there.",
    "evenkeel_backups": "Finished backups in the store.",
    "evenkeel_backups_held": "Backups that a person must look at before they count.",
    "evenkeel_backups_bad": "Backups that did not restore, or whose objects are not there.",
    "evenkeel_backup_last_success_timestamp_seconds": "When the newest good backup was finished; 0 where there is none.",
    "evenkeel_backup_last_size_bytes": "Size of the newest good backup in the store.",
    "evenkeel_backup_last_duration_seconds": "How long the newest good backup took.",
    "evenkeel_backup_locked_until_timestamp_seconds": "Until when the newest good backup is locked; not there where it is not.",
    "evenkeel_backup_rpo_seconds": "Age of the newest good backup: what would be lost now.",
    "evenkeel_backup_last_verified_timestamp_seconds": "When the newest restored backup was restored; 0 where there is none.",
    "evenkeel_backup_last_verified_level": "How far that restore was tried, 0 to 5.",
    "evenkeel_backup_verified_rpo_seconds": "Age of the newest restored backup: what would be lost now at the worst.",
    "evenkeel_restore_verify_seconds": "How long each phase of that restore took.",
    "evenkeel_backup_metrics_timestamp_seconds": "When these metrics were made.",
}


@dataclass(frozen=True)
class Sample:
    """One value; its name is one of HELP."""

    name: str
    labels: Mapping[str, str]
    value: float


def of_store(store: Store, labels: Mapping[str, str], keys: Mapping[str, Signer], now: datetime) -> list[Sample]:
    """What a store says of the backups of labels["env"]. Raises as the store does."""
    found = inventory.look(store, labels["env"], keys)
    samples = [Sample("evenkeel_backup_store_up", labels, 1), Sample("evenkeel_backup_faults", labels, len(found.faults))]
    for kind in sorted({"pg", *(b.kind for b in found.backups)}):  # that there is no copy of the database is said too
        those = [b for b in found.backups if b.kind == kind]
        labelled = {**labels, "kind": kind}
        samples += [Sample(name, labelled, value) for name, value in _counts(those).items()]
        samples += _good(found, _newest(those, now), labelled, now)
        samples += _restored(found, _newest([b for b in those if b.verified], now), labelled, (keys, now))
    return samples


def text(samples: Iterable[Sample]) -> str:
    """Samples in the text format: each metric with its help and type once, then all of its samples. Raises KeyError."""
    by_name: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_name[sample.name].append(sample)
    lines = []
    for name in sorted(by_name, key=list(HELP).index):
        lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge"]
        for s in by_name[name]:
            lines.append(f"{name}{{{','.join(f'{k}={_quoted(v)}' for k, v in s.labels.items())}}} {_number(s.value)}")
    return "".join(f"{line}\n" for line in lines)


def names(urls: Iterable[str]) -> dict[str, str]:
    """A label for each URL of a store, without what is none of Prometheus' business; where two are alike the second has its number."""
    found: dict[str, str] = {}
    for url in urls:
        try:
            name = stores.shown(url).rstrip("/") if urlsplit(url).scheme else "no URL"
        except ValueError:
            name = "no URL"
        same = sum(n.partition(" (")[0] == name for n in found.values())
        found.setdefault(url, f"{name} ({same + 1})" if same else name)
    return found


def _counts(those: Collection[Backup]) -> dict[str, float]:
    finished = [b for b in those if b.complete]
    return {"evenkeel_backups": len(finished), "evenkeel_backups_held": sum(b.good and bool(b.held) for b in finished),
            "evenkeel_backups_bad": sum(not b.good and not b.held for b in finished)}


def _good(found: Inventory, good: Backup | None, labels: Mapping[str, str], now: datetime) -> list[Sample]:
    """About the newest good backup."""
    values = {"last_success_timestamp_seconds": 0.0, "rpo_seconds": math.inf}
    if good:
        m = _manifest(found, good)
        finished = moment(m.finished)
        values = {"last_success_timestamp_seconds": finished.timestamp(), "rpo_seconds": (now - good.created).total_seconds(),
                  "last_size_bytes": sum(part.size for part in m.objects),
                  "last_duration_seconds": (finished - good.created).total_seconds()}
        if good.locked_until:
            values["locked_until_timestamp_seconds"] = good.locked_until.timestamp()
    return [Sample(f"evenkeel_backup_{name}", labels, value) for name, value in values.items()]


def _restored(found: Inventory, restored: Backup | None, labels: Mapping[str, str],
              by: tuple[Mapping[str, Signer], datetime]) -> list[Sample]:
    """About the newest backup that has been restored."""
    keys, now = by
    verdicts = manifest.verdicts(found.store, found.env, keys, {restored.id})[0] if restored else {}
    verdict = inventory.standing(_manifest(found, restored), verdicts[restored.id]) if restored and verdicts else None
    if not restored or not verdict:
        values, phases = {"last_verified_timestamp_seconds": 0.0, "verified_rpo_seconds": math.inf}, {}
    else:
        values = {"last_verified_timestamp_seconds": moment(verdict.time).timestamp(), "last_verified_level": verdict.level,
                  "verified_rpo_seconds": (now - restored.created).total_seconds()}
        phases = dict(verdict.seconds)
    return [*(Sample(f"evenkeel_backup_{name}", labels, value) for name, value in values.items()),
            *(Sample("evenkeel_restore_verify_seconds", {**labels, "phase": phase}, value) for phase, value in phases.items())]


def _newest(those: Iterable[Backup], now: datetime) -> Backup | None:
    return max((b for b in those if b.sound(now)), key=lambda b: (b.created, b.id), default=None)


def _manifest(found: Inventory, backup: Backup) -> Manifest:
    return next(m for m in found.manifests if m.id == backup.id)


def _quoted(value: str) -> str:
    """A label's value. Source: Prometheus, Text-based format: \\, " and a line's end are escaped."""
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'.encode(errors="replace").decode()


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else repr(round(value, 3)).removesuffix(".0")
