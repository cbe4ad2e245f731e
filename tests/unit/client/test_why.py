"""What each stage waits for, and why workflows failed: a state per reason."""

import re
import shlex

import pytest

from stabilize_celery.client import Reason
from stabilize_celery.client.why.explain import explain_view
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import Delete, SetFields, workflow_slot
from stabilize_celery.errors import TransientError
from stabilize_celery.models.messages import AcquireLock, StartStage
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.patterns import instances
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import SplitType, SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.runtime.reading import read_view
from stabilize_celery.store.contract import Bury, Drop, Due, LedgerChange, Transaction
from stabilize_celery.store.vault import Vault
from tests.unit.client.world import World, gate, stage, workflow


def said(world: World, *stages: StageExecution, **more: object) -> dict[str, Reason]:
    """Start a workflow, let it settle; return its reasons by stage."""
    return reasons(world.start(*stages, **more).why())


def reasons(found: list[Reason]) -> dict[str, Reason]:
    return {reason.ref_id: reason for reason in found}


def write(world: World, workflow_id: str, *ledger_changes: LedgerChange, **fields: dict[str, object]) -> None:
    """Change ledger entries by hand, as another worker would."""
    changes = [SetFields(ledger(name.replace("__", ":")), ENTRY.encode(**values)) for name, values in fields.items()]
    with world.fleet.store.session(workflow_slot(workflow_id)) as session:
        session.commit(Transaction(changes, ledger_changes))


def run_name(world: World, handle: object) -> str:
    """Return the ledger name of the task that the workflow is at."""
    (found,) = (
        entry.name
        for entries in world.fleet.store.first_due(range(16), 100)[1].values()
        for entry in entries
        if entry.name.startswith("Run:")
    )
    return found


def test_nothing_is_said_of_a_workflow_that_went_well(world: World):
    assert world.start(stage("a")).why() == []


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


def test_a_slot_of_its_pipeline(world: World):
    """A workflow that is not begun waits for another one as a whole."""
    limits = {"pipeline_config_id": "nightly", "is_limit_concurrent": True, "keep_waiting_pipelines": True}
    world.start(gate(), max_concurrent_executions=1, **limits)
    found = said(world, stage("a"), max_concurrent_executions=1, **limits)

    assert list(found) == [""]
    assert (found[""].kind, "nightly" in found[""].text) == ("slot", True)
    assert str(found[""]).startswith("workflow: ")


def test_a_retry():
    """When, after which error, which attempt."""

    def refuse(_stage: StageExecution) -> TaskResult:
        raise TransientError("gateway timeout", retry_after=600)

    found = said(World(charge=refuse), stage("a", does="charge"))

    assert found["a"].kind == "retry"
    assert "TransientError: gateway timeout" in found["a"].text
    assert "in 10:00 min" in found["a"].text
    assert found["a"].detail == "Attempt 1 failed"


def test_a_task_that_polls():
    found = said(World(copy=lambda stage: TaskResult.running()), stage("a", does="copy"))

    assert found["a"].kind == "poll"
    assert "is asked again at" in found["a"].text


def test_a_task_type_that_no_worker_knows(world: World):
    """Once a worker has looked: the type's name, and how soon it would start."""
    world.announce("work")

    found = said(world, stage("a", does="from_next_release"))

    assert found["a"].kind == "unknown_task"
    assert "'from_next_release'" in found["a"].text
    assert "within" in found["a"].detail


def test_no_worker_at_all(world: World):
    handle = world.client.start(workflow(stage("a")))

    (reason,) = handle.why()

    assert reason.kind == "unattended"
    assert "no worker is running" in reason.text


def test_a_queue_that_nobody_listens_on(world: World):
    world.announce("work", queues="celery")
    handle = world.client.start(workflow(stage("a")))

    (reason,) = handle.why()

    assert (reason.kind, "'stabilize.control'" in reason.text) == ("unattended", True)


def test_a_queue_with_listeners(world: World):
    world.announce("work")
    handle = world.client.start(workflow(stage("a")))

    (reason,) = handle.why()

    assert (reason.kind, reason.detail) == ("queued", "1 worker on that queue")


