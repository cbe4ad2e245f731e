"""Outside events that hit a stage while it is held, offered, or has not begun (wcp 1.7, 1.8, 4.4)."""

from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.stage.stage import StageExecution
from tests.simulation.laws import Laws
from tests.simulation.stories import ROUGH, Story, stage
from tests.simulation.tuning import seeds


def gate(ref_id: str, *after: str, **more: Any) -> StageExecution:
    return stage(ref_id, *after, does="approval", context={"signal": "go"}, **more)


def ended(story: Story, laws: Laws) -> dict[str, str]:
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)
    laws.require_the_end(story.id)
    return {"": story.status} | story.statuses


@pytest.mark.parametrize("seed", seeds(8))
@pytest.mark.parametrize(("ask", "expected"), [(outside.cancel_stage, "CANCELED"), (outside.skip_stage, "SKIPPED")])
def test_a_run_that_was_ended_while_it_waited_for_a_milestone_does_not_come_back(
    seed: int, ask: Any, expected: str
) -> None:
    """The milestone is reached afterwards: nobody waits for it any more."""
    story = Story(seed, ROUGH)
    laws = Laws(story.simulation)
    held = stage("held", milestone_ref_id="gate", milestone_status="SUCCEEDED")
    story.start(gate("gate"), held, stage("z", "held")).run()
    assert story.statuses["held"] == "BUFFERED"
    assert story.ask(ask, "held").took_effect

    story.ask(outside.signal, "gate", "go", None)
    story.run()

    after = "SKIPPED" if expected == "CANCELED" else "SUCCEEDED"
    assert ended(story, laws) == {"": "SUCCEEDED", "gate": "SUCCEEDED", "held": expected, "z": after}
    assert story.bodies["held"] == 0


@pytest.mark.parametrize("seed", seeds(8))
def test_a_kept_signal_is_used_once(seed: int) -> None:
    """Sent before anybody waits: the first who waits has it, the second waits for another (WCP-24)."""
    story = Story(seed, ROUGH)
    laws = Laws(story.simulation)
    story.start(stage("a"), stage("gate", "a", does=["approval", "approval"], context={"signal": "go"}))
    assert story.ask(outside.signal, "gate", "go", None).took_effect
    story.run()
    assert story.statuses["gate"] == "SUSPENDED"

    assert story.ask(outside.signal, "gate", "go", None).took_effect
    story.run()

    assert ended(story, laws) == {"": "SUCCEEDED", "a": "SUCCEEDED", "gate": "SUCCEEDED"}


@pytest.mark.parametrize("seed", seeds(8))
def test_skipping_an_offered_stage_is_a_choice(seed: int) -> None:
    """There is one thread for all members: it goes on behind the skipped one, the others are withdrawn."""
    story = Story(seed, ROUGH)
    laws = Laws(story.simulation)
    offered = [stage(ref_id, "a", deferred_choice_group="g") for ref_id in ("b", "c")]
    story.start(stage("a"), *offered, stage("b2", "b"), stage("c2", "c")).run()

    assert story.ask(outside.skip_stage, "b").took_effect
    assert not story.ask(outside.choose, "c").took_effect
    story.run()

    done = {"a": "SUCCEEDED", "b": "SKIPPED", "c": "SKIPPED", "b2": "SUCCEEDED", "c2": "SKIPPED"}
    assert ended(story, laws) == {"": "SUCCEEDED", **done}
    assert (story.bodies["b"], story.bodies["b2"]) == (0, 1)


@pytest.mark.parametrize("ask", [outside.skip_stage, outside.cancel_stage, outside.choose])
def test_nobody_is_to_choose_any_more_once_the_offer_is_over(ask: Any) -> None:
    """The hour after which a member is chosen by itself is not waited for, and not owed when the workflow has ended."""
    story = Story(1)
    laws = Laws(story.simulation)
    story.start(stage("b", deferred_choice_group="g", choose_after_ms=3_600_000), stage("c", deferred_choice_group="g"))
    if ask is outside.cancel_stage:
        story.ask(ask, "c")

    assert story.ask(ask, "b").took_effect

    assert not [name for name in laws.owed(story.id) if name.startswith("Choose:")]


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize("held_by", ["offer", "milestone", "mutex"])
def test_instances_are_completed_early_only_once_they_are_at_work(seed: int, held_by: str) -> None:
    """WCP-27 is about the open instances of a run; a held run has none, and says so."""
    held: dict[str, dict[str, Any]] = {
        "offer": {"deferred_choice_group": "g"},
        "milestone": {"milestone_ref_id": "gate", "milestone_status": "SUCCEEDED"},
        "mutex": {"mutex_key": "k"},
    }
    many = stage("many", "a", mi_config=MultiInstanceConfig(count=2), **held[held_by])
    other = stage("other", "a", deferred_choice_group="g") if held_by == "offer" else stage("other", "a")
    story = Story(seed, ROUGH)
    laws = Laws(story.simulation)
    story.start(gate("gate", mutex_key="k"), stage("a"), many, other).run()

    answer = story.ask(outside.complete_instances, "many")
    assert not answer.took_effect
    assert "no instance" in answer.told
    if held_by == "offer":
        story.ask(outside.choose, "many")
    story.ask(outside.signal, "gate", "go", None)
    story.run()

    assert ended(story, laws)["many"] == "SUCCEEDED"


@pytest.mark.parametrize("seed", seeds(6))
@pytest.mark.parametrize("ask", [outside.complete_instances, outside.skip_stage, outside.cancel_stage])
def test_a_thread_that_has_gone_on_before_its_instances_goes_on_once(seed: int, ask: Any) -> None:
    """The instances run loose behind their thread; however they end, what follows runs once."""
    story = Story(seed, ROUGH)
    laws = Laws(story.simulation)
    loose = gate("loose", mi_config=MultiInstanceConfig(count=2, sync_on_complete=False))
    story.start(loose, stage("z", "loose"), gate("open")).run()
    assert story.statuses["z"] == "SUCCEEDED"

    assert story.ask(ask, "loose").took_effect
    story.ask(outside.signal, "open", "go", None)
    story.run()

    assert ended(story, laws)["z"] == "SUCCEEDED"
    assert story.events("stage.started").count("z") == 1
