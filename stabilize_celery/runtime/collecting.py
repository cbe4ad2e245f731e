"""Python's collector of cycles, off while much is made that has none."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_collector"]


class _Rest:
    """How many threads let the collector rest, and whether it is to go on behind the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._goes_on = False

    def begin(self) -> None:
        with self._lock:
            if not self._count:
                self._goes_on = gc.isenabled()
                gc.disable()
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count and self._goes_on:
                gc.enable()


_rest = _Rest()


@contextmanager
def without_collector() -> Iterator[None]:
    """Let the collector rest inside, whichever threads are inside at once.

    It would look through all that is made again and again, and find no cycle: of ten thousand stages, for more than
    half of the time that reading them takes. What other threads leave meanwhile is collected afterwards. A collector
    that is off stays off.
    """
    _rest.begin()
    try:
        yield
    finally:
        _rest.end()
