"""Modes change how messages travel, and nothing else: the same events, the same end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.steps import Slot
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import SplitType, StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.attempts import MOST_IN_TURN
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.settings import CONTINUATION, FUSED, MODES, PER_MESSAGE, Settings
from stabilize_celery.store.contract import Transaction
from stabilize_celery.testing.simulation import Faults, Simulation

CALM = Faults.none()


def stage(ref_id: str, *after: str, does: str = "work", **more: Any) -> StageExecution:
    tasks = [TaskExecution.create(does, does)]
    return StageExecution(
        ref_id=ref_id, type="test", name=ref_id, requisite_stage_ref_ids=set(after), tasks=tasks, **more
    )


def chain(length: int = 4) -> list[StageExecution]:
    return [stage(f"s{at}", *([f"s{at - 1}"] if at else [])) for at in range(length)]


def fan_out() -> list[StageExecution]:
    return [stage("a"), *(stage(f"b{at}", "a") for at in range(40)), stage("z", *(f"b{at}" for at in range(40)))]


def choice() -> list[StageExecution]:
    first = stage("a", split_type=SplitType.XOR, split_conditions={"b": "a == 1", "c": "a == 2"})
    return [first, stage("b", "a"), stage("c", "a"), stage("d", "b", "c")]


def locked() -> list[StageExecution]:
    return [stage("a"), stage("b", "a", mutex_key="k"), stage("c", "a", mutex_key="k"), stage("d", "b", "c")]


def fails() -> list[StageExecution]:
    return [stage("a"), stage("b", "a", does="fail"), stage("c", "b")]


class World:
    """A simulated fleet that keeps what was delivered, committed and told."""

    def __init__(self, mode: str, faults: Faults = CALM, seed: int = 0, slice_ms: int = 5) -> None:
        tasks: dict[str, Callable[[StageExecution], TaskResult]] = {
            "work": self._work,
            "fail": lambda _: TaskResult.terminal(error="meant to fail"),
            "loop": self._loop,
        }
        settings = Settings(mode=mode, partitions=1, fused_slice_ms=slice_ms)
        self.simulation = Simulation(seed, tasks, faults=faults, settings=settings)
        self.simulation.observers.append(self._noticed)
        self.sent: Counter[str] = Counter()
        self.told: list[tuple[str, str]] = []
        self.last_commit: list[str] = []
        self.commits = self.runs = self.takes_us = 0
        publish = self.simulation.publish

        def counted(batch: Sequence[Outgoing]) -> None:
            self.sent.update(message.kind for message in batch)
            publish(batch)

        self.simulation.publish = counted  # type: ignore[method-assign]

    def _work(self, stage: StageExecution) -> TaskResult:
        self.simulation.advance_us(self.takes_us)
        return TaskResult.success(outputs={stage.ref_id: 1})

    def _loop(self, _stage: StageExecution) -> TaskResult:
        self.runs += 1
        return TaskResult.jump_to("loop") if self.runs < 3 * MOST_IN_TURN else TaskResult.success()

    def pass_10_s(self) -> TaskResult:
        self.simulation.advance_us(10_000_000)
        return TaskResult.success()

    def _noticed(self, slot: Slot, transaction: Transaction) -> None:
        self.commits += slot.kind == "workflow"
        self.last_commit = []
        for event in transaction.events:
            data = unpack(event["data"])  # type: ignore[arg-type]
            self.last_commit.append(f"{event['kind']!s} {data.get('task', '')}")
            self.told.append((self.last_commit[-1], str(event["ref"])))

    def run(self, stages: Sequence[StageExecution], **more: Any) -> Workflow:
        workflow = Workflow(application="modes", name="modes", stages=list(stages), **more)
        return self.simulation.finish(self.simulation.start(workflow))


@pytest.mark.parametrize("mode", [FUSED, CONTINUATION])
@pytest.mark.parametrize("shape", [chain, fan_out, choice, locked, fails])
def test_the_same_things_happen_in_every_mode(shape: Callable[[], list[StageExecution]], mode: str) -> None:
    """Event by event, though not always in the same order: branches run side by side."""
    usual, other = World(PER_MESSAGE), World(mode)

    expected, found = usual.run(shape()), other.run(shape())

    assert found.status == expected.status
    assert {one.ref_id: one.status for one in found.stages} == {one.ref_id: one.status for one in expected.stages}
    assert Counter(other.told) == Counter(usual.told)


@pytest.mark.parametrize("mode", MODES)
def test_a_chain_tells_its_story_in_order(mode: str) -> None:
    """One branch: the very same list."""
    world = World(mode)
    world.run(chain(3))

    per_message = World(PER_MESSAGE)
    per_message.run(chain(3))
    assert world.told == per_message.told


@pytest.mark.parametrize("mode", MODES)
def test_a_task_ends_when_its_code_has_returned(mode: str) -> None:
    """Not when it was claimed, though what its result is decided on was read then."""
    world = World(mode)
    world.simulation.registry.register("slow", lambda _: world.pass_10_s())

    (done,) = world.run([stage("a", does="slow")]).stages

    (task,) = done.tasks
    assert (task.end_time or 0) - (task.start_time or 0) >= 10_000


def test_only_tasks_go_over_the_broker_in_fused_mode() -> None:
    """The one StartStage is the submission's."""
    world = World(FUSED, slice_ms=0)
    world.run(chain(10))

    assert world.sent == {"StartStage": 1, "RunTask": 10}


