"""What the doctor makes of messages and tasks that no running worker will take."""

import pytest

from stabilize_celery.cli.doctor import check_attendance
from stabilize_celery.client import Client
from stabilize_celery.runtime.fleet import Fleet
from stabilize_celery.settings import Settings
from tests.unit.cli.conftest import Program
from tests.unit.client.world import World, stage, workflow


def told(world: World) -> list[str]:
    """What the doctor says of the fleet of a world."""
    fleet = Fleet(world.fleet.store.fleet(), world.fleet.store.time_ms())
    return [f"{check.told}. {check.advice}" for check in check_attendance(world.client, fleet)]


@pytest.fixture
def world() -> World:
    return World()


def test_a_queue_that_only_a_producer_knows_and_nobody_listens_on_is_named(
    served: Program, client: Client, redis_url: str
) -> None:
    """Its messages wait for good, though every worker is well and nothing is overdue."""
    client.store.announce("w", {"node": "w", "queues": "stabilize.control\nstabilize.work", "version": "1"})
    with Client(settings=Settings(redis_url=redis_url, control_queue="special.q")) as producer:
        producer.start_many([workflow(stage("a")), workflow(stage("a"))])

    said = served("doctor")

    assert said.code == 1
    assert "✘ no worker listens on queue 'special.q': 2 messages in it Start one with -Q special.q." in said.text


def test_our_own_queues_are_named_before_anything_waits_in_them(world: World) -> None:
    world.announce("work", queues="stabilize.work")

    assert told(world) == ["no worker listens on queue 'stabilize.control'. Start one with -Q stabilize.control."]


def test_a_task_type_that_no_running_worker_knows_is_named(world: World) -> None:
    """With what may have been meant; the task rests, so nothing of it is overdue."""
    world.announce("work")
    world.start(stage("a", does="wrk"))

    (found,) = told(world)

    assert found.startswith("1 task of type 'wrk' waiting, which no running worker knows")
    assert "did you mean 'work'?" in found


def test_what_has_a_worker_is_not_named(world: World) -> None:
    """It may wait all the same: others are before it."""
    world.announce("work")
    world.client.start(workflow(stage("a")))

    assert told(world) == []
