"""A store that is a bucket, by boto3 (s3_client): S3 and what speaks like it.

Only single deletes: DeleteObjects differs between providers.
"""
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from keel import multipart, run, s3_client, stores
from keel.settings import Settings
from keel.stop import DATA, UNAVAILABLE, Stop
from keel.store_errors import of_s3

CHUNK = 1 << 20
RESUMES = 5  # of one read, in a row, without a byte in between


@dataclass
class Bucket:
    """Each method as in stores.Store. `lock` is off, compliance or governance; `client` is boto3's, for store-check and the tests."""

    name: str
    prefix: str
    client: Any = field(repr=False)
    parts: int = 10_000
    lock: str = "off"

    @property
    def url(self) -> str:
        return f"s3://{self.name}/{self.prefix}".rstrip("/")

    @property
    def place(self) -> tuple[str, ...]:
        return (*s3_client.address(self.client.meta.endpoint_url), self.name, self.prefix)

    def put(self, key: str, data: bytes, *, absent: bool = False, lock_until: datetime | None = None) -> bool:
        if self._rehearsed("write", key):
            return True
        where, extra = self._where(key), {**self._lock(lock_until), "ContentMD5": multipart.digest(data)}
        with self._speaking(key):
            if not absent:
                self.client.put_object(**where, **extra, Body=data)
                return True
            try:
                return bool(self.client.put_object(**where, **extra, Body=data, IfNoneMatch="*"))
            except self.client.exceptions.ClientError as e:
                code, answer = e.response["Error"]["Code"], e.response["ResponseMetadata"]
                if code == "PreconditionFailed" or answer["HTTPStatusCode"] == 412:
                    # The answer to an earlier try may have been lost: then what is there is ours.
                    if answer.get("RetryAttempts") and self.get(key, len(data)) == data:
                        return True
                    raise stores.Exists(self.url, key) from None
                if code != "NotImplemented" and answer["HTTPStatusCode"] != 501:
                    raise
            if self.stat(key):
                raise stores.Exists(self.url, key)
            self.client.put_object(**where, **extra, Body=data)
            return False

    def upload(self, key: str, chunks: Iterator[bytes], *, lock_until: datetime | None = None) -> int:
        if self._rehearsed("upload", key):
            return 0
        upload = multipart.Upload(self.client, self._where(key), self._lock(lock_until), self.parts)
        with self._speaking(key):
            upload.run(chunks)
            there = self.stat(key)
        if not there or there.size != upload.size:
            raise Stop(f"{self.url}: {key} has {there.size if there else 'no'} bytes there, and {upload.size} were sent", UNAVAILABLE)
        return upload.size

    def read(self, key: str, version: str = "") -> Iterator[bytes]:
        where, done, size, fails = {**self._where(key), **({"VersionId": version} if version else {})}, 0, -1, 0
        while done != size:
            try:
                with self._speaking(key):
                    answer = self.client.get_object(**where, **({"Range": f"bytes={done}-"} if done else {}))
                    where["IfMatch"] = answer["ETag"]  # what goes on after a cut must be the same object
                    size = done + answer["ContentLength"]
                    for chunk in answer["Body"].iter_chunks(CHUNK):
                        done, fails = done + len(chunk), 0
                        yield chunk
            except Stop as e:
                fails += 1
                if e.code != UNAVAILABLE or not done or fails > RESUMES:
                    raise

    def get(self, key: str, limit: int = stores.SMALL) -> bytes:
        data = bytearray()
        for chunk in self.read(key):
            data += chunk
            if len(data) > limit:
                raise Stop(f"{self.url}: {key} is larger than {limit} bytes", DATA)
        return bytes(data)

    def stat(self, key: str) -> stores.Object | None:
        with suppress(stores.Missing), self._speaking(key):
            o = self.client.head_object(**self._where(key))
            return stores.Object(key, o["ContentLength"], o["LastModified"].astimezone(UTC), o.get("VersionId", ""),
                                 o.get("ObjectLockRetainUntilDate"))
        return None

    def list(self, prefix: str = "") -> Iterator[stores.Object]:
        for page in self._pages("list_objects_v2", prefix):
            for o in page.get("Contents", []):
                yield stores.Object(self._key(o["Key"]), o["Size"], o["LastModified"].astimezone(UTC))

    def delete(self, key: str) -> None:
        if not self._rehearsed("delete", key):
            with self._speaking(key):
                self.client.delete_object(**self._where(key))

    def purge(self, prefix: str) -> Iterator[str]:
        """Delete every version and delete marker for good; the keys of those that stay. Only for what store-check wrote."""
        for page in self._pages("list_object_versions", prefix):
            for v in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                try:
                    with self._speaking(v["Key"]):
                        self.client.delete_object(Bucket=self.name, Key=v["Key"], VersionId=v["VersionId"])
                except Stop:
                    yield self._key(v["Key"])

    def versions(self, prefix: str, as_of: datetime) -> Iterator[stores.Object]:
        best: stores.Object | None = None
        for page in self._pages("list_object_versions", prefix):
            for v in page.get("Versions", []):
                found = stores.Object(self._key(v["Key"]), v["Size"], v["LastModified"].astimezone(UTC), v.get("VersionId") or "")
                if best and best.key != found.key:
                    yield best
                    best = None
                if found.modified <= as_of and (not best or found.modified > best.modified):  # of equal ones the first: newest first
                    best = found
        if best:
            yield best

    def unfinished(self, prefix: str, before: datetime) -> Iterator[stores.Unfinished]:
        for page in self._pages("list_multipart_uploads", prefix):
            for u in page.get("Uploads", []):
                if u["Initiated"] < before:
                    yield stores.Unfinished(self._key(u["Key"]), u["UploadId"], u["Initiated"].astimezone(UTC))

    def abort(self, upload: stores.Unfinished) -> None:
        if not self._rehearsed("abort the upload of", key := upload.key):
            with self._speaking(key):
                multipart.Upload(self.client, self._where(key), {}, self.parts, upload.id).abort()

    def _where(self, key: str) -> dict[str, str]:
        return {"Bucket": self.name, "Key": self._full(stores.checked(key))}

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _key(self, full: str) -> str:
        return full[len(self._full("")):]

    def _lock(self, until: datetime | None) -> dict[str, Any]:
        """Retention as set with the object itself. Source: S3 API, PutObject and CreateMultipartUpload, x-amz-object-lock-*."""
        if not until or self.lock == "off":
            return {}
        return {"ObjectLockMode": self.lock.upper(), "ObjectLockRetainUntilDate": until}

    def _pages(self, call: str, prefix: str) -> Iterator[Any]:
        with self._speaking(prefix):
            yield from self.client.get_paginator(call).paginate(Bucket=self.name, Prefix=self._full(stores.checked_prefix(prefix)))

    def _rehearsed(self, what: str, key: str) -> bool:
        if run.dry:
            run.dry(f"{what} {self.url}/{stores.checked(key)}")
        return run.dry is not None

    def _speaking(self, key: str) -> AbstractContextManager[None]:
        return of_s3(self.url, key)


def open_bucket(settings: Settings, name: str, prefix: str, words: Mapping[str, str]) -> Bucket:
    """The store in that bucket; `words` of its URL win over KEEL_S3_*. Raises Stop 78; nothing is asked of the server yet."""
    url = f"s3://{name}/{prefix}".rstrip("/")
    stores.checked(prefix or "none")
    parts, lock = (s3_client.word(settings, url, words, w) for w in ("parts", "lock"))
    return Bucket(name, prefix, s3_client.connected(settings, url, words), int(parts), lock)
