"""What doctor says of the keys of backups, on hosts of every kind."""
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form

from keel import age_crypt, key_checks, keyring, schema, settings, signed
from keel.settings import Settings

PEM = signed.new_key()[0]


def sealed_key() -> str:
    """A signing key behind a passphrase."""
    key = form.load_pem_private_key(PEM.encode(), None)
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"x")).decode()


def host(folder: Path, stores: str = "file:///backups") -> Settings:
    paths = {f"KEEL_BACKUP_{name}": str(folder / name) for name in ("SIGN_KEY", "SIGNERS", "RECIPIENTS", "IDENTITY")}
    more = {"KEEL_BACKUP_STORES": stores, "KEEL_STATE": str(folder / "state")}
    return Settings("production", {**more, **paths}, {}, schema.load(settings.ROOT / "compose" / "example.env"))


def found(s: Settings) -> dict[str, tuple[str, str, str]]:
    return {c.check: (c.verdict, c.said, c.hint) for c in key_checks.everything(s)}


def test_without_stores_nothing_is_said(tmp_path: Path) -> None:
    assert key_checks.everything(host(tmp_path, "")) == []


def test_what_is_missing_is_bad_and_the_hint_makes_it(tmp_path: Path) -> None:
    said = found(host(tmp_path))
    assert said["signer"][0] == said["recipients"][0] == "bad"
    assert "backup-keys make signer" in said["signer"][2] and "backup-keys make identity" in said["recipients"][2]


@pytest.mark.parametrize(("roles", "opens", "verdict", "words"), [
    (["backup"], False, "ok", "make backup-only"), (["backup"], True, "ok", "make backup-only"),
    (["backup", "verify"], False, "ok", "make backup-only"), (["backup", "verify"], True, "ok", "make backup"),
    ([], True, "ok", "make backup"),
    (["verify"], True, "ok", "make restore-verify"), (["verify"], False, "bad", "IDENTITY: no such file or directory"),
    (["release"], True, "bad", "for backup would not count")])
def test_which_target_the_key_of_this_host_is_enough_for(roles: list[str], opens: bool, verdict: str, words: str, tmp_path: Path) -> None:
    keyring.new_signer(tmp_path / "SIGN_KEY", tmp_path / "SIGNERS", "db1", roles)
    if opens:
        (tmp_path / "IDENTITY").write_text(keyring.identity_text()[0])
        (tmp_path / "IDENTITY").chmod(0o600)
    answer = found(host(tmp_path))["signer"]
    assert answer[0] == verdict and answer[1].endswith(words)


@pytest.mark.parametrize(("roles", "only"), [(["verify"], True), (["verify", "release"], True), (["backup", "verify"], False),
                                             (["backup"], False), ([], False), (["release"], False)])
def test_a_host_that_only_restores_is_known_by_the_role_of_its_key(roles: list[str], only: bool, tmp_path: Path) -> None:
    assert not key_checks.only_restores(host(tmp_path))
    keyring.new_signer(tmp_path / "SIGN_KEY", tmp_path / "SIGNERS", "x", roles)
    assert key_checks.only_restores(host(tmp_path)) == only and not key_checks.only_restores(host(tmp_path, ""))
    (tmp_path / "state" / "production" / "proxy").mkdir(parents=True)
    assert not key_checks.only_restores(host(tmp_path)), "a proxy was started here: a wrong role must not hide its ports"


def opening(folder: Path, text: str = "") -> tuple[dict[str, tuple[str, str, str]], str]:
    """What is said on a host whose key may sign anything, with this in the file of its identity; and where that file is."""
    keyring.new_signer(folder / "SIGN_KEY", folder / "SIGNERS", "db1")
    own, public = age_crypt.new_identity()
    (folder / "RECIPIENTS").write_text(f"{public}\n{age_crypt.new_identity()[1]}\n")
    (folder / "IDENTITY").write_text(text or f"{own}\n")
    (folder / "IDENTITY").chmod(0o600)
    return found(host(folder)), str(folder / "IDENTITY")


def test_an_identity_that_opens_what_is_made_here(tmp_path: Path) -> None:
    said, path = opening(tmp_path)
    assert said["identity"] == ("ok", f"{path}: 1 to open backups with", "")
    assert said["signer"][1].endswith("enough for make backup")


@pytest.mark.parametrize(("text", "words", "hint"), [
    ("nonsense\n", "line 1 is no key", "docs/keys.md"), ("# nothing\n", "there is no key in it", "backup-keys make identity"),
    (f"{age_crypt.new_identity()[1]}\n", "it is a recipient; here belongs the secret key", "docs/keys.md"),
    ("-----BEGIN AGE ENCRYPTED FILE-----\n", "is itself encrypted", "unseal it"),
    ("age-encryption.org/v1\n", "is itself encrypted", "unseal it")], ids=["no key", "empty", "public", "armoured", "encrypted"])
def test_an_identity_that_is_none(text: str, words: str, hint: str, tmp_path: Path) -> None:
    said, path = opening(tmp_path, text)
    verdict, what, then = said["identity"]
    assert verdict == "bad" and what.startswith(path) and words in what and hint in then
    assert said["signer"][0] == "ok" and said["signer"][1].endswith("enough for make backup-only")


