"""How a thread arrives at a join: who is asked to look at it, and who need not (PROTOCOL 7.2)."""

from collections.abc import Sequence

from stabilize_celery.engine import places
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.past import Past
from stabilize_celery.engine.plan import Edge
from stabilize_celery.engine.routes import ENOUGH_LOOKS, arrive
from stabilize_celery.engine.state import Run, WorkflowRecord
from stabilize_celery.engine.steps import Decision, Increment, Owed
from tests.unit.engine.driving import NOW_MS, W, plan_of


def arrived(*, need: int, width: int, is_alone: bool = True) -> tuple[Decision, Owed]:
    """What a thread decides that arrives at a join over one of `width` edges, of which `need` fire it."""
    decision = Decision()
    edge = Edge("j", 0, is_direct=False, need=need, width=width, bears=width - need, is_alone=is_alone)
    frame = Frame(W, NOW_MS * 1000, WorkflowRecord(), plan_of("a"), "t", Run(ref="a"))
    arrive(decision, frame, [edge], Past())
    (look,) = decision.owes
    return decision, look


def looks(*, need: int, width: int, has_fired: bool = False, is_alone: bool = True) -> list[int]:
    """The arrivals of one cycle, counted from 1, that ask for a look at once."""
    decision, look = arrived(need=need, width=width, is_alone=is_alone)
    assert callable(look.publish)
    found = []
    for number in range(1, width + 1):
        counts = {"n": number, "x": 0, "f": int(has_fired)}
        results: Sequence[int | None] = [
            counts[change.field] if isinstance(change, Increment) and change.key == places.waiting("j") else None
            for change in decision.changes
        ]
        if look.publish(results):
            found.append(number)
    return found


def test_of_a_burst_of_arrivals_only_a_few_ask_for_a_look() -> None:
    """The first that may fire it, some more in case that look comes too early, and the last, which ends the cycle."""
    assert looks(need=1, width=1_000) == [*range(1, ENOUGH_LOOKS + 1), 1_000]
    assert looks(need=300, width=1_000) == [*range(300, 300 + ENOUGH_LOOKS), 1_000]
    assert ENOUGH_LOOKS < 10


def test_a_join_that_needs_all_is_looked_at_by_the_last() -> None:
    """All others come too early for it."""
    assert looks(need=1_000, width=1_000) == [1_000]


def test_what_comes_behind_a_firing_asks_only_for_the_end_of_the_cycle() -> None:
    """It is absorbed: nobody waits for that."""
    assert looks(need=1, width=20, has_fired=True) == [20]


def test_in_a_loop_every_arrival_asks_for_a_look() -> None:
    """What matters there are threads elsewhere, too."""
    assert looks(need=1, width=5, has_fired=True, is_alone=False) == [1, 2, 3, 4, 5]