@pytest.fixture
def at_work(world: World):
    """A workflow whose task is claimed by worker `simulated`."""
    handles = []

    def look(stage: StageExecution) -> TaskResult:
        handles.append(reasons(world.client.handle(stage.execution.id).why()))
        return TaskResult.success()

    world.fleet.registry.register("look", look)
    return handles


def test_a_claimed_task_names_its_worker(world: World, at_work: list[dict[str, Reason]]):
    world.fleet.runtime.worker_id = "simulated:1"
    world.announce("look")
    world.start(stage("a", does="look"))

    (found,) = at_work

    assert found["a"].kind == "running"
    assert "runs on simulated" in found["a"].text


def test_a_lost_worker_is_told_with_when_it_runs_again(world: World, at_work: list[dict[str, Reason]]):
    """The worker is in no registry: its lease ends, then the task runs elsewhere."""
    world.start(stage("a", does="look"))

    (found,) = at_work

    assert found["a"].kind == "lost"
    assert "runs again in about 9.0 s" in found["a"].detail


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


def test_a_dead_letter(world: World):
    """Its error and how to have it handled again."""
    world.announce("work")
    handle = world.start(stage("a", does="unknown"))
    name = run_name(world, handle)
    fields = {"tries": 10, "error": "Traceback\nKeyError: 'x'"}
    write(world, handle.id, Bury(name, world.now_ms), **{name.replace(":", "__"): fields})

    (reason,) = handle.why()

    assert reason.kind == "dead_letter"
    assert "10 tries: KeyError: 'x'" in reason.text
    assert reason.advice == f"stabilize-celery dead replay {handle.id}/{name}"


def test_a_message_whose_handling_fails(world: World):
    world.announce("work")
    handle = world.client.start(workflow(stage("a")))
    ((start, due_ms),) = [
        (entry.name, entry.due_ms)
        for entries in world.fleet.store.first_due(range(16), 100)[1].values()
        for entry in entries
        if entry.name.startswith("Start:")
    ]
    fields = {"tries": 2, "error": "Traceback\nValueError: odd"}
    write(world, handle.id, Due(start, due_ms), **{start.replace(":", "__"): fields})

    (reason,) = handle.why()

    assert (reason.kind, "failed 2 times: ValueError: odd" in reason.text) == ("failing", True)


def test_a_worker_that_was_lost_before(world: World):
    world.announce("unknown")
    handle = world.start(stage("a", does="unknown"))
    name = run_name(world, handle)
    write(world, handle.id, **{name.replace(":", "__"): {"lost": 2, "parked": "", "nb": 0, "pub": world.now_ms}})

    (reason,) = handle.why()

    assert (reason.kind, "2nd time in a row" in reason.text) == ("lost", True)


def test_nothing_owed_and_nothing_running_is_an_alarm(world: World):
    """State was lost: it is said, not hidden."""
    world.announce("work")
    handle = world.start(stage("a", does="unknown"))
    name = run_name(world, handle)
    with world.fleet.store.session(workflow_slot(handle.id)) as session:
        session.commit(Transaction([Delete((ledger(name),))], [Drop(name)]))

    (reason,) = handle.why()

    assert (reason.kind, "should not happen" in reason.text) == ("stuck", True)


def test_a_failure_is_told_by_its_stage():
    """The task's own words; what came after it is not blamed."""
    world = World(fail=lambda stage: TaskResult.terminal(error="card declined"))

    found = said(world, stage("a", does="fail"), stage("b", "a"))

    assert list(found) == ["a"]
    assert str(found["a"]) == "a: TERMINAL: card declined. Task fail, 1 attempt"


def test_an_exception_has_its_traceback():
    def crash(_stage: StageExecution) -> TaskResult:
        raise ZeroDivisionError("the author's bug")

    found = said(World(crash=crash), stage("a", does="crash"))

    assert "ZeroDivisionError: the author's bug" in found["a"].text
    assert "test_why.py" in found["a"].traceback


def test_an_output_that_cannot_be_stored_is_named():
    world = World(odd=lambda stage: TaskResult.success(outputs={"handle": object()}))

    assert "outputs.handle" in str(said(world, stage("a", does="odd"))["a"])


