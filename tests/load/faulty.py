"""A server that answers like the sample app and misbehaves on purpose: the negative controls of the load harness.

`fault` names what it does wrong, on every `every`-th request of the kind concerned; '' is a faultless server.
"""
import asyncio
import base64
import hashlib
import itertools
import json
import socket
import ssl
import struct
import threading
import urllib.parse
from collections.abc import Callable
from typing import Self

TICK = 0.05  # seconds between two events
EVENT = 7  # the only event there is
Writer = asyncio.StreamWriter


class Faulty:
    """The server, in a thread of its own: `with Faulty("status-502") as server: server.port`."""

    def __init__(self, fault: str = "", every: int = 10, tls: ssl.SSLContext | None = None) -> None:
        self.fault = fault
        self.every = every
        self.tls = tls
        self.release = "r1"
        self.stored: list[str] = []
        self.connections = 0
        self.turn = itertools.count(1)
        self.posts = itertools.count(1)
        self.loop = asyncio.new_event_loop()
        self.tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self.server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls, backlog=512))
        self.port = int(self.server.sockets[0].getsockname()[1])
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self.server.close)
        self.call(lambda: [task.cancel() for task in self.tasks])
        asyncio.run_coroutine_threadsafe(self._gone(), self.loop).result(10)
        self.call(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def call(self, what: Callable[[], object]) -> None:
        """Do something in the server's thread."""
        self.loop.call_soon_threadsafe(what)

    async def _gone(self) -> None:
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except (TimeoutError, OSError, EOFError, asyncio.CancelledError):
            pass  # the client is gone, the idle time is over, or the test is
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        for served in itertools.count():
            idle = TICK if self.fault == "close-idle" else None
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), idle)).decode()
            if not await self._request(head, reader, writer, served):
                break

    async def _request(self, head: str, reader: asyncio.StreamReader, writer: Writer, served: int) -> bool:
        method, path, _ = head.split("\r\n")[0].split(" ")
        at = urllib.parse.urlsplit(path)
        low = head.lower()
        length = int(low.partition("content-length:")[2].split("\r\n")[0] or 0)
        body = await reader.readexactly(length) if length else b""
        close = "connection: close" in low
        if at.path == "/feed":
            return await self._feed(writer)
        if at.path == "/ws":
            return await self._socket(head, writer)
        if method == "POST":
            sent = json.loads(body)
            return self._answer(writer, *(self._store(str(sent["id"])) if sent["eventId"] == EVENT else (422, {})), close)
        if at.path == "/registrations/count":
            prefix = urllib.parse.parse_qs(at.query)["prefix"][0]
            return self._answer(writer, 200, {"count": sum(one.startswith(prefix) for one in self.stored)}, close)
        if at.path.startswith("/registrations/"):
            return self._answer(writer, 200 if at.path.rpartition("/")[2] in self.stored else 404, {}, close)
        if at.path == "/events":
            return self._answer(writer, 200, [{"id": EVENT}], close)
        if at.path == "/slow":
            await asyncio.sleep(float(urllib.parse.parse_qs(at.query)["seconds"][0]))
        if next(self.turn) % self.every == 0:
            return await self._misbehave(writer, served, close)
        return self._answer(writer, 200, {"release": self.release}, close)

    def _answer(self, writer: Writer, status: int, body: object, close: bool) -> bool:
        data = json.dumps(body).encode()
        kept = "close" if close else "keep-alive"
        writer.write(f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(data)}\r\nConnection: {kept}\r\n\r\n".encode() + data)
        return not close

    async def _misbehave(self, writer: Writer, served: int, close: bool) -> bool:
        good = f'{{"release": "{self.release}"}}'.encode()
        if self.fault == "status-502":
            return self._answer(writer, 502, {}, close)
        if self.fault == "reused-dies" and not served:
            return self._answer(writer, 200, {"release": self.release}, close)
        if self.fault == "reset-first" or self.fault == "reused-dies":
            _reset(writer)
        elif self.fault == "reset-middle":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nhalf")
            await writer.drain()
            _reset(writer)
        elif self.fault == "truncated":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nhalf")
        elif self.fault == "truncated-chunks":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        elif self.fault in ("close-delimited", "no-close-notify"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + good)
            if self.fault == "no-close-notify":
                await writer.drain()
                writer.transport.abort()
        elif self.fault == "garbage":
            writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        elif self.fault == "surplus-bytes":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{}")
        elif self.fault == "chunks":
            half, rest = good[:5], good[5:]
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + half)
            await writer.drain()
            writer.write(b"\r\n%x;ext=1\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(rest), rest))
            return True
        elif self.fault in ("hang", "delay"):
            await asyncio.sleep(TICK * 6 if self.fault == "delay" else 3600)
            return self._answer(writer, 200, {"release": self.release}, close)
        else:
            return self._answer(writer, 200, {"release": self.release}, close)
        return False

    def _store(self, one: str) -> tuple[int, object]:
        turn = next(self.posts) % self.every == 0
        if turn and self.fault == "post-503":
            return 503, {}
        if not (turn and self.fault == "lost"):
            self.stored.append(one)
        if turn and self.fault == "doubled":
            self.stored.append(one)
        if turn and self.fault == "foreign":
            self.stored.append(f"{one[:-4]}ffff")
        if turn and self.fault == "stored-but-503":
            return 503, {}
        return 201, {"id": one, "release": self.release}

    def _event(self, counter: int) -> str:
        return json.dumps({"release": self.release, "counter": counter + (self.fault == "skip" and counter >= self.every)})

    async def _feed(self, writer: Writer) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

        def chunk(text: str) -> None:
            writer.write(f"{len(text):x}\r\n{text}\r\n".encode())

        for counter in itertools.count():
            if counter == self.every and self.fault in ("cut", "bye"):
                chunk("event: bye\ndata: {}\n\n" if self.fault == "bye" else ": no goodbye\n\n")
                writer.write(b"0\r\n\r\n")
                return False
            await asyncio.sleep(3600 if counter == self.every and self.fault == "hang" else TICK)
            chunk(f"data: {self._event(counter)}\n\n")
        return False

    async def _socket(self, head: str, writer: Writer) -> bool:
        key = head.partition("Sec-WebSocket-Key: ")[2].split("\r\n")[0]
        proof = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {proof}\r\n\r\n".encode())
        for counter in itertools.count():
            if counter == self.every and self.fault in ("cut", "bye", "going-away"):
                code = {"bye": 1012, "going-away": 1001}.get(self.fault)
                writer.write(b"\x88\x02" + struct.pack("!H", code) if code else b"\x81\x20half of a frame")
                return False
            await asyncio.sleep(3600 if counter == self.every and self.fault == "hang" else TICK)
            data = self._event(counter).encode()
            writer.write(b"\x89\x04ping" + bytes((0x81, len(data))) + data)
        return False


def _reset(writer: Writer) -> None:
    """Close with RST: no linger."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
