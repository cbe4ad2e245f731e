"""A decision depends on what was read, and on nothing else (PROTOCOL 2): made twice, it owes the same things."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stabilize_celery.engine.steps import Commit, Decision, Handling, Plan, Read, SetFields, Slot
from stabilize_celery.runtime.sessions import Sessions
from stabilize_celery.runtime.unit import UnitOfWork, WorkDone
from tests.simulation.random_graphs import WILD, definitions
from tests.simulation.stories import CALM
from tests.simulation.test_random_graphs import Play, looking


class _HasWritten(Exception):
    """The handler commits on its way: it cannot be rehearsed."""


class Rehearsed(UnitOfWork):
    """Decides everything once more before it does it, and compares."""

    def __init__(self, like: UnitOfWork) -> None:
        super().__init__(like._store, like._publisher, like.settings, like.plan, like._pause_ms)
        self.rehearsal: Decision | None = None
        self.compared = 0
        self.different: list[tuple[Any, Any]] = []

    def run(
        self, slot: Slot, handler: Callable[[int], Handling], own: str | None = None, *, is_last: bool = False
    ) -> WorkDone:
        with ExitStack() as stack:
            try:
                first: Decision | None = self._rehearse(handler(0), slot, Sessions(self._store, stack))
            except _HasWritten:
                first = None
        done = super().run(slot, handler, own, is_last=is_last)
        if first is not None:
            self.compared += 1
            seen, again = _essence(first), _essence(done.decision)
            if seen != again:
                self.different.append((seen, again))
        return done

    def _rehearse(self, handling: Handling, slot: Slot, sessions: Sessions) -> Decision:
        answer: Any = None
        while True:
            try:
                step: Read | Commit | Plan = handling.send(answer)
            except StopIteration as stop:
                decision: Decision = stop.value
                return decision
            if isinstance(step, Commit):
                raise _HasWritten
            answer = self.answer(step, slot, sessions)


def _essence(decision: Decision) -> dict[str, Any]:
    """What a decision is about: everything but times."""
    return {
        "owes": [(owed.message, owed.not_before_ms > 0) for owed in decision.owes],
        "forgets": decision.forgets,
        "nudges": decision.nudges,
        "keeps": decision.keeps_entry,
        "changes": [
            (change.key, sorted(change.fields)) if isinstance(change, SetFields) else type(change)
            for change in decision.changes
        ],
        "events": [(event.kind, event.ref_id) for event in decision.events],
    }


@looking(25)
@given(definitions(WILD), st.integers(0, 2**32))
def test_deciding_twice_owes_the_same_things(definition: dict[str, Any], seed: int) -> None:
    """No handler asks a clock, a dice, or an order of things that is not given."""
    play = Play(definition, seed, CALM)
    play.simulation.runtime.unit = rehearsed = Rehearsed(play.simulation.runtime.unit)
    play.run()

    assert rehearsed.different == []
    assert rehearsed.compared > 0