def test_a_failure_that_the_pipeline_went_past_is_told_too():
    world = World(fail=lambda stage: TaskResult.terminal(error="no matter"))

    found = said(world, stage("a", does="fail", context={"continuePipelineOnFailure": True}), stage("b", "a"))

    assert "FAILED_CONTINUE: no matter" in found["a"].text


def test_a_cancellation_has_its_reason(world: World):
    handle = world.start(gate())
    handle.cancel("changed my mind")
    world.settle()

    (reason,) = handle.why()

    assert reason.kind == "canceled"
    assert "changed my mind" in str(reason)


def test_a_timeout_of_the_workflow(world: World):
    handle = world.start(gate(), timeout_ms=5_000)
    world.settle(10)

    (reason,) = handle.why()

    assert reason == Reason("", "failed", "ended TERMINAL: the workflow's time-out has passed")


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


def test_a_message_parked_by_this_version_is_shown(world: World):
    world.announce("work")
    handle = world.client.start(workflow(stage("a")))
    ((name, due_ms),) = [
        (entry.name, entry.due_ms)
        for entries in world.fleet.store.first_due(range(16), 100)[1].values()
        for entry in entries
        if entry.name.startswith("Start:")
    ]
    write(world, handle.id, Due(name, due_ms), **{name.replace(":", "__"): {"parked": "version 9 is not known here"}})

    (reason,) = handle.why()

    assert (reason.kind, "version 9" in reason.text) == ("parked", True)


def test_a_cancelled_workflow_without_a_reason(world: World):
    handle = world.start(gate())
    handle.cancel()

    assert "cancelled by" in handle.why()[0].text


@pytest.mark.parametrize(
    ("goes_on", "told"),
    [
        (False, "TERMINAL: instance 2: ValueError: no files in 2"),
        (True, "FAILED_CONTINUE: 1 of 4 instances failed, first instance 2: ValueError: no files in 2"),
    ],
)
def test_a_failed_instance(goes_on: bool, told: str):
    """Which one, its error and the traceback; the number of failures where the stage bears them."""

    def third(stage: StageExecution) -> TaskResult:
        if stage.context["instance_index"] == 2:
            raise ValueError("no files in 2")
        return TaskResult.success()

    context = {"continuePipelineOnFailure": goes_on}
    reason = said(World(third=third), instances(stage("many", does="third", context=context), count=4))["many"]

    assert reason.text == told
    assert "Traceback" in reason.traceback
    assert "Task third, 1 attempt" in reason.detail


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


def test_what_moves_while_it_is_read_is_no_alarm(world: World):
    """The state is read piece by piece: that something seems to be lost is told only if it stays so."""
    world.announce("work")
    handle = world.client.start(workflow(stage("a")))
    old = read_view(world.fleet.store, handle.id)
    world.settle()

    assert explain_view(world.fleet.store, old, world.fleet.settings) == []


def test_no_alarm_however_it_is_looked_at(world: World):
    """At every step of a workflow there is a reason for each unfinished stage, and never that something was lost."""
    world.announce("work")
    outer = stage("outer", mutex_key="dock")
    before = stage("before", parent_stage_id=outer.id, synthetic_stage_owner=SyntheticStageOwner.STAGE_BEFORE)
    stages = [outer, before, stage("x", "outer"), stage("y", "outer"), instances(stage("many", "x", "y"), count=3)]
    handle = world.client.start(workflow(*stages))

    kinds = set()
    while not handle.status().is_complete and world.fleet.step():
        kinds |= {reason.kind for reason in handle.why()}

    assert handle.status().name == "SUCCEEDED"
    assert "stuck" not in kinds
    assert {"queued", "synthetic", "requisites", "join", "instances"} <= kinds


@pytest.mark.parametrize("name", ["$(reboot)", "a; reboot", "two words", "a\nreboot", "--json", "it's", "[red]"])
def test_a_command_that_is_told_says_what_it_means(world: World, name: str):
    """It is there to be copied into a shell, and names come from whoever starts workflows."""
    handle = world.start(gate(name, signal=name))
    (told,) = handle.why()

    dashes = ["--"] if name.startswith("-") else []
    assert shlex.split(told.advice) == ["stabilize-celery", "signal", *dashes, handle.id, name, name, "{}"]
