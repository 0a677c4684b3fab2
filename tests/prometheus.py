"""Reads Prometheus' text format from stdin, strictly; prints each sample as `NAME LABEL=VALUE… VALUE`, sorted; exit 1 and what is wrong.

It must be well by both of Prometheus' own parsers: the one of the text format, and that of OpenMetrics, which minds order and doubles.
"""
import re
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as plain

text = sys.stdin.read()
wrong, found = [], {}
families = list(plain(text))
if [(s.name, s.labels, s.value) for f in families for s in f.samples] != [
        (s.name, s.labels, s.value) for f in strict(text + "# EOF\n") for s in f.samples]:
    wrong.append("the two parsers read different things")
for family in families:
    name = family.name
    if family.type != "gauge" or not family.documentation or not family.samples:
        wrong.append(f"{name}: is {family.type}, {len(family.samples)} samples, help {family.documentation!r}")
    # Prometheus, Metric and label naming: one prefix, base units as the suffix; and nothing that belongs to another type.
    if not re.fullmatch("evenkeel_[a-z_]+", name) or re.search("_(total|count|sum|bucket|info|milliseconds|ms|kb|mb|percent)$", name):
        wrong.append(f"{name}: is no good name")
    if re.search("second|byte", name) and not re.search("_(seconds|bytes)$", name):
        wrong.append(f"{name}: its unit is not its end")
    for s in family.samples:
        key = " ".join([s.name, *(f"{k}={v}" for k, v in s.labels.items())])
        if s.name != name or key in found or s.timestamp is not None:
            wrong.append(f"{key}: is there twice, of another family, or has a time")
        found[key] = s.value
print("\n".join(f"{key} {value:.15g}" for key, value in sorted(found.items())))
sys.exit("\n".join(wrong) if wrong else 0)
