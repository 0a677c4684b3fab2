"""Programs that a machine lacks: fetched from Debian, and they run."""
import shutil
import subprocess
from pathlib import Path

import borrowed
import pytest

OTHERS = ("jq", "zstd")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """PATH of a machine that has all but these."""
    if "ID=debian\n" not in Path("/etc/os-release").read_text():
        pytest.skip("its packages are those of Debian")
    for folder in ("/sbin", "/usr/sbin", "/bin", "/usr/bin", "/usr/local/bin"):
        for program in Path(folder).iterdir():
            if program.name not in OTHERS:
                (tmp_path / program.name).unlink(missing_ok=True)
                (tmp_path / program.name).symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    return str(tmp_path)


def test_what_is_not_there_is_fetched_and_runs(bare: str) -> None:
    assert not any(map(shutil.which, OTHERS))
    env = {"PATH": f"{bare}:{borrowed.folder(OTHERS)}"}
    done = subprocess.run("zstd | zstd -d | jq -c .a", shell=True, env=env, input=b'{"a": [1]}', check=True, stdout=subprocess.PIPE)
    assert done.stdout == b"[1]\n"


def test_what_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(borrowed, "TOOLS", tmp_path)
    assert list(borrowed.folder(["sh"]).iterdir()) == []


def test_without_debian_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(borrowed, "TOOLS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(borrowed.Missing, match="there is no jq, and no Debian to fetch it from: install it"):
        borrowed.folder(["jq"])
