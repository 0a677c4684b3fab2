"""What becomes of a command that writes where nobody reads, or that is told to end."""
import array
import contextlib
import fcntl
import os
import select
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from keel import interrupt
from keel.settings import ROOT

COMMAND = """
import os, socket, sys

sys.path.insert(0, {lib!r})
sys.argv = ["command"]
import click
from keel import cli

theirs, ours = {pair}
os.close(theirs)
os.dup2(ours, {fd})


@click.command()
def command():
    os.write({fd}, b"text")


cli.main(command)
"""


@pytest.mark.parametrize("pair", ["os.pipe()", "(s.detach() for s in socket.socketpair())"])
@pytest.mark.parametrize(("fd", "code", "said"), [(1, 141, ""), (2, 141, ""), (9, 70, "command: bug: BrokenPipeError: ")])
def test_a_reader_that_left_is_no_bug_and_a_connection_that_broke_is(pair: str, fd: int, code: int, said: str) -> None:
    script = COMMAND.format(lib=str(ROOT / "lib"), pair=pair, fd=fd)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == code and said in ended.stderr and bool(said) == bool(ended.stderr)

SAYING = """
import os, sys

sys.path.insert(0, {lib!r})
sys.argv = ["command"]
import click
from keel import cli

{before}


@click.command()
def command():
    cli.say("first\\nsecond")
    cli.warn("third")
    print("done", flush=True)


cli.main(command)
"""


@pytest.mark.parametrize("before", ["theirs, ours = os.pipe(); os.close(theirs); os.dup2(ours, 2)",
                                    "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)"])
def test_the_work_goes_on_where_its_words_cannot_be_said(before: str) -> None:
    """They may be about a switch that is being put back."""
    script = SAYING.format(lib=str(ROOT / "lib"), before=before)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "done\n")


CLEANING = """
import sys, time

sys.path.insert(0, {lib!r})
sys.argv = ["command"]
import signal
import click
from keel import cli, interrupt


@click.command()
def command():
    try:
        print("at work", flush=True)
        signal.pause()
    except interrupt.Interrupted:
        time.monotonic = lambda began=time.monotonic(): began + {later}
        print("cleaning up", flush=True)
        input()
        print("clean", flush=True)
        raise


cli.main(command)
"""


@pytest.mark.parametrize(("later", "rest"), [(0, "clean\n"), (2, "")])
def test_one_wish_to_end_that_comes_twice_cuts_no_cleaning_up_short(later: float, rest: str) -> None:
    script = CLEANING.format(lib=str(ROOT / "lib"), later=later)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", script], text=True, **pipes) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == "at work\n"
        child.terminate()
        assert child.stdout.readline() == "cleaning up\n"
        child.terminate()
        said, words = child.communicate("\n")
    assert (child.returncode, said) == (143, rest) and "interrupted by SIGTERM: " in words


WAITING = """
import sys

sys.path.insert(0, {lib!r})
sys.argv = [{name!r}]
import signal
import click
from keel import cli


@click.command()
def command():
    print("at work", flush=True)
    signal.pause()


cli.main(command)
"""


@pytest.mark.parametrize(("name", "left"), [
    ("migrate", "`status` says what is live, the same command again finishes the work"),
    ("with-lock", "COMMAND was not begun"), ("with-report", "COMMAND was not begun"),
    *((name, "`backups` says what is there, the same command again begins anew") for name in interrupt.BACKUPS)])
def test_an_interrupted_command_says_where_to_look_for_what_it_left(name: str, left: str) -> None:
    assert (ROOT / "bin" / name).exists()
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", WAITING.format(lib=str(ROOT / "lib"), name=name)], text=True, **pipes) as child:
        assert child.stdout and child.stdout.readline() == "at work\n"
        child.terminate()
        assert child.communicate()[1].endswith(f" {name}: interrupted by SIGTERM: {left}\n") and child.returncode == 143


STARTING = """
import sys

sys.path.insert(0, {lib!r})
sys.argv = ["command"]
import click
from keel import cli, proc, run


@click.command()
def command():
    proc.outlive.__defaults__ = ({seconds},)
    run.do({argv!r})


cli.main(command)
"""


@pytest.mark.parametrize(("trap", "seconds"), [(":", 60), ("trap 'echo no' TERM", 0.3)])
def test_what_it_has_started_ends_before_it(trap: str, seconds: float, tmp_path: Path) -> None:
    """Also where that does not want to."""
    (tmp_path / "never").touch()
    os.mkfifo(tmp_path / "pid")
    argv = ["bash", "-c", f"{trap}; echo $$ >{tmp_path}/pid; while :; do tail -f {tmp_path}/never; done"]
    script = STARTING.format(lib=str(ROOT / "lib"), argv=argv, seconds=seconds)
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as child:
        pid = int((tmp_path / "pid").read_text())
        child.terminate()
        assert child.wait(30) == 143 and not lives(pid)


