"""The clients that ask and get an answer: keep-alive GETs, a new connection for each GET, slow responses."""
import asyncio
import ssl
import time

from . import http1
from .conn import Conn
from .tally import Tally
from .wire import Broken, Target, Wire, wake

PAUSE = 0.02  # seconds a client waits after a failure: a dead server is not asked as fast as the machine can


class Run:
    """What all clients share: where to ask, when it is over, and how many requests are left."""

    def __init__(self, target: Target, authority: str, requests: int, *, timeout: float, strict: bool) -> None:
        self.target = target
        self.authority = authority
        self.left = requests
        self.timeout = timeout
        self.strict = strict
        self.ended = ""  # why it is over: seconds, requests, stopped
        self.over = asyncio.get_running_loop().create_future()
        self.waiting: set[asyncio.Future[None]] = set()
        self.conns: set[Wire] = set()  # the closed ones until the next sweep

    def stop(self, why: str) -> None:
        """Start nothing more; what is in flight is waited for."""
        if not self.ended:
            self.ended = why
            self.over.set_result(None)
            for sleeper in self.waiting:
                wake(sleeper)

    def begin(self, tally: Tally) -> bool:
        """May another request start? It is counted when it may."""
        if self.ended:
            return False
        if self.left <= 0:
            self.stop("requests")
            return False
        self.left -= 1
        tally.begin()
        return True

    async def pause(self, seconds: float) -> None:
        """Wait, at most until the load is over."""
        if self.ended:
            return
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        self.waiting.add(sleeper)
        timer = loop.call_later(seconds, wake, sleeper)
        try:
            await sleeper
        finally:
            timer.cancel()
            self.waiting.discard(sleeper)

    async def expire(self) -> None:
        """Enforce the timeouts, for as long as the task lives: one sweep is cheaper than a timer for each request."""
        while True:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            for conn in list(self.conns):
                if conn.alive:
                    conn.expire(now)
                else:
                    self.conns.discard(conn)


class Pacer:
    """Turns at a steady rate for all clients of a kind; rate 0 is as fast as answers come."""

    def __init__(self, run: Run, rate: float, from_due: bool = False) -> None:
        self.from_due = from_due
        self.run = run
        self.step = 1 / rate if rate else 0.0
        self.due = 0.0

    async def turn(self) -> float:
        """Wait for the next turn; the moment from which its latency counts: its sending or, with `from_due`, the turn it should have had
        although every client was busy then."""
        now = time.monotonic()
        if not self.step:
            return now
        due = self.due or now
        self.due = due + self.step
        if due <= now:
            return due if self.from_due else now
        await self.run.pause(due - now)
        return time.monotonic()


class Client:
    """One client with one connection, which it opens again when it has to."""

    def __init__(self, run: Run, tally: Tally, number: int) -> None:
        self.run = run
        self.tally = tally
        self.number = number
        self.conn: Conn | None = None
        self.session: ssl.SSLSession | None = None  # of TLS; the next connection resumes it, as browsers do

    def get(self, path: str, close: bool) -> bytes:
        """What `ask` wants in order to GET a path; `close`: nothing follows on this connection."""
        return http1.request("GET", path, self.run.authority, ("Connection: close",) if close else ())

    async def ask(self, request: bytes, timeout: float, retry: bool) -> http1.Answer:
        """The answer, or Broken. With `retry`, a request on a reused connection that died before any byte of an answer is sent once
        more on a fresh one, as browsers and HTTP libraries do (RFC 9110 section 9.2.2), and counted as retried."""
        reused = self.conn is not None and self.conn.alive
        try:
            return await self._once(request, timeout)
        except Broken as broken:
            if not (retry and reused and broken.early and broken.what in ("reset", "closed")):
                raise
            self.tally.retried += 1
            return await self._once(request, timeout)

    async def _once(self, request: bytes, timeout: float) -> http1.Answer:
        conn = self.conn
        if conn is None or not conn.alive:
            self.drop()
            self.conn = conn = await Conn.open(self.run.target, timeout, self.session)
            self.run.conns.add(conn)
        return await conn.exchange(request, timeout)

    def drop(self) -> None:
        """Close the connection."""
        if self.conn is not None:
            self.conn.close()
            self.session = self.conn.session
            self.conn = None


async def gets(client: Client, pacer: Pacer, paths: tuple[str, ...], *, fresh: bool = False, wait: float = 0.0) -> None:
    """GET the paths in turn until the load is over; `fresh`: a connection for each; `wait`: seconds the server takes on purpose."""
    run, tally = client.run, client.tally
    requests = [client.get(path, close=fresh) for path in paths]
    turn = client.number
    while True:
        start = await pacer.turn()
        if not run.begin(tally):
            break
        turn += 1
        try:
            answer = await client.ask(requests[turn % len(requests)], run.timeout + wait, retry=not run.strict)
        except Broken as broken:
            tally.fail(client.number, broken.what, broken.detail)
            await run.pause(PAUSE)
            continue
        finally:
            if fresh:
                client.drop()
                client.session = None  # somebody who was never here
        if answer.status == 200:
            tally.answered(answer.release(), start, time.monotonic())
        else:
            tally.fail(client.number, str(answer.status), said(answer))
            await run.pause(PAUSE)
    client.drop()


def said(answer: http1.Answer) -> str:
    """The status line and the beginning of the body, for a person."""
    line = answer.head.partition(b"\r\n")[0].decode("latin-1")
    return f"{line}: {answer.body[:120].decode('utf-8', 'replace')!r}"
