"""In fused mode a process goes on with the next task where nothing waits that it could take (decision 021)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import redis

from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.lanes import lane_of
from stabilize_celery.runtime.next_message import has_next
from stabilize_celery.settings import CONTINUATION, FUSED, PER_MESSAGE, Settings
from stabilize_celery.store.connection import _RedisLink
from stabilize_celery.store.wire import Command, LinkLostError, Reply
from stabilize_celery.tasks.builders import StageDefinitionBuilder
from tests.unit.transport.child import Child, chain, statuses
from tests.unit.transport.test_ends_first import fan_in

LOOKS_AGAIN_US = 6_000
"""A body that takes so long ends with a look at the lists that still counts, and is made again (us)."""


class Clock:
    """A clock that stands still but where a body takes time."""

    def __init__(self) -> None:
        self.now_us = 1

    def passes(self, us: int) -> None:
        self.now_us += us

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def child(redis_url: str, clock: Clock) -> Iterator[Child]:
    made = Child(redis_url, FUSED, clock)
    yield made
    made.close()


def delivered(child: Child) -> int:
    """How many tasks came over the broker."""
    return len(child.costs_of("RunTask"))


def done(workflow: Workflow) -> bool:
    return set(statuses(workflow)) == {"SUCCEEDED"}


def test_a_chain_that_nobody_is_beside_costs_one_round_trip_a_stage(child: Child) -> None:
    """Its first task comes over the broker; each of the others is claimed in the commit of the one before."""
    (workflow,) = child.run(chain(6))

    assert done(workflow)
    assert child.costs_of("RunTask") == [2 + 6]


@pytest.mark.parametrize("mode", [FUSED, CONTINUATION])
def test_a_claim_whose_answer_was_lost_is_taken_up(
    redis_url: str, clock: Clock, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit was carried out, and said so to nobody: the task is this process', which goes on with it."""
    child = Child(redis_url, mode, clock)
    is_to_be_lost: list[str] = []
    exchange = _RedisLink.exchange

    def losing(link: _RedisLink, commands: Sequence[Command]) -> list[Reply]:
        answer = exchange(link, commands)
        if is_to_be_lost and any(command[0] == "MULTI" for command in commands):
            is_to_be_lost.clear()
            link._disconnect()
            raise LinkLostError("the connection was closed", was_stale=True)
        return answer

    monkeypatch.setattr(_RedisLink, "exchange", losing)
    child.in_bodies = lambda stage: is_to_be_lost.append(stage.ref_id) if stage.ref_id == "s1" else None
    try:
        (workflow,) = child.run(chain(4))
        claims = [event.ref_id for event in child.client.handle(workflow.id).events() if event.kind == "task.started"]
    finally:
        child.close()

    assert done(workflow)
    assert claims == ["s0", "s1", "s2", "s3"]


@pytest.mark.parametrize("mode", [PER_MESSAGE, FUSED, CONTINUATION])
def test_no_message_is_held_while_users_code_runs(redis_url: str, clock: Clock, mode: str) -> None:
    """A stage's builder may take long: what a commit has taken would wait for it."""
    held: list[bool] = []

    class Slow(StageDefinitionBuilder):
        type = "slow"

        def build_tasks(self, stage: StageExecution) -> list[TaskExecution]:
            held.append(has_next())
            return [TaskExecution.create("work", "work")]

    child = Child(redis_url, mode, clock)
    child.runtime.registry.builders.register_class(Slow)

    def diamond() -> Workflow:
        workflow = fan_in(2)
        workflow.stages[-1].type, workflow.stages[-1].tasks = "slow", []
        return workflow

    try:
        found = child.run(*(diamond() for _ in range(4)))
    finally:
        child.close()

    assert all(map(done, found))
    assert held == [False] * 4


def test_its_events_are_those_of_deliveries(child: Child, redis_url: str) -> None:
    """Nobody can tell from a workflow's history how its tasks came."""
    other = Child(redis_url, PER_MESSAGE)
    try:
        handles = [one.client.start(chain(3)) for one in (child, other)]
        child.go_on()
        told = [[(event.kind, event.ref_id) for event in handle.events()] for handle in handles]
    finally:
        other.close()

    assert told[0] == told[1]


def test_where_others_wait_each_task_goes_over_the_broker(child: Child, clock: Clock) -> None:
    """Two chains side by side: neither goes on by itself until the other has ended."""
    bodies: list[str] = []

    def note(stage: StageExecution) -> None:
        bodies.append(stage.execution.id)
        clock.passes(LOOKS_AGAIN_US)

    child.in_bodies = note

    workflows = child.run(chain(5), chain(5))

    assert all(map(done, workflows))
    assert delivered(child) >= 8
    assert len({*bodies[:5]}) == 2


def test_one_message_in_the_least_urgent_lane_is_enough(child: Child, clock: Clock, redis_url: str) -> None:
    """It would be the next but for what is more urgent: it gets its turn as ever."""
    with redis.Redis.from_url(redis_url) as server:

        def put_one(stage: StageExecution) -> None:
            clock.passes(LOOKS_AGAIN_US)
            if stage.ref_id == "s1":
                server.lpush(lane_of("stabilize.work", 9), "what Celery is to have")

        child.in_bodies = put_one
        (workflow,) = child.run(chain(6))

    assert done(workflow)
    # The look in the commit behind s1 has seen it: from s3 on each comes over the broker.
    assert delivered(child) == 1 + 3


