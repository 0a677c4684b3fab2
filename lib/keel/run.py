"""The one door to other programs: `ask` reads and always runs, `do` changes and is only said under --dry-run.

`sh` with its defaults corrected: no tty, errors never truncated, output kept only where it is asked for.
"""
import os
from collections.abc import Callable, Mapping, Sequence

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


def handed_down() -> set[int]:
    """The files of the locks that we hold or have inherited: what we start holds them too."""
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
