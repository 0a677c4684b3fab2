"""A client connection of HTTP/2: many requests at a time (RFC 9113), with the library h2, and what has to be seen exactly at its end."""
import asyncio
import dataclasses
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Self

import h2.connection
import h2.events
from h2.errors import ErrorCodes
from h2.exceptions import InvalidBodyLengthError, ProtocolError
from hyperframe.frame import Frame, GoAwayFrame

from . import http1
from .wire import Broken, Target, Wire, text

Header = tuple[bytes, bytes]


@dataclasses.dataclass
class WrongLength(h2.events.Event):
    """A body that is not as long as its content-length: an error of its stream, not of the connection (RFC 9113 section 8.1.1)."""

    stream_id: int
    expected: int
    actual: int


class Protocol(h2.connection.H2Connection):
    """The library's state machine, but for two things in which it ends a connection that goes on."""

    def _receive_frame(self, frame: Frame) -> list[h2.events.Event]:
        try:
            events = super()._receive_frame(frame)
        except InvalidBodyLengthError as error:
            self.reset_stream(frame.stream_id, ErrorCodes.PROTOCOL_ERROR)
            return [WrongLength(frame.stream_id, error.expected_length, error.actual_length)]
        if isinstance(frame, GoAwayFrame):
            # what was asked before may still be answered (RFC 9113 section 6.8), but to the library it is over
            self.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        return events


class Stream:
    """One request, and what has arrived of its answer."""

    __slots__ = ("deadline", "head", "length", "parts", "status", "waiter")

    def __init__(self, waiter: "asyncio.Future[http1.Answer]", deadline: float) -> None:
        self.waiter = waiter
        self.deadline = deadline
        self.status = 0  # none has arrived
        self.head = b""
        self.length: int | None = None  # what content-length says
        self.parts: list[bytes] = []

    def begin(self, headers: Iterable[Header]) -> None:
        """The headers, kept as HTTP/1.1 would have them: whoever reads an answer need not know how it came."""
        lines = [b"HTTP/2"]
        for name, value in headers:
            if name == b":status":
                self.status = int(value)
                lines[0] += b" " + value
            else:
                lines.append(name + b": " + value)
                if name == b"content-length":
                    self.length = int(value)
        self.head = b"\r\n".join(lines)


class Conn2(Wire):
    """A connection to the target. Once a GOAWAY was read it is `leaving`: it takes no request, and closes after the last answer."""

    def __init__(self, target: Target, sock: socket.socket) -> None:
        super().__init__(target, sock)
        self.leaving = False
        self.streams: dict[int, Stream] = {}
        self.h2 = Protocol()
        self.h2.initiate_connection()

    @classmethod
    async def open(cls, target: Target, timeout: float, session: ssl.SSLSession | None = None) -> Self:
        """As any; and a server that does not agree on HTTP/2 is Broken (`tls`): there is no going back to HTTP/1.1."""
        conn = await super().open(target, timeout, session)
        spoken = conn.sock.selected_alpn_protocol() if isinstance(conn.sock, ssl.SSLSocket) else None
        if spoken != "h2":
            conn.close()
            raise Broken("tls", f"the server does not speak HTTP/2: ALPN gave {spoken}", early=True)
        return conn

    def exchange(self, headers: list[Header], timeout: float) -> "asyncio.Future[http1.Answer]":
        """Send a request without a body; the future gives the answer or raises Broken. `expire` enforces the timeout."""
        waiter: asyncio.Future[http1.Answer] = self.loop.create_future()
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = Stream(waiter, time.monotonic() + timeout)
        try:
            self.h2.send_headers(number, headers, end_stream=True)
        except ProtocolError as error:  # more than the server allows at a time
            self._end(number, "limit", str(error))
        self._flush()
        return waiter

    def _flush(self) -> None:
        self.unsent += self.h2.data_to_send()
        if self.leaving and not self.streams:
            self.close()
        elif self.unsent and self.alive:
            self._send()

    def leave(self) -> ssl.SSLSession | None:
        """Take no more requests; the TLS session that another connection may resume."""
        self.leaving = True
        self._flush()
        return self.sock.session if self.alive and isinstance(self.sock, ssl.SSLSocket) else self.session

    def _refused(self, detail: str) -> None:
        self._readable()  # the GOAWAY that says why may be there, unread
        self._fail("reset", detail)

    def _received(self, data: bytes) -> None:
        if not data:
            self._fail("closed", "the connection ended before the answer did")
            return
        try:
            for event in self.h2.receive_data(data):
                self._event(event)
        except (ProtocolError, ValueError) as error:  # the latter for a status that is no number
            self._fail("malformed", text(error))
            return
        self._flush()

    def _event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self._goaway(event.last_stream_id or 0, event.error_code)
            return
        number = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self.streams.get(number) if number else None
        if stream is None or number is None:  # of the connection, or of a request that was given up
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.begin(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.parts.append(event.data)
        elif isinstance(event, h2.events.StreamEnded):
            self._ended(number, stream)
        elif isinstance(event, WrongLength):
            self._end(number, "truncated" if event.actual < event.expected else "malformed",
                      f"content-length {event.expected}, but {event.actual} bytes")
        elif isinstance(event, h2.events.StreamReset):
            code = event.error_code
            self._end(number, "refused" if code == ErrorCodes.REFUSED_STREAM else "reset", f"RST_STREAM {named(code)}")

    def _ended(self, number: int, stream: Stream) -> None:
        answer = http1.Answer(stream.status, stream.head, keep=True)
        answer.body = b"".join(stream.parts)
        # the library compares where the end comes with data, not where it comes with headers or trailers
        if stream.length not in (None, len(answer.body)):
            self._end(number, "truncated", f"content-length {stream.length}, but {len(answer.body)} bytes")
            return
        del self.streams[number]
        stream.waiter.set_result(answer)

    def _goaway(self, last: int, code: ErrorCodes | int | None) -> None:
        self.leaving = True
        for number in list(self.streams):
            if number > last:
                self._end(number, "refused", f"GOAWAY {named(code)}: this is stream {number}, the last one taken {last}")
            elif code:
                self._end(number, "reset", f"GOAWAY {named(code)}")

    def _end(self, number: int, what: str, detail: str) -> None:
        stream = self.streams.pop(number)
        if not stream.waiter.done():
            stream.waiter.set_exception(Broken(what, detail, early=not stream.status))

    def _fail(self, what: str, detail: str) -> None:
        self.close()
        for number, stream in list(self.streams.items()):
            self._end(number, "truncated" if stream.status and what in ("closed", "reset") else what, detail)

    def expire(self, now: float) -> None:
        """Give up the requests in flight whose time is over; the others go on."""
        for number, stream in list(self.streams.items()):
            if now > stream.deadline:
                self._end(number, "timeout", "headers only" if stream.status else "no answer")
                self.h2.reset_stream(number, ErrorCodes.CANCEL)
        self._flush()


def named(code: ErrorCodes | int | None) -> str:
    """An error code in the words of the RFC, or its number."""
    return code.name if isinstance(code, ErrorCodes) else str(code)