def test_a_look_at_the_lists_counts_for_a_short_body_only(child: Child, clock: Clock) -> None:
    """While a long one runs others may have come."""

    def take_long(stage: StageExecution) -> None:
        clock.passes(12_000 if stage.ref_id == "s2" else 10)

    child.in_bodies = take_long

    (workflow,) = child.run(chain(6))

    assert done(workflow)
    assert delivered(child) == 2


def test_the_lists_are_looked_at_every_few_milliseconds(child: Child, clock: Clock, redis_url: str) -> None:
    """However short the bodies are; not with each of them."""
    looks: list[int] = []
    with redis.Redis.from_url(redis_url) as server:
        for took_us in (10, 1_000, LOOKS_AGAIN_US):
            child.in_bodies = lambda _, took_us=took_us: clock.passes(took_us)  # type: ignore[misc]
            clock.passes(LOOKS_AGAIN_US)
            server.config_resetstat()
            (workflow,) = child.run(chain(12))
            assert done(workflow)
            stats: dict[str, dict[str, int]] = server.info("commandstats")  # type: ignore[assignment]
            looks.append(stats["cmdstat_exists"]["calls"])

    # The first of all shows whether it may look: 1, 3 and 12 beside that.
    assert looks == [2, 4, 13]


def test_where_messages_wait_it_looks_no_oftener(child: Child, redis_url: str) -> None:
    """On a busy fleet a look is a command for nothing: one in a while tells when that is over."""
    with redis.Redis.from_url(redis_url) as server:
        server.config_resetstat()
        workflows = child.run(*(chain(3) for _ in range(10)))
        stats: dict[str, dict[str, int]] = server.info("commandstats")  # type: ignore[assignment]

    assert all(map(done, workflows))
    assert stats["cmdstat_exists"]["calls"] == 2


def test_a_turn_that_is_to_end_ends_behind_the_body(child: Child, redis_url: str) -> None:
    """The next task is on the broker's list, for whoever comes first."""

    def end(stage: StageExecution) -> None:
        if stage.ref_id == "s2":
            child.waiting.end_turns()

    child.in_bodies = end

    (workflow,) = child.run(chain(6))

    assert statuses(workflow)[1:] == ["SUCCEEDED"] * 3 + ["RUNNING"] + ["NOT_STARTED"] * 2
    with redis.Redis.from_url(redis_url) as server:
        assert server.llen(lane_of("stabilize.work", 5)) == 1
    child.go_on()
    assert done(child.runtime.read(workflow.id))


def test_what_others_do_meanwhile_counts(child: Child) -> None:
    """A workflow that is cancelled while a body runs begins nothing more."""

    def cancel(stage: StageExecution) -> None:
        if stage.ref_id == "s2":
            handle.cancel()

    child.in_bodies = cancel
    handle = child.client.start(chain(6))

    child.go_on()

    told = [event.kind for event in handle.events()]
    assert "task.started" not in told[told.index("workflow.canceled") :]
    assert handle.get().status.name == "CANCELED"


def test_the_message_by_message_mode_does_not_go_on(redis_url: str) -> None:
    """Each task is a message of its own there, whoever waits."""
    child = Child(redis_url, PER_MESSAGE)
    try:
        (workflow,) = child.run(chain(4))
    finally:
        child.close()

    assert done(workflow)
    assert delivered(child) == 4


class TestASliceOfTime:
    """Short bodies of one thread follow each other for a few milliseconds, whoever waits."""

    @pytest.fixture
    def child(self, redis_url: str, clock: Clock) -> Iterator[Child]:
        made = Child(redis_url, FUSED, clock, Settings().fused_slice_ms)
        yield made
        made.close()

    def test_what_waits_has_its_turn_when_it_is_over(self, child: Child, clock: Clock) -> None:
        """The thread's next task then stands behind it on the list."""
        bodies: list[str] = []

        def note(stage: StageExecution) -> None:
            bodies.append(stage.execution.name)
            clock.passes(1_900)

        child.in_bodies = note
        one, other = chain(7), chain(7)
        one.name, other.name = "one", "other"

        workflows = child.run(one, other)

        assert all(map(done, workflows))
        # By turns the queue of tasks comes before that of starts: once, here.
        assert bodies[:10] == ["one"] * 6 + ["other"] * 3 + ["one"]

    def test_short_workflows_are_done_one_after_another(self, child: Child) -> None:
        """Each costs what it would cost alone."""
        workflows = child.run(*(chain(3) for _ in range(10)))

        assert all(map(done, workflows))
        # Of each the first: what starts a stage here does not know which queues are served.
        assert delivered(child) == 10

    def test_a_body_that_takes_longer_is_the_last_of_its_slice(self, child: Child, clock: Clock) -> None:
        """What would begin behind it would begin too late."""
        child.in_bodies = lambda _: clock.passes(LOOKS_AGAIN_US)

        workflows = child.run(chain(5), chain(5))

        assert all(map(done, workflows))
        assert delivered(child) >= 6

    def test_it_goes_on_only_with_what_its_worker_consumes(self, child: Child) -> None:
        """A queue that nobody here serves any more gets its tasks over the broker."""

        def stop_consuming(stage: StageExecution) -> None:
            if stage.ref_id == "s2":
                child.runtime.serves = lambda: frozenset({"stabilize.control"})

        child.in_bodies = stop_consuming
        (workflow,) = child.run(chain(6))

        assert done(workflow)
        # Before that the first only, behind s2 each.
        assert delivered(child) == 1 + 3