def test_an_identity_that_others_can_read(tmp_path: Path) -> None:
    _, path = opening(tmp_path)
    (tmp_path / "IDENTITY").chmod(0o640)
    said = found(host(tmp_path))
    assert said["identity"] == ("bad", f"{path} has mode 0640, so others can read it", f"chmod 600 {path}")
    assert said["signer"][1].endswith("enough for make backup-only")


def test_an_identity_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    opening(tmp_path)
    (tmp_path / "IDENTITY").unlink()
    (tmp_path / "IDENTITY").symlink_to(tmp_path / "nowhere")
    assert found(host(tmp_path))["identity"][:2] == ("bad", f"{tmp_path}/IDENTITY: no such file or directory")
    (tmp_path / "IDENTITY").unlink()
    (tmp_path / "IDENTITY").mkdir(mode=0o700)
    assert found(host(tmp_path))["identity"][:2] == ("bad", f"{tmp_path}/IDENTITY: is a directory")


def test_an_identity_to_which_nothing_is_sealed_any_more(tmp_path: Path) -> None:
    said, path = opening(tmp_path, f"{age_crypt.new_identity()[0]}\n")
    verdict, what, hint = said["identity"]
    assert verdict == "warn" and what.startswith(f"no identity of {path} is of a recipient in ") and "make backup-only" in hint
    assert said["signer"][1].endswith("enough for make backup-only")


@pytest.mark.parametrize(("text", "mode", "words", "hint"), [
    ("", 0o600, "is no private key in PEM", "backup-keys make signer"),
    ("nonsense\n", 0o600, "is no private key in PEM", "backup-keys make signer"),
    (PEM, 0o640, "has mode 0640, so others can read it", "chmod 600 "),
    (sealed_key(), 0o600, "is no private key in PEM without a passphrase", "backup-keys make signer"),
    (PEM, 0o600, "is no key of KEEL_BACKUP_SIGNERS", "backup-keys list")], ids=["empty", "no key", "open", "encrypted", "unlisted"])
def test_a_signing_key_that_is_none(text: str, mode: int, words: str, hint: str, tmp_path: Path) -> None:
    opening(tmp_path)
    (tmp_path / "SIGN_KEY").write_text(text)
    (tmp_path / "SIGN_KEY").chmod(mode)
    verdict, said, then = found(host(tmp_path))["signer"]
    assert verdict == "bad" and said.startswith(f"{tmp_path}/SIGN_KEY: {words}") and hint in then


def test_a_key_that_no_list_has_is_bad(tmp_path: Path) -> None:
    keyring.new_signer(tmp_path / "SIGN_KEY", tmp_path / "other", "db1")
    keyring.new_signer(tmp_path / "another", tmp_path / "SIGNERS", "db2")
    verdict, said, hint = found(host(tmp_path))["signer"]
    assert verdict == "bad" and "is no key of KEEL_BACKUP_SIGNERS" in said and hint


def test_one_recipient_is_too_few_also_where_it_stands_twice(tmp_path: Path) -> None:
    one, two = (age_crypt.new_identity()[1] for _ in range(2))
    for text, verdict in ((f"{one}\n", "warn"), (f"{one}\n{one}\n", "warn"), (f"{one}\n{two}\n", "ok"), ("nonsense\n", "bad")):
        (tmp_path / "RECIPIENTS").write_text(text)
        answer = found(host(tmp_path))["recipients"]
        assert answer[0] == verdict and bool(answer[2]) == (verdict != "ok")


@pytest.mark.parametrize(("mode", "verdict", "words"), [
    (0o755, "ok", "is ours alone"), (0o700, "ok", "is ours alone"), (0o1777, "ok", "is ours alone"),
    (0o777, "warn", "has mode 0777: everybody here can delete"), (0o775, "warn", "has mode 0775: its group can delete"),
    (0o2770, "warn", "has mode 2770: its group can delete")])
def test_a_folder_of_backups_where_others_may_delete(mode: int, verdict: str, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    folder.chmod(mode)
    answer = found(host(tmp_path, f"file://{folder}"))["stores"]
    assert answer[0] == verdict and words in answer[1] and answer[2] == ("" if verdict == "ok" else f"chmod go-w {folder}")


def test_a_folder_of_backups_that_is_anothers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 4711, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    verdict, said, hint = found(host(tmp_path, f"file://{tmp_path}"))["stores"]
    assert verdict == "warn" and "belongs to " in said and hint.startswith("chown ")


def test_a_folder_that_is_not_there_is_bad_and_of_buckets_nothing_is_said(tmp_path: Path) -> None:
    assert found(host(tmp_path, f"file://{tmp_path}/none"))["stores"][0] == "bad"
    assert "stores" not in found(host(tmp_path, "s3://bucket/p"))


def test_stores_that_cannot_be_one_have_a_line_each(tmp_path: Path) -> None:
    said = [c.said for c in key_checks.folders(host(tmp_path, f"ftp://h/d file://{tmp_path} file://{tmp_path}/"))]
    twice = f"file://{tmp_path}/: is there twice, also as file://{tmp_path}"
    assert said == ["ftp://h/d: file:///DIR or s3://BUCKET/PREFIX is wanted", twice]
