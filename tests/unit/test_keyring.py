"""The lists of keys, and the files of their private halves: what is read, what is refused, and that nothing half done stays."""
import re
import subprocess
from pathlib import Path

import age_command
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel import age_crypt, age_keys, keyring, needs, private, schema, settings, state
from keel.keyring import CURRENT, RETIRED, Public
from keel.manifest import Manifest, Part
from keel.stop import CONFIG, NO, Stop

A, B, C = (str(age_crypt.recipient(age_keys.SecretKey(bytes([n]) * 32))) for n in (1, 2, 3))


def lists(text: str, tmp_path: Path) -> list[Public]:
    path = tmp_path / "recipients"
    path.write_text(text)
    return keyring.recipients(path)


def test_recipients_with_their_comments(tmp_path: Path) -> None:
    found = lists(f"# who can open\n\n# operator, in the safe\n{A}\n{B}\n#retired {C} until spring\n", tmp_path)
    assert found == [Public("recipient", C, "until spring", RETIRED), Public("recipient", A, "operator, in the safe"),
                     Public("recipient", B)]
    assert [str(k) for k in age_keys.recipients_file(tmp_path / "recipients")] == [A, B], "age and seal read the same"


def test_a_retired_one_keeps_its_comment_and_one_that_is_both_is_current(tmp_path: Path) -> None:
    (found,) = lists(f"# operator\n# retired {A}\n", tmp_path)
    assert (found.comment, found.state) == ("operator", RETIRED)
    for both in (f"# retired {A}\n{A}\n", f"{A}\n# retired {A}\n"):
        assert [k.state for k in lists(both, tmp_path)] == [CURRENT]


def test_no_file_no_keys(tmp_path: Path) -> None:
    none = tmp_path / "none"
    assert keyring.recipients(none) == keyring.signers(none) == keyring.identities(none) == keyring.own_signer(none) == []
    assert lists("# nobody yet\n", tmp_path) == [] == keyring.signers(tmp_path / "recipients")


@pytest.mark.parametrize("line", ["age1nonsense", "AGE-SECRET-KEY-1" + "Q" * 58, A[:-1] + "x", "# retired age1nonsense",
                                  "ssh-ed25519 AAAA"])
def test_what_is_no_recipient_is_named_by_its_line_and_never_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(Stop, match="recipients: line 2 is no key") as stopped:
        lists(f"{A}\n{line}\n", tmp_path)
    assert stopped.value.code == CONFIG and "SECRET-KEY-1Q" not in stopped.value.message


@given(comment=st.text(st.characters(categories=("L", "N", "P", "Zs"))).map(str.strip), before=st.sampled_from(["", f"{A}\n", f"# x\n{A}"]))
def test_what_is_added_is_read_back(comment: str, before: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("keys") / "recipients"
    path.write_text(before)
    keyring.add(path, keyring.recipient_lines(B, comment))
    there = keyring.recipients(path)
    assert [k.key for k in there] == ([A] if before else []) + [B] and there[-1].comment == comment.lstrip("# ")


def test_a_link_to_a_list_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    keyring.add(tmp_path / "link", f"{A}\n")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == f"{A}\n"


def test_age_keygen_reads_ours_and_we_read_its(tmp_path: Path) -> None:
    keygen = str(Path(age_command.program()).with_name("age-keygen"))
    text, public = keyring.identity_text()
    assert subprocess.run([keygen, "-y"], input=text, capture_output=True, text=True, check=True).stdout == f"{public}\n"
    theirs = tmp_path / "theirs"
    subprocess.run([keygen, "-o", str(theirs)], check=True, capture_output=True)
    said = re.search("age1[0-9a-z]+", theirs.read_text())
    assert said and [k.key for k in keyring.identities(theirs)] == [said[0]]


def test_a_secret_goes_when_what_is_done_with_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with pytest.raises(KeyboardInterrupt), private.new(path, "x"):
        assert path.read_text() == "x"
        raise KeyboardInterrupt
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(Stop, match="exists already") as stopped, private.new(path, "x"):
        raise AssertionError
    assert stopped.value.code == NO and path.read_text() == "mine"


def test_a_file_is_created_whole_or_not_at_all(tmp_path: Path) -> None:
    state.create(tmp_path / "one", "text", 0o600)
    assert (tmp_path / "one").read_text() == "text" and (tmp_path / "one").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        state.create(tmp_path / "one", "more", 0o600)
    with pytest.raises(UnicodeEncodeError):
        state.create(tmp_path / "two", "x" * 100_000 + "\udcff", 0o600)
    assert [p.name for p in tmp_path.iterdir()] == ["one"]


def some(ident: str, *to: str, period: str = "daily", lock_until: str = "") -> Manifest:
    when = f"{ident[:4]}-{ident[4:6]}-{ident[6:8]}T03:15:00Z"
    return Manifest(ident, "pg", "20260102T031500Z-5e6f7a8b", "production", "db1", when, when, "7001", (Part("x", 1, "", 1, ""),), period,
                    to, "evenkeel", lock_until=lock_until)


def test_until_when_an_identity_is_needed() -> None:
    s = settings.Settings("production", {"KEEL_KEEP_MONTHLY": "6"}, {}, schema.load(settings.ROOT / "compose" / "example.env"))
    old = some("20260102T031500Z-pg-00000001", A, B, period="monthly", lock_until="2026-07-09T03:15:00Z")
    new = some("20260203T031500Z-pg-00000002", A, A, C, lock_until="2026-03-12T03:15:00Z")
    found = {n.key: n for n in needs.of(s, [new, old], [Public("recipient", A, "ours", here=True), Public("recipient", B, "", RETIRED)])}
    assert list(found) == [A, B, C]
    a = found[A]
    assert (a.backups, a.last, a.kept_until, a.locked_until) == (2, new.id, "2026-07-02T03:15:00Z", "2026-07-09T03:15:00Z")
    assert (a.comment, a.here, found[B].backups, found[B].last) == ("ours", True, 1, old.id)
    assert (found[C].state, found[C].kept_until) == ("unlisted", "2026-03-05T03:15:00Z")
    assert [f.message.split(":")[0] for f in needs.lost([new, old], [Public("recipient", B)])] == [new.id]
    assert needs.lost([new, old], [Public("recipient", A)]) == [] and len(needs.lost([new, old], [])) == 2
