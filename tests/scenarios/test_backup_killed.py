"""kill -9 of each process of the nightly pipe, and of all that works for it, at moments that are held open until it is done: never a
manifest without its objects, never a success; and after the next run and a prune nothing is left of it.

With KEEL_LOAD=full every process at every moment, else each process once and each moment once.
"""
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from faulty import Fault, Proxy
from s3server import Server

from keel import signed
from scenarios.machine import Result, Running, top, until
from scenarios.platform import Platform
from scenarios.test_backup_night import PIPE, Night

pytestmark = pytest.mark.timeout(600)
HASTY = "KEEL_PG_TIMEOUT=20s KEEL_S3_TIMEOUT=300s pg-backup"
NEXT = "pg-backup | redis-backup | files-backup"
# Beside what Night has: three parts of 16 MiB and more, so that pg_dump is still at work while the first two wait.
MORE = "CREATE TABLE more AS SELECT g id, md5(g::text) || md5('x' || g) || md5('y' || g) t FROM generate_series(1, 700000) g"
ENOUGH = os.urandom(20 << 20)  # of Redis and of files: two parts
SLOW = "for i = 1, 20000 do redis.call('SET', 'slow:' .. i, i) end"
ORPHAN = """import sys
from s3server import Server
client = Server.client(Server.__new__(Server), endpoint=sys.argv[1])
where = {"Bucket": "night", "Key": sys.argv[2]}
client.upload_part(**where, UploadId=client.create_multipart_upload(**where)["UploadId"], PartNumber=1, Body=bytes(6 << 20))
print("sent", flush=True)
sys.stdin.read()"""


