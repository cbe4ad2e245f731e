"""Inner workflows: called once or twice, cancelled, refused, deep (wcp 1.13; PROTOCOL 6, 10)."""

from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.store.contract import Filter
from stabilize_celery.tasks.call import current_call
from stabilize_celery.tasks.task import SubWorkflowCall, Task
from tests.simulation.laws import Laws
from tests.simulation.stalling import Stalled
from tests.simulation.stories import CALM, ROUGH, Story, stage
from tests.simulation.tuning import seeds


def inner(name: str, *stages: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "stages": list(stages)}


def json_stage(ref_id: str, does: str = "work", **context: Any) -> dict[str, Any]:
    return {"ref_id": ref_id, "type": "t", "context": context, "tasks": [{"name": does, "implementing_class": does}]}


class Persistent(Task):
    """Calls again while its inner workflow fails."""

    def execute(self, stage: StageExecution) -> TaskResult:
        call = current_call()
        calls: int = stage.context.get("calls", 0)
        if call.sub_workflow is not None and call.sub_workflow.status == "SUCCEEDED":
            return TaskResult.success(outputs={"calls": calls})
        return TaskResult.suspend(context={"calls": calls + 1})

    def calls_workflow(self, stage: StageExecution) -> SubWorkflowCall:
        does = "fail" if stage.context.get("calls", 0) < 2 else "work"
        return SubWorkflowCall(definition=inner("again", json_stage("i", does)))


@pytest.mark.parametrize("seed", seeds(12))
def test_a_task_may_call_again_after_its_inner_workflow_failed(seed: int) -> None:
    """Each call is a workflow of its own, also for the same task of the same run."""
    story = Story(seed, ROUGH, persistent=Persistent)
    laws = Laws(story.simulation)
    story.start(stage("a", does="persistent"), stage("b", "a")).run()
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    children = {item.status for item in _listed(story) if item.id != story.id}
    assert story.status == "SUCCEEDED"
    assert len(_listed(story)) == 4
    assert children == {"TERMINAL", "SUCCEEDED"}
    for item in _listed(story):
        laws.require_the_end(item.id)


@pytest.mark.parametrize("seed", seeds(12))
def test_two_tasks_of_a_stage_call_one_after_the_other(seed: int) -> None:
    """The second waits for its own inner workflow, not for the first's."""
    context = {"workflow": inner("in", json_stage("i"))}
    story = Story(seed, ROUGH).start(stage("a", does=["sub_workflow", "sub_workflow"], context=context)).run()

    assert story.status == "SUCCEEDED"
    assert len(_listed(story)) == 3


@pytest.mark.parametrize("seed", seeds(8))
def test_two_approvals_in_one_stage_want_two_signals(seed: int) -> None:
    """A signal counts for the execution that it woke, not for the next task."""
    story = Story(seed, ROUGH).start(stage("a", does=["approval", "approval"], context={"signal": "ok"})).run()
    story.ask(outside.signal, "a", "ok", 1)
    story.run()
    assert story.statuses["a"] == "SUSPENDED"

    story.ask(outside.signal, "a", "ok", 2)
    story.run()

    assert (story.status, story.outputs("a")["payload"]) == ("SUCCEEDED", 2)


@pytest.mark.parametrize("seed", seeds(20))
def test_nothing_of_a_call_lives_on_after_a_cancel_at_any_moment(seed: int) -> None:
    """The cancel may overtake the start, the end, and the answer."""
    story = Story(seed, ROUGH)
    laws = Laws(story.simulation)
    story.start(stage("a", does="sub_workflow", context={"workflow": inner("in", json_stage("i"), json_stage("j"))}))
    moment_us = story.simulation.now_us + seed * 11_000
    story.simulation.plan(moment_us, lambda: _cancel(story))
    story.run()
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    assert story.status in ("CANCELED", "SUCCEEDED")
    for item in _listed(story):
        laws.require_the_end(item.id)


@pytest.mark.parametrize("seed", seeds(6))
@pytest.mark.parametrize("ask", [outside.skip_stage, outside.cancel_stage])
def test_ending_the_calling_stage_from_outside_cancels_the_inner_workflow(seed: int, ask: Any) -> None:
    """Skipped or cancelled, the caller no longer waits, and nobody else would look at the child."""
    never = inner("in", json_stage("i", "approval", signal="never"))
    story = Story(seed, ROUGH).start(stage("a", does="sub_workflow", context={"workflow": never})).run()

    assert story.ask(ask, "a").took_effect
    story.run()
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    assert story.status == "SUCCEEDED"
    assert sorted(item.status for item in _listed(story)) == ["CANCELED", "SUCCEEDED"]


