"""One command that is watched: what it says on stderr goes on to ours and its end is kept, a signal to us goes to all that it started."""
import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from keel import patient
from keel.stop import UNAVAILABLE, Stop

KEPT = 64 << 10  # bytes of stderr
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 1.0      # seconds in which what a command has left behind may still say something
PR_SET_PDEATHSIG = 1  # prctl(2); it outlives an exec
CLEANING = 60.0  # and when it was told to end: a shell is gone at once, the commands of its pipe take back what they have half done


def watch(argv: Sequence[str]) -> tuple[int, bytes]:
    """Run a command to its end; its exit code (128 and the number of the signal that killed it) and the last KEPT bytes of its stderr.

    SIGINT, SIGTERM and SIGHUP do not end us any more from here on. A SIGKILL does, and is a SIGTERM for the command. Raises Stop 69 where
    the command is not installed.
    """
    asked, note = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(note, warn_on_full_buffer=False)  # each signal is a byte in that pipe, so none comes at a bad moment
    for number in ENDS:
        signal.signal(number, lambda *_: None)
    # At a terminal it stays in our group, for only that group may read there; and Ctrl-C reaches it without us.
    terminal = os.isatty(0)
    try:
        child = subprocess.Popen(argv, stderr=subprocess.PIPE, close_fds=False,  # locks are handed down
                                 process_group=None if terminal else 0, preexec_fn=_tied(os.getpid()))
    except OSError as e:
        raise Stop(f"{argv[0]}: {(e.strerror or '').lower()}", UNAVAILABLE) from None
    assert child.stderr
    said, end = child.stderr.fileno(), os.pidfd_open(child.pid)
    kept, shown, waiting, deadline, grace = b"", True, {asked, said, end}, float("inf"), GRACE
    while waiting != {asked} and (left := deadline - time.monotonic()) > 0:
        ready = select.select(waiting, (), (), None if end in waiting else left)[0]
        if asked in ready:
            _tell(child.pid, os.read(asked, 64), terminal)
            grace = CLEANING
        if said in ready:
            piece = os.read(said, KEPT)
            kept, shown = (kept + piece)[-KEPT:], shown and _show(piece)
            waiting -= set() if piece else {said}
        if end in ready:
            waiting.remove(end)
            deadline = time.monotonic() + grace
    child.wait()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode, kept


def _tied(parent: int) -> Callable[[], None]:
    """What a child does first, so that it is told to end when its parent is gone: nobody reads its stderr any more, so it would fail at the
    next line that it writes there, at any moment of its work, and nobody would hear of its end."""
    import ctypes

    libc = ctypes.CDLL(None)

    def tie() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # it was gone before we asked
            os._exit(128 + signal.SIGTERM)
    return tie


def _tell(pid: int, numbers: bytes, terminal: bool) -> None:
    """Hand signals on. The command has not been waited for, so its number is still its own."""
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            if not terminal:
                os.killpg(pid, number)
            elif number != signal.SIGINT:
                os.kill(pid, number)


def _show(piece: bytes) -> bool:
    """Write to stderr; whether somebody still reads there. The command goes on without a reader."""
    try:
        with patient.Raw(2, "w", closefd=False) as stderr:
            while piece:
                piece = piece[stderr.write(piece):]
    except OSError:
        return False
    return True
