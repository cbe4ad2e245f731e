"""A look at a join: settled with its message, or owed anew (PROTOCOL 7.3)."""

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack, unpack
from stabilize_celery.engine.handler import Rules
from stabilize_celery.engine.handlers import evaluate_join
from stabilize_celery.engine.plan import Edge
from stabilize_celery.engine.steps import Decision, Hash, Increment, SetFields, workflow_slot
from stabilize_celery.models.messages import EvaluateJoin
from tests.unit.engine.driving import W, World, owed_names, plan_of

LOOK = EvaluateJoin(workflow_id=W, ref_id="j")
ENTRY = (workflow_slot(W), places.ledger(LOOK.name))


def _world(*closed: str) -> World:
    """A stage behind one other, over whose edge nothing comes any more if that is `closed`."""
    world = World().workflow().owed(LOOK)
    world.stage(plan_of("j", component="j", requisites=["a"]))
    return world.put(places.closed("j"), dict.fromkeys(closed, b"1"))


def _decided(world: World, attempt: int) -> Decision:
    return world.decide(evaluate_join.handle(LOOK, Rules(), attempt))


def test_a_look_that_finds_nothing_to_do_is_settled_in_its_first_try() -> None:
    """Its message is WATCHed, and forgotten: whoever owes it anew in between makes it look again."""
    world = _world()
    decision = _decided(world, 0)

    assert not decision.keeps_entry
    assert owed_names(decision) == ["Settle"]
    assert ENTRY in world.watched


def test_a_look_that_has_lost_a_try_and_finds_nothing_to_do_is_settled_all_the_same() -> None:
    """Nobody else may be on the way to it: left owed, it would wait for a keeper to send it again."""
    world = _world()
    decision = _decided(world, 1)

    assert not decision.keeps_entry
    assert owed_names(decision) == ["Settle"]
    assert ENTRY in world.watched


def test_a_look_that_has_lost_a_try_acts_though_arrivals_go_on() -> None:
    """Those owe it anew all the time, so it does not WATCH its message; it can't forget it then, and owes it anew."""
    world = _world("0")
    decision = _decided(world, 1)

    assert decision.keeps_entry
    assert ENTRY not in world.watched
    assert any(getattr(change, "key", "") == places.shut("j") for change in decision.changes)
    assert owed_names(decision) == [LOOK.name, "Settle"]


def _loop(*told: str, runs_upstream: int = 0, **join: object) -> World:
    """A discriminator over `e` and `s`, whose run may jump to `s`; that is behind `y` and `x`, and `e` has arrived.

    `told`: edges into `s` of which it is known that they are closed.
    """
    world = World().workflow().owed(LOOK)
    jump = Edge("s", -1, is_direct=True, need=1, component="j", is_alone=False)
    back = Edge("j", 1, is_direct=False, need=1, component="j", is_alone=False, width=2)
    world.stage(
        plan_of(
            "j", component="j", members=["j", "s"], leads_in=[("x", ["x"]), ("y", ["y"])], requisites=["e", "s"],
            jumps=[jump], is_direct=False, **{"join": "DISCRIMINATOR", **join},
        )
    )  # fmt: skip
    world.stage(plan_of("s", component="j", members=["j", "s"], requisites=["y"], jumped_from=["j"], edges=[back]))
    world.stage(plan_of("x", component="x", edges=[Edge("y", 0, is_direct=True, need=1, component="y")]))
    world.stage(
        plan_of("y", component="y", requisites=["x"], edges=[Edge("s", 0, is_direct=True, need=1, component="j")])
    )
    world.put(places.closed("j"), {"0": b"1"}).put(places.closed("s"), dict.fromkeys(told, b"1"))
    world.put(places.component("x"), {"r:x": b"%d" % runs_upstream})
    return world.put(places.arrivals("j"), ["0:e1"]).run("e1", ref="e")


def _counted(decision: Decision) -> dict[str, str]:
    """The edges that have a part in the cycle, or are left out of it, after a look."""
    written = next(c for c in decision.changes if isinstance(c, SetFields) and c.key == places.join("j"))
    found: dict[str, str] = unpack(written.fields["counted"])  # type: ignore[arg-type]
    return found


def test_a_cycle_that_fires_leaves_out_an_edge_that_has_died_upstream_untold() -> None:
    """No thread is in front of `s`: what its own run brings over that edge opens the next cycle (wcp 1.5, 1.6)."""
    assert _counted(_decided(_loop(), 0)) == {}, "all edges counted or dead: it is ready again"


def _fewer(decision: Decision) -> int:
    """How many arrivals fewer wait, as those count that owe the next looks."""
    hint = places.waiting("j")
    return -sum(c.by for c in decision.changes if isinstance(c, Increment) and (c.key, c.field) == (hint, "n"))


def test_an_edge_that_was_left_out_of_a_cycle_has_brought_nothing_that_could_be_taken_off_the_count() -> None:
    """Else the count falls below what waits, and the next arrivals are taken for too few to look at."""
    world = World().workflow().owed(LOOK)
    join = {"join": "N_OF_M", "need": 2, "is_direct": False}
    world.stage(plan_of("j", component="j", requisites=["a", "b", "c"], **join))
    counted = {"0": "a1", "1": "b1", "2": ""}
    world.put(places.join("j"), {"cycle": b"1", "fired": b"1", "counted": pack(counted), "u0": b"1", "u1": b"1"})

    assert _fewer(_decided(world, 0)) == 2


def test_a_cycle_that_fires_waits_for_an_edge_that_a_thread_upstream_may_still_fill() -> None:
    """Two stages away: it absorbs what that brings."""
    assert _counted(_decided(_loop(runs_upstream=1), 0)) == {"0": "e1"}


@pytest.mark.parametrize(
    ("world", "looks"),
    [(_loop(), True), (_loop("0"), False), (_loop().put(places.arrivals("j"), []), False),
     (_loop(join="OR"), False), (_loop(join_mode="CANCELLING"), False)],
    ids=["word is on its way", "all ways in are closed", "nothing waits", "OR", "CANCELLING"],
)  # fmt: skip
def test_only_a_partial_join_that_may_fire_looks_upstream(world: World, looks: bool) -> None:
    """And only while a way into its loop is not known to be closed."""
    asked = []
    decide = world.answer
    world.answer = lambda read: (asked.extend(read.queries), decide(read))[1]  # type: ignore[method-assign]
    _decided(world, 0)

    assert (Hash(places.component("x")) in asked) == looks
    assert (workflow_slot(W), places.component("x")) not in world.watched, "no storm upstream can starve it"