class Dark(Night):
    """A night into one bucket without locks, from where everything may be deleted a second later."""

    def __init__(self, platform: Platform, server: Server) -> None:
        self.checked: set[str] = set()
        super().__init__(platform, server)
        uploads = platform.root / "uploads"
        uploads.mkdir()
        (uploads / "one").write_bytes(ENOUGH)
        code, said = platform.service("postgres").exec_run(["psql", "-qU", "events", "-v", "ON_ERROR_STOP=1", "-c", MORE, "events"])
        assert code == 0, said
        subprocess.run(["docker", "exec", "-i", str(platform.service("redis").name), "redis-cli", "-x", "SET", "one"], input=ENOUGH,
                       env=platform.env(), check=True, capture_output=True)
        self.redis("EVAL", SLOW, "0")
        self.redis("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        self.backup(PIPE).well()  # one of each that was restored, or nothing would ever be pruned

    def to(self, endpoint: str = "", **settings: str) -> None:
        self.platform.set(**{
            "KEEL_BACKUP_STORES": "s3://night/keel", "KEEL_S3_ENDPOINT": endpoint or self.server.endpoint, "KEEL_S3_STYLE": "path",
            "KEEL_BACKUP_HOLD_BELOW": "0", "KEEL_BACKUP_FILES": str(self.platform.root / "uploads"), "KEEL_KEEP_MIN_AGE": "1s", **settings})

    def redis(self, *words: str) -> None:
        code, said = self.platform.service("redis").exec_run(["redis-cli", "-e", *words])
        assert code == 0, said

    def backup(self, pipe: str) -> Result:
        return self.platform.run(["with-lock", "--backups", "--pipe", "backup", pipe], seconds=300, **self.env)

    def prune(self, **env: str) -> Result:
        return self.platform.run(["backup-prune", "--confirm", "--skip-share-limit", "a test"], **self.env, **env)

    def whole(self) -> None:
        """Every manifest that was not looked at yet has all its objects, to the last byte."""
        client, prefix = self.server.client(), f"keel/{self.platform.name}"
        for name in {n for n in self.names() if n.startswith("manifests/")} - self.checked:
            text = client.get_object(Bucket="night", Key=f"{prefix}/{name}")["Body"].read()
            said = signed.verify(text, {self.line.split()[1]: signed.Signer()}, signed.BACKUP, name)
            assert said["objects"]
            for part in said["objects"]:
                sha = hashlib.sha256()
                for piece in client.get_object(Bucket="night", Key=f"{prefix}/objects/{said['id']}/{part['name']}")["Body"].iter_chunks():
                    sha.update(piece)
                assert sha.hexdigest() == part["sha256"], f"{said['id']}: {part['name']}"
            self.checked.add(name)

    def parts(self) -> int:
        """How many parts of unfinished uploads there are."""
        client, count = self.server.client(), 0
        for u in client.list_multipart_uploads(Bucket="night").get("Uploads", []):
            with contextlib.suppress(client.exceptions.NoSuchUpload):  # it was finished just now
                count += len(client.list_parts(Bucket="night", Key=u["Key"], UploadId=u["UploadId"]).get("Parts", []))
        return count

    def youngest(self) -> float:
        """How many seconds ago the last object was finished, and the last upload begun."""
        client = self.server.client()
        times = [o["LastModified"] for o in client.list_objects_v2(Bucket="night", Prefix="keel/").get("Contents", [])]
        times += [u["Initiated"] for u in client.list_multipart_uploads(Bucket="night").get("Uploads", [])]
        return (datetime.now(UTC) - max(times)).total_seconds()

    def boxes(self, role: str = "") -> list[str]:
        """Containers that only work for a backup or a restore."""
        return [str(c.name) for r in ([role] if role else ["tools", "scratch"]) for c in self.platform.docker.containers.list(
            all=True, ignore_removed=True, filters={"label": [f"keel.env={self.platform.name}", f"keel.role={r}"]})]

    def locked(self) -> str:
        """Who keeps the next run out, and the next restore-verify."""
        done = self.platform.run(["with-lock", "--backups", "a look", "--", "true"])
        verify = self.platform.run(["flock", "--nonblock", str(self.platform.state / "verify.lock"), "true"])
        return (done.stderr if done.code else "") + ("restore-verify is locked" if verify.code else "")

    def left(self) -> list[str]:
        """All that a run may not leave behind."""
        names, spool = self.names(), self.platform.state / "spool"
        known = {n.split("/")[1] for n in names if n.startswith("manifests/")}
        return [*(f"upload {u}" for u in self.uploads()), *(n for n in names if n.split("/")[1] not in known),
                *(str(p) for p in spool.iterdir()), *self.boxes(), *filter(None, [self.locked()])]


class Run:
    """A pipe that is at work, and the processes of it."""

    def __init__(self, night: Dark, running: Running, proxy: Proxy) -> None:
        self.night, self.running, self.proxy = night, running, proxy
        self.before, self.parts = night.names(), night.parts()

    def argv(self) -> Iterator[tuple[int, list[str]]]:
        """What each process of its session was started as."""
        for pid in self.running.session():
            with contextlib.suppress(OSError):  # it has just ended
                yield pid, Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]

    def command(self, name: str) -> list[int]:
        return [pid for pid, argv in self.argv() if len(argv) > 1 and argv[1].endswith(f"/bin/{name}")]

    def shell(self) -> list[int]:
        return [pid for pid, argv in self.argv() if argv[:2] == ["bash", "-c"]]

    def client(self, word: str) -> list[int]:
        """`docker exec` of a program."""
        return [pid for pid, argv in self.argv() if argv[1:2] == ["exec"] and word in argv]

    def inside(self, program: str, role: str = "tools") -> list[int]:
        """A program in a container, by its number on this host."""
        labels = [f"keel.env={self.night.platform.name}", f"keel.role={role}"]
        found = self.night.platform.docker.containers.list(ignore_removed=True, filters={"label": labels})
        return [pid for c in found for pid, args in top(c.id) if args.startswith(program)]

    def held(self) -> bool:
        return any(action != "pass" for _, _, action in self.proxy.seen)

    def new(self, place: str) -> bool:
        return any(n.startswith(place) for n in self.night.names() - self.before)


When = tuple[Fault, Callable[[Run], object]]


def opened(kind: str) -> When:
    """The upload is begun, and no part is in yet."""
    return (lambda m, p, n: "hold" if m == "PUT" and f"-{kind}-" in p and "partNumber=" in p else "pass",
            lambda r: r.held() and r.night.uploads())


def first(kind: str) -> When:
    """The first part is in, the second on its way."""
    return (lambda m, p, n: "hold" if m == "PUT" and f"-{kind}-" in p and "partNumber=2" in p else "pass",
            lambda r: r.held() and r.night.parts() == r.parts + 1)


def unsigned(kind: str) -> When:
    """All objects are there, and the manifest never arrives."""
    return (lambda m, p, n: "hang" if m == "PUT" and "/manifests/" in p and f"-{kind}-" in p else "pass", lambda r: r.held())


def there(kind: str) -> When:
    """The manifest is there, and its sender does not know."""
    return (lambda m, p, n: "late" if m == "PUT" and "/manifests/" in p and f"-{kind}-" in p else "pass",
            lambda r: any(n.startswith("manifests/") and f"-{kind}-" in n for n in r.night.names() - r.before))


def verdict(kind: str) -> When:
    return (lambda m, p, n: "hang" if m == "PUT" and "/verdicts/" in p and f"-{kind}-" in p else "pass", lambda r: r.held())


