"""Put lib/ on the path and move into .venv, so that bin/* runs from anywhere, through symlinks, from cron."""
import os
import signal
import sys

# Until the command has its own handlers Ctrl-C ends it as any other program: Python's own would show where in its imports it was. One that
# is ignored, as in a job in the background, stays so.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
VENV = os.path.join(ROOT, ".venv")

if not os.path.exists(os.path.join(VENV, "done")):
    name = os.path.basename(sys.argv[0])
    print(f"{name}: error: {VENV} is not set up\n{name}: hint: make -C {ROOT} setup", file=sys.stderr)
    sys.exit(78)
if os.path.realpath(sys.prefix) != os.path.realpath(VENV):
    python = os.path.join(VENV, "bin", "python")
    os.execv(python, [python, *sys.argv])
sys.path.insert(0, os.path.join(ROOT, "lib"))
