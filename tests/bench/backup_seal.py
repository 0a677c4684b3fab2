"""How fast `seal` and `unseal` are beside the age command: whole processes, from a file in memory to /dev/null.

    PYTHONPATH=tests:lib .venv/bin/python -m bench.backup_seal 4000000000
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import age_command

from keel import age_crypt

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 5
BLOCK = 1 << 20
ENV = {"PATH": "/usr/bin:/bin"}  # as cron has it: the shim of a Python manager is not ours to measure
Argv = Sequence[str | Path]


class Run(NamedTuple):
    """Of one process, in seconds."""

    wall: float
    cpu: float


def seal_ratio(size: int) -> dict[str, Any]:
    """`seal` and `age` on a file of so many bytes: the ratio of their speeds, MB/s, CPU seconds for each GB, our peak memory.

    Medians of pairs, one run after the other. Each run starts its program, so a small file measures how fast that is. Two processors
    that do nothing else are wanted; `load` is how many processes wanted them before.
    """
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as folder:
        file, _, to = files(Path(folder), size)
        return compared(file, [ROOT / "bin/seal", "--recipient", to], [age_command.program(), "--recipient", to])


def unseal_ratio(size: int) -> dict[str, Any]:
    """The same of `unseal` and `age --decrypt`."""
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as folder:
        file, key, to = files(Path(folder), size)
        sealed = file.with_suffix(".age")
        subprocess.run([age_command.program(), "--recipient", to, "--output", sealed, file], check=True)
        file.unlink()
        return compared(sealed, [ROOT / "bin/unseal", "--identity", key], [age_command.program(), "--decrypt", "--identity", key])


def files(folder: Path, size: int) -> tuple[Path, Path, str]:
    """Data of that size, the file of a key, its recipient."""
    data, key = folder / "data", folder / "key.txt"
    block = os.urandom(min(BLOCK, size))
    with open(data, "wb") as file:
        for at in range(0, size, BLOCK):
            file.write(block[:size - at])
    secret, to = age_crypt.new_identity()
    key.touch(0o600)
    key.write_text(f"{secret}\n")
    return data, key, to


def compared(file: Path, ours: Argv, theirs: Argv) -> dict[str, Any]:
    """Runs of both in turn, the first of each not counted: it brings the file into memory."""
    load = os.getloadavg()[0]
    pairs = [(run(ours, file), run(theirs, file)) for _ in range(ROUNDS + 1)][1:]
    gb = file.stat().st_size / 1e9
    found: dict[str, Any] = {"ratio": statistics.median(b.wall / a.wall for a, b in pairs)}
    for name, runs in zip(("ours", "age"), zip(*pairs, strict=True), strict=True):
        found |= {f"{name}_mb_s": gb * 1000 / statistics.median(r.wall for r in runs),
                  f"{name}_cpu_s_per_gb": statistics.median(r.cpu for r in runs) / gb}
    found |= {"ours_peak_mib": peak(ours, file), "load": load}
    return {name: round(value, 2) for name, value in found.items()}


def run(argv: Argv, file: Path) -> Run:
    """One process from its start to its end."""
    with open(file, "rb") as source:
        begin = time.perf_counter()
        child = subprocess.Popen(argv, stdin=source, stdout=subprocess.DEVNULL, env=ENV)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, f"{argv[0]} ended with {child.returncode}"
    return Run(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime)


def peak(argv: Argv, file: Path) -> float:
    """The most memory of a process in MiB, asked once it has read everything; what wait4 says counts the memory of its parent too."""
    with open(file, "rb") as source, subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=ENV) as child:
        assert child.stdin
        shutil.copyfileobj(source, child.stdin, BLOCK)
        status = Path(f"/proc/{child.pid}/status").read_text()
        child.stdin.close()
    assert child.returncode == 0, f"{argv[0]} ended with {child.returncode}"
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    for measure in (seal_ratio, unseal_ratio):
        print(json.dumps({"figure": measure.__name__, "size": int(sys.argv[1]), **measure(int(sys.argv[1]))}))
