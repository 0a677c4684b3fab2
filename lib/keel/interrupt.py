"""A wish to end (SIGINT, SIGTERM): passed on to what we have started, and raised as an exception that cannot be lost."""
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

from keel import proc

BACKUPS = ("pg-backup", "redis-backup", "files-backup", "restore-verify", "restore", "backup-prune")  # none goes on where it was cut off
LEFT = "`status` says what is live, the same command again finishes the work"
LEFT_OF = {**dict.fromkeys(BACKUPS, "`backups` says what is there, the same command again begins anew"),
           **dict.fromkeys(("with-lock", "with-report"), "COMMAND was not begun")}  # once it is, signals are its own
AGAIN = (0.01, 0.01)  # seconds until a wish that was lost is raised again, and again
_asked = float("-inf")  # when a signal last asked us to end


class Interrupted(BaseException):
    """A signal asked the command to end; carries its number, and the processes of ours that it was passed on to."""


def wait_for() -> None:
    """From now on either signal raises Interrupted in the main thread."""
    signal.signal(signal.SIGINT, _on_signal)
    signal.signal(signal.SIGTERM, _on_signal)
    sys.unraisablehook = _again


def left_by(name: str) -> str:
    """Where to look for what a command may have left, and how to go on."""
    return LEFT_OF.get(name, LEFT)


def see_to_the_end(e: Interrupted) -> int:
    """Return once nothing that we have started lives; the code to end with. Who asks again meanwhile waits no longer: it is killed."""
    number, told = e.args
    signal.setitimer(signal.ITIMER_REAL, 0)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: proc.tell(proc.descendants(os.getpid()), signal.SIGKILL))
    proc.outlive(told)
    late = proc.descendants(os.getpid())  # what a thread of ours started meanwhile
    proc.tell(late, number)
    proc.outlive(late)
    return 128 + int(number)


def _on_signal(number: int, frame: FrameType | None) -> None:
    """Both a group and the with-lock in it may hand down one wish to end: what came a moment ago is no second one."""
    global _asked
    if _loses(frame):
        _once_more(number)
        return
    before, _asked = _asked, time.monotonic()
    if _asked - before > 1:
        told = proc.descendants(os.getpid())
        proc.tell(told, number)
        raise Interrupted(number, told)


def _again(lost: Any) -> None:
    """Where Python runs a destructor or a hook of fork, nobody can catch what is raised: ask once more, later."""
    if isinstance(lost.exc_value, Interrupted):
        _once_more(lost.exc_value.args[0])
    else:
        sys.__unraisablehook__(lost)


def _loses(frame: FrameType | None) -> bool:
    """Whether what is raised there is lost for good."""
    return frame is not None and frame.f_code in (_again.__code__, _once_more.__code__)


def _once_more(number: int) -> None:
    def ask(_number: int, frame: FrameType | None) -> None:
        global _asked
        if not _loses(frame):
            signal.setitimer(signal.ITIMER_REAL, 0)
            _asked = float("-inf")
            _on_signal(number, frame)

    signal.signal(signal.SIGALRM, ask)
    signal.setitimer(signal.ITIMER_REAL, *AGAIN)
