"""What each stage waits for, and why workflows failed: a state per reason."""

import re
import shlex

import pytest

from stabilize_celery.client import Reason
from stabilize_celery.client.words import clock_time
from stabilize_celery.models.messages import AcquireLock, StartStage
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import SplitType, SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.store.vault import Vault
from tests.unit.client.reasons import reasons, said
from tests.unit.client.world import World, gate, stage, workflow


@pytest.mark.parametrize("note", ["", "x" * 2_000])
def test_how_a_stage_ends_without_its_signal(world: World, note: str):
    """Its context says that, also where that is too large to be read with all others."""
    world.client.store._vault = Vault(blob_bytes=1_000)
    found = said(world, gate(context={"deadline_s": 3600, "note": note, "continuePipelineOnFailure": True}))

    assert found["gate"].detail == "Nobody has sent it; it ends FAILED_CONTINUE if nobody does"


def test_a_signal(world: World):
    """Its name, its deadline, and the command that sends it."""
    found = said(world, gate(context={"deadline_s": 3600}), stage("b", "gate"))

    assert found["gate"].kind == "signal"
    assert "'approve'" in found["gate"].text
    assert "until" in found["gate"].text
    assert "signal" in found["gate"].advice
    assert str(found["b"]) == "b: can't start before gate"


def test_the_deadline_of_a_wait_is_later_by_the_pauses_since_it_began(world: World):
    """While one lasts nobody knows when it will be: what is left of it is told."""
    handle = world.start(gate("a", signal="go"), gate("gate", "a", context={"deadline_s": 30}))
    handle.pause()
    world.fleet.pass_time(60_000)
    handle.resume()
    handle.signal("a", "go")
    world.fleet.pass_time(10_000)
    handle.pause()
    world.fleet.pass_time(60_000)
    assert "waits for signal 'approve', for 20 s more" in handle.why()[1].text

    handle.resume()
    world.fleet.pass_time(5_000)
    assert "(in 15 s)" in handle.why()[0].text


def test_a_mutex(world: World):
    """Who holds it, since when, and the place in line, across workflows."""
    holder = world.start(gate("load", mutex_key="dock"), name="order")
    world.start(stage("first", mutex_key="dock"))
    second = world.start(stage("second", mutex_key="dock"))

    (reason,) = second.why()

    assert reason.kind == "mutex"
    assert f"'dock', held by order …{holder.id[-6:]} / load for" in reason.text
    assert "2nd of 2 in line" in reason.text
    assert holder.id in reason.advice


def test_a_paused_workflow_that_waits_for_a_mutex(world: World):
    """In line it passes its turn on; when the mutex is free nothing is on its way before the resume."""
    holder = world.start(gate("load", mutex_key="dock"))
    waiting = world.start(stage("a", mutex_key="dock"))
    waiting.pause()
    assert "If its turn comes before the workflow is resumed, it gets in line again" in waiting.why()[1].detail

    holder.signal("load", "approve")
    world.fleet.pass_time(3_000)

    assert waiting.why()[1].detail == "It is free; it is asked for again when the workflow is resumed"
    waiting.resume()
    world.fleet.pass_time(3_000)
    assert waiting.status().name == "SUCCEEDED"


def test_a_holder_that_is_paused(world: World):
    """To resume it is what helps."""
    holder = world.start(gate("load", mutex_key="dock"))
    holder.pause()
    (reason,) = world.start(stage("a", mutex_key="dock")).why()

    assert reason.advice == f"it continues when that ends, which is paused: `stabilize-celery resume {holder.id}`"


def test_a_slot_is_waited_for_until_the_start_expires(world: World):
    limits = {"pipeline_config_id": "nightly", "is_limit_concurrent": True, "keep_waiting_pipelines": True}
    world.start(gate(), max_concurrent_executions=1, **limits)
    expiry_ms = world.now_ms + 60_000
    (reason,) = world.start(stage("a"), max_concurrent_executions=1, start_time_expiry=expiry_ms, **limits).why()

    assert reason.detail == f"It is cancelled if it has none by {clock_time(expiry_ms, world.now_ms)}"


def test_a_slot_of_its_pipeline(world: World):
    """A workflow that is not begun waits for another one as a whole."""
    limits = {"pipeline_config_id": "nightly", "is_limit_concurrent": True, "keep_waiting_pipelines": True}
    world.start(gate(), max_concurrent_executions=1, **limits)
    found = said(world, stage("a"), max_concurrent_executions=1, **limits)

    assert list(found) == [""]
    assert (found[""].kind, "nightly" in found[""].text) == ("slot", True)
    assert str(found[""]).startswith("workflow: ")


def test_a_stage_that_is_scheduled(world: World):
    found = said(world, stage("a", scheduled_time=world.now_ms + 3_600_000))

    assert found["a"].kind == "scheduled"


def test_a_paused_workflow(world: World):
    """Who paused it; what would begin is held back."""
    handle = world.start(gate(), stage("b", "gate"))
    handle.pause()
    handle.signal("gate", "approve")
    world.settle()

    found = reasons(handle.why())

    assert found[""].text.startswith("paused by ")
    assert found["gate"].kind == "paused"
    assert "resume" in found[""].advice


