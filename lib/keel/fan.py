"""One stream into several stores at once: read once, bounded queues, each store succeeds or fails for itself."""
import collections
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime

from keel.stop import Stop
from keel.stores import Store

QUEUED = 16  # chunks that wait for one store


@dataclass(frozen=True)
class Outcome:
    """What came of an upload to one store: the bytes, or why not."""

    url: str
    size: int = 0
    error: Stop | None = None


def upload_all(stores: Sequence[Store], key: str, chunks: Iterator[bytes], *, lock_until: datetime | None = None) -> list[Outcome]:
    """Upload one stream to every store and say of each what came of it, in their order.

    A store that fails (Stop) does not stop the others; the slowest sets the pace. What the producer raises is raised again, and nothing is
    published. Memory: QUEUED chunks and one upload for each store.
    """
    feeds = [Feed() for _ in stores]

    def work(store: Store, feed: Feed) -> Outcome:
        try:
            return Outcome(store.url, store.upload(key, feed.chunks(), lock_until=lock_until))
        except Stop as e:
            return Outcome(store.url, error=e)
        finally:
            feed.leave()

    with ThreadPoolExecutor(len(stores), "upload") as pool:
        at_work = [pool.submit(work, store, feed) for store, feed in zip(stores, feeds, strict=True)]
        error: BaseException | None = None
        try:
            try:
                for chunk in chunks:
                    if not sum(feed.put(chunk) for feed in feeds):  # any() would stop at the first
                        break
            except BaseException as e:  # also a signal: the uploads must abort before we end
                error = e
            for feed in feeds:
                feed.end(error)
            wait(at_work)  # not as the pool does: to Python 3.11 a thread whose join was interrupted has ended
        except BaseException as e:  # a signal while they finish or abort: one to all of a group may reach the producer before us
            for feed in feeds:
                feed.end(e)
            wait(at_work)
            raise
    if error:
        raise error
    return [job.result() for job in at_work]


class Feed:
    """A bounded queue of chunks between one producer and one upload, which either side can end."""

    def __init__(self, room: int = QUEUED) -> None:
        self._room = room
        self._chunks: collections.deque[bytes] = collections.deque()
        self._change = threading.Condition()
        self._ended = self._left = False
        self._error: BaseException | None = None

    def put(self, chunk: bytes) -> bool:
        """Wait for room; False when the upload has left."""
        with self._change:
            self._change.wait_for(lambda: self._left or len(self._chunks) < self._room)
            self._chunks.append(chunk)
            self._change.notify_all()
            return not self._left

    def end(self, error: BaseException | None = None) -> None:
        """No more will come: all was sent or, with an error, the producer failed, and what waits is not to be sent."""
        with self._change:
            self._ended, self._error = True, error
            self._change.notify_all()

    def leave(self) -> None:
        """The upload is over: the producer must not wait for it."""
        with self._change:
            self._left = True
            self._chunks.clear()
            self._change.notify_all()

    def chunks(self) -> Iterator[bytes]:
        """What was put; raises what the producer raised."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._ended or bool(self._chunks))
                if self._error:
                    raise self._error
                if not self._chunks:
                    return
                chunk = self._chunks.popleft()
                self._change.notify_all()
            yield chunk
