"""Acting on what lies on several nodes of a Redis Cluster: one that is away holds up nothing but its own."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from stabilize_celery.errors import UnreachableError

__all__ = ["for_each"]

T = TypeVar("T")
R = TypeVar("R")


def for_each(act: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Act on each item, whichever of them can't be reached; return what that gave.

    Raises:
        UnreachableError: some were not reached, all others were acted on; it is the first one's.

    """
    results, failures = [], []
    for item in items:
        try:
            results.append(act(item))
        except UnreachableError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return results
