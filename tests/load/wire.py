"""The socket of one client connection: non-blocking, TLS or plain.

The socket is read directly when the loop says so (`add_reader`), not through asyncio's TLS transport. That takes a fifth off the
client's CPU for each request (README), and on a shared machine what the client burns is missing from what is measured.
"""
import asyncio
import contextlib
import dataclasses
import socket
import ssl
from collections.abc import Callable
from typing import Self

READ = 16384  # the largest TLS record


class Broken(Exception):
    """A request that got no complete answer. `early`: not one byte of an answer had arrived."""

    def __init__(self, what: str, detail: str, early: bool = False) -> None:
        super().__init__(f"{what}: {detail}")
        self.what = what
        self.detail = detail
        self.early = early


@dataclasses.dataclass(frozen=True)
class Target:
    """Where the load goes: an address, the name it is asked by, and TLS or None."""

    address: str
    port: int
    host: str
    tls: ssl.SSLContext | None


class Wire:
    """What the connections of both versions of HTTP are made of: the socket. What its bytes mean they say in `_received` and `_fail`."""

    def __init__(self, target: Target, sock: socket.socket) -> None:
        self.target = target
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.alive = True
        self.session: ssl.SSLSession | None = None  # once it is closed: what the next one may resume
        self.unsent = b""

    @classmethod
    async def open(cls, target: Target, timeout: float, session: ssl.SSLSession | None = None) -> Self:
        """Connect, and shake hands; with a session of an earlier connection, resume that. Raises Broken (`connect`, `tls`, `timeout`)."""
        family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        step = "connect"
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(sock, (target.address, target.port))
                step = "tls"
                if target.tls:
                    sock = target.tls.wrap_socket(sock, server_hostname=target.host, do_handshake_on_connect=False,
                                                  suppress_ragged_eofs=False, session=session)
                    await _handshake(sock)
        except TimeoutError:
            sock.close()
            raise Broken("timeout", f"{step}: nothing within {timeout:g} s", early=True) from None
        except OSError as error:
            sock.close()
            raise Broken(step, text(error), early=True) from None
        except BaseException:
            sock.close()
            raise
        conn = cls(target, sock)
        conn.loop.add_reader(sock.fileno(), conn._readable)
        return conn

    def _send(self) -> None:
        try:
            sent = self.sock.send(self.unsent)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError as error:
            self._refused(text(error))
            return
        self.unsent = self.unsent[sent:]
        if self.unsent:
            self.loop.add_writer(self.sock.fileno(), self._again)

    def _again(self) -> None:
        self.loop.remove_writer(self.sock.fileno())
        if self.unsent:
            self._send()

    def _readable(self) -> None:
        try:
            data = self.sock.recv(READ)
            if isinstance(self.sock, ssl.SSLSocket):
                # decrypted bytes that wait inside the TLS layer raise no event
                while self.sock.pending():
                    data += self.sock.recv(READ)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self._fail("reset", text(error))
            return
        self._received(data)

    def _refused(self, detail: str) -> None:
        """Nothing can be sent any more."""
        self._fail("reset", detail)

    def _received(self, data: bytes) -> None:
        raise NotImplementedError

    def _fail(self, what: str, detail: str) -> None:
        raise NotImplementedError

    def expire(self, now: float) -> None:
        """Give up what is in flight and has no time left."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the socket; safe to repeat."""
        if self.alive:
            self.alive = False
            self.loop.remove_reader(self.sock.fileno())
            self.loop.remove_writer(self.sock.fileno())
            if isinstance(self.sock, ssl.SSLSocket):
                self.session = self.sock.session
            self.sock.close()


def wake(waiter: "asyncio.Future[None]") -> None:
    """Resolve a future that may have been resolved or cancelled already."""
    if not waiter.done():
        waiter.set_result(None)


def text(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}"


async def _handshake(sock: ssl.SSLSocket) -> None:
    while True:
        try:
            sock.do_handshake()
            return
        except ssl.SSLWantReadError:
            await _ready(sock, asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader)
        except ssl.SSLWantWriteError:
            await _ready(sock, asyncio.get_running_loop().add_writer, asyncio.get_running_loop().remove_writer)


async def _ready(sock: socket.socket, add: Callable[..., object], remove: Callable[[int], object]) -> None:
    event: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(sock.fileno(), wake, event)
    with contextlib.ExitStack() as stack:
        stack.callback(remove, sock.fileno())
        await event
