"""What is owed to a stage, and which worker is to do it."""

import pytest

from stabilize_celery.client import Reason
from stabilize_celery.client.why.explain import explain_view
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.steps import Delete, workflow_slot
from stabilize_celery.errors import TransientError
from stabilize_celery.models.patterns import instances
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.runtime.reading import read_view
from stabilize_celery.store.contract import Bury, Drop, Due, Transaction
from tests.unit.client.reasons import reasons, run_name, said, write
from tests.unit.client.world import World, stage, workflow


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


def test_a_later_attempt_is_not_said_to_run_since_the_first(world: World):
    """Its own begin is not kept: what is told is since when the task has been tried."""
    found: list[Reason] = []

    def look(stage: StageExecution) -> TaskResult:
        world.announce("look")
        found.extend(world.client.handle(stage.execution.id).why())
        if len(found) == 1:
            raise TransientError("not yet", retry_after=24)
        return TaskResult.success()

    world.fleet.registry.register("look", look)
    world.fleet.runtime.worker_id = "simulated:1"
    world.start(stage("a", does="look"))
    world.settle(60)

    first, second = found
    assert "runs on simulated for" in first.text
    assert "runs on simulated, attempt 2, 24 s since its first attempt began (was: " in second.text


def test_a_lost_worker_is_told_with_when_it_runs_again(world: World, at_work: list[dict[str, Reason]]):
    """The worker is in no registry: its lease ends, then the task runs elsewhere."""
    world.start(stage("a", does="look"))

    (found,) = at_work

    assert found["a"].kind == "lost"
    assert "runs again in about 9.0 s" in found["a"].detail


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
