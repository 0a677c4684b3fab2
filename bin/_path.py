"""Put lib/ on the path and move into .venv, so that bin/* runs from anywhere, through symlinks, from cron."""
import os
import sys

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
