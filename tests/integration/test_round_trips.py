"""What each message costs on a real Redis: round trips, counted by the store that carries them out."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis

from stabilize_celery.models.messages import MESSAGE_TYPES
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import SplitType, StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import CONTINUATION, FUSED, PER_MESSAGE, Settings
from stabilize_celery.store.redis_store import RedisStore
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.transport.incoming import message_of

Ledger = dict[tuple[str, str], list[int]]


class Counted:
    """One worker without a broker: messages are handled in the order of their publication, and their cost is kept."""

    def __init__(self, url: str, mode: str = PER_MESSAGE) -> None:
        registry = TaskRegistry()
        registry.task("work")(lambda stage: TaskResult.success(outputs={stage.ref_id: stage.context.get("n", 0) + 1}))
        registry.task("add_up")(lambda stage: TaskResult.success({"sum": sum(stage.context[name] for name in "bc")}))
        registry.task("fail")(_fail)
        registry.task("crash")(_crash)
        self.store = RedisStore(url)
        self.store.partitions()
        # On a slow machine a turn would end in the midst of a chain, and cost a message.
        settings = Settings(mode=mode, continuation_ms=60_000)
        self.runtime = Runtime(self.store, registry, self, settings, "counted")
        self.sent: deque[Outgoing] = deque()
        self.costs: Ledger = defaultdict(list)
        """Round trips of each delivery, by kind of message and stage."""
        self.publishes: dict[str, int] = defaultdict(int)
        self._handling = ""

    def publish(self, batch: Sequence[Outgoing]) -> None:
        self.sent.extend(batch)
        self.publishes[self._handling] += 1

    def run(self, *stages: StageExecution, **more: Any) -> Workflow:
        workflow_id = self.runtime.submit(Workflow(application="cost", name="cost", stages=list(stages), **more))
        while self.sent:
            self.deliver(self.sent.popleft())
        return self.runtime.read(workflow_id)

    def deliver(self, message: Outgoing) -> str:
        self._handling = message.kind
        before = self.store.round_trips
        note = self.runtime.handle(message_of(MESSAGE_TYPES[message.kind], message.task_id, message.kwargs))
        self.costs[message.kind, message.kwargs.get("ref_id", "")].append(self.store.round_trips - before)
        return note

    def of(self, kind: str) -> dict[str, list[int]]:
        """What messages of a kind cost, by stage."""
        return {ref_id: costs for (found, ref_id), costs in self.costs.items() if found == kind}


@pytest.fixture
def counted(redis_url: str) -> Iterator[Counted]:
    worker = Counted(redis_url)
    yield worker
    worker.store.close()


def _fail(stage: StageExecution) -> TaskResult:
    return TaskResult.terminal(error="meant to fail")


def _crash(stage: StageExecution) -> TaskResult:
    raise ZeroDivisionError("the author's bug")


def stage(ref_id: str, *after: str, does: str = "work", **more: Any) -> StageExecution:
    return StageExecution(
        ref_id=ref_id,
        type="test",
        name=ref_id,
        requisite_stage_ref_ids=set(after),
        tasks=[TaskExecution.create(does, does)],
        **more,
    )


def chain() -> list[StageExecution]:
    return [stage("a"), stage("b", "a"), stage("c", "b")]


def fan_out() -> list[StageExecution]:
    branches = [f"b{number}" for number in range(20)]
    return [stage("a"), *(stage(ref_id, "a") for ref_id in branches), stage("z", *branches)]


def reads_upstream_outputs() -> list[StageExecution]:
    return [stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c", does="add_up")]


def fails() -> list[StageExecution]:
    return [stage("a"), stage("b", "a", does="fail"), stage("c", "b")]


def raises() -> list[StageExecution]:
    return [stage("a", does="crash", context={"continuePipelineOnFailure": True}), stage("b", "a")]


@pytest.mark.parametrize("shape", [chain, fan_out, reads_upstream_outputs, fails, raises])
def test_a_stage_costs_two_round_trips_to_start_three_to_run_and_two_to_complete(
    counted: Counted, shape: Callable[[], list[StageExecution]]
) -> None:
    """WATCH, reads and TIME are one, EXEC is the other; a RunTask has a claim between, which reads what its result needs."""
    done = counted.run(*shape())

    assert done.status.is_complete
    assert {cost for costs in counted.of("StartStage").values() for cost in costs} == {2}
    assert {cost for costs in counted.of("RunTask").values() for cost in costs} == {3}
    assert {cost for costs in counted.of("CompleteStage").values() for cost in costs} == {2}
    assert max(counted.publishes[kind] / len(counted.of(kind)) for kind in ("StartStage", "CompleteStage")) <= 1


def test_a_thousand_stages_behind_it_make_a_stage_no_dearer(counted: Counted) -> None:
    """Each wrote a name of its own; who looks at none of the old ones reads none."""
    names = [f"s{number}" for number in range(200)]
    counted.run(*(stage(name, *names[at - 1 : at]) for at, name in enumerate(names)))

    assert counted.of("StartStage")["s199"] == [2]
    assert counted.of("RunTask")["s199"] == [4], "it looks at `n`, which nobody wrote: one look at the pages"
    assert counted.of("CompleteStage")["s199"] == [2]


def test_outputs_of_many_branches_are_read_with_the_claim(counted: Counted) -> None:
    """As many as a stage is likely to have; the task waits for none of them."""
    branches = [f"b{number}" for number in range(60)]
    done = counted.run(*(stage(ref_id, context={"n": 1}) for ref_id in branches), stage("z", *branches))

    assert done.status.name == "SUCCEEDED"
    assert counted.of("RunTask")["z"] == [3]


def test_a_join_costs_three_round_trips_and_is_judged_once(counted: Counted) -> None:
    """Read the arrivals, read what the branches have seen, EXEC; the arrivals before the last one publish nothing."""
    counted.run(*fan_out())

    assert counted.of("EvaluateJoin") == {"z": [3]}


def test_the_end_of_a_workflow_costs_three_round_trips(counted: Counted) -> None:
    """Settle reads the counters, then every join at once, and writes the end."""
    counted.run(*fan_out())

    assert counted.of("SettleWorkflow") == {"": [3]}


def test_a_mutex_costs_two_more_messages(counted: Counted) -> None:
    """Asking: workflow, lock, EXEC of the lock, EXEC of the workflow. Giving back: the same four."""
    done = counted.run(stage("a", mutex_key="printer"), stage("b", "a"))

    assert done.status.name == "SUCCEEDED"
    assert counted.of("StartStage")["a"] == [2]
    assert counted.of("AcquireLock") == {"a": [4]}
    assert counted.of("ReleaseLock") == {"a": [4]}


def test_a_hand_over_costs_two_round_trips_per_waiter(counted: Counted) -> None:
    """Reading the next holder's entry and nudging it; who waits pays for one look at the holder."""
    done = counted.run(stage("a", mutex_key="printer"), stage("b", mutex_key="printer"))

    assert done.status.name == "SUCCEEDED"
    first, second = sorted(counted.of("AcquireLock").values(), key=len)
    assert first == [4]
    assert second == [5, 3]
    assert sorted(cost for costs in counted.of("ReleaseLock").values() for cost in costs) == [4, 6]


