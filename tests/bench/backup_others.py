"""What others take for a backup of the same database into the same S3 server: restic and pgBackRest, from Debian's packages.

Each run has a bucket and a repository of its own, so that nothing that an earlier one stored makes it shorter; making the repository is
not timed, as nobody makes one every night. One database, by itself, from nothing:

    PYTHONPATH=tests:lib .venv/bin/python -m bench.backup_others 20000 3
"""
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from docker.models.containers import Container
from s3server import ADMIN, Server
from scenarios.machine import environ

from bench import debian

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPE = Path(__file__).with_name("pgbackrest.Dockerfile")
REGION = "us-east-1"


class Run(NamedTuple):
    """Seconds of the backup itself, and the bytes in the bucket after it."""

    seconds: float
    stored: int


def restic(server: Server, postgres: Container) -> Run:
    """`restic backup --stdin-from-command` of an uncompressed dump: restic compresses (auto), as it likes its input for deduplication."""
    who, program = settings(postgres), debian.program("restic")
    dump = ["docker", "exec", str(postgres.name), "pg_dump", "-Fc", "-Z0", "-U", who["POSTGRES_USER"], who["POSTGRES_DB"]]
    with bucket(server) as name, tempfile.TemporaryDirectory(dir=ROOT / "var") as folder:
        password = Path(folder) / "password"
        password.touch(0o600)
        password.write_text(f"{secrets.token_hex(16)}\n")
        env = environ(RESTIC_REPOSITORY=f"s3:{server.endpoint}/{name}/restic", RESTIC_PASSWORD_FILE=str(password),
                      RESTIC_CACHE_DIR=f"{folder}/cache", AWS_ACCESS_KEY_ID=ADMIN[0], AWS_SECRET_ACCESS_KEY=ADMIN[1],
                      AWS_DEFAULT_REGION=REGION)
        well([program, "init", "--quiet"], env)
        seconds = well([program, "backup", "--quiet", "--stdin-filename", "database.dump", "--stdin-from-command", "--", *dump], env)
        return Run(seconds, stored(server, name))


def pgbackrest(server: Server, postgres: Container, processes: int = 2) -> Run:
    """A full backup of the whole cluster's files by pgBackRest: zstd of its own level (3), AES-256-CBC, files bundled, start-fast.

    It runs in a container beside the server with its data folder, read-only; the server stays as it is. Its S3 speaks TLS only, so
    `server` is one with `tls`; the certificate is not verified. Without archiving (archive-check=n) it neither stores nor waits for the
    WAL that such a backup needs to be restored: that part is left out, in its favour. Whatever else lies in the data folder is backed up
    too: no plain dump may be there yet.
    """
    image = made_image(postgres)
    with bucket(server) as name, beside(postgres, image, options(server, postgres, name, processes)) as box:
        inside(box, "stanza-create")
        seconds = inside(box, "backup", "--type=full")
        return Run(seconds, stored(server, name))


def settings(postgres: Container) -> dict[str, str]:
    """The environment that the server's container was given."""
    return dict(line.split("=", 1) for line in postgres.attrs["Config"]["Env"])


def options(server: Server, postgres: Container, name: str, processes: int) -> dict[str, str]:
    """pgBackRest's options as variables, and libpq's: without pg1-socket-path it connects as they say. Source: its configuration
    reference; PostgreSQL's documentation, libpq, environment variables."""
    who = settings(postgres)
    address = next(iter(postgres.attrs["NetworkSettings"]["Networks"].values()))["IPAddress"]
    chosen = {
        "stanza": "bench", "pg1-path": who["PGDATA"], "pg1-user": who["POSTGRES_USER"], "pg1-database": who["POSTGRES_DB"],
        "repo1-type": "s3", "repo1-path": "/pgbackrest", "repo1-bundle": "y", "repo1-retention-full": "1",
        "repo1-s3-bucket": name, "repo1-s3-endpoint": "127.0.0.1", "repo1-s3-region": REGION, "repo1-s3-uri-style": "path",
        "repo1-s3-key": ADMIN[0], "repo1-s3-key-secret": ADMIN[1], "repo1-storage-port": str(server.tls_port),
        "repo1-storage-verify-tls": "n", "repo1-cipher-type": "aes-256-cbc", "repo1-cipher-pass": secrets.token_hex(24),
        "compress-type": "zst", "process-max": str(processes), "start-fast": "y", "archive-check": "n",
        "lock-path": "/tmp/pgbackrest", "log-level-file": "off", "log-level-console": "warn"}
    return {"PGHOST": address, "PGPASSWORD": who["POSTGRES_PASSWORD"],
            **{f"PGBACKREST_{key.upper().replace('-', '_')}": value for key, value in chosen.items()}}


