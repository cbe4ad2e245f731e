"""Objects that a program has made, found again in its process: it hands them to nobody."""

from collections.abc import Iterator
from itertools import count
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

__all__ = ["Made"]

T = TypeVar("T")


class Made(Generic[T]):
    """What was made of one kind, in order, each for as long as the program keeps it."""

    def __init__(self) -> None:
        self._objects: WeakValueDictionary[int, T] = WeakValueDictionary()
        self._numbers = count()

    def add(self, one: T) -> None:
        """Remember one that is being made."""
        self._objects[next(self._numbers)] = one

    def forget(self, one: T) -> None:
        """Find one no more: the program has closed it."""
        for number in [number for number, found in self._objects.items() if found is one]:
            del self._objects[number]

    def __iter__(self) -> Iterator[T]:
        """Yield all, the oldest first."""
        yield from list(self._objects.values())

    def __reversed__(self) -> Iterator[T]:
        """Yield all, the newest first."""
        yield from reversed(list(self._objects.values()))
