"""The settings: which value wins, what is wrong, and that all of it is said at once."""
import pathlib
import shutil

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from keel import schema, settings
from keel.stop import CONFIG, Stop

EXAMPLE = settings.ROOT / "compose" / "example.env"
SECRETS = "POSTGRES_PASSWORD=one\nREDIS_PASSWORD=two\n"
ORDER = ("KEEL_SHUTDOWN_TIMEOUT", "KEEL_STOP_GRACE", "KEEL_DRAIN_TIMEOUT", "KEEL_JOB_TIMEOUT")


class Tree:
    """A checkout with one environment, `trial`, whose files a test writes."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        for folder in ("compose", "secrets", "var"):
            (root / folder).mkdir()
        for name in ("example.env", "images.env"):
            shutil.copy(EXAMPLE.with_name(name), root / "compose")
        self.write("compose/trial.env", "KEEL_DOMAIN=trial.test\n")
        self.write("secrets/trial.env", SECRETS, 0o600)

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        (self.root / name).write_text(text)
        (self.root / name).chmod(mode)

    def faults(self) -> list[str]:
        return settings.faults(settings.gather())


@pytest.fixture
def tree(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    import os

    for name in list(os.environ):
        if name.startswith(("KEEL_", "DOCKER_")) or name in schema.load(EXAMPLE):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_HOST", "")  # load() sets these two: put back what was there
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setenv("KEEL_ENV", "trial")
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    return Tree(tmp_path)


def test_well(tree: Tree) -> None:
    assert tree.faults() == []
    assert settings.checked()["KEEL_DOMAIN"] == "trial.test"


def test_rising_order(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def now() -> tuple[str, str]:
        s = settings.load()
        return s["KEEL_REPLICAS"], s.origin.get("KEEL_REPLICAS", "default")

    assert now() == ("2", "default")
    tree.write("var/host.env", "KEEL_REPLICAS=3\n")
    assert now() == ("3", "var/host.env")
    tree.write("compose/trial.env", "KEEL_DOMAIN=trial.test\nKEEL_REPLICAS=4\n")
    assert now() == ("4", "compose/trial.env")
    tree.write("secrets/trial.env", SECRETS + "KEEL_REPLICAS=5\n", 0o600)
    assert now() == ("5", "secrets/trial.env")
    monkeypatch.setenv("KEEL_REPLICAS", "6")
    assert now() == ("6", "the process environment")
    monkeypatch.setenv("KEEL_REPLICAS", "")  # as CI systems export what is not set
    assert now() == ("5", "secrets/trial.env")


def test_the_host_is_entered(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    tree.write("var/host.env", "DOCKER_HOST=unix:///there.sock\nKEEL_TOOLS=/there/tools\n")
    settings.load()
    settings.load()
    assert os.environ["DOCKER_HOST"] == "unix:///there.sock"
    assert os.environ["PATH"].split(":")[0] == "/there/tools"
    assert os.environ["PATH"].count("/there/tools") == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601, 0o777])
def test_an_open_secrets_file_stops_every_command(tree: Tree, mode: int) -> None:
    (tree.root / "secrets/trial.env").chmod(mode)
    assert tree.faults() == [f"secrets/trial.env has mode {mode:04o}, so others can read it: chmod 600 secrets/trial.env"]
    with pytest.raises(Stop) as stop:
        settings.load()
    assert stop.value.code == CONFIG


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_closed_secrets_file_is_well(tree: Tree, mode: int) -> None:
    (tree.root / "secrets/trial.env").chmod(mode)
    assert tree.faults() == []


def test_no_secrets_file(tree: Tree) -> None:
    (tree.root / "secrets/trial.env").unlink()
    with pytest.raises(Stop, match="secrets/trial.env is missing") as stop:
        settings.load()
    assert stop.value.code == CONFIG
    assert len(tree.faults()) == 3  # the file, and each secret that it would hold


@pytest.mark.parametrize("line,number", [("KEEL_REPLICAS", 3), ("=3", 3), ("\n\nKEEL REPLICAS=3", 5), ('KEEL_REPLICAS="3', 3),
                                         ("- list", 3)])
def test_a_line_that_is_none_is_never_passed_over(tree: Tree, line: str, number: int) -> None:
    tree.write("compose/trial.env", f"# settings\nKEEL_DOMAIN=trial.test\n{line}\nKEEL_APP_PORT=1\n")
    assert f"compose/trial.env: line {number} is not NAME=value" in tree.faults()


def test_the_same_name_twice(tree: Tree) -> None:
    tree.write("compose/trial.env", "KEEL_DOMAIN=a.test\nKEEL_DOMAIN=b.test\n")
    assert tree.faults() == ["compose/trial.env: KEEL_DOMAIN is there twice"]


def test_values_are_taken_as_they_stand(tree: Tree) -> None:
    tree.write("secrets/trial.env", "POSTGRES_PASSWORD='p$HOME #x'\nREDIS_PASSWORD=a$b\n", 0o600)
    assert settings.load()["POSTGRES_PASSWORD"] == "p$HOME #x"
    assert settings.load()["REDIS_PASSWORD"] == "a$b"


def test_a_file_that_cannot_be_read(tree: Tree) -> None:
    (tree.root / "compose/trial.env").unlink()
    (tree.root / "compose/trial.env").mkdir()
    assert "compose/trial.env cannot be read: Is a directory" in tree.faults()


@pytest.mark.parametrize("name,near", [("KEEL_DOMIAN", "KEEL_DOMAIN"), ("keel_replicas", "KEEL_REPLICAS"), ("PGDATABSE", "PGDATABASE")])
def test_a_misspelt_name(tree: Tree, name: str, near: str) -> None:
    tree.write("compose/trial.env", f"KEEL_DOMAIN=trial.test\n{name}=x\n")
    assert tree.faults() == [f"{name} (compose/trial.env) is unknown: did you mean {near}?"]


def test_a_secret_in_the_committed_file_is_named_and_not_shown(tree: Tree) -> None:
    tree.write("compose/trial.env", "KEEL_DOMAIN=trial.test\nREDIS_PASSWORD=hunter2\n")
    fault = "REDIS_PASSWORD is a secret: move it from compose/trial.env to secrets/trial.env"
    assert tree.faults() == [fault]  # also where secrets/trial.env has the value that counts
    tree.write("secrets/trial.env", "POSTGRES_PASSWORD=one\n", 0o600)
    assert tree.faults() == [fault]


def test_one_port_for_two(tree: Tree) -> None:
    tree.write("compose/trial.env", "KEEL_DOMAIN=trial.test\nKEEL_HTTP_PORT=443\n")
    assert tree.faults() == ["KEEL_HTTP_PORT and KEEL_HTTPS_PORT are both 443"]


def test_a_bad_value_stops_the_command_that_reads_it_and_never_becomes_the_default(tree: Tree) -> None:
    tree.write("compose/trial.env", "KEEL_DOMAIN=trial.test\nKEEL_READ_TIMEOUT=60\n")
    with pytest.raises(Stop, match="KEEL_READ_TIMEOUT is '60'") as stop:
        settings.load().seconds("KEEL_READ_TIMEOUT")
    assert stop.value.code == CONFIG


@pytest.mark.parametrize("env,hint", [("trail", "did you mean trial?"), ("example", "environments: trial"),
                                      ("", "KEEL_ENV=trial COMMAND …"), ("../compose/trial", None)])
def test_an_unknown_environment(tree: Tree, monkeypatch: pytest.MonkeyPatch, env: str, hint: str | None) -> None:
    monkeypatch.setenv("KEEL_ENV", env)
    with pytest.raises(Stop) as stop:
        settings.load()
    assert stop.value.code == CONFIG
    assert hint is None or stop.value.hint == hint


PRINTABLE = st.characters(codec="utf-8", exclude_characters="'\\", exclude_categories=("Cs", "Cc", "Zl", "Zp"))

# One tree serves all examples of a property: each writes its own file before it reads.
one_tree = examples(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


@one_tree
@given(seconds=st.lists(st.integers(0, 5000), min_size=4, max_size=4))
def test_timeouts_nest_exactly_when_they_rise(tree: Tree, seconds: list[int]) -> None:
    # the health check has to fit into the job as well: keep that out of the way
    lines = [f"{name}={n}s" for name, n in zip(ORDER, seconds, strict=True)] + ["KEEL_HEALTH_TIMEOUT=0s", "KEEL_DOMAIN=trial.test"]
    tree.write("compose/trial.env", "\n".join(lines) + "\n")
    wrong = [i for i in range(3) if seconds[i] >= seconds[i + 1]]
    found = [f for f in tree.faults() if "KEEL_HEALTH_TIMEOUT" not in f]
    assert found == [f"{ORDER[i]}={seconds[i]}s must be shorter than {ORDER[i + 1]}={seconds[i + 1]}s" for i in wrong]


@pytest.mark.parametrize(("changes", "said"), [
    ({"KEEL_BODY_LIMIT": "64m"}, []), ({"KEEL_BODY_LIMIT": "65m", "KEEL_PROXY": "caddy"}, []), ({"KEEL_CACHE": "1s"}, []),
    ({"KEEL_BODY_LIMIT": "65m"}, ["KEEL_BODY_LIMIT=65m must be at most a quarter of KEEL_PROXY_MEMORY=256m: nginx keeps uploads there"]),
    ({"KEEL_CACHE": "1s", "KEEL_PROXY_MEMORY": "255m"},
     ["KEEL_CACHE=1s wants KEEL_PROXY_MEMORY=256m or more: nginx keeps responses there"])])
def test_what_has_to_find_room_in_nginx(tree: Tree, changes: dict[str, str], said: list[str]) -> None:
    """No fault of the settings: a backup or a restore is not refused for it."""
    lines = {"KEEL_DOMAIN": "trial.test", "KEEL_PROXY": "nginx", "KEEL_PROXY_MEMORY": "256m", **changes}
    tree.write("compose/trial.env", "".join(f"{k}={v}\n" for k, v in lines.items()))
    assert tree.faults() == [] and settings.uploads(settings.gather()) == said


@one_tree
@given(st.sets(st.sampled_from(["KEEL_PROXY", "KEEL_HTTP_PORT", "KEEL_REPLICAS", "KEEL_BODY_LIMIT", "KEEL_STOP_GRACE", "KEEL_NONE",
                                "POSTGRES_PASSWORD"])))
def test_every_fault_is_said_whatever_the_others_are(tree: Tree, bad: set[str]) -> None:
    lines = ["KEEL_DOMAIN=trial.test", "KEEL_KEEPALIVE_PROXY=70s", *(f"{name}=?" for name in sorted(bad))]
    tree.write("compose/trial.env", "\n".join(lines) + "\n")
    found = tree.faults()
    assert all(any(name in fault for fault in found) for name in bad)
    assert len(found) == len(bad) + 1  # and the keep-alive that does not nest


@one_tree
@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True), st.text(PRINTABLE, max_size=20)))
def test_files_round_trip(tree: Tree, values: dict[str, str]) -> None:
    tree.write("var/round.env", "".join(f"{k}='{v}'\n" for k, v in values.items()))
    assert settings.read(tree.root / "var/round.env") == values


@pytest.mark.parametrize("name", ["engine", "host"])
def test_an_environment_named_like_the_trial_engines_folder_is_refused(tree: Tree, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.write(f"compose/{name}.env", "KEEL_DOMAIN=trial.test\n")
    monkeypatch.setenv("KEEL_ENV", name)
    with pytest.raises(Stop, match=f"{name}: an environment cannot have this name") as stop:
        settings.gather()
    assert stop.value.code == CONFIG and f"compose/{name}.env" in stop.value.hint
