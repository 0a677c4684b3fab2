"""The most memory that our processes take for a stream of so many bytes: flat is what is wanted, whatever the size.

    PYTHONPATH=tests:lib .venv/bin/python -m bench.backup_memory 20000000000
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from s3server import ADMIN, Server

from bench.backup_others import bucket, stored
from keel import age_crypt, backup, schema, signed
from keel.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
PIECE = 1 << 20
# Random bytes and zeros in turn: zstd leaves half of it, so that there are many parts; what repeats lies far beyond its window.
TURN = 8 << 10
BLOCK = 64 * PIECE
SPARE = 5 << 30


class Peak(NamedTuple):
    """Of one process: the most memory it had, in MiB; the seconds it took; the bytes it stored (0: it stores nothing)."""

    mib: float
    seconds: float
    stored: int = 0


def upload_peak(server: Server, size: int) -> Peak:
    """What `pg-backup` does with the bytes of a dump: zstd, age, parts of an upload to S3, and a manifest in the end.

    `size` / 2 of disk is needed below var/ while it runs. Raises AssertionError where there is not as much, and 5 GiB on top.
    """
    free = shutil.disk_usage(ROOT / "var").free
    assert free > size // 2 + SPARE, f"{free >> 30} GiB are free, {size // 2 + SPARE >> 30} are needed"
    with bucket(server) as name, tempfile.TemporaryDirectory(dir=ROOT / "var") as folder:
        pem, line = signed.new_key("bench")
        for file, text in (("sign.pem", pem), ("signers", line), ("recipients", age_crypt.new_identity()[1])):
            path = Path(folder) / file
            path.touch(0o600)
            path.write_text(f"{text}\n")
        env = {"KEEL_BACKUP_STORES": f"s3://{name}/keel", "KEEL_S3_ENDPOINT": server.endpoint, "KEEL_S3_STYLE": "path",
               "AWS_ACCESS_KEY_ID": ADMIN[0], "AWS_SECRET_ACCESS_KEY": ADMIN[1], "KEEL_BACKUP_SIGN_KEY": f"{folder}/sign.pem",
               "KEEL_BACKUP_SIGNERS": f"{folder}/signers", "KEEL_BACKUP_RECIPIENTS": f"{folder}/recipients"}
        peak = streamed([sys.executable, "-m", "bench.backup_memory"], size, {**env, "PYTHONPATH": os.pathsep.join(sys.path)})
        return peak._replace(stored=stored(server, name))


def seal_peak(size: int) -> Peak:
    """The command `seal` as a filter, to nowhere."""
    return streamed([ROOT / "bin" / "seal", "--recipient", age_crypt.new_identity()[1]], size, {})


def streamed(argv: Sequence[str | Path], size: int, env: Mapping[str, str]) -> Peak:
    """Run a process on that many bytes of stdin. What wait4 says of it would count the memory of its parent too (getrusage(2))."""
    begin = time.monotonic()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin", **env}) as child:
        assert child.stdin
        for piece in pieces(size):
            child.stdin.write(piece)
        most = high(child.pid)
        child.stdin.close()
        while child.poll() is None:
            most = max(most, high(child.pid))
            time.sleep(0.005)
    assert child.returncode == 0, f"{argv[0]} ended with {child.returncode}"
    return Peak(most / 1024, time.monotonic() - begin)


def pieces(size: int) -> Iterator[memoryview]:
    """That many bytes."""
    block = memoryview(b"".join(os.urandom(TURN) + bytes(TURN) for _ in range(BLOCK // (2 * TURN))))
    for at in range(0, size, PIECE):
        start = at % BLOCK
        yield block[start:start + min(PIECE, size - at)]


def high(pid: int) -> int:
    """VmHWM of a process in KiB: the most that it ever had; 0 once it ended. Source: proc_pid_status(5)."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].partition("kB")[0] or 0)


def upload() -> None:
    """In the process that is measured: stdin as the dump of a backup. It imports what pg-backup does."""
    from keel import cli, engine, lock, pg, progress, spool, state, tools  # noqa: F401

    engine.warm_up()
    variables = schema.load(ROOT / "compose" / "example.env")
    making = backup.begin(Settings("bench", {k: v for k, v in os.environ.items() if k in variables}, {}, variables), "pg", "1")
    making.add("database.dump", progress.over(iter(lambda: os.read(0, PIECE), b""), "dumped"))
    making.finish({})


def main(size: int) -> None:
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as folder:
        server = Server(Path(folder))
        try:
            for bytes_ in (1_000_000_000, size):
                for name, peak in (("upload", upload_peak(server, bytes_)), ("seal", seal_peak(bytes_))):
                    print(json.dumps({"what": name, "size": bytes_, "load": os.getloadavg()[0], **peak._asdict()}), flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    main(int(sys.argv[1])) if len(sys.argv) > 1 else upload()
