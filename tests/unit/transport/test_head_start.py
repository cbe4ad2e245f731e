"""What the next message begins with is read by the commit that takes it, if that has sent it (decision 017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
import redis
from celery import Celery

from stabilize_celery.client import Client
from stabilize_celery.engine.steps import Read
from stabilize_celery.models.messages import CompleteStage, Message, RunTask, StartStage
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import FUSED, PER_MESSAGE, Settings
from stabilize_celery.store.redis_store import RedisStore, open_lists
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.transport.publish import CeleryPublisher
from stabilize_celery.transport.taking import Taking
from stabilize_celery.transport.waiting import Waiting, Waits

QUEUES = ("stabilize.control", "stabilize.work")


class AsInAChild(Waiting):
    """What a child sees of its worker."""

    is_here = True
    is_orphan = False


class Child:
    """One process that takes messages from a server which is broker and state; it counts what each costs."""

    def __init__(self, url: str, mode: str) -> None:
        self.settings = Settings(mode=mode, redis_url=url, broker_url=url)
        self.app = Celery("test", broker=url, set_as_current=False)
        self.lists = open_lists(url, 5)
        self.store = RedisStore(url)
        self.store.partitions()
        registry = TaskRegistry()
        registry.task("work")(lambda stage: TaskResult.success(outputs={"seen": stage.ref_id}))
        self.runtime = Runtime(self.store, registry, CeleryPublisher(self.app, url), self.settings, "child")
        self.client = Client(settings=self.settings)
        self.costs: list[tuple[str, int]] = []
        """The kind of each message and how many round trips it took."""
        self.meanwhile: Callable[[Message], object] = lambda _: None
        """What others do when a message has been taken and is not handled yet."""
        self.asked_ahead: list[Message] = []
        self.used_ahead = 0

    def handle(self, message: Message) -> str:
        kind = type(message).__name__
        self.used_ahead += self.asked_ahead[-1:] == [message]
        before = self.store.round_trips
        try:
            return self.runtime.handle(message)
        finally:
            self.costs.append((kind, self.store.round_trips - before))

    def opening(self, message: Message) -> Read | None:
        self.asked_ahead.append(message)
        return self.runtime.opening(message)

    def go_on(self) -> None:
        waits = Waits(AsInAChild(QUEUES), 50)
        Taking(self.lists, QUEUES, self, self.going_on, 250, waits=waits, databases=(0, 0)).go_on()

    def going_on(self, message: Message) -> AbstractContextManager[None]:
        self.meanwhile(message)
        return nullcontext()

    def run(self, *workflows: Workflow) -> list[Workflow]:
        handles = [self.client.start(workflow) for workflow in workflows]
        self.go_on()
        return [self.runtime.read(handle.id) for handle in handles]

    def costs_of(self, kind: str) -> list[int]:
        return [cost for found, cost in self.costs if found == kind]

    def close(self) -> None:
        self.client.close()
        self.lists.close()
        self.store.close()
        self.app.close()


@pytest.fixture
def child(redis_url: str) -> Iterator[Child]:
    made = Child(redis_url, PER_MESSAGE)
    yield made
    made.close()


@pytest.fixture
def fused_child(redis_url: str) -> Iterator[Child]:
    made = Child(redis_url, FUSED)
    yield made
    made.close()


def chain(length: int) -> Workflow:
    stages = [
        StageExecution(
            ref_id=f"s{at}",
            type="test",
            name=f"s{at}",
            requisite_stage_ref_ids={f"s{at - 1}"} if at else set(),
            tasks=[TaskExecution.create("work", "work")],
        )
        for at in range(length)
    ]
    return Workflow(application="head", name="start", stages=stages)


def statuses(workflow: Workflow) -> list[str]:
    return [workflow.status.name, *(stage.status.name for stage in workflow.stages)]


def test_a_chain_costs_four_round_trips_a_stage(child: Child) -> None:
    """Seven without: each of the three messages reads nothing of its own, but the first of its kind."""
    (workflow,) = child.run(chain(6))

    assert set(statuses(workflow)) == {"SUCCEEDED"}
    assert child.costs_of("StartStage")[2:] == [1] * 4
    assert child.costs_of("RunTask")[2:] == [2] * 4
    assert child.costs_of("CompleteStage")[1:] == [1] * 5


def test_a_fused_chain_costs_two_round_trips_a_stage(fused_child: Child) -> None:
    (workflow,) = fused_child.run(chain(6))

    assert set(statuses(workflow)) == {"SUCCEEDED"}
    assert fused_child.costs_of("RunTask")[1:-1] == [2] * (len(fused_child.costs_of("RunTask")) - 2)


def test_where_others_wait_little_is_read_ahead_in_vain(child: Child) -> None:
    """Of each kind that is read ahead which came next when it was sent the last time."""
    found = child.run(*(chain(6) for _ in range(8)))

    assert all(set(statuses(workflow)) == {"SUCCEEDED"} for workflow in found)
    kinds = [kind for kind, _ in child.costs]
    assert kinds.count("RunTask") == 48
    assert len(child.asked_ahead) / 2 < child.used_ahead < len(kinds) / 2


@pytest.mark.parametrize("kind", [RunTask, CompleteStage, StartStage])
def test_what_others_do_meanwhile_counts(child: Child, kind: type[Message]) -> None:
    """What was read ahead is watched: a message whose workflow was cancelled behind its taking decides anew."""
    handle = child.client.start(chain(4))

    def cancel(message: Message) -> None:
        if type(message) is kind and len(child.costs) > 4:
            child.meanwhile = lambda _: None
            handle.cancel()

    child.meanwhile = cancel
    child.go_on()

    told = [event.kind for event in handle.events()]
    behind = told[told.index("workflow.canceled") :]
    assert child.runtime.read(handle.id).status.name == "CANCELED"
    assert not {"stage.started", "task.started", "task.completed", "stage.completed"} & set(behind)


def test_a_message_that_comes_in_between_is_handled_on_its_own(child: Child) -> None:
    """What was read for the expected one is given up."""
    first, second = child.client.start(chain(4)), chain(2)

    def start_another(message: Message) -> None:
        if isinstance(message, RunTask) and len(child.costs) > 4:
            child.meanwhile = lambda _: None
            child.client.start(second)

    child.meanwhile = start_another
    child.go_on()

    for workflow_id in (first.id, second.id):
        assert set(statuses(child.runtime.read(workflow_id))) == {"SUCCEEDED"}


def test_connections_come_back_however_long_it_goes_on(child: Child) -> None:
    """A thousand messages, each begun on what the one before has read, need no more connections than one."""
    with redis.Redis.from_url(child.settings.redis_url) as server:
        child.run(chain(2))
        before = len(server.client_list())

        (workflow,) = child.run(chain(350))

        assert set(statuses(workflow)) == {"SUCCEEDED"}
        assert len(server.client_list()) == before
