"""The one door to other programs: `ask` reads and always runs, `do` changes and is only said under --dry-run; `become` is the last.

`sh` with its defaults corrected: no tty, errors never truncated, output kept only where it is asked for.
"""
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NoReturn

from keel.stop import UNAVAILABLE, Stop

show: Callable[[str], None] | None = None  # set by -v
dry: Callable[[str], None] | None = None   # set by -n
TAIL = 30
LOCKS = "KEEL_LOCK_FD"  # how the names of the variables begin that hand down the files of locks


class Failed(Exception):
    """A program ended with a code other than 0; `said` holds the last lines it wrote, stdout before stderr."""

    def __init__(self, argv: Sequence[str], code: int, said: str) -> None:
        super().__init__(f"{argv[0]} ended with {code}")
        self.argv, self.code, self.said = list(argv), code, said


def ask(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """The stdout of a program that only reads. Raises Failed, or Stop 69 where it is not installed."""
    return _run(argv, env)


def do(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """The stdout of a program that changes something; said and not done under --dry-run. Raises as ask."""
    if dry:
        dry(" ".join(argv))
        return ""
    return _run(argv, env)


def start(argv: Sequence[str], stdin: int | IO[bytes] = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """A program whose bytes are streamed; the caller waits for it and looks at its code. Raises Stop 69 where it is not installed.

    It only reads, or writes where the caller has its own `would:`. Our locks are not handed down to it: what it drives works in a
    container, ends neither with it nor with us, and is ended by the next command that has a spool folder, which it would only keep out.
    """
    if show:
        show("+ " + " ".join(argv))
    try:
        return subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise Stop(f"{argv[0]}: not installed", UNAVAILABLE, "make doctor ENV=… says what this host lacks") from None


def become(argv: Sequence[str], env: Mapping[str, str] | None = None) -> NoReturn:
    """End as another program, under our pid. Raises Stop 69 where it is not installed."""
    if show:
        show("+ " + " ".join(argv))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored would stay so in the other program
    try:
        os.execvpe(argv[0], list(argv), {**os.environ, **(env or {})})
    except OSError as e:
        raise Stop(f"{argv[0]}: {(e.strerror or '').lower()}", UNAVAILABLE) from None


def handed_down() -> set[int]:
    """The files of the locks that we hold or have inherited: what `ask` and `do` start holds them too."""
    return {int(value) for name, value in os.environ.items() if name.startswith(LOCKS)}


def warm_up() -> None:
    """Import `sh` before it is needed."""
    import sh  # noqa: F401


def _run(argv: Sequence[str], env: Mapping[str, str] | None) -> str:
    import sh  # here: only commands that start programs pay for it

    if show:
        show("+ " + " ".join(argv))
    out: list[str] = []
    err: list[str] = []

    def said(line: str) -> None:
        del err[:-TAIL]
        err.append(line)

    try:
        command = sh.Command(argv[0])
    except sh.CommandNotFound:
        raise Stop(f"{argv[0]}: not installed", UNAVAILABLE, "make doctor ENV=… says what this host lacks") from None
    result = command(*argv[1:], _out=out.append, _err=said, _env={**os.environ, **(env or {})}, _no_out=True,
                     _no_err=True, _tty_in=False, _tty_out=False, _truncate_exc=False, _ok_code=list(range(-64, 256)), _in=None,
                     _pass_fds=handed_down(), _return_cmd=True)
    if result.exit_code:
        raise Failed(argv, result.exit_code, "".join([*out[-TAIL:], *err]))
    return "".join(out)
