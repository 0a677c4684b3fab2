#!/usr/bin/env python3
"""bench_backup: the figures of backups, as ratios of runs that alternate on one database and one S3 server (SeaweedFS on 127.0.0.1).

    make bench-backup                       1 GB, three rounds: about 8 minutes on a machine that does nothing else
    KEEL_BENCH=short make bench-backup      20 MB, one round: shows that everything works, and no figure worth keeping

A Markdown table goes to stdout, every sample to var/bench/backup.jsonl. A goal that is missed is a figure; exit 1: something could
not be measured.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "tests")]

import age_command  # noqa: E402
from bench import backup_listing, backup_memory, backup_others  # noqa: E402
from bench.backup_seal import seal_ratio  # noqa: E402
from s3server import ADMIN, Server  # noqa: E402
from scenarios.platform import Platform  # noqa: E402

from keel import age_crypt, signed  # noqa: E402
from keel.store_s3 import Bucket  # noqa: E402

SHORT = os.environ.get("KEEL_BENCH") == "short"
ROWS, ROUNDS = (20_000, 1) if SHORT else (1_000_000, 3)
LISTED, PLANNED = (50, 1_000) if SHORT else (1_000, 10_000)
STREAMS = (10_000_000, 200_000_000) if SHORT else (1_000_000_000, 20_000_000_000)  # bytes
AWS = "awscli==1.46.3"
# A row of about 1 KB of which half is random: names, words, numbers and digests, as an events platform holds.
FILL = f"""CREATE TABLE registrations (id bigint PRIMARY KEY, event int NOT NULL, name text, mail text, note text, paid numeric(10,2),
 made timestamptz, token bytea);
INSERT INTO registrations SELECT g, g % 5000, 'Guest ' || md5(g::text), md5('m' || g) || '@example.org',
 (SELECT string_agg(md5(g::text || w) || ' registered for the event and paid at the door', ' ') FROM generate_series(1, 9) w),
 (random() * 100)::numeric(10,2), now() - random() * interval '300 days', decode(md5('t' || g) || md5('u' || g), 'hex')
 FROM generate_series(1, {ROWS}) g;
