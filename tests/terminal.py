"""Run a command at a terminal of its own, where nobody types more than one line: python3 terminal.py [--type LINE] SECONDS COMMAND…

Prints what the terminal showed; the exit code is the command's, 124 when it did not end in time (then it is killed).
"""
import contextlib
import os
import pty
import select
import signal
import sys
import time

argv = sys.argv[1:]
typed = argv[1] + "\n" if argv[0] == "--type" else ""
seconds, *command = argv[2:] if typed else argv
end = time.monotonic() + float(seconds)
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
os.write(terminal, typed.encode())
late = False
while not late:
    late = not select.select([terminal], [], [], max(0, end - time.monotonic()))[0]
    if late:
        os.kill(pid, signal.SIGKILL)
        break
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        shown = os.read(terminal, 4096)
        if shown:
            os.write(1, shown)
            continue
    break
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(124 if late else code if code >= 0 else 128 - code)