def test_an_inner_workflow(world: World):
    inner = {"name": "inner", "stages": [{"ref_id": "i", "tasks": [{"name": "a", "implementing_class": "approval"}]}]}
    handle = world.start(stage("outer", does="sub_workflow", context={"workflow": inner}))

    (reason,) = handle.why()

    assert reason.kind == "sub_workflow"
    child = reason.advice.rsplit(" ", 1)[1]
    assert reasons(world.client.handle(child).why())["i"].text == "waits for any signal"


def test_several_holders_of_a_semaphore(world: World):
    """The first is named, the others are counted."""
    for _ in range(2):
        world.start(gate(mutex_key="crane", mutex_limit=2))

    (reason,) = world.start(stage("a", mutex_key="crane", mutex_limit=2)).why()

    assert "and 1 other" in reason.text


def test_a_holder_at_work_is_told_with_its_worker(world: World):
    """Whether the holder's worker answers is what decides between waiting and acting."""
    found: list[Reason] = []

    def look(_stage: StageExecution) -> TaskResult:
        handle = world.client.start(workflow(stage("b", mutex_key="crane")))
        for entry in [e for es in world.fleet.store.first_due(range(16), 9)[1].values() for e in es]:
            if entry.workflow_id == handle.id and entry.name.startswith("Start:"):
                world.fleet.runtime.handle(StartStage(workflow_id=handle.id, ref_id="b", thread=entry.name[6:]))
        found.extend(handle.why())
        for entry in [e for es in world.fleet.store.first_due(range(16), 9)[1].values() for e in es]:
            if entry.workflow_id == handle.id and entry.name.startswith("Lock:"):
                thread = entry.name[5:].partition("#")[0]
                message = AcquireLock(workflow_id=handle.id, ref_id="b", thread=thread, request=1)
                world.fleet.runtime.handle(message)
        found.extend(handle.why())
        return TaskResult.success()

    world.fleet.registry.register("look", look)
    world.fleet.runtime.worker_id = "simulated:1"
    world.announce("look")
    world.start(stage("a", does="look", mutex_key="crane"))

    asked, waits = found
    assert "held by" in asked.text
    assert "in line" not in asked.text
    assert "1st of 1 in line" in waits.text
    assert "tasks@node1" in waits.detail


def test_before_and_after_stages(world: World):
    """A stage waits for those planned around it, and they say whose they are."""
    outer = stage("outer")
    before, after = gate("before"), stage("after")
    before.parent_stage_id, before.synthetic_stage_owner = outer.id, SyntheticStageOwner.STAGE_BEFORE
    after.parent_stage_id, after.synthetic_stage_owner = outer.id, SyntheticStageOwner.STAGE_AFTER

    found = said(world, outer, before, after)

    assert found["outer"].text == "waits for its before stages: before"
    assert found["after"].text == "is planned after the tasks of stage outer"
    assert found["before"].kind == "signal"


def test_a_branch_that_was_not_taken_waits_for_nothing(world: World):
    """It is SKIPPED as soon as no thread can come any more, and so is what follows it."""
    choice = stage("choice", split_type=SplitType.XOR, split_conditions={"left": "True", "right": "False"})
    found = said(world, choice, gate("left", "choice"), stage("right", "choice"), stage("after_right", "right"))

    assert set(found) == {"left"}


def test_what_instances_are_at():
    """How many are done, what the first ones wait for, and whether the stage goes on before the last."""
    handle = World().start(gate("many", mi_config=MultiInstanceConfig(count=7, join_threshold=3)))
    handle.signal("many", "approve")

    (reason,) = handle.why()

    assert reason.kind == "instances"
    assert reason.text.startswith("0 of 7 instances done (continues after 3); #0 ")
    assert "; #1 waits for signal 'approve'; " in reason.text
    assert reason.text.endswith("; and 2 more")


def test_instances_that_wait_for_their_turn():
    handle = World().start(gate("many", mi_config=MultiInstanceConfig(count=7, max_concurrent=2)))

    (reason,) = handle.why()

    assert reason.text == (
        "0 of 7 instances done; #0 waits for signal 'approve'; #1 waits for signal 'approve'; 5 wait for a turn"
    )


def test_a_choice_tells_what_is_beside_it_and_when_it_chooses_itself(world: World):
    stages = [
        stage(ref, deferred_choice_group="way", choose_after_ms=after) for ref, after in (("a", 60_000), ("b", None))
    ]

    found = said(world, *stages)

    assert found["a"].text == "is offered in the choice 'way', beside b; nobody has chosen"
    assert re.fullmatch(r"It is chosen automatically at [\d:]+ if nobody does", found["a"].detail)
    assert found["b"].detail == ""


def test_a_milestone_tells_what_its_stage_is_at(world: World):
    late = stage("late", milestone_ref_id="gate", milestone_status="SUCCEEDED")

    found = said(world, gate(), late)

    assert str(found["late"]) == (
        "late: waits until stage gate is SUCCEEDED. gate is SUSPENDED now, and waits for signal 'approve'"
    )


@pytest.mark.parametrize("name", ["$(reboot)", "a; reboot", "two words", "a\nreboot", "--json", "it's", "[red]"])
def test_a_command_that_is_told_says_what_it_means(world: World, name: str):
    """It is there to be copied into a shell, and names come from whoever starts workflows."""
    handle = world.start(gate(name, signal=name))
    (told,) = handle.why()

    dashes = ["--"] if name.startswith("-") else []
    assert shlex.split(told.advice) == ["stabilize-celery", "signal", *dashes, handle.id, name, name, "{}"]
