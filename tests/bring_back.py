"""bring_back: what `restore` and `restore-verify` do with one backup, without their judging and recording.

    bring_back.py verify ID                      in a checkout, with KEEL_ENV; prints level, seconds and findings as JSON
    bring_back.py restore ID TARGET [CONFIRM]

The exit code and the message are those of the Stop that was raised.
"""
import dataclasses
import importlib
import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd() / "lib"))

from keel import recover, settings, spool
from keel.stop import Stop


def main(what: str, ident: str, target: str = "", confirm: str = "") -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as cli.main does: what must be put in order is
    s = settings.load()
    try:
        found = recover.find(s, ident)
        room = importlib.import_module(f"keel.{found.manifest.kind}_data")
        with spool.folder(s, 2 * sum(p.plain_size for p in found.manifest.objects)) as folder:
            if what == "restore":
                room.restore(s, found, target, confirm, folder)
            else:
                print(json.dumps(dataclasses.asdict(room.verify(s, found, folder))))
    except Stop as e:
        print(f"{e.message}\nhint: {e.hint}", file=sys.stderr)
        return e.code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
