"""Turns: whatever the threads do, what comes out is in order, ends at the first fault and keeps nobody waiting."""
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keel import turns


@pytest.fixture(autouse=True)
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there are fewer processors."""
    monkeypatch.setattr(turns, "THREADS", 4)


def numbers(count: int) -> Iterator[Callable[[], int]]:
    return (functools.partial(int, n) for n in range(count))


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from(["jobs", "a job", "delivery", "nothing"]))
def test_what_comes_before_the_first_fault_is_delivered_in_order_and_nothing_else(count: int, at: int, where: str) -> None:
    delivered: list[int] = []

    def job(n: int) -> int:
        if (where, n) == ("a job", at):
            raise OSError(where)
        return n

    def jobs() -> Iterator[Callable[[], int]]:
        for n in range(count):
            if (where, n) == ("jobs", at):
                raise OSError(where)
            yield functools.partial(job, n)

    def deliver(n: int) -> None:
        if (where, n) == ("delivery", at):
            raise OSError(where)
        delivered.append(n)

    if where != "nothing" and at < count:
        with pytest.raises(OSError, match=where):
            turns.work_off(jobs(), deliver)
        assert delivered == list(range(at))
    else:
        turns.work_off(jobs(), deliver)
        assert delivered == list(range(count))


def test_of_two_faults_the_first_in_order_is_raised() -> None:
    later = threading.Event()

    def first() -> int:
        assert later.wait(30)
        raise OSError("first")

    def second() -> int:
        later.set()
        raise OSError("second")

    delivered: list[int] = []
    with pytest.raises(OSError, match="first"):
        turns.work_off(iter([lambda: 0, first, second]), delivered.append)
    assert delivered == [0]


def test_jobs_are_done_at_once_and_delivered_in_order() -> None:
    last = threading.Event()

    def waiting(n: int) -> int:
        assert last.wait(30)
        return n

    def done() -> int:
        last.set()
        return 3

    delivered: list[int] = []
    turns.work_off(iter([*(functools.partial(waiting, n) for n in range(3)), done]), delivered.append)
    assert delivered == [0, 1, 2, 3]


def test_one_thread_at_a_time_at_either_end_and_no_more_jobs_than_threads() -> None:
    fetched = ahead = 0
    ends = {"jobs": threading.Lock(), "delivery": threading.Lock()}

    def alone(end: str) -> threading.Lock:
        assert ends[end].acquire(blocking=False), f"two threads in {end}"
        return ends[end]

    def jobs() -> Iterator[Callable[[], int]]:
        nonlocal fetched
        for n in range(2000):
            lock = alone("jobs")
            fetched += 1
            os.sched_yield()  # another could come in here
            lock.release()
            yield functools.partial(int, n)

    def deliver(n: int) -> None:
        nonlocal ahead
        lock = alone("delivery")
        ahead = max(ahead, fetched - n)
        os.sched_yield()
        lock.release()

    turns.work_off(jobs(), deliver)
    assert fetched == 2000 and 1 <= ahead <= 4


def test_a_delivery_that_fails_does_not_wait_for_a_silent_producer() -> None:
    talks, waited = threading.Event(), threading.Event()

    def jobs() -> Iterator[Callable[[], int]]:
        yield lambda: 1
        talks.wait(30)
        waited.set()

    def deliver(_: int) -> None:
        raise OSError("the reader left")

    with pytest.raises(OSError, match="the reader left"):
        turns.work_off(jobs(), deliver)
    assert not waited.is_set()
    talks.set()


def test_a_signal_does_not_wait_for_a_silent_producer() -> None:
    """The caller waits for the end and for nothing else: what its signal handler raises comes through."""
    talks = threading.Event()
    others = set(threading.enumerate())  # those of another test may still be ending

    def at_work() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == "turn" and t not in others]

    def waits() -> bool:
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        return frame.f_code.co_name == "work_off" and len(at_work()) == 4

    def jobs() -> Iterator[Callable[[], int]]:
        while not waits():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert talks.wait(30)
        yield lambda: 1

    def asked(_number: int, _frame: object) -> None:
        raise InterruptedError("asked to end")

    before = signal.signal(signal.SIGUSR1, asked)
    delivered: list[int] = []
    try:
        with pytest.raises(InterruptedError, match="asked to end"):
            turns.work_off(jobs(), delivered.append)
        assert not talks.is_set()
    finally:
        signal.signal(signal.SIGUSR1, before)
        there = at_work()
        talks.set()
    for thread in there:
        thread.join(30)
        assert not thread.is_alive()
    assert delivered == []
