"""The age command, the other side of our own age files: from PATH, or from Debian's package.

    python tests/age_command.py     prints where it is
"""
import shutil

import borrowed


def program() -> str:
    """Where it is. Raises borrowed.Missing where it cannot be had."""
    return shutil.which("age") or str(borrowed.fetched("age") / "usr/bin/age")


if __name__ == "__main__":
    print(program())
