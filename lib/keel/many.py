"""Many signed documents of a store, read at once."""
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from keel.stop import DATA, Stop
from keel.stores import AT_ONCE, SMALL, Missing, Object, Store

T = TypeVar("T")
ALONE = 1 << 20  # bytes; what is larger is read by itself


def read(store: Store, items: Collection[Object], parse: Callable[[bytes, str], T],
         limit: int = SMALL) -> tuple[list[T], dict[str, Stop]]:
    """What these objects say, and by its key what is wrong with each that does not parse or has more than `limit` bytes; what was deleted
    since it was listed is passed over. Many GETs at once; a big one is alone, for its content takes seven times its size. Raises as the
    store does."""
    def one(item: Object) -> T | Stop | None:
        try:
            return parse(store.get(item.key, limit), item.key)
        except Missing:
            return None
        except Stop as e:
            if e.code != DATA:  # the store itself: then no list would be complete
                raise
            return e

    with ThreadPoolExecutor(AT_ONCE) as pool:
        small = pool.map(one, [item for item in items if item.size <= ALONE])
        results = dict(zip((item.key for item in items if item.size <= ALONE), small, strict=True))
    results |= {item.key: one(item) for item in items if item.size > ALONE}
    faults = {name: r for name, r in results.items() if isinstance(r, Stop)}
    return [r for r in results.values() if r is not None and not isinstance(r, Stop)], faults
