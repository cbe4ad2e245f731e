"""What a client may ask, by hand: refusals say why, and asking again changes nothing (PROTOCOL 9, 10)."""

from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.engine import outside, places
from stabilize_celery.engine.answers import MAX_EVENT_IDS, Answer, Hindrance
from stabilize_celery.engine.outside import MAX_KEPT_SIGNALS
from stabilize_celery.engine.restart import restart
from stabilize_celery.engine.state import SIGNALS, KeptSignal, Waiter
from stabilize_celery.engine.steps import SetFields
from tests.unit.engine.driving import W, World, as_stored, owed_names, plan_of

ASKED: dict[str, Callable[[str], Any]] = {
    "cancel": lambda event: outside.cancel(W, event, "why", "ops"),
    "pause": lambda event: outside.pause(W, event, "ops"),
    "resume": lambda event: outside.resume(W, event),
    "signal": lambda event: outside.signal(W, event, "a", "go", None),
    "cancel_stage": lambda event: outside.cancel_stage(W, event, "a"),
    "skip_stage": lambda event: outside.skip_stage(W, event, "a"),
    "cancel_region": lambda event: outside.cancel_region(W, event, "r"),
    "choose": lambda event: outside.choose(W, event, "a"),
    "complete_instances": lambda event: outside.complete_instances(W, event, "a"),
    "add_instances": lambda event: outside.add_instances(W, event, "a", 1),
    "restart": lambda event: restart(W, event, "a"),
}
EVERY = pytest.mark.parametrize("ask", [pytest.param(ask, id=name) for name, ask in ASKED.items()])


def world(status: str = "RUNNING") -> World:
    return World().workflow(status).meta(regions={"r": ["a"]}).stage(plan_of("a", "shell"))


def answer(given: World, ask: Callable[[str], Any], event: str = "e1") -> Answer:
    found = given.decide(ask(event)).call
    assert isinstance(found, Answer)
    return found


@EVERY
def test_a_workflow_that_is_not_there_is_refused(ask: Callable[[str], Any]) -> None:
    """Also one that retention has taken; nothing is written."""
    for given in (World(), World().workflow("GONE")):
        decision = given.decide(ask("e1"))

        assert decision.is_empty
        assert decision.call == Answer(False, "there is no such workflow", Hindrance.NO_WORKFLOW)


@EVERY
def test_what_was_asked_before_has_the_same_answer(ask: Callable[[str], Any]) -> None:
    """The first answer was lost: the same event id again changes nothing."""
    given = world("CANCELED").put(places.OUTSIDE_EVENTS, {"e1": b"done before"})
    decision = given.decide(ask("e1"))

    assert decision.is_empty
    assert decision.call == Answer(True, "done before")


@EVERY
def test_after_the_end_it_is_refused_in_words(ask: Callable[[str], Any]) -> None:
    """Nothing is written, and the answer says that it has ended (a restart: that nothing has run)."""
    decision = world("SUCCEEDED").decide(ask("e1"))

    assert decision.is_empty
    assert not decision.call.took_effect
    assert decision.call.told


@pytest.mark.parametrize("name", ["signal", "cancel_stage", "skip_stage", "choose", "add_instances"])
def test_an_unknown_stage_is_refused_by_name(name: str) -> None:
    """Somebody mistyped a ref_id."""
    told = answer(World().workflow().meta(), ASKED[name]).told

    assert "'a'" in told


@pytest.mark.parametrize(
    "name", ["cancel_stage", "skip_stage", "cancel_region", "choose", "complete_instances", "add_instances"]
)
def test_a_stage_without_a_thread_is_not_affected(name: str) -> None:
    """wcp 1.8: what has not been reached cannot be cancelled."""
    assert not answer(world(), ASKED[name]).took_effect


def test_a_region_that_nobody_is_in_is_refused() -> None:
    """By its name."""
    assert "'x'" in answer(world(), lambda event: outside.cancel_region(W, event, "x")).told


@pytest.mark.parametrize(
    ("status", "name", "takes_effect"),
    [
        ("RUNNING", "pause", True),
        ("PAUSED", "pause", False),
        ("BUFFERED", "pause", False),
        ("PAUSED", "resume", True),
        ("RUNNING", "resume", False),
        ("RUNNING", "cancel", True),
        ("PAUSED", "cancel", True),
        ("BUFFERED", "cancel", True),
        ("RUNNING", "restart", False),
    ],
)
def test_which_status_takes_what(status: str, name: str, takes_effect: bool) -> None:
    """A refusal names the status."""
    found = answer(world(status), ASKED[name])

    assert found.took_effect is takes_effect
    assert takes_effect or status in found.told


def test_kept_signals_are_bounded() -> None:
    """A sender that nobody listens to fills no memory."""
    kept = [KeptSignal("go")] * MAX_KEPT_SIGNALS
    full = world().put(places.signals("a"), as_stored(SIGNALS.encode(kept=kept)))

    assert "keeps 1000 unused signals already" in answer(full, ASKED["signal"]).told


@pytest.mark.parametrize(
    ("waiting", "instance", "woken"),
    [
        ([(1, 2), (1, 0), (1, 1)], None, "t1.0"),
        ([(2, 0), (1, 7)], None, "t1.7"),
        ([(2, None), (1, None)], None, "t1"),
        ([(1, 0), (1, 2), (2, 2)], 2, "t1.2"),
        ([(1, 0)], 1, ""),
    ],
)
def test_a_signal_wakes_the_lowest_instance_of_the_first_run(
    waiting: list[tuple[int, int | None]], instance: int | None, woken: str
) -> None:
    """Whoever came to wait first; or the one that it is for, and nobody else (wcp 1.12)."""
    waiters = [
        Waiter("go", f"t{run}" if at is None else f"t{run}.{at}", at, 0, "shell", since, run)
        for since, (run, at) in enumerate(waiting)
    ]
    given = world().put(places.signals("a"), as_stored(SIGNALS.encode(waiters=waiters)))

    decision = given.decide(outside.signal(W, "e1", "a", "go", None, instance=instance))

    assert owed_names(decision) == ([f"Run:{woken}..0"] if woken else [])


def test_ids_of_events_are_bounded_but_their_effects_are_not() -> None:
    """Beyond the bound an event takes effect, and may do so twice if its answer is lost."""
    full = world().put(places.OUTSIDE_EVENTS, {f"old{at}": b"x" for at in range(MAX_EVENT_IDS)})
    decision = full.decide(ASKED["pause"]("e1"))

    assert decision.call.took_effect
    written = [change.key for change in decision.changes if isinstance(change, SetFields)]
    assert places.OUTSIDE_EVENTS not in written


def test_a_restart_waits_until_nothing_lives_any_more() -> None:
    """What is still being cancelled would mix with what begins anew."""
    given = world("CANCELED").put(places.LIVE, {"t"})

    assert "still being cancelled" in answer(given, ASKED["restart"]).told


def test_a_before_stage_is_restarted_with_its_stage() -> None:
    """It has no life of its own."""
    given = World().workflow("CANCELED").meta().stage(plan_of("a", owner="STAGE_BEFORE", parent="b"))

    assert "restart the stage that it belongs to" in answer(given, ASKED["restart"]).told


def test_a_stage_that_never_ran_has_nothing_to_restart_from() -> None:
    """Its thread would come from nowhere."""
    assert "has not run yet" in answer(world("CANCELED"), ASKED["restart"]).told