@pytest.mark.parametrize("ask", [outside.skip_stage, outside.cancel_stage, None])
def test_an_inner_workflow_that_is_given_up_before_it_is_there_never_lives(ask: Any) -> None:
    """Who creates it stalls; its caller ends and gives it up; then it would be created, for nobody to end it."""
    context = {"workflow": inner("in", json_stage("i", "approval", signal="never comes"))}
    story = Story(0, CALM).start(stage("a", does="sub_workflow", context=context), stage("b"))

    def meanwhile() -> None:
        if ask is None:
            story.ask(outside.cancel, "enough", "x")
        else:
            story.ask(ask, "a")
        story.simulation.meanwhile(60_000)

    stalled = Stalled(story.simulation, lambda slot: slot.kind == "workflow" and slot.name != story.id, meanwhile)
    story.run()
    story.simulation.drain(until_ms=story.simulation.now_ms + 60_000)

    assert stalled.has_happened
    assert [item.status for item in _listed(story) if item.id != story.id] == []


@pytest.mark.parametrize(
    ("workflow", "reason"),
    [
        ("nobody", "no inner workflow is named 'nobody'"),
        ({"name": "x", "stages": [{"ref_id": "a"}, {"ref_id": "a"}]}, "duplicate"),
        ({"name": "x", "stages": 7}, "stages"),
        ({"name": "x", "stages": [], "context": 7}, "context"),
        ({"name": "x", "stages": [], "sub_workflows": 7}, "sub_workflows"),
    ],
)
def test_a_call_that_cannot_be_made_fails_the_stage_with_its_reason(workflow: Any, reason: str) -> None:
    """A decision, not a dead letter: the workflow ends."""
    story = Story(0, CALM).start(stage("a", does="sub_workflow", context={"workflow": workflow})).run()

    assert story.status == "TERMINAL"
    assert reason in _reason(story)


def test_a_stage_that_is_a_call_ends_as_its_inner_workflow_does() -> None:
    """SUCCEEDED hands outputs over; TERMINAL fails the stage."""
    good = inner("good", json_stage("i", outputs={"answer": 42}))
    bad = inner("bad", json_stage("i", "fail"))
    for name, status in (("good", "SUCCEEDED"), ("bad", "TERMINAL")):
        call = stage("a", does=[], sub_workflow=name, sub_context={"n": "1 + 1"})
        story = Story(1, ROUGH).start(call, sub_workflows={"good": good, "bad": bad}).run()
        assert story.status == status
        assert story.outputs("a") == ({"answer": 42} if name == "good" else {})


@pytest.mark.parametrize("seed", seeds(12))
def test_a_call_of_a_workflow_that_is_paused_waits_for_its_resume(seed: int) -> None:
    """Nothing new starts, an inner workflow neither."""
    story = Story(seed, ROUGH)

    class Pausing(Task):
        def execute(self, stage: StageExecution) -> TaskResult:
            if current_call().sub_workflow is not None:
                return TaskResult.success()
            if "paused" not in story.bodies:
                story.bodies["paused"] += 1
                story.ask(outside.pause, "ops")
            return TaskResult.suspend()

        def calls_workflow(self, stage: StageExecution) -> SubWorkflowCall:
            return SubWorkflowCall(definition=inner("in", json_stage("i")))

    story.simulation.registry.register("pausing", Pausing)
    story.start(stage("a", does="pausing")).run()
    story.simulation.pass_time(60_000)
    assert (story.status, [item.id for item in _listed(story)]) == ("PAUSED", [story.id])

    story.ask(outside.resume)
    story.run()

    assert (story.status, len(_listed(story))) == ("SUCCEEDED", 2)


def test_a_sub_context_that_errs_fails_the_stage() -> None:
    """Fails closed, and says which name is unknown; a value that cannot be stored is refused, too."""
    for expression, told in (("missing + 1", "missing"), ("99999999999 * 99999999999", "")):
        call = stage("a", does=[], sub_workflow="good", sub_context={"n": expression})
        story = Story(1).start(call, sub_workflows={"good": inner("good", json_stage("i"))}).run()
        assert story.status == "TERMINAL"
        assert told in _reason(story)


def test_an_inner_workflow_may_call_its_caller_again() -> None:
    """Mutual recursion is as deep as max_depth allows: story, one, story, one."""
    back = {"ref_id": "b", "type": "t", "sub_workflow": "story"}
    call = stage("a", does=[], sub_workflow="one")
    story = Story(2, ROUGH).start(call, sub_workflows={"one": inner("one", back)}, max_depth=3)
    story.run()

    assert story.status == "TERMINAL"
    assert len(_listed(story)) >= 4


def test_recursion_is_bounded_by_max_depth() -> None:
    """A workflow may name itself; a start that is too deep fails the calling stage, all the way up."""
    call = stage("a", does=[], sub_workflow="story")
    story = Story(2, ROUGH).start(call, max_depth=3).run()

    assert story.status == "TERMINAL"
    assert len(_listed(story)) == 4


def _cancel(story: Story) -> None:
    story.ask(outside.cancel, "stop", "ops")


def _listed(story: Story) -> Any:
    return story.simulation.store.listing(Filter(), 100, None).items


def _reason(story: Story) -> str:
    stored = story.simulation.store.events(story.id, "0", None, 1000)
    return " ".join(event.fields["data"].decode(errors="replace") for event in stored)
