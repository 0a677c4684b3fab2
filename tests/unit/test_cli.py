"""What becomes of a command that writes where nobody reads: only its stdout and stderr are its reader's."""
import subprocess
import sys

import pytest

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
