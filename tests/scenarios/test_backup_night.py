"""The night: the whole pipe into a folder and a bucket, restored and signed; and into a store that misbehaves, where nothing is ever
half a backup."""
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty import Proxy
from s3server import ADMIN, Server

from keel import age_crypt, signed
from scenarios.platform import Platform

PIPE = "pg-backup --restored-here | redis-backup | files-backup | restore-verify"
BIG = "CREATE TABLE big AS SELECT g id, md5(g::text) || md5('x' || g) || md5('y' || g) t FROM generate_series(1, 400000) g"
QUICK = {"KEEL_S3_TIMEOUT": "3s", "KEEL_S3_ATTEMPTS": "2"}


class Night:
    """A platform with data, keys, a folder and a bucket."""

    def __init__(self, platform: Platform, server: Server) -> None:
        self.platform, self.server, self.disk = platform, server, platform.root / "disk"
        self.disk.mkdir()
        (platform.root / "backup").mkdir(exist_ok=True)
        pem, self.line = signed.new_key("tests")
        secret, recipient = age_crypt.new_identity()
        for name, text in (("secrets/backup-sign.pem", pem), ("secrets/backup-identity.txt", secret), ("backup/signers", self.line),
                           ("backup/recipients", recipient)):
            path: Path = platform.root / name
            path.write_text(f"{text}\n")
            path.chmod(0o600)
        self.to()
        platform.up()
        code, said = platform.service("postgres").exec_run(["psql", "-qU", "events", "-v", "ON_ERROR_STOP=1", "-c", BIG, "events"])
        assert code == 0, said

    def to(self, endpoint: str = "", **settings: str) -> None:
        """Where backups go from now on: the folder and the bucket or, with an endpoint, the bucket alone by that way."""
        stores = "s3://night/keel" if endpoint else f"file://{self.disk} s3://night/keel"
        self.platform.set(KEEL_BACKUP_STORES=stores, KEEL_S3_ENDPOINT=endpoint or self.server.endpoint, KEEL_S3_STYLE="path",
                          KEEL_BACKUP_HOLD_BELOW="0", KEEL_S3_LOCK="compliance", **settings)

    @property
    def env(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": ADMIN[0], "AWS_SECRET_ACCESS_KEY": ADMIN[1]}

    def names(self) -> set[str]:
        """What lies in the bucket, by name below the prefix."""
        found = self.server.client().list_objects_v2(Bucket="night", Prefix="keel/")
        return {o["Key"].removeprefix(f"keel/{self.platform.name}/") for o in found.get("Contents", [])}

    def whole(self) -> None:
        """Every manifest in the bucket has all its objects, in their size."""
        client = self.server.client()
        sizes = {o["Key"]: o["Size"] for o in client.list_objects_v2(Bucket="night", Prefix="keel/").get("Contents", [])}
        for key in sizes:
            if "/manifests/" in key:
                text = client.get_object(Bucket="night", Key=key)["Body"].read()
                said = signed.verify(text, {self.line.split()[1]: signed.Signer()}, signed.BACKUP, key)
                for part in said["objects"]:
                    assert sizes[f"keel/{self.platform.name}/objects/{said['id']}/{part['name']}"] == part["size"]

    def uploads(self) -> list[str]:
        return [u["Key"] for u in self.server.client().list_multipart_uploads(Bucket="night").get("Uploads", [])]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    server = Server(tmp_path_factory.mktemp("s3"))
    try:
        server.bucket("night", lock=True)
        with Platform("nginx") as platform:
            yield Night(platform, server)
    finally:
        server.stop()


def test_one_set_into_two_stores_restored_and_signed(night: Night) -> None:
    done = night.platform.run(["bash", "-o", "pipefail", "-c", PIPE], seconds=300, **night.env).well()
    ids = done.stdout.split()
    assert [i.split("-")[1] for i in ids] == ["pg", "redis", "files"]
    report = [json.loads(line) for line in night.platform.run(["backups", "--json"], **night.env).well().stdout.splitlines()]
    assert {r["id"] for r in report} == set(ids) and len({r["set"] for r in report}) == 1
    for row in report:
        assert row["ok"] is True and row["level"] == 5 and len(row["stores"]) == 2 and row["lock_until"], row
    night.whole()
    assert not night.uploads()
    # The bucket keeps what it was told to keep.
    key = next(k for k in night.names() if k.startswith("manifests/"))
    version = night.server.client().head_object(Bucket="night", Key=f"keel/{night.platform.name}/{key}")
    assert version["ObjectLockMode"] == "COMPLIANCE"
    assert not list((night.platform.state / "spool").iterdir())


FAULTS = {  # what the store does to PUT and POST, and how pg-backup may end
    "busy for a while": (lambda m, p, n: "busy" if m in ("PUT", "POST") and n < 1 else "pass", {0}),
    "busy for good": (lambda m, p, n: "busy" if m in ("PUT", "POST") else "pass", {69}),
    "hangs": (lambda m, p, n: "hang" if m == "PUT" and n == 1 else "pass", {0, 69}),
    "hangs for good": (lambda m, p, n: "hang" if m == "PUT" else "pass", {69}),
    "says 200 and an error": (lambda m, p, n: "lie" if m == "POST" and "uploadId" in p else "pass", {69}),
    "cuts the connection": (lambda m, p, n: "cut" if m == "PUT" else "pass", {69}),
    "expired": (lambda m, p, n: "expired" if m in ("PUT", "POST") else "pass", {78}),
    "the manifest alone fails": (lambda m, p, n: "busy" if m == "PUT" and "/manifests/" in p else "pass", {69}),
    "its answer is lost": (lambda m, p, n: "lost" if m == "PUT" and "/manifests/" in p and n < 99 else "pass", {0, 65, 69}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_store_that_misbehaves(night: Night, name: str) -> None:
    fault, codes = FAULTS[name]
    proxy = Proxy(night.server.port, fault)
    before = {k for k in night.names() if k.startswith("manifests/")}
    try:
        night.to(proxy.endpoint, **QUICK)
        done = night.platform.run(["pg-backup"], seconds=300, **night.env)
    finally:
        proxy.close()
        night.to()
    assert any(action != "pass" for _, _, action in proxy.seen), "the fault was never met"
    assert done.code in codes, done
    new = {k for k in night.names() if k.startswith("manifests/")} - before
    night.whole()
    if done.code == 0:
        assert new == {f"manifests/{done.stdout.strip()}"}
    elif name != "its answer is lost":
        assert not new and not done.stdout, done
    for secret in (*ADMIN[1:], (night.platform.root / "secrets" / f"{night.platform.name}.env").read_text().split("=")[1].split()[0]):
        assert secret not in done.stderr
    # What a fault left unfinished is not there after the next run.
    night.platform.run(["pg-backup"], seconds=300, **night.env).well()
    assert not night.uploads()


def test_a_store_that_is_not_there_is_the_end_and_says_so(night: Night) -> None:
    night.to("http://127.0.0.1:9", **QUICK)
    done = night.platform.run(["pg-backup"], **night.env)
    night.to()
    assert done.code == 69 and not done.stdout and "s3://night/keel" in done.stderr, done


def test_negative_control_a_naive_pipe_calls_half_a_dump_a_success(night: Night) -> None:
    """What this replaces: pg_dump fails, and the pipe's end is 0 and an object."""
    target = night.disk / "naive.gz"
    naive = f"docker exec {night.platform.service('postgres').name} pg_dump -U events nosuchdatabase | gzip >{target}"
    done = night.platform.run(["sh", "-c", naive])
    assert done.code == 0 and target.stat().st_size
    target.unlink()
