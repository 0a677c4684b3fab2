"""The client of HTTP/2: one connection that several requests share, and opened again when it has to be."""
import asyncio

from . import http1
from .client import Client, Run
from .http2 import Conn2
from .tally import Tally
from .wire import Broken, Target

TRIES = 5  # connections that end before they took a request, before that is a failure


class Client2(Client):
    """Asks like a Client, but as many at a time as like to, and never twice: what the server did not take is a failure here, though it
    could be sent again (RFC 9113 section 8.7). Not every client does."""

    def __init__(self, run: Run, tally: Tally, number: int, target: Target) -> None:
        super().__init__(run, tally, number)
        self.target = target
        self.conn2: Conn2 | None = None
        self.opening: asyncio.Task[None] | None = None

    def get(self, path: str, close: bool) -> bytes:
        """What `ask` wants in order to GET a path."""
        return path.encode()

    async def ask(self, request: bytes, timeout: float, retry: bool) -> http1.Answer:
        """The answer, or Broken; `retry` is not heeded."""
        headers = [(b":method", b"GET"), (b":authority", self.run.authority.encode()), (b":scheme", b"https"), (b":path", request),
                   (b"user-agent", b"evenkeel-load")]
        for _ in range(TRIES):
            if self.conn2 and self.conn2.alive and not self.conn2.leaving:
                return await self.conn2.exchange(headers, timeout)
            # those who come meanwhile wait for the same connection
            self.opening = self.opening or asyncio.ensure_future(self._open(timeout))
            await self.opening
        raise Broken("refused", f"{TRIES} connections ended before they took a request")

    async def _open(self, timeout: float) -> None:
        try:
            self.drop()
            self.conn2 = await Conn2.open(self.target, timeout, self.session)
            self.run.conns.add(self.conn2)
        finally:
            self.opening = None

    def drop(self) -> None:
        """Part with the connection. It is closed once it has given its last answer."""
        if self.conn2 is not None:
            self.session = self.conn2.leave()
            self.conn2 = None