def at(what: Callable[[Run], object]) -> When:
    return lambda m, p, n: "pass", what


def dumping(r: Run) -> bool:
    """Redis, which takes its time, streams its dump to us."""
    return any(p.stat().st_size for p in (r.night.platform.state / "spool").glob("*/dump.rdb"))


def session(r: Run) -> list[int]:
    return r.running.session()


CASES: dict[str, tuple[When, Callable[[Run], list[int]]]] = {
    "pg-backup, upload begun": (opened("pg"), lambda r: r.command("pg-backup")),
    "pg-backup, first part in": (first("pg"), lambda r: r.command("pg-backup")),
    "pg-backup, no manifest yet": (unsigned("pg"), lambda r: r.command("pg-backup")),
    "pg-backup, manifest in": (there("pg"), lambda r: r.command("pg-backup")),
    "pg_dump": (opened("pg"), lambda r: r.inside("pg_dump -Fc")),
    "docker exec pg_dump": (opened("pg"), lambda r: r.client("pg_dump")),
    "psql": (opened("pg"), lambda r: r.inside("psql -XAtqw")),
    "docker exec psql": (opened("pg"), lambda r: r.client("psql")),
    "redis-backup, dumping": (at(dumping), lambda r: r.command("redis-backup")),
    "redis-cli": (at(dumping), lambda r: r.inside("redis-cli -h redis -e --rdb")),
    "docker exec redis-cli": (at(dumping), lambda r: r.client("--rdb")),
    "Redis saving": (at(dumping), lambda r: r.inside("redis-rdb-", "redis")),
    "redis-backup, first part in": (first("redis"), lambda r: r.command("redis-backup")),
    "redis-backup, no manifest yet": (unsigned("redis"), lambda r: r.command("redis-backup")),
    "files-backup, first part in": (first("files"), lambda r: r.command("files-backup")),
    "files-backup, no manifest yet": (unsigned("files"), lambda r: r.command("files-backup")),
    "files-backup, manifest in": (there("files"), lambda r: r.command("files-backup")),
    "restore-verify, PostgreSQL": (at(lambda r: r.night.boxes("scratch")), lambda r: r.command("restore-verify")),
    "restore-verify, Redis": (at(lambda r: r.client("/keel/scratch.conf") and r.inside("redis-server")),
                              lambda r: r.command("restore-verify")),
    "restore-verify, no verdict yet": (verdict("pg"), lambda r: r.command("restore-verify")),
    "with-lock": (first("pg"), lambda r: r.command("with-lock")),
    "bash": (first("redis"), lambda r: r.shell()),
    "all of it, first part in": (first("pg"), session),
    "all of it, no manifest yet": (unsigned("redis"), session),
    "all of it, manifest in": (there("files"), session),
    "all of it, restoring": (at(lambda r: r.night.boxes("scratch")), session),
}
LONG = {"pg-backup, upload begun", "docker exec psql", "redis-cli", "docker exec redis-cli", "Redis saving",
        "redis-backup, no manifest yet", "files-backup, no manifest yet", "files-backup, manifest in",
        "restore-verify, no verdict yet", "bash", "all of it, no manifest yet", "all of it, manifest in"}
OUTLIVED = ("with-lock", "bash")  # by the commands, which nobody can tell, and which hold the lock until they have ended


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dark]:
    server = Server(tmp_path_factory.mktemp("s3"))
    try:
        server.bucket("night")
        with Platform("nginx") as platform:
            yield Dark(platform, server)
    finally:
        server.stop()


@contextlib.contextmanager
def running(night: Dark, pipe: str, when: When) -> Iterator[Run]:
    """A pipe that has got to a moment, and stays there until the proxy lets go."""
    proxy = Proxy(night.server.port, when[0])
    try:
        night.to(proxy.endpoint)
        with night.platform.start(["with-lock", "--backups", "--pipe", "backup", pipe], **night.env) as started:
            run = Run(night, started, proxy)

            def come() -> object:
                assert started.process.poll() is None, started.said()
                return when[1](run)
            until(come, 240, every=0.005)
            yield run
    finally:
        proxy.close()
        night.to()


