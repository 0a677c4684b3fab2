"""A watched command: its end, its stderr, and the signals that go on to it. Each runs in a process of its own, as with-report does."""
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

from keel import child

ROOT = Path(__file__).resolve().parent.parent.parent
WATCH = f"""import json, sys
sys.path.insert(0, {str(ROOT / "lib")!r})
from keel import child
code, kept = child.watch(sys.argv[2:])
with open(sys.argv[1], "w") as f:
    json.dump([code, kept.decode()], f)
"""


def watched(tmp_path: Path, *argv: str, stderr: int = subprocess.PIPE) -> tuple[int, str, bytes]:
    """The code and what was kept, and what came out of stderr."""
    done = subprocess.run([sys.executable, "-c", WATCH, tmp_path / "said", *argv], cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=stderr,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    code, kept = json.loads((tmp_path / "said").read_text())
    return code, kept, done.stderr


def test_all_of_it_passes_through_and_the_end_is_kept(tmp_path: Path) -> None:
    size = 3 * child.KEPT
    code, kept, said = watched(tmp_path, "sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x >&2; echo end >&2; exit 9")
    assert code == 9 and said == b"x" * size + b"end\n"
    assert len(kept) == child.KEPT and kept.endswith("xend\n")


def test_what_is_left_behind_does_not_keep_us(tmp_path: Path) -> None:
    begin = time.monotonic()
    code, kept, _ = watched(tmp_path, "sh", "-c", "(sleep 0.3; echo late >&2; exec tail -f /dev/null) & echo $! >pid; exit 3")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert (code, kept) == (3, "late\n") and time.monotonic() - begin < 20


def test_what_cleans_up_is_waited_for(tmp_path: Path) -> None:
    """Told to end, a shell is gone at once; the commands of its pipe end when they have taken back what they had half done."""
    command = f"trap 'sleep {2 * child.GRACE}; echo clean >&2; exit 5' TERM; kill -TERM $WATCH; while :; do sleep 0.1; done"
    code, kept, _ = watched(tmp_path, "bash", "-c", 'export WATCH=$PPID; bash -c "$1" | cat; :', "-", command)
    assert code == 143 and kept.endswith("clean\n")  # bash may say that its sleep was ended


def test_one_that_never_stops_writing_does_not_keep_us(tmp_path: Path) -> None:
    code, kept, _ = watched(tmp_path, "sh", "-c", "yes >&2 & exit 3", stderr=subprocess.DEVNULL)
    assert code == 3 and kept.endswith("y\n")  # and SIGPIPE ends it


def test_a_command_that_closes_its_stderr_is_waited_for_and_told(tmp_path: Path) -> None:
    script = "trap 'exit 4' TERM; exec 2>&-; while :; do kill -TERM $PPID; done"
    assert watched(tmp_path, "sh", "-c", script)[:2] == (4, "")


def test_a_full_stderr_that_does_not_block_is_waited_for(tmp_path: Path) -> None:
    """As a terminal that another program has made non-blocking; no line is lost, and waiting takes no processor."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    argv = [sys.executable, "-c", WATCH, tmp_path / "said", "sh", "-c", "yes line | head -n 50000 >&2; exit 3"]
    with subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=writer) as watching:
        os.close(writer)
        time.sleep(2)
        with open(reader, "rb") as f:
            assert f.read() == b"line\n" * 50000
        _, _, used = os.wait4(watching.pid, 0)
    assert json.loads((tmp_path / "said").read_text())[0] == 3 and used.ru_utime + used.ru_stime < 1.5


def test_nobody_reads_our_stderr(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code, kept, _ = watched(tmp_path, "sh", "-c", "for i in 1 2 3; do echo $i >&2 || exit 1; sleep 0.1; done", stderr=writer)
    os.close(writer)
    assert (code, kept) == (0, "1\n2\n3\n")


def test_interrupted_at_a_terminal_it_is_told_once(tmp_path: Path) -> None:
    """Ctrl-C reaches the command by the terminal, other signals by us; and it can read there."""
    told = tmp_path / "told"
    script = f"""for s in INT TERM; do trap "echo $s >>{told}" "$s"; done; read -r line; echo $line; read -r line
        kill -TERM $PPID; until grep -q TERM {told}; do :; done; exit 7"""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", WATCH, str(tmp_path / "said"), "bash", "-c", script])
    try:
        os.write(terminal, b"word\n")
        seen = b""
        while seen.count(b"word") < 2:  # the terminal's own echo is the first
            seen += os.read(terminal, 1000)
        os.write(terminal, b"\x03")
        while not told.exists():
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        os.write(terminal, b"on\n")
        with contextlib.suppress(OSError):  # EIO: all have ended
            while os.read(terminal, 1000):
                pass
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        os.close(terminal)  # which ends what is left
    assert told.read_text() == "INT\nTERM\n"
    assert json.loads((tmp_path / "said").read_text())[0] == 7
