"""A real S3 server for the tests: SeaweedFS on 127.0.0.1, with an administrator, a writer who may not delete, and users
who may do nothing but what the policy of a bucket lets them (tests/policies.py)."""
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

WEED = Path(sys.executable).parent / "weed"
ADMIN, WRITER = ("admin", "admin-secret-of-the-tests"), ("writer", "writer-secret-of-the-tests")
ROLES = {role: (f"backup-{role}", f"backup-{role}-secret-of-the-tests") for role in ("writer", "pruner", "verifier")}
RIGHTS = ["Read", "Write", "List", "PutObjectRetention", "GetObjectRetention"]
READY = 60  # seconds


def free_ports(count: int) -> list[int]:
    """Ports that are free now, whose gRPC twins (10,000 higher) are free too."""
    found: list[int] = []
    held: list[socket.socket] = []
    while len(found) < count:
        low = socket.create_server(("127.0.0.1", 0))
        held.append(low)
        port = low.getsockname()[1]
        if port < 55000:
            try:
                held.append(socket.create_server(("127.0.0.1", port + 10000)))
            except OSError:
                continue
            found.append(port)
    for s in held:
        s.close()
    return found


class Server:
    """Started below a folder of the caller's; `endpoint` is its address. With `tls` it serves the same over TLS too, at `tls_port`."""

    def __init__(self, folder: Path, tls: bool = False) -> None:
        master, volume, filer, s3, self.tls_port = free_ports(5)
        self.endpoint = f"http://127.0.0.1:{s3}"
        self.port = s3
        identities = [{"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}
                      for (name, secret), actions in ((ADMIN, ["Admin"]), (WRITER, RIGHTS), *((role, []) for role in ROLES.values()))]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        (folder / "data").mkdir()
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(
            [str(WEED), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", f"-master.port={master}",
             f"-volume.port={volume}", f"-filer.port={filer}", "-filer", "-s3", f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}",
             "-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-iam=false",
             "-s3.iam=false", "-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=100", "-metricsPort=0",
             f"-filer.localSocket={folder / 'filer.sock'}", f"-s3.localSocket={folder / 's3.sock'}",
             *(self._certificate(folder) if tls else ())],
            stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "WEED_S3_SSE_KEK": "00" * 32})
        try:
            self._wait(folder)
        except BaseException:
            self.stop()
            raise

    def _certificate(self, folder: Path) -> list[str]:
        """The options for TLS, with a certificate of an authority that is made for it and trusted by nobody."""
        from keel.tls import issue

        issue(folder / "tls", "s3", "127.0.0.1")
        pair = folder / "tls" / "s3"
        return [f"-s3.port.https={self.tls_port}", f"-s3.cert.file={pair / 'cert.pem'}", f"-s3.key.file={pair / 'key.pem'}"]

    def _wait(self, folder: Path) -> None:
        """Ready when a bucket can be made and an object be put into it: the gateway answers before the volumes do."""
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client(attempts=1)
        deadline = time.monotonic() + READY
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"weed did not start:\n{(folder / 'log').read_text()[-3000:]}")
            try:
                urllib.request.urlopen(self.endpoint, timeout=2).close()
            except urllib.error.HTTPError:
                break  # 403: it answers
            except OSError:
                self._pause()
        while True:
            try:
                if not any(b["Name"] == "ready" for b in client.list_buckets()["Buckets"]):
                    client.create_bucket(Bucket="ready")
                client.put_object(Bucket="ready", Key="ready", Body=b"ready")
                return
            except (BotoCoreError, ClientError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                self._pause()

    def _pause(self) -> None:
        """Between two questions; an end of the server is noticed at once."""
        try:
            self.process.wait(0.2)
        except subprocess.TimeoutExpired:
            return

    def client(self, who: tuple[str, str] = ADMIN, attempts: int = 3, endpoint: str = "") -> Any:
        """A boto3 client of the tests' own."""
        import boto3
        from botocore.config import Config

        return boto3.client("s3", endpoint_url=endpoint or self.endpoint, region_name="us-east-1", aws_access_key_id=who[0],
                            aws_secret_access_key=who[1],
                            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": attempts}, read_timeout=30))

    def bucket(self, name: str, lock: bool = False, versioned: bool = False) -> str:
        """Make a bucket; the writer may do anything in it but delete."""
        client = self.client()
        client.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if lock else {}))
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        deny = {"Effect": "Deny", "Principal": {"AWS": ["arn:aws:iam::000000000000:user/writer"]}, "Resource": [f"arn:aws:s3:::{name}/*"],
                "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"]}
        client.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
        return name

    def stop(self) -> None:
        """By its pid and at once: an orderly end takes it 25 s, and its data is thrown away."""
        self.process.kill()
        self.process.wait()
        self.log.close()


if __name__ == "__main__":  # for bats: FOLDER [BUCKET…]; prints the endpoint, serves until its stdin is closed
    server = Server(Path(sys.argv[1]))
    try:
        for bucket in sys.argv[2:]:
            server.bucket(bucket, lock=bucket.startswith("locked"))
        print(server.endpoint, flush=True)
        sys.stdin.read()
    finally:
        server.stop()
