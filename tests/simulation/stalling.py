"""A handler that stalls before a commit, or between two looks, while the world goes on."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stabilize_celery.engine.steps import Query, Slot, Snapshot
from stabilize_celery.store.contract import Session, Transaction
from stabilize_celery.testing import Simulation

__all__ = ["Stalled"]


class Stalled:
    """Makes the first handler stall that is about to commit to such a slot: `meanwhile` happens before its commit.

    Args:
        before: Stall before a look at this instead.

    """

    def __init__(
        self,
        simulation: Simulation,
        is_meant: Callable[[Slot], bool],
        meanwhile: Callable[[], object],
        *,
        before: Query | None = None,
    ) -> None:
        self.before = before
        self.is_meant = is_meant
        self.meanwhile: Callable[[], object] | None = meanwhile
        self.open = simulation.store.session
        simulation.store.session = self.session  # type: ignore[method-assign]

    @property
    def has_happened(self) -> bool:
        """Whether a handler stalled."""
        return self.meanwhile is None

    @contextmanager
    def session(self, slot: Slot) -> Iterator[Any]:
        """As the store does."""
        with self.open(slot) as session:
            yield _StalledSession(self, slot, session)

    def about_to_commit(self, slot: Slot) -> None:
        """Stall, if this is the one."""
        if self.before is None:
            self._stall(slot)

    def about_to_look(self, slot: Slot, queries: Sequence[Query]) -> None:
        """Stall, if this is the one."""
        if self.before in queries:
            self._stall(slot)

    def _stall(self, slot: Slot) -> None:
        if self.meanwhile is not None and self.is_meant(slot):
            act, self.meanwhile = self.meanwhile, None
            act()


@dataclass(frozen=True)
class _StalledSession:
    stalled: Stalled
    slot: Slot
    inner: Session

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> Snapshot:
        self.stalled.about_to_look(self.slot, queries)
        return self.inner.read(queries, watch)

    def commit(self, transaction: Transaction) -> Any:
        self.stalled.about_to_commit(self.slot)
        return self.inner.commit(transaction)

    def commit_and_read(self, transaction: Transaction, *more: Any, **named: Any) -> Any:
        self.stalled.about_to_commit(self.slot)
        return self.inner.commit_and_read(transaction, *more, **named)
