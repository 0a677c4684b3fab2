"""A load in a process of its own, so that a test can deploy, kill and break things while it runs.

    with Load(url="https://127.0.0.1:8443", host="events.test", cafile=ca, get=16, post=2, seconds=120) as load:
        load.until(lambda now: now.ok("get") > 1000)
        …                                   # act
        account = load.stop()
    assert account.faults == 0, account.table()
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any, Self

from .account import Account
from .plan import Plan

RUN = pathlib.Path(__file__).with_name("run.py")


class Progress:
    """The numbers at one moment of a running load."""

    def __init__(self, kinds: Mapping[str, Any]) -> None:
        self.kinds = kinds

    def _sum(self, name: str, kind: str) -> int:
        return sum(int(numbers[name]) for one, numbers in self.kinds.items() if kind in ("", one))

    def requests(self, kind: str = "") -> int:
        """Requests started, of one kind or of all."""
        return self._sum("requests", kind)

    def ok(self, kind: str = "") -> int:
        """Requests that ended well."""
        return self._sum("ok", kind)

    def failed(self, kind: str = "") -> int:
        """Requests that failed."""
        return self._sum("failed", kind)

    def events(self, kind: str = "") -> int:
        """Events that the streams received."""
        return self._sum("events", kind)

    def answers(self, release: str, kind: str = "") -> int:
        """Answers and events that a release gave."""
        return sum(int(numbers["releases"].get(release, 0)) for one, numbers in self.kinds.items() if kind in ("", one))


class Load:
    """A running load. It ends by `stop`, by its own limits, or with the process that started it, whichever comes first."""

    def __init__(self, **options: Any) -> None:
        self.plan = Plan(**options, until_eof=True, progress=True)
        if wrong := self.plan.faults():
            raise ValueError("; ".join(wrong))
        self.now = Progress({})
        self.changed = threading.Condition()
        self.account: Account | None = None
        self.ended = False

    def __enter__(self) -> Self:
        """Start it, and wait until its first numbers are there."""
        self.stderr = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([sys.executable, str(RUN), *self.plan.argv()], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.stderr, text=True)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        try:
            self.until(lambda now: bool(now.kinds), 30)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        """Leave nothing running."""
        self._kill()

    def until(self, test: Callable[[Progress], bool], timeout: float = 30.0) -> Progress:
        """Wait until the numbers satisfy the test. Raises TimeoutError, or RuntimeError when the load has ended without."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.ended or test(self.now), timeout):
                raise TimeoutError(f"not so within {timeout:g} s: {dict(self.now.kinds)}")
            if not test(self.now):
                raise RuntimeError(f"the load ended before that: {self.account.table() if self.account else self._said()}")
            return self.now

    def stop(self, timeout: float = 300.0) -> Account:
        """Start no more requests, wait for those in flight and for the check of what was stored; the account."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(timeout)
        self.thread.join(timeout)
        if self.account is None:
            raise RuntimeError(f"the load ended with {self.process.returncode} and no account: {self._said()}")
        return self.account

    def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                said = json.loads(line)
                with self.changed:
                    if "progress" in said:
                        self.now = Progress(said["progress"])
                    else:
                        self.account = Account(said)
                    self.changed.notify_all()
        finally:
            with self.changed:
                self.ended = True
                self.changed.notify_all()

    def _said(self) -> str:
        self.stderr.seek(0)
        return self.stderr.read()[-2000:]

    def _kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.thread.join(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        self.stderr.close()
