"""Looks from outside of the fleet: straight at what the simulated Redis holds, decoded anew only where it was touched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stabilize_celery.engine.steps import Query, Slot, Snapshot
from stabilize_celery.store.addresses import Address
from stabilize_celery.store.memory_database import MemoryDatabase
from stabilize_celery.store.queries import Question, question
from stabilize_celery.store.session import refusal
from stabilize_celery.store.wire import Refused

__all__ = ["Glass"]

_NOT_YET = -1


@dataclass(slots=True)
class _Seen:
    """One query of one slot, and its answer as of so many touches of its key."""

    asked: Question
    key: bytes
    touches: int = _NOT_YET
    answer: Any = None


class Glass:
    """What laws look through: they look at everything after each commit, which has changed little.

    An answer is the same object until its key is touched. Nobody may change it.
    """

    def __init__(self, database: MemoryDatabase, address_of: Callable[[Slot], Address]) -> None:
        self._database = database
        self._address_of = address_of
        self._seen: dict[Slot, dict[Query, _Seen]] = {}

    def look(self, slot: Slot, queries: Sequence[Query]) -> Snapshot:
        """Answer as a store's `look` does, without a connection."""
        seen = self._seen.setdefault(slot, {})
        database, answers = self._database, {}
        touched, expiring = database._touches, database._expires_us
        for query in queries:
            one = seen.get(query) or self._first_seen(slot, seen, query)
            key = one.key
            touches = database.touches(key) if key in expiring else touched.get(key, 0)
            if one.touches != touches:
                one.touches, one.answer = touches, self._asked(one.asked)
            answers[query] = one.answer
        return Snapshot(answers, database._clock_us())

    def _first_seen(self, slot: Slot, seen: dict[Query, _Seen], query: Query) -> _Seen:
        command, _ = asked = question(self._address_of(slot), query)
        one = seen[query] = _Seen(asked, b"" if command is None else str(command[1]).encode())
        return one

    def _asked(self, asked: Question) -> Any:
        command, read = asked
        reply = None if command is None else self._database.run(command)
        if isinstance(reply, Refused):
            raise refusal(reply)
        return read(reply)
