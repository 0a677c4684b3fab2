"""Samples as Prometheus' text: what its own parsers read is what was written."""
import math

from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as plain

from keel import metrics
from keel.metrics import Sample

LABELS = st.dictionaries(st.sampled_from(["env", "store", "kind", "phase"]), st.text(st.characters(codec="utf-8", exclude_characters="\r")),
                         min_size=1)
VALUES = st.one_of(st.integers(0, 2**53), st.floats(0, 1e12).map(lambda v: round(v, 3)), st.just(math.inf))


@given(st.lists(st.tuples(st.sampled_from(list(metrics.HELP)), LABELS, VALUES), unique_by=lambda s: (s[0], tuple(sorted(s[1].items())))))
@example([("evenkeel_backups", {"store": 'a\\nb\\\\"c"\nd'}, 1)])
def test_what_is_read_is_what_was_written(given: list[tuple[str, dict[str, str], float]]) -> None:
    text = metrics.text(Sample(*s) for s in given)
    wanted = sorted((n, sorted(labels.items()), v) for n, labels, v in given)
    for read, end in ((plain, ""), (strict, "# EOF\n")):
        families = list(read(text + end))
        assert sorted((s.name, sorted(s.labels.items()), s.value) for f in families for s in f.samples) == wanted
        assert all(f.documentation == metrics.HELP[f.name] and f.type == "gauge" for f in families)
        assert len({f.name for f in families}) == len(families)


def test_half_a_character_can_be_written() -> None:
    assert metrics.text([Sample("evenkeel_backups", {"kind": "\ud800"}, 1)]).encode().endswith(b'{kind="?"} 1\n')


@given(st.lists(st.sampled_from(["s3://b/p", "s3://b/p?endpoint=https://x", "s3://b/p?endpoint=https://y", "file:///d", "file:///d/",
                                 "s3://u:pw@b/p", "s3://[pw", "pw"]), unique=True))
def test_each_store_has_a_name_of_its_own_without_credentials(urls: list[str]) -> None:
    found = metrics.names(urls)
    assert set(found) == set(urls) and len(set(found.values())) == len(urls)
    assert not any("pw" in name for name in found.values())