CREATE INDEX ON registrations (event); CREATE INDEX ON registrations (mail); ANALYZE registrations; CHECKPOINT"""


class Bench:
    """One platform, one bucket, and what was measured: seconds by name."""

    def __init__(self, platform: Platform, server: Server, log: Path) -> None:
        self.platform, self.log = platform, log
        self.seconds: dict[str, list[float]] = {}
        self.env = {"AWS_ACCESS_KEY_ID": ADMIN[0], "AWS_SECRET_ACCESS_KEY": ADMIN[1]}
        self.endpoint = server.endpoint
        self.postgres = str(platform.service("postgres").name)

    def timed(self, name: str, argv: Sequence[str]) -> str:
        """Run it to its end, well or not at all; its stdout."""
        begin = time.monotonic()
        said = self.platform.run(list(argv), seconds=1800, **self.env).well().stdout
        self.took(name, time.monotonic() - begin)
        return said

    def took(self, name: str, seconds: float) -> None:
        """Keep a sample."""
        self.seconds.setdefault(name, []).append(seconds)
        with open(self.log, "a") as f:
            f.write(json.dumps({"time": time.time(), "what": name, "seconds": round(seconds, 3), "rows": ROWS}) + "\n")
        print(f"bench: {name}: {seconds:.2f} s", file=sys.stderr, flush=True)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def inside(self, command: str) -> list[str]:
        """A shell command in the container of PostgreSQL."""
        return ["docker", "exec", self.postgres, "sh", "-euc", command]


def main() -> int:
    out = ROOT / "var" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory(dir=out) as folder, Platform("nginx", KEEL_POSTGRES_MEMORY="2g") as platform:
        server = Server(Path(folder), tls=True)  # pgBackRest speaks nothing else
        try:
            server.bucket("bench")
            prepare(platform, server)
            bench = Bench(platform, server, out / "backup.jsonl")
            rows += measure(bench, server, out)
            rows += listing(bench, server)
            rows += memory(server)
        finally:
            server.stop()
    sealed = seal_ratio(20 << 20 if SHORT else 1 << 30)
    rows.append(("`seal` throughput ÷ the `age` command", "≥ 2", f"{sealed['ratio']:.2f}"))
    print("\n".join(["| figure | goal | measured |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]))
    return 0


def prepare(platform: Platform, server: Server) -> None:
    """Keys, a store, and the database."""
    pem, line = signed.new_key("bench")
    secret, recipient = age_crypt.new_identity()
    (platform.root / "backup").mkdir(exist_ok=True)
    for name, text in (("secrets/backup-sign.pem", pem), ("secrets/backup-identity.txt", secret), ("backup/signers", line),
                       ("backup/recipients", recipient)):
        (platform.root / name).write_text(f"{text}\n")
        (platform.root / name).chmod(0o600)
    platform.set(KEEL_BACKUP_STORES="s3://bench/keel", KEEL_S3_ENDPOINT=server.endpoint, KEEL_S3_STYLE="path", KEEL_BACKUP_HOLD_BELOW="0")
    platform.up()
    code, said = platform.service("postgres").exec_run(["psql", "-qU", "events", "-v", "ON_ERROR_STOP=1", "-c", FILL, "events"])
    assert code == 0, said


def measure(bench: Bench, server: Server, out: Path) -> list[tuple[str, str, str]]:
    """The rounds, one of each kind after the other."""
    aws, age = aws_command(out / "tools"), age_command.program()
    theirs = f"""docker exec {bench.postgres} pg_dump -Fc -U events events | {age} --recipients-file backup/recipients |
        {aws} --endpoint-url {bench.endpoint} --region us-east-1 s3 cp --quiet - s3://bench/theirs"""
    ident = ""
    for _ in range(ROUNDS):
        bench.timed("limit", bench.inside("pg_dump -Fc -Z0 -U events events >/dev/null"))
        ident = bench.timed("pg-backup", ["pg-backup", "--quiet"]).strip()
        bench.timed("theirs", ["bash", "-euo", "pipefail", "-c", theirs])
        for other in (backup_others.restic, backup_others.pgbackrest):
            bench.took(other.__name__, other(server, bench.platform.service("postgres")).seconds)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    plain = "/var/lib/postgresql/data/bench.dump"
    bench.timed("dump", bench.inside(f"pg_dump -Fc -Z0 -U events events >{plain}"))
    for n in range(ROUNDS):
        bench.timed("pg_restore", bench.inside(f"createdb -U events plain{n}; pg_restore -j2 -U events -d plain{n} {plain}; "
                                               f"psql -qU events -c ANALYZE plain{n}"))
        bench.timed("restore", ["restore", ident, "--to", f"ours{n}", "--quiet"])
        bench.timed("drop", bench.inside(f"dropdb -U events plain{n}; dropdb -U events ours{n}"))
    limit, ours = bench.median("limit"), bench.median("pg-backup")
    return [
        ("whole `pg-backup` to S3 ÷ `pg_dump -Fc -Z0` to /dev/null", "≤ 1.5", f"{ours / limit:.2f} ({ours:.1f} s ÷ {limit:.1f} s)"),
        ("the same ÷ `pg_dump -Fc \\| age \\| aws s3 cp -`", "≤ 0.35", f"{ours / bench.median('theirs'):.2f}"),
        ("the same ÷ `restic backup --stdin-from-command`, a new repository", "< 1", f"{ours / bench.median('restic'):.2f}"),
        ("the same ÷ pgBackRest full (zst, AES, 2 processes; files and indexes of the whole cluster; without the WAL that a restore needs)",
         "< 1", f"{ours / bench.median('pgbackrest'):.2f}"),
        ("peak memory of any process that was started, 1 GB", "≤ 150 MB", f"{peak} MB (pg-backup, age, aws, docker)"),
        ("`restore` ÷ `pg_restore -j2` from a local plain file, both with ANALYZE", "≤ 1.15",
         f"{bench.median('restore') / bench.median('pg_restore'):.2f}"),
    ]


def listing(bench: Bench, server: Server) -> list[tuple[str, str, str]]:
    """What grows with the number of backups."""
    server.bucket("listed")
    bench.platform.set(KEEL_BACKUP_STORES="s3://listed/keel", KEEL_S3_ENDPOINT=server.endpoint, KEEL_S3_STYLE="path")
    key = bench.platform.root / "secrets/backup-sign.pem"
    backup_listing.fill(Bucket("listed", "keel", server.client()), bench.platform.name, key, LISTED)
    for _ in range(ROUNDS):
        said = bench.timed("backups", ["backups", "--json", "--limit", str(LISTED)])
        assert len(said.splitlines()) == LISTED, said[-500:]
    return [(f"`backups` listing {LISTED} from S3, whole command", "≤ 5 s", f"{bench.median('backups'):.1f} s"),
            (f"`backup-prune` planning {PLANNED}", "≤ 2 s", f"{backup_listing.planning(PLANNED):.2f} s")]


def memory(server: Server) -> list[tuple[str, str, str]]:
    """What does not grow with the size of a stream: zstd, age, upload in parts, manifest."""
    peaks = [backup_memory.upload_peak(server, size) for size in STREAMS]
    sizes = " and ".join(f"{size / 1e9:g} GB" for size in STREAMS)
    return [(f"peak memory, streams of {sizes}", "≤ 150 MB, flat", " and ".join(f"{peak.mib * 1.048576:.0f} MB" for peak in peaks))]


def aws_command(folder: Path) -> str:
    """The aws command in an environment of its own; made once."""
    if not (folder / "aws" / "bin" / "aws").exists():
        steps: tuple[Sequence[str], ...] = ((str(ROOT / ".venv/bin/uv"), "venv", "--quiet", str(folder / "aws")),
                                            (str(ROOT / ".venv/bin/uv"), "pip", "install", "--quiet", "--python",
                                             str(folder / "aws/bin/python"), AWS))
        for argv in steps:
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return str(folder / "aws" / "bin" / "aws")


if __name__ == "__main__":
    sys.exit(main())
