"""One stream into one S3 object: parts of exact size whatever the chunks, two on their way at a time, complete or aborted.

boto3's own upload of a stream decides by one short read and then cuts the rest off, or keeps all in memory; hence this loop.
Source: Amazon S3 User Guide, multipart upload limits (10,000 parts of 5 MiB to 5 GiB), and the API pages of the five calls.
"""
import base64
import hashlib
import itertools
import mmap
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from keel.stop import DATA, UNAVAILABLE, Stop

MIB = 1 << 20
FIRST, LARGEST = 16 * MIB, 5 << 30
IN_FLIGHT = 2
CALLS = 5  # aborts until the parts are gone


def part_size(number: int, cap: int) -> int:
    """The bytes of part `number` (from 0) of at most `cap`: 16 MiB for five eighths of them, then ×1.5 every fortieth.

    With 10,000 parts: 16 MiB up to 104 GB (three in memory: 50 MB), 122 MiB at 200 GB, about 1 GiB at 1 TB, and 5.2 TB in all.
    """
    steps = max(0, (number - cap * 5 // 8) // max(1, cap // 40) + 1)
    return min(LARGEST, int(FIRST * 1.5 ** min(steps, 20)))


def capacity(cap: int) -> int:
    """The most bytes that `cap` parts hold."""
    return sum(part_size(number, cap) for number in range(cap))


def parts(chunks: Iterator[bytes], cap: int) -> Iterator[mmap.mmap]:
    """The stream in parts of exactly the planned sizes, the last one shorter; none for an empty stream.

    Memory maps, because boto3 sends them as they are, where it copies a bytearray, and because they go back to the system when they are
    closed (peak of the whole process for a stream of 1 GB: 88 MiB; with bytearrays 113).
    """
    numbers = itertools.count()
    part, size = None, 0
    for chunk in chunks:
        view = memoryview(chunk)
        while len(view):
            if part is None:
                size = part_size(next(numbers), cap)
                part = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            view = view[part.write(view[:size - part.tell()]):]
            if part.tell() == size:
                part.seek(0)
                yield part
                part = None
    if part is not None:
        part.resize(part.tell())
        part.seek(0)
        yield part


def digest(data: bytes | mmap.mmap) -> str:
    """Content-MD5 (RFC 1864): what every provider checks, and what Object Lock asks for; not a matter of security here."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


@dataclass
class Upload:
    """One upload under way: `client` is boto3's, `where` its Bucket and Key, `extra` what goes with the beginning (the lock)."""

    client: Any
    where: dict[str, str]
    extra: dict[str, Any]
    cap: int
    id: str = ""
    size: int = 0
    sent: list[dict[str, Any]] = field(default_factory=list)

    def run(self, chunks: Iterator[bytes]) -> int:
        """The bytes published. Raises what `chunks` or the client raises, after the upload is aborted; Stop 65 when there are too many."""
        stream = parts(chunks, self.cap)
        first = next(stream, None)
        if first is None or len(first) < FIRST:  # all of it: one call is atomic by itself
            data = first.read() if first else b""
            self.client.put_object(**self.where, **self.extra, Body=data, ContentMD5=digest(data))
            self.size = len(data)
            return self.size
        self.id = self.client.create_multipart_upload(**self.where, **self.extra)["UploadId"]
        try:
            self._send(first, stream)
            self._complete()
        except BaseException:  # a signal too
            self.abort()
            raise
        return self.size

    def _send(self, first: mmap.mmap, stream: Iterator[mmap.mmap]) -> None:
        flying: deque[Future[dict[str, Any]]] = deque()
        pool = ThreadPoolExecutor(IN_FLIGHT, "part")
        try:
            # Waiting before the next part is collected keeps memory at IN_FLIGHT parts and the one that grows.
            part: mmap.mmap | None = first
            while part is not None:
                if len(self.sent) + len(flying) == self.cap:
                    raise Stop(f"{self.where['Key']}: the stream does not fit in {self.cap} parts ({capacity(self.cap)} bytes)", DATA,
                               "does the provider allow more? KEEL_S3_PARTS")
                self.size += len(part)  # before it is handed over: a part that was sent is closed
                flying.append(pool.submit(self._part, len(self.sent) + len(flying) + 1, part))
                if len(flying) == IN_FLIGHT or flying[0].done():
                    self._land(flying, IN_FLIGHT - 1)
                part = next(stream, None)
            self._land(flying, 0)
        finally:  # before the abort: a part that lands after it would stay for ever
            pool.shutdown(wait=True, cancel_futures=True)

    def _land(self, flying: "deque[Future[dict[str, Any]]]", most: int) -> None:
        while len(flying) > most:
            self.sent.append(flying.popleft().result())

    def _part(self, number: int, data: mmap.mmap) -> dict[str, Any]:
        answer = self.client.upload_part(**self.where, UploadId=self.id, PartNumber=number, Body=data, ContentMD5=digest(data))
        data.close()
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _complete(self) -> None:
        from botocore.exceptions import ClientError

        try:
            answer = self.client.complete_multipart_upload(**self.where, UploadId=self.id, MultipartUpload={"Parts": self.sent})
        except ClientError as e:
            # Where the answer to the first try was lost, the second finds no upload: what is there then decides.
            if e.response["Error"]["Code"] != "NoSuchUpload" or not e.response["ResponseMetadata"].get("RetryAttempts"):
                raise
            answer = {}
        if not answer.get("ETag") and not self._there():  # Ceph 16 has done it, and leaves the ETag empty
            raise Stop(f"{self.where['Key']}: the store did not confirm the upload", UNAVAILABLE)

    def _there(self) -> bool:
        """Whether the object is there: a key is written once, so it is ours. Its size is for the caller to compare."""
        from botocore.exceptions import ClientError

        try:
            return bool(self.client.head_object(**self.where).get("ETag"))
        except ClientError as e:
            if e.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise

    def abort(self) -> None:
        """Abort until the store knows no part of it: one that arrives during an abort survives it."""
        from botocore.exceptions import ClientError

        for _ in range(CALLS):
            try:
                self.client.abort_multipart_upload(**self.where, UploadId=self.id)
                self.client.list_parts(**self.where, UploadId=self.id)
            except ClientError as e:
                if e.response["Error"]["Code"] == "NoSuchUpload" or e.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return
                raise
