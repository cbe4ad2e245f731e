"""Hooks and time-outs in any definition, in a storm: it ends, and nothing stays owed; who was told was claimed before."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.tasks.call import current_call
from stabilize_celery.tasks.task import Task
from tests.simulation.random_graphs import TASKS, WILD, definitions
from tests.simulation.test_random_graphs import EVENTS, STORMY, Play, looking


class Hooked(Task):
    """A task of the random graphs with both hooks; some of its time-outs end well."""

    def __init__(self, body: Callable[[StageExecution], Any], random: Random) -> None:
        self.body, self.random = body, random
        self.told: set[str] = set()

    def execute(self, stage: StageExecution) -> TaskResult:
        result: TaskResult = self.body(stage)
        return result

    def on_cancel(self, stage: StageExecution) -> None:
        assert stage.ref_id == current_call().stage_ref_id
        self.told.add(stage.ref_id)
        if self.random.random() < 0.2:
            raise RuntimeError("a hook that fails")

    def on_timeout(self, stage: StageExecution) -> TaskResult | None:
        answers = [TaskResult.success({stage.ref_id: "late"}), TaskResult.failed_continue(error="late"), None]
        return self.random.choice(answers)


@looking(60)
@given(
    definitions(WILD),
    st.integers(0, 2**32),
    st.lists(st.sampled_from(sorted(EVENTS)), max_size=4),
    st.lists(st.sampled_from([0, 0, 400, 3_000, 15_000]), min_size=1, max_size=5),
)
def test_hooks_and_time_outs_leave_nothing_behind(
    definition: dict[str, Any], seed: int, events: list[str], limits_ms: list[int]
) -> None:
    """Whatever is cancelled or out of time, at any moment."""
    for at, stage in enumerate(definition["stages"]):
        if limit_ms := limits_ms[at % len(limits_ms)]:
            stage.setdefault("context", {})["stageTimeoutMs"] = limit_ms
    play = Play(definition, seed, STORMY)
    bodies = {**TASKS, "gate": play.gate, "slow": play.slow}
    hooked = [Hooked(body, play.random) for body in bodies.values()]
    for name, task in zip(bodies, hooked, strict=True):
        play.simulation.registry.register(name, task)
    for event in events:
        ref_id = play.random.choice(definition["stages"])["ref_id"]
        play.later(partial(play.ask, *EVENTS[event](ref_id)))

    play.run()

    events_of = play.simulation.store.events(play.id, "0", None, 100_000)
    begun = {event.fields["ref"].decode() for event in events_of if event.fields["kind"] == b"task.started"}
    assert {ref_id for task in hooked for ref_id in task.told} <= begun
