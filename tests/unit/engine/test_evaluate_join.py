"""A look at a join: settled with its message, or owed anew (PROTOCOL 7.3)."""

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules
from stabilize_celery.engine.handlers import evaluate_join
from stabilize_celery.engine.steps import Decision, workflow_slot
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