def test_who_asks_again_waits_no_longer(tmp_path: Path) -> None:
    """Nothing stays behind, and the code is still that of the first signal."""
    (tmp_path / "never").touch()
    os.mkfifo(tmp_path / "pid")
    argv = ["bash", "-c", f"trap '' TERM; echo $$ >{tmp_path}/pid; exec tail -f {tmp_path}/never"]
    script = STARTING.format(lib=str(ROOT / "lib"), argv=argv, seconds=600)
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as child:
        pid = int((tmp_path / "pid").read_text())
        while child.poll() is None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.1)
        assert child.returncode == 143 and child.stderr and b"interrupted by SIGTERM" in child.stderr.read() and not lives(pid)


ENDING = """
import os, signal, sys

sys.path.insert(0, {lib!r})
sys.argv = ["command"]
import click
from keel import cli, stop


@click.command()
def command():
    said = cli.complain
    cli.complain = lambda e: (signal.raise_signal(signal.SIGTERM), said(e))
    raise stop.Stop("no", 69)


cli.main(command)
"""


def test_a_wish_to_end_while_an_error_is_said_is_no_bug() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDING.format(lib=str(ROOT / "lib"))], stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 143 and "Traceback" not in ended.stderr


LOSING = """
import os, signal, sys

sys.path.insert(0, {lib!r})
sys.argv = ["command"]
import click
from keel import cli, run


class Last:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


@click.command()
def command():
    {where}
    run.do(["sleep", "600"])


cli.main(command)
"""


@pytest.mark.parametrize("where", ["os.register_at_fork(after_in_parent=lambda: signal.raise_signal(signal.SIGTERM))", "Last()"])
def test_a_wish_to_end_that_comes_where_python_drops_exceptions_is_not_lost(where: str) -> None:
    ended = subprocess.run([sys.executable, "-c", LOSING.format(lib=str(ROOT / "lib"), where=where)], stderr=subprocess.PIPE, text=True,
                           timeout=60)
    assert ended.returncode == 143 and len(ended.stderr.splitlines()) == 1 and " command: interrupted by SIGTERM: " in ended.stderr


LATE = """
import subprocess, sys, threading

sys.path.insert(0, {lib!r})
sys.argv = ["command"]
import click
from keel import cli, interrupt, proc

told = proc.tell


@click.command()
def command():
    def tell(pids, number):
        told(pids, number)
        proc.tell = told
        open({pid!r}, "w").write(str(subprocess.Popen(["sleep", "600"]).pid))

    proc.tell = tell
    print("at work", flush=True)
    threading.Event().wait()


cli.main(command)
"""


def test_what_a_thread_starts_meanwhile_ends_too(tmp_path: Path) -> None:
    script = LATE.format(lib=str(ROOT / "lib"), pid=str(tmp_path / "pid"))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline() == b"at work\n"
        child.terminate()
        assert child.wait(60) == 143 and not lives(int((tmp_path / "pid").read_text()))


def lives(pid: int) -> bool:
    """Whether a process is there, and not only waits for somebody to see its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


TALKING = """
import sys

sys.path.insert(0, {lib!r})
sys.argv = ["command"]
import click
from keel import cli


@click.command()
def command():
    for n in range(3):
        cli.say("x" * 50000)
    for n in range(3000):
        cli.say(f"line {{n}}")


cli.main(command)
"""


def wait_until_full(pipe: int, size: int) -> None:
    """Nobody reads from it, so it stays full."""
    held = array.array("i", [0])
    while held[0] < size - select.PIPE_BUF:  # a longer write fills what is left of it, or waits
        fcntl.ioctl(pipe, termios.FIONREAD, held)


def test_a_full_stderr_that_does_not_block_is_waited_for() -> None:
    """As a terminal that another program has made non-blocking: no line is lost, and it is no bug."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen([sys.executable, "-c", TALKING.format(lib=str(ROOT / "lib"))], stderr=writer) as talking:
        os.close(writer)
        wait_until_full(reader, 1 << 16)
        with open(reader) as f:
            said = [line.partition(": ")[2] for line in f.read().splitlines()]
    assert talking.returncode == 0 and said == ["x" * 50000] * 3 + [f"line {n}" for n in range(3000)]
