"""A pipe of commands as one: its code is that of the command that failed by itself, and when it is told to end all of them are."""
import signal
import subprocess

from keel import proc
from keel.stop import UNAVAILABLE, Stop

# A signal to all of us does not end bash before its commands. 66 says that the command to the left failed, 141 the one to the right.
SCRIPT = """trap : INT TERM
{pipe}
codes=("${{PIPESTATUS[@]}}")
for code in "${{codes[@]}}"; do case $code in 0 | 66 | 141) ;; *) exit "$code" ;; esac; done
for code in "${{codes[@]}}"; do [ "$code" = 0 ] || exit "$code"; done
"""
ENDS = {signal.SIGINT, signal.SIGTERM}
AWAITED = {*ENDS, signal.SIGCHLD}
AGAIN = 0.05  # seconds after which a pipe that is to end is looked at again: bash may just be starting its next command


def run(pipe: str) -> int:
    """Run a pipe, written for bash, to its end; its exit code. A SIGINT or SIGTERM to us goes to each of its commands, once.

    Raises Stop 69 where there is no bash.
    """
    told: set[int] = set()
    asked = 0
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)  # from now on they wait until we ask for them
    try:
        bash = subprocess.Popen(["bash", "-c", SCRIPT.format(pipe=pipe)], close_fds=False,  # the lock is handed down
                                preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, AWAITED))
    except OSError as e:
        raise Stop(f"bash: {(e.strerror or '').lower()}", UNAVAILABLE) from None
    while bash.poll() is None:
        came = signal.sigtimedwait(AWAITED, AGAIN) if asked else signal.sigwaitinfo(AWAITED)
        if came and came.si_signo in ENDS:
            asked = came.si_signo
        if asked:
            new = set(proc.children(bash.pid)) - told
            proc.tell(new, asked)
            told |= new
    return bash.returncode if bash.returncode >= 0 else 128 - bash.returncode