def enabled_if(expression: str) -> dict[str, Any]:
    return {"stageEnabled": {"type": "expression", "expression": expression}}


def test_a_condition_costs_no_more_whatever_it_looks_at(counted: Counted) -> None:
    """Values of earlier runs travel along with the thread, those of the workflow's context stand in the plan."""
    done = counted.run(
        stage("a"),
        stage("b", "a", context={**enabled_if("a == 1 and mine == 1 and limit > 0"), "mine": 1}),
        stage("x", "b", split_type=SplitType.XOR, split_conditions={"y": "a > limit", "z": "x == 1"}),
        stage("y", "x"),
        stage("z", "x", mi_config=MultiInstanceConfig(count_from_context="b")),
        stage("end", "z", context=enabled_if("a == 1")),
        context={"limit": 3},
    )

    assert done.status.name == "SUCCEEDED"
    assert done.stage_by_ref_id("y").status.name == "SKIPPED"  # type: ignore[union-attr]
    starts, ends = counted.of("StartStage"), counted.of("CompleteStage")
    assert {cost for costs in starts.values() for cost in costs} == {2}
    assert {ref: ends[ref] for ref in "abx"} == {"a": [2], "b": [2], "x": [2]}


def test_a_condition_on_a_large_value_costs_one_more(counted: Counted) -> None:
    """What is large stays where it was written."""
    large = {"items": list(range(10_000))}
    done = counted.run(stage("a"), stage("b", "a", context=enabled_if("items[0] == 0")), context=large)

    assert done.status.name == "SUCCEEDED"
    assert counted.of("StartStage") == {"a": [2], "b": [3]}


class CountedCommands:
    """Commands that a server has carried out, but for those that look at this."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)

    def per_stage(self, worker: Counted, stages: int) -> float:
        self._client.config_resetstat()
        worker.run(*long_chain(stages))
        stats: dict[str, dict[str, int]] = self._client.info("commandstats")
        spared = ("cmdstat_config", "cmdstat_info", "cmdstat_client", "cmdstat_hello", "cmdstat_select")
        return sum(stat["calls"] for name, stat in stats.items() if not name.startswith(spared)) / stages

    def close(self) -> None:
        self._client.close()


def long_chain(length: int) -> list[StageExecution]:
    return [stage(f"s{at}", *([f"s{at - 1}"] if at else []), context={"n": 1}) for at in range(length)]


@pytest.mark.parametrize(
    ("mode", "round_trips", "commands", "messages"),
    [(PER_MESSAGE, 7, 81, 3), (FUSED, 3, 54, 1), (CONTINUATION, 1, 43, 0)],
)
def test_a_stage_of_a_chain_costs_so_much_in_each_mode(
    redis_url: str, mode: str, round_trips: int, commands: int, messages: int
) -> None:
    """Round trips, commands and messages per stage of 40; the beginning and the end of the workflow are in it."""
    worker, counter = Counted(redis_url, mode), CountedCommands(redis_url)
    try:
        before = worker.store.round_trips
        per_stage = counter.per_stage(worker, 40)
        delivered = sum(len(costs) for costs in worker.costs.values())

        assert (worker.store.round_trips - before) / 40 <= round_trips + 0.5
        assert per_stage <= commands
        assert delivered / 40 <= messages + 0.1
    finally:
        counter.close()
        worker.store.close()


@pytest.mark.parametrize("kind", ["StartStage", "RunTask", "CompleteStage"])
def test_a_duplicate_costs_one_round_trip(counted: Counted, kind: str) -> None:
    """Its ledger entry is gone: nothing is decided, nothing is written."""
    counted.runtime.submit(Workflow(application="cost", name="cost", stages=[stage("a")]))
    seen: list[Outgoing] = []
    while counted.sent:
        seen.append(counted.sent.popleft())
        counted.deliver(seen[-1])
    counted.costs.clear()

    note = counted.deliver(next(message for message in seen if message.kind == kind))

    assert "duplicate" in note or "ended" in note
    assert counted.of(kind) == {"a": [1]}