def test_a_fused_process_keeps_a_thread_for_a_slice_of_time() -> None:
    """Then its next task is sent, and whatever waits has its turn: a body that takes longer is the last of its slice."""
    world = World(FUSED)
    world.simulation.runtime.serves = lambda: frozenset({world.simulation.settings.work_queue})
    world.takes_us = 1_900
    world.run(chain(10))

    # Three begin within 5 ms, wherever the stage that comes first was started.
    assert world.sent == {"StartStage": 1, "RunTask": 3}


def test_a_stage_costs_two_commits_when_fused_and_one_when_continued() -> None:
    """Claim; result with all that follows. And with the next claim in it, also within a slice of the fused mode."""

    def cost(mode: str, slice_ms: int = 0) -> float:
        world = World(mode, slice_ms=slice_ms)
        world.run(chain(30))
        return world.commits / 30

    assert cost(PER_MESSAGE) > 4
    assert 2 <= cost(FUSED) < 2.3
    assert cost(FUSED, slice_ms=5) < 1.3
    assert cost(CONTINUATION) < 1.3


@pytest.mark.parametrize("mode", [FUSED, CONTINUATION])
@pytest.mark.parametrize("shape", [chain, fan_out])
def test_a_workflow_ends_in_the_commit_of_its_last_result(shape: Callable[[], list[StageExecution]], mode: str) -> None:
    """Where all ways end in one stage, what the end is decided on was read with its claim."""
    world = World(mode)

    world.run(shape())

    assert [kind.split()[0] for kind in world.last_commit] == [
        "task.completed",
        "stage.completed",
        "workflow.succeeded",
    ]


def test_a_process_goes_on_with_its_workflow() -> None:
    """Only the first task is sent."""
    world = World(CONTINUATION)
    world.run(chain(10))

    assert world.sent == {"StartStage": 1, "RunTask": 1}


def test_a_process_that_serves_tasks_starts_with_the_first() -> None:
    """It has decided the start, and the task would have come to its queue; one that does not serve it sends it."""
    serving, control = World(CONTINUATION), World(CONTINUATION)
    serving.simulation.runtime.serves = lambda: frozenset({serving.simulation.settings.work_queue})
    serving.run(chain(10))
    control.run(chain(10))

    assert serving.sent == {"StartStage": 1}
    assert control.sent["RunTask"] == 1


@pytest.mark.parametrize("mode", [FUSED, CONTINUATION])
@pytest.mark.parametrize("seed", range(5))
def test_no_fault_is_too_much_for_a_process_that_serves_tasks(mode: str, seed: int) -> None:
    """A claim that was made with the start of its stage is as good as any."""
    world = World(mode, Faults(), seed)
    world.simulation.runtime.serves = lambda: frozenset({world.simulation.settings.work_queue})

    done = world.run([*fan_out(), stage("mutex", "z", mutex_key="k")])

    assert done.status.name == "SUCCEEDED"
    assert sum(kind.startswith("stage.completed") for kind, _ in world.told) == 43
    assert sum(kind.startswith("workflow.succeeded") for kind, _ in world.told) == 1


def test_a_workflow_without_an_end_lets_others_have_their_turn() -> None:
    """After so many tasks it goes over the broker again."""
    world = World(CONTINUATION)
    world.run([stage("loop", does="loop", jump_targets=["loop"])], max_jumps=10 * MOST_IN_TURN)

    assert world.runs == 3 * MOST_IN_TURN
    assert world.sent["RunTask"] >= 3


@pytest.mark.parametrize("mode", [FUSED, CONTINUATION])
@pytest.mark.parametrize("seed", range(5))
def test_no_fault_is_too_much_for_a_mode(mode: str, seed: int) -> None:
    """Lost, doubled and late deliveries, workers that die between any two steps: all of it runs, each stage once."""
    world = World(mode, Faults(), seed)

    done = world.run([*fan_out(), stage("mutex", "z", mutex_key="k")])

    assert done.status.name == "SUCCEEDED"
    assert sum(kind.startswith("stage.completed") for kind, _ in world.told) == 43
    assert sum(kind.startswith("workflow.succeeded") for kind, _ in world.told) == 1


def test_a_mode_that_there_is_not_is_refused() -> None:
    """With what there is."""
    with pytest.raises(ValueError, match="use one of per_message, fused, continuation"):
        Settings(mode="fast")
    with pytest.raises(ValueError, match="use one of broker, ledger"):
        Settings(acks="none")
