"""One stream, several threads: each takes the next piece of work, does it beside the others, and hands over what it made in its turn.

The bytes of a piece stay with one thread from end to end, in the cache of its processor; a pipeline of stages costs a quarter more.
"""
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
THREADS = min(4, len(os.sched_getaffinity(0)))  # beyond that, what goes on one at a time is the limit


def work_off(jobs: Iterator[Callable[[], T]], deliver: Callable[[T], None]) -> None:
    """Call every job and deliver what it returns, in the order of the jobs; only one thread at a time is in `jobs`, and one in `deliver`.

    Raises what comes first in that order, whether `jobs`, a job or `deliver` raised it; after that nothing is delivered. Memory:
    THREADS jobs. What a signal raises comes at once; then a thread may still wait for its input, so the process is to end too.
    """
    line = Line(jobs, deliver)
    try:
        for _ in range(THREADS):
            threading.Thread(target=line.work, name="turn", daemon=True).start()
        error = line.end.get()
    finally:
        line.over = True
    if error:
        raise error


class Line(Generic[T]):
    """What the threads have in common: whose turn it is at either side, and the end: why, or None when everything is delivered."""

    def __init__(self, jobs: Iterator[Callable[[], T]], deliver: Callable[[T], None]) -> None:
        self._jobs, self._deliver = jobs, deliver
        self._numbers = itertools.count()
        self._fetching = threading.Lock()
        self._turns = [threading.Lock() for _ in range(THREADS)]  # of all jobs on their way no two have the same
        for turn in self._turns[1:]:
            turn.acquire()
        self.over = False
        self.end: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def work(self) -> None:
        """What each thread does until the end."""
        while not self.over:
            made: list[T] = []
            error: BaseException | None = None
            with self._fetching:
                number, job = next(self._numbers), None
                try:
                    job = next(self._jobs, None)
                except BaseException as e:  # in its turn: what was made of the input before it goes out first
                    error = e
            try:
                made = [job()] if job else []
            except BaseException as e:
                error = e
            self._turns[number % THREADS].acquire()
            try:
                for one in [] if error or self.over else made:
                    self._deliver(one)
            except BaseException as e:
                error = e
            if error or not job:
                self.over = True
                self.end.put(error)
            self._turns[(number + 1) % THREADS].release()