def made_image(postgres: Container) -> str:
    """The server's image with pgBackRest in it; the engine's build cache makes it a matter of a second after the first time."""
    argv = ["docker", "buildx", "build", "--quiet", "--network", "host", "--build-arg", f"IMAGE={postgres.attrs['Config']['Image']}", "-"]
    done = subprocess.run(argv, env=environ(), check=False, capture_output=True, stdin=open(RECIPE))
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@contextlib.contextmanager
def beside(postgres: Container, image: str, env: Mapping[str, str]) -> Iterator[Container]:
    """A container of that image on the host's network, which reaches both servers, with the server's folders, read-only. Both go."""
    client, name = postgres.client, postgres.labels["keel.env"]
    labels = {"keel.env": name, "keel.role": "bench"}  # what a kill leaves goes with the platform
    try:
        box = client.containers.run(image, name=f"keel-{name}-pgbackrest", detach=True, init=True, network_mode="host",
                                    volumes_from=[f"{postgres.id}:ro"], environment=dict(env), labels=labels)
        try:
            yield box
        finally:
            box.remove(force=True)
    finally:
        client.images.remove(image)


def inside(box: Container, *argv: str) -> float:
    """Run pgBackRest to its end; seconds."""
    begin = time.monotonic()
    code, said = box.exec_run(["pgbackrest", *argv])
    seconds = time.monotonic() - begin
    assert code == 0, said.decode(errors="replace")
    return seconds


def well(argv: Sequence[str], env: Mapping[str, str]) -> float:
    """Run a program to its end; seconds."""
    begin = time.monotonic()
    done = subprocess.run(argv, env=env, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    seconds = time.monotonic() - begin
    assert done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return seconds


@contextlib.contextmanager
def bucket(server: Server) -> Iterator[str]:
    """A new bucket, removed with all that is in it: the server gives the disk back at once."""
    client, name = server.client(), f"bench-{secrets.token_hex(4)}"
    client.create_bucket(Bucket=name)
    try:
        yield name
    finally:
        for key, _ in objects(server, name):
            client.delete_object(Bucket=name, Key=key)
        client.delete_bucket(Bucket=name)


def objects(server: Server, name: str) -> list[tuple[str, int]]:
    """Keys and sizes of all that a bucket holds."""
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=name)
    return [(o["Key"], o["Size"]) for page in pages for o in page.get("Contents", [])]


def stored(server: Server, name: str) -> int:
    """The bytes of all that a bucket holds."""
    return sum(size for _, size in objects(server, name))


def main(rows: int, rounds: int) -> None:
    """Both, and `pg-backup` beside them, on a database of that many of the bench's rows."""
    import bench_backup
    from scenarios.platform import Platform

    bench_backup.FILL = bench_backup.FILL.replace(f"generate_series(1, {bench_backup.ROWS})", f"generate_series(1, {rows})")
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as folder, Platform("nginx", KEEL_POSTGRES_MEMORY="2g") as platform:
        server = Server(Path(folder), tls=True)
        try:
            server.bucket("bench")
            bench_backup.prepare(platform, server)
            postgres = platform.service("postgres")
            keys = {"AWS_ACCESS_KEY_ID": ADMIN[0], "AWS_SECRET_ACCESS_KEY": ADMIN[1]}
            for _ in range(rounds):
                load, before, begin = os.getloadavg()[0], stored(server, "bench"), time.monotonic()
                platform.run(["pg-backup", "--quiet"], seconds=1800, **keys).well()
                ours = Run(time.monotonic() - begin, stored(server, "bench") - before)
                for name, run in (("pg-backup", ours), ("restic", restic(server, postgres)), ("pgbackrest", pgbackrest(server, postgres))):
                    print(json.dumps({"what": name, "rows": rows, "load": load, **run._asdict()}), flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
