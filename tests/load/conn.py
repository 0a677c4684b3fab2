"""A client connection of HTTP/1.1: one request at a time."""
import asyncio
import socket
import time

from . import http1
from .wire import Broken, Target, Wire


class Conn(Wire):
    """A connection to the target. A server that closes it while idle makes it not `alive`, which is no failure."""

    def __init__(self, target: Target, sock: socket.socket) -> None:
        super().__init__(target, sock)
        self.deadline = 0.0
        self.reader = http1.Reader()
        self.waiter: asyncio.Future[http1.Answer] | None = None

    def exchange(self, request: bytes, timeout: float) -> "asyncio.Future[http1.Answer]":
        """Send a request; the future gives the answer or raises Broken. `expire` enforces the timeout."""
        self.waiter = waiter = self.loop.create_future()
        self.deadline = time.monotonic() + timeout
        self.unsent = request
        self._send()
        return waiter

    def _received(self, data: bytes) -> None:
        waiter = self.waiter
        if waiter is None:  # idle: the server closed it, or said something nobody asked for
            self.close()
            return
        try:
            answer = self.reader.feed(data) if data else self.reader.end()
        except http1.Malformed as error:
            self._fail("malformed", str(error))
            return
        if answer is not None:
            self.waiter = None
            if not answer.keep:
                self.close()
            waiter.set_result(answer)
        elif not data:
            self._fail("truncated" if self.reader.started() else "closed", "the connection ended before the answer did")

    def _fail(self, what: str, detail: str) -> None:
        early = not self.reader.started()
        self.close()
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(Broken(what if early or what != "reset" else "truncated", detail, early))

    def expire(self, now: float) -> None:
        """Give up the request in flight if its time is over."""
        if self.waiter is not None and now > self.deadline:
            self._fail("timeout", "headers only" if self.reader.started() else "no answer")
