"""The hint where no engine answers: a second, empty one is offered only where nothing shows that there was one."""
import pathlib

import pytest

from keel import no_engine, settings

TRIAL = "`make setup` starts one"


@pytest.fixture
def top(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A host that shows nothing of an engine."""
    monkeypatch.setenv("DOCKER_HOST", "")
    monkeypatch.delenv("KEEL_ENV", raising=False)
    return tmp_path


def test_a_bare_machine(top: pathlib.Path) -> None:
    assert TRIAL in no_engine.advice(top)


@pytest.mark.parametrize("sign", no_engine.SIGNS)
def test_an_engine_that_is_down(top: pathlib.Path, sign: str) -> None:
    (top / sign).mkdir(parents=True)
    assert no_engine.advice(top) == "service docker start"
    (top / "run/systemd/system").mkdir(parents=True)
    assert no_engine.advice(top) == "systemctl start docker"


def test_an_environment_that_has_served(top: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (top / "compose").mkdir()
    (top / "compose/trial.env").touch()
    (top / "compose/example.env").write_text((settings.ROOT / "compose/example.env").read_text())
    monkeypatch.setattr(settings, "ROOT", top)
    monkeypatch.setenv("KEEL_ENV", "trial")
    assert TRIAL in no_engine.advice(top)
    (top / "var/trial").mkdir(parents=True)
    (top / "var/trial/history").touch()
    assert no_engine.advice(top) == "service docker start"


def test_an_address_that_was_set(top: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (top / "etc/docker").mkdir(parents=True)
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert no_engine.advice(top) == "start it, or set DOCKER_HOST (now tcp://elsewhere:2375)"
    monkeypatch.setenv("DOCKER_HOST", no_engine.TRIAL)
    assert no_engine.advice(top) == "`make setup` starts it again, on its data"


def test_the_address_of_a_trial_is_the_one_that_set_up_uses() -> None:
    script = (settings.ROOT / "tests/host/engine").read_text()
    assert f"unix://{script.split('RUN=')[1].split()[0]}/docker.sock" == no_engine.TRIAL