@pytest.mark.parametrize("name", [name for name in CASES if os.environ.get("KEEL_LOAD") == "full" or name not in LONG])
def test_killed(night: Dark, name: str) -> None:
    when, victims = CASES[name]
    slow = when[1] is dumping
    if slow:
        night.redis("CONFIG", "SET", "rdb-key-save-delay", "200")
    try:
        with running(night, PIPE, when) as run:
            found = victims(run)
            assert found, list(run.argv())
            for pid in found:
                os.kill(pid, signal.SIGKILL)
            if victims is session:
                run.running.kill()  # what it has started meanwhile, too
            if name.endswith("first part in"):
                assert night.uploads(), "the harness would not see what is left of an upload"
            run.proxy.let_go.set()
            done = run.running.end()
            until(lambda: name not in OUTLIVED or not session(run), 120)
            assert done.code != 0, str(done)
            night.whole()
            # What was printed is there, whatever came later; and what works on in a container keeps nobody out.
            assert {f"manifests/{ident}" for ident in done.stdout.split()} <= night.names(), str(done)
            assert not night.locked(), str(done)
    finally:
        if slow:
            night.redis("CONFIG", "SET", "rdb-key-save-delay", "0")
    clean(night)


def clean(night: Dark) -> None:
    """The next run goes well, and with a prune nothing is left of the one before."""
    done = night.backup(NEXT).well()
    night.prune().well()
    night.whole()
    assert len(done.stdout.split()) == 3 and not night.left(), str(done)


def orphan(night: Dark, ident: str) -> str:
    """A naive upload that was killed; its key."""
    key = f"keel/{night.platform.name}/objects/{ident}/database.dump.zst.age"
    argv = [sys.executable, "-c", ORPHAN, night.server.endpoint, key]
    path = os.pathsep.join(p for p in sys.path if p)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}) as child:
        assert child.stdout and child.stdout.readline() == b"sent\n"
        child.kill()
    assert key in night.uploads()
    return key


def test_control_an_upload_that_nobody_takes_back_is_seen(night: Dark) -> None:
    """The harness would notice: a naive upload, killed, is there after the next run, and goes with a prune only once it is old."""
    ident = max(n.split("/")[1] for n in night.names() if "-pg-" in n)  # the next is later, so this one is not at work
    key = orphan(night, ident)
    night.backup(NEXT).well()
    night.to(KEEL_KEEP_MIN_AGE="48h")
    night.prune().well()
    night.to()
    assert f"upload {key}" in night.left()
    clean(night)


@pytest.mark.parametrize("moment", [first("pg"), (lambda m, p, n: "hold" if m == "PUT" and "/manifests/" in p else "pass", Run.held)],
                         ids=["first part in", "no manifest yet"])
def test_a_prune_takes_nothing_of_a_backup_at_work(night: Dark, moment: When) -> None:
    """Here the lock says so; on another host, which does not see it, the age or, however short that is, that nothing newer is there."""
    dead = orphan(night, min(n.split("/")[1] for n in night.names() if n.startswith("manifests/") and "-pg-" in n))
    with running(night, NEXT, moment) as run:
        second = night.backup(NEXT)
        assert second.code == 75 and f"locked by pid {run.running.process.pid}: backup since" in second.stderr, str(second)
        until(lambda: night.youngest() > 1, every=0.2)  # the shorter age below is no reason to spare it
        for age in ("48h", "1s"):
            night.to(run.proxy.endpoint, KEEL_KEEP_MIN_AGE=age)
            here = night.prune()
            assert here.code == 75 and "the backups of" in here.stderr and dead in night.uploads(), str(here)
        mine, uploads = night.names() - run.before, set(night.uploads()) - {dead}
        assert mine or uploads
        for age in ("48h", "1s"):
            night.to(run.proxy.endpoint, KEEL_KEEP_MIN_AGE=age)
            night.prune(KEEL_STATE=str(night.platform.root / "elsewhere")).well()
            assert mine <= night.names() and uploads <= set(night.uploads())
        assert dead not in night.uploads(), "it deletes what it may"
        run.proxy.let_go.set()
        done = run.running.end()
    assert done.code == 0 and {f"manifests/{ident}" for ident in done.stdout.split()} <= night.names(), str(done)
    night.whole()
    clean(night)


def test_a_dump_that_stands_still_is_given_up_and_its_upload_taken_back(night: Dark) -> None:
    before = night.uploads()
    with running(night, HASTY, opened("pg")) as run:
        dumps = run.inside("pg_dump -Fc")
        assert dumps
        try:
            for pid in dumps:
                os.kill(pid, signal.SIGSTOP)
            run.proxy.let_go.set()
            done = run.running.end()
        finally:
            for pid in dumps:
                with contextlib.suppress(ProcessLookupError):  # it went with its container
                    os.kill(pid, signal.SIGCONT)
    assert done.code == 69 and "PostgreSQL has been silent for 20 s: nothing came from pg_dump after " in done.stderr, str(done)
    assert not done.stdout and night.uploads() == before and not night.boxes() and not night.locked(), str(done)
    night.whole()
    clean(night)
