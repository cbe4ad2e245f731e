"""What the page asks, on a simulated fleet: priorities, dead letters and deadlocks are told where people look."""

from typing import Any

import pytest

from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import SetFields, workflow_slot
from stabilize_celery.models.definition import to_definition
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.schedule import Schedule
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.store.contract import Bury, Transaction
from stabilize_celery.web import bodies, schedules
from stabilize_celery.web.answers import NotFoundError
from stabilize_celery.web.queries import ListQuery
from stabilize_celery.web.searching import lines_of, list_workflows
from stabilize_celery.web.service import Service
from tests.simulation.nesting import gated
from tests.unit.client.world import World, gate, stage, workflow


@pytest.fixture
def world() -> World:
    return World()


def test_a_line_tells_of_dead_letters(world: World) -> None:
    """In the list, and where a line that is in sight is read again."""
    handle = world.client.start(workflow(stage("a")))
    (owed,) = (one for found in world.client.store.first_due(range(64), 9)[1].values() for one in found)
    with world.client.store.session(workflow_slot(handle.id)) as session:
        broken = ENTRY.encode(tries=10, error="KeyError: 'x'")
        session.commit(Transaction([SetFields(ledger(owed.name), broken)], [Bury(owed.name, world.now_ms)]))

    listed, again = list_workflows(world.client, ListQuery()).items, lines_of(world.client, [handle.id])

    assert [line.dead_letters for line in listed + again] == [[owed.name]] * 2


def test_a_priority_is_given_at_the_start_and_told(world: World) -> None:
    """Beside the definition, as on the command line; without it the definition's own counts."""
    service, definition = Service(world.client), to_definition(workflow(gate(), priority=6))
    given = service.start(bodies.Start(definition, priority=9))
    own = service.start(bodies.Start(definition))

    assert [service.workflow(one).priority for one in (given, own)] == [9, 6]
    assert [line.priority for line in lines_of(world.client, [given, own])] == [9, 6]


def test_a_stage_whose_task_nobody_works_on_is_idle(world: World) -> None:
    """RUNNING alone would say that somebody does; what waits for something else says that itself."""
    several = stage("several", does="wrok", mi_config=MultiInstanceConfig(count=2))
    handle = world.start(stage("unknown", does="wrok"), stage("done"), gate("gate"), several)

    stages = {line.ref_id: (line.status, line.is_idle) for line in Service(world.client).workflow(handle.id).stages}

    assert stages == {
        "unknown": ("RUNNING", True),
        "done": ("SUCCEEDED", False),
        "gate": ("SUSPENDED", False),
        "several": ("RUNNING", False),
    }


def test_a_stage_is_not_idle_while_its_task_is_executed() -> None:
    """Nor after that."""
    seen: list[bool] = []

    def look(stage: StageExecution) -> TaskResult:
        seen.append(Service(world.client).workflow(stage.context["id"]).stages[0].is_idle)
        return TaskResult.success()

    world = World(look=look)
    definition = workflow(stage("a", does="look"))
    definition.stages[0].context["id"] = definition.id
    world.client.start(definition)
    world.settle()

    assert seen == [False]


def test_a_task_of_a_run_that_has_ended_does_not_go_on(world: World) -> None:
    """It ended with its run, however far it was."""
    handle = world.start(gate("gate"))
    handle.cancel("enough")
    world.settle(5)

    [run] = Service(world.client).stage(handle.id, "gate").runs

    assert (run.status, run.tasks[0].status, run.tasks[0].ended_ms) == ("CANCELED", "CANCELED", run.ended_ms)


def test_a_stage_by_itself_has_the_status_that_it_has_among_the_others(world: World) -> None:
    """Also a join that something had come to when the workflow was cancelled, which only the whole can tell."""
    handle = world.start(stage("a"), gate("b"), stage("join", "a", "b"), stage("last", "join"))
    handle.cancel("enough")
    world.settle(5)
    service = Service(world.client)

    among = {line.ref_id: line.status for line in service.workflow(handle.id).stages}
    alone = {ref: service.stage(handle.id, ref).stage.status for ref in among}

    assert alone == among == {"a": "SUCCEEDED", "b": "CANCELED", "join": "CANCELED", "last": "SKIPPED"}


def test_locks_tell_of_deadlocks(world: World) -> None:
    """Both locks are marked, and who holds and wants what is told with what would break it."""
    handles = [world.start(*gated("dock", "gate"), name="tour"), world.start(*gated("gate", "dock"), name="round")]
    for handle in handles:
        handle.signal("gate", "go")
    world.settle(5)

    told = Service(world.client).locks()

    assert {lock.key: lock.mark for lock in told.items} == {"dock": "deadlock", "gate": "deadlock"}
    (deadlock,) = told.deadlocks
    assert {party.holder.workflow_id for party in deadlock.parties} == {handle.id for handle in handles}
    assert all(command.startswith("stabilize-celery cancel") for command in deadlock.commands)


def test_locks_without_a_deadlock_have_no_mark(world: World) -> None:
    """Waiting in line is no deadlock."""
    world.start(gate("one", mutex_key="crane"))
    world.start(stage("two", mutex_key="crane"))

    told = Service(world.client).locks()

    assert ([lock.mark for lock in told.items], told.deadlocks) == ([""], [])


def nightly(world: World, **more: Any) -> Service:
    """A service beside a schedule."""
    definition = to_definition(workflow(stage("a"), name="report", priority=9))
    world.client.schedules.add(Schedule(name="a/nightly", definition=definition, every_s=3600, **more))
    return Service(world.client)


def test_schedules_are_told_paused_resumed_and_started(world: World) -> None:
    """With what they start and when; a start of one's own leaves their times as they are."""
    client = nightly(world).client
    (before,) = schedules.list_schedules(client).items
    started = schedules.start_now(client, "a/nightly")
    world.settle()
    schedules.pause(client, "a/nightly")
    (paused,) = schedules.list_schedules(client).items
    assert schedules.resume(client, "a/nightly").took_effect
    assert not schedules.resume(client, "a/nightly").took_effect
    (resumed,) = schedules.list_schedules(client).items

    assert (before.workflow_name, before.every_s, before.priority, before.last_ms) == ("report", 3600, 9, None)
    assert client.get(started.id).trigger.type == "schedule"
    assert (paused.is_paused, paused.next_ms, paused.started) == (True, None, 0)
    assert (resumed.is_paused, resumed.next_ms) == (False, before.next_ms)


@pytest.mark.parametrize("act", [schedules.pause, schedules.resume, schedules.start_now])
def test_an_unknown_schedule_is_not_found(world: World, act: Any) -> None:
    """Nothing is started."""
    with pytest.raises(NotFoundError, match="no schedule 'b'"):
        act(nightly(world).client, "b")
    assert world.client.list().items == []


def test_a_result_is_there_once_the_workflow_has_ended(world: World) -> None:
    """Without secrets; of a failure, why."""
    world = World(login=lambda _: {"token": "s-1", "user": "u"}, fail=lambda _: TaskResult.terminal("no such user"))
    waiting, done, failed = (world.start(one) for one in (gate(), stage("a", does="login"), stage("b", does="fail")))

    told = [schedules.result_of(world.client, one.id) for one in (waiting, done, failed)]
    assert [(one.status, one.has_ended) for one in told] == [
        ("RUNNING", False),
        ("SUCCEEDED", True),
        ("TERMINAL", True),
    ]
    assert told[1].value == {"token": "***", "user": "u"}
    assert "no such user" in told[2].failure
