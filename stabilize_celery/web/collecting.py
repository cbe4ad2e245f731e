"""Holding back the cyclic garbage collector while a large tree of values is built."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_collection"]

_lock = threading.Lock()
_holders = 0
_was_enabled = False


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no cycles inside; any number of threads may be inside at once.

    While ten thousand stages are read nothing becomes garbage, and the collector looks through all that is there again
    and again: that is more than half of the time that reading them takes.
    """
    global _holders, _was_enabled  # noqa: PLW0603 - the collector is the process's, and so is who holds it back
    with _lock:
        if _holders == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0 and _was_enabled:
                gc.enable()
