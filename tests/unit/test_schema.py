"""The schema: what compose/example.env says of each variable, and what values are worth."""
import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel import schema, settings

EXAMPLE = schema.load(settings.ROOT / "compose" / "example.env")


def variable(kind: str, **changes: object) -> schema.Variable:
    fields: dict[str, object] = {"name": "X", "type": kind, "default": "", "required": False, "secret": False, "app": False}
    return schema.Variable(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(EXAMPLE))
def test_every_default_is_of_its_type(name: str) -> None:
    v = EXAMPLE[name]
    if not v.required:
        assert v.fault(v.default) == ""


@pytest.mark.parametrize("name", sorted(n for n, v in EXAMPLE.items() if v.required))
def test_a_required_one_is_missed_and_its_placeholder_is_seen(name: str) -> None:
    v = EXAMPLE[name]
    assert v.fault("") == "is missing"
    assert "placeholder" in v.fault(v.default)
    assert "placeholder" in v.fault("prefix-CHANGE_ME")


def test_every_secret_is_required_or_may_be_empty() -> None:
    assert {n for n, v in EXAMPLE.items() if v.secret} >= {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}
    assert all(v.required or not v.default for v in EXAMPLE.values() if v.secret)


def test_every_type_that_the_example_uses_is_described_in_its_head() -> None:
    head = (settings.ROOT / "compose" / "example.env").read_text().partition("\n\n")[0]
    used = {v.type.partition("(")[0] for v in EXAMPLE.values()}
    assert used <= set(re.findall(r"[a-z]+", head))


@given(st.integers(0, 999_999), st.sampled_from(sorted(schema.UNITS)))
def test_durations_round_trip(n: int, unit: str) -> None:
    text = f"{n}{unit}"
    assert variable("duration").fault(text) == ""
    assert schema.seconds(text) == pytest.approx(n * schema.UNITS[unit])


@given(st.integers(0, 999_999), st.sampled_from(sorted(schema.SIZES)))
def test_sizes_round_trip(n: int, unit: str) -> None:
    text = f"{n}{unit}"
    assert variable("size").fault(text) == ""
    assert schema.size(text) == n * schema.SIZES[unit]


@given(st.text(max_size=12))
def test_what_the_schema_accepts_can_be_read_and_the_rest_cannot_as_a_duration(text: str) -> None:
    """A value that passes never fails later; one that fails says what is wanted."""
    if text and variable("duration").fault(text) == "":
        schema.seconds(text)
    elif len(text) < 7:  # longer ones are refused for their length alone
        with pytest.raises(ValueError, match="a duration with its unit"):
            schema.seconds(text)


@given(st.text(max_size=12))
def test_what_the_schema_accepts_can_be_read_and_the_rest_cannot_as_a_size(text: str) -> None:
    if text and variable("size").fault(text) == "":
        assert schema.size(text) >= 0
    elif len(text) < 7:
        with pytest.raises(ValueError, match="a size"):
            schema.size(text)


@given(st.integers(-100_000, 100_000))
def test_ports(n: int) -> None:
    assert (variable("port").fault(str(n)) == "") == (1 <= n <= 65535)


@given(st.sampled_from(sorted(schema.TYPES)), st.text(min_size=1, max_size=40))
def test_no_type_lets_a_line_end_or_a_zero_byte_through_but_a_path_may_have_line_ends(kind: str, text: str) -> None:
    if "\0" in text and kind in ("path", "port", "number", "duration", "size", "host", "flag"):
        assert variable(kind).fault(text)
    if "\n" in text and kind not in ("path",):
        assert variable(kind).fault(text)


@given(st.sampled_from([k for k in sorted(schema.TYPES) if k not in ("text", "path", "command")]),
       st.from_regex(r"[a-z]{3}[!#/ ]{2}[a-z0-9]{5,9}", fullmatch=True))
def test_a_secret_is_never_in_a_message(kind: str, text: str) -> None:
    for v in (variable(kind, secret=True), variable("choice(a|b)", secret=True)):
        fault = v.fault(text)
        assert fault and text not in fault and "…" in fault


@pytest.mark.parametrize("kind,value", [
    ("host", "-bad.org"), ("host", "two words"), ("host", "a..b"), ("host", "x" * 254), ("host", "http://x.org"), ("duration", "30"),
    ("duration", "5 s"), ("duration", "1h30m"), ("duration", "-1s"), ("duration", "1.5s"), ("duration", "٣s"), ("size", "10mb"),
    ("size", "10M"), ("number", "1e3"), ("number", "-1"), ("count", "0"), ("flag", "yes"), ("flag", "ON"), ("url", "example.org"),
    ("url", "ftp://x"), ("email", "nobody"), ("choice(a|b)", "a|b"), ("choice(a|b)", "A"), ("text", "two\nlines"),
])
def test_bad_values(kind: str, value: str) -> None:
    assert "is wanted" in variable(kind).fault(value)


@pytest.mark.parametrize("kind,value", [
    ("host", "localhost"), ("host", "a-b.example.org"), ("host", "127.0.0.1"), ("duration", "0s"), ("duration", "250ms"), ("size", "0"),
    ("size", "512k"), ("number", "0"), ("count", "1"), ("flag", "on"), ("url", "https://x.org/a?b"), ("email", "ops@x.org"),
    ("choice(a|b)", "b"), ("command", "node dist/migrate.js"), ("text", "ünïcode $PATH 'quotes'"),
])
def test_good_values(kind: str, value: str) -> None:
    assert variable(kind).fault(value) == ""


def test_a_variable_without_a_known_type_names_its_line(tmp_path: pathlib.Path) -> None:
    for text in ("A=1\n", "#: durration\nA=1\n", "#: text\nB=1\nA=1\n"):
        path = tmp_path / f"{len(text)}.env"
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"line {text.count(chr(10))}: A has no type"):
            schema.load(path)
