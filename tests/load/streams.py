"""Stream clients: SSE on /feed and WebSocket on /ws (RFC 6455), which notice every cut and every counter value that never comes.

A connection is one request of the account: ok when it ends with a goodbye (`event: bye`, close code 1012) or with the load, failed
when it is refused, cut, silent for too long, or skips a counter. Counters are compared within a connection only.
"""
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from . import http1
from .client import PAUSE, Run
from .tally import Tally
from .wire import Broken, text

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BYE = "bye"
RESTART = 1012  # close code "service restart"


class Stream(Protocol):
    """A stream that has been opened."""

    writer: asyncio.StreamWriter

    async def next(self) -> str:
        """The data of the next event, or BYE. Raises Broken or an OSError."""


async def follow(run: Run, tally: Tally, number: int, dial: Callable[[Run], Awaitable[Stream]], silence: float) -> None:
    """Hold a stream open until the load is over; after a goodbye connect again at once."""
    while run.begin(tally):
        stream: Stream | None = None
        failed = tally.failed
        try:
            async with asyncio.timeout(run.timeout):
                stream = await dial(run)
            events = tally.events
            await _watch(run, tally, stream, silence)
            tally.streamed()
            if tally.events == events:  # a goodbye instead of an event: do not ask the one that leaves as fast as the machine can
                await run.pause(PAUSE)
        except TimeoutError:
            tally.fail(number, "timeout", f"not open within {run.timeout:g} s")
        except (Broken, OSError, EOFError, asyncio.LimitOverrunError) as error:
            broken = error if isinstance(error, Broken) else Broken("cut" if stream else "connect", text(error))
            tally.cuts += broken.what == "cut"
            tally.fail(number, broken.what, broken.detail)
        finally:
            if stream:
                stream.writer.close()
        if tally.failed > failed:
            await run.pause(PAUSE)


async def _watch(run: Run, tally: Tally, stream: Stream, silence: float) -> None:
    last: int | None = None
    while True:
        coming = asyncio.ensure_future(stream.next())
        await asyncio.wait((coming, run.over), timeout=silence, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await coming
            if run.ended:
                return
            raise Broken("silent", f"no event for {silence:g} s after counter {last}")
        said = coming.result()
        if said == BYE:
            tally.goodbyes += 1
            return
        tally.events += 1
        try:
            event = json.loads(said)
            counter, release = int(event["counter"]), str(event.get("release", ""))
        except (ValueError, KeyError, TypeError):
            raise Broken("malformed", f"an event without a counter: {said[:80]!r}") from None
        tally.saw(release, time.monotonic())
        if last is not None and counter != last + 1:
            tally.missing += max(0, counter - last - 1)
            raise Broken("gap", f"counter {counter} after {last}")
        last = counter


async def _dial(run: Run, path: str, lines: tuple[str, ...]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    target = run.target
    reader, writer = await asyncio.open_connection(target.address, target.port, ssl=target.tls,
                                                   server_hostname=target.host if target.tls else None)
    try:
        writer.write(http1.request("GET", path, run.authority, lines))
        head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
    except BaseException:
        writer.close()
        raise
    return reader, writer, head


class Sse:
    """Server-sent events (HTML standard, section 9.2)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.reader = reader
        self.writer = writer
        self.chunks = http1.Chunks() if b"chunked" in http1.header(head, b"transfer-encoding").lower() else None
        self.text = b""

    @classmethod
    async def dial(cls, run: Run) -> "Sse":
        """Open /feed."""
        reader, writer, head = await _dial(run, "/feed", ("Accept: text/event-stream",))
        if head[9:12] != b"200":
            writer.close()
            raise Broken(head[9:12].decode("latin-1"), head.partition(b"\r\n")[0].decode("latin-1"))
        return cls(reader, writer, head)

    async def next(self) -> str:
        """The data of the next event."""
        while True:
            while b"\n\n" in self.text:
                block, _, self.text = self.text.partition(b"\n\n")
                fields = [line.partition(":")[::2] for line in block.decode().split("\n")]
                if any(name == "event" and value.strip() == BYE for name, value in fields):
                    return BYE
                data = [value.removeprefix(" ") for name, value in fields if name == "data"]
                if data:
                    return "\n".join(data)
            ended = self.chunks is not None and self.chunks.done
            payload = b"" if ended else await self.reader.read(65536)
            if not payload:
                raise Broken("cut", "the feed ended without a goodbye")
            try:
                self.text += self.chunks.feed(payload) if self.chunks is not None else payload
            except http1.Malformed as error:
                raise Broken("malformed", str(error)) from None
            self.text = self.text.replace(b"\r\n", b"\n")


class WebSocket:
    """A WebSocket: text messages in, pings answered, the close code understood."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, run: Run) -> "WebSocket":
        """Open /ws."""
        key = base64.b64encode(os.urandom(16))
        reader, writer, head = await _dial(run, "/ws", ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                                                        f"Sec-WebSocket-Key: {key.decode()}"))
        proof = base64.b64encode(hashlib.sha1(key + GUID).digest())
        if head[9:12] != b"101" or http1.header(head, b"sec-websocket-accept") != proof:
            writer.close()
            what = head[9:12].decode("latin-1")
            raise Broken("malformed" if what == "101" else what, head.partition(b"\r\n")[0].decode("latin-1"))
        return cls(reader, writer)

    async def next(self) -> str:
        """The next text message."""
        message = b""
        while True:
            first, second = await self.reader.readexactly(2)
            length = second & 127
            if length > 125:
                length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
            if second & 128 or length > 1 << 20:
                raise Broken("malformed", "a masked or oversized frame from the server")
            data, kind = await self.reader.readexactly(length), first & 15
            if kind == 9:
                self._send(10, data)
            elif kind == 8:
                self._send(8, data[:2])
                code = struct.unpack("!H", data[:2])[0] if length > 1 else 1005
                if code == RESTART:
                    return BYE
                raise Broken("cut", f"closed with {code} {data[2:].decode('utf-8', 'replace')}")
            elif kind in (0, 1, 2):
                message += data
                if first & 128:
                    return message.decode("utf-8", "replace")

    def _send(self, kind: int, data: bytes) -> None:
        mask = os.urandom(4)
        self.writer.write(bytes((128 | kind, 128 | len(data))) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))
