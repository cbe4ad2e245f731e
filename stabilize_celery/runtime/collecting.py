"""Python's collector of cycles, off while much is made that has none."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_collector"]


@contextmanager
def without_collector() -> Iterator[None]:
    """Let the collector rest inside: it would look through all that is made again and again, and find no cycle.

    What a program's other threads leave meanwhile is collected afterwards. A collector that is off stays off.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()
