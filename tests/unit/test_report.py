"""What is said of a job to the outside: without secrets, and no more than its last lines."""
from hypothesis import given
from hypothesis import strategies as st

from keel import child, report

SECRET = st.text(st.characters(codec="utf-8", exclude_characters="…\r\n"), min_size=1, max_size=12).filter(str.strip)


@given(st.lists(SECRET, min_size=1, max_size=4), st.lists(st.text(max_size=20), max_size=5), st.randoms())
def test_no_secret_remains(secrets: list[str], between: list[str], random: object) -> None:
    pieces = [*secrets, *between, *secrets]
    random.shuffle(pieces)  # type: ignore[attr-defined]
    masked = report.mask("".join(pieces), secrets)
    assert not [s for s in secrets if s in masked]


@given(st.text(max_size=200))
def test_without_secrets_nothing_changes(text: str) -> None:
    assert report.mask(text, []) == text


def test_a_secret_of_several_lines() -> None:
    key = "-----BEGIN KEY-----\nabcdefgh\nxy\n"
    assert report.mask(f"read {key}done; abcdefgh", [key]) == "read …done; …"
    assert report.mask("line abcdefgh; xy", [key]) == "line …; xy"


def test_lines_are_the_last_ones_cut_to_their_width() -> None:
    said = "\n".join(f"{n} {'w' * n * 10}" for n in range(100)).encode()
    lines = report.last_lines(said, [])
    assert len(lines) == report.LINES and lines[-1].startswith("99 www") and len(lines[-1]) == report.WIDTH + 1
    assert report.last_lines(b"\n\x1b[1mred\x00\t\xff\r\n\n", []) == ["[1mred �"]
    assert report.last_lines(b"", []) == []


def test_where_the_output_was_cut_no_half_of_a_secret_is_left() -> None:
    secret = "k" * 30 + "x"
    for piece in (secret[5:], secret[29:]):
        said = (piece + "a" * child.KEPT).encode()[-child.KEPT - len(piece):][:child.KEPT]
        assert "kx" not in "".join(report.last_lines(said, [secret])) and report.last_lines(said, [secret])
