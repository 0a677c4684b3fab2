#!/usr/bin/env python3
"""run.py: put an exactly accounted load on this machine's platform; the account on stdout as JSON, a table on stderr."""
import asyncio
import pathlib
import sys

# run as a script: the package is the folder this file is in, whatever that folder holds must not shadow other modules
sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from load import plan  # noqa: E402
from load.account import Account  # noqa: E402
from load.drive import drive  # noqa: E402
from load.wire import Broken  # noqa: E402


def main() -> int:
    """The exit code: 0 when nothing failed, 1 when something did."""
    wanted = plan.parse(sys.argv[1:])
    try:
        account = Account(asyncio.run(drive(wanted)))
    except (Broken, OSError) as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 69
    print(account.json(), flush=True)
    print(account.table(), file=sys.stderr)
    return 1 if account.faults else 0


if __name__ == "__main__":
    sys.exit(main())
