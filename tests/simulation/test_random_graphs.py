"""Any definition, under any schedule: it ends, its books are in order, and what is determined is the same every time."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stabilize_celery.engine import outside
from stabilize_celery.engine.restart import restart
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.settings import Settings
from stabilize_celery.testing import Faults, Simulation
from tests.simulation.laws import Laws
from tests.simulation.random_graphs import TAME, TASKS, WILD, definitions
from tests.simulation.stories import CALM, ROUGH
from tests.simulation.tuning import SCALE

STORMY = Faults(duplicate=0.2, lose=0.1, preempt=0.4, die=0.05)
HOUR_MS = 3_600_000


def looking(examples: int) -> Any:
    """The same examples in every run, unless more are asked for."""
    return settings(
        max_examples=examples * SCALE,
        deadline=None,
        derandomize=SCALE == 1,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class Play:
    """One simulated run of a definition, watched by the laws."""

    def __init__(self, definition: dict[str, Any], seed: int, faults: Faults, settings: Settings | None = None) -> None:
        self.random = Random(seed)
        tasks = {**TASKS, "gate": self.gate, "slow": self.slow}
        self.simulation = Simulation(seed, tasks, faults=faults, settings=settings)
        self.laws = Laws(self.simulation)
        self.id = self.simulation.start(definition)
        self.asked = 0

    def gate(self, found: StageExecution) -> TaskResult:
        """Waits a moment: its signal is on the way."""
        if found.context.get("asked"):
            return TaskResult.success()
        self.later(lambda: self.ask(outside.signal, found.ref_id, "go", None))
        return TaskResult.suspend(context={"asked": True})

    def slow(self, _found: StageExecution) -> TaskResult:
        """Is sometimes given up while it runs."""
        self.simulation.meanwhile(self.random.choice([10, 1_000, 12_000]))
        return TaskResult.success()

    def later(self, act: Any) -> None:
        self.simulation.plan(self.simulation.now_us + self.random.randrange(2_000_000), act)

    def ask(self, event: Any, *arguments: Any) -> None:
        self.asked += 1
        name = f"e{self.asked}"
        self.simulation.ask(self.id, lambda: event(self.id, name, *arguments))
        if event is outside.pause:
            self.later(lambda: self.ask(outside.resume))

    def run(self) -> "Play":
        self.simulation.run(self.id)
        self.simulation.drain(until_ms=self.simulation.now_us // 1000 + HOUR_MS)
        self.laws.require_the_end(self.id)
        return self

    @property
    def statuses(self) -> dict[str, str]:
        found = self.simulation.read(self.id)
        return {"": found.status.name} | {each.ref_id: each.status.name for each in found.stages}


@looking(60)
@given(definitions(WILD), st.integers(0, 2**32))
def test_whatever_is_defined_ends_and_leaves_nothing_behind(definition: dict[str, Any], seed: int) -> None:
    """Joins, splits, failures, retries, locks, jumps, threads, synthetic stages, in a storm."""
    play = Play(definition, seed, STORMY).run()
    play.laws.require_no_trace(play.id)


EVENTS: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "cancel": lambda ref_id: (outside.cancel_stage, ref_id),
    "skip": lambda ref_id: (outside.skip_stage, ref_id),
    "choose": lambda ref_id: (outside.choose, ref_id),
    "complete": lambda ref_id: (outside.complete_instances, ref_id),
    "add": lambda ref_id: (outside.add_instances, ref_id, 2),
    "clear": lambda _: (outside.cancel_region, "region"),
    "pause": lambda _: (outside.pause, "x"),
    "end": lambda _: (outside.cancel, "enough", "x"),
}


@looking(60)
@given(definitions(WILD), st.integers(0, 2**32), st.lists(st.sampled_from(sorted(EVENTS)), max_size=5))
def test_outside_events_at_any_moment_leave_nothing_behind(
    definition: dict[str, Any], seed: int, events: list[str]
) -> None:
    """Stages cancelled, skipped, chosen, completed; the workflow paused and resumed, or cancelled as a whole."""
    play = Play(definition, seed, STORMY)
    for event in events:
        ref_id = play.random.choice(definition["stages"])["ref_id"]
        play.later(partial(play.ask, *EVENTS[event](ref_id)))

    play.run()
    play.laws.require_no_trace(play.id)


@looking(30)
@given(definitions(WILD), st.integers(0, 2**32), st.booleans())
def test_a_restart_of_whatever_has_ended_ends_again(definition: dict[str, Any], seed: int, is_cancelled: bool) -> None:
    """Also after a cancel in its midst: nothing of the first time counts twice, or is missing."""
    play = Play(definition, seed, STORMY)
    if is_cancelled:
        play.later(lambda: play.ask(outside.cancel, "enough", "x"))
    play.run()

    for _ in range(2):
        play.ask(restart, play.random.choice(definition["stages"])["ref_id"])
        play.run()


@looking(10)
@given(definitions(replace(TAME, threads=[1])), st.integers(0, 2**32))
def test_a_restart_comes_to_the_same(definition: dict[str, Any], seed: int) -> None:
    """What follows the stage gets there once more, beside what came from elsewhere; the rest keeps its results."""
    play = Play(definition, seed, CALM).run()
    before = play.statuses

    for _ in range(2):
        tops = [one["ref_id"] for one in definition["stages"] if "parent_stage_id" not in one]
        play.ask(restart, play.random.choice(tops))
        assert play.run().statuses == before


@looking(30)
@given(definitions(TAME), st.integers(0, 2**32))
def test_what_is_determined_comes_out_the_same_under_every_schedule(definition: dict[str, Any], seed: int) -> None:
    """Without races in the definition the final statuses are those of a calm run."""
    calm = Play(definition, 0, CALM).run().statuses

    for shift in range(3):
        assert Play(definition, seed + shift, ROUGH).run().statuses == calm
