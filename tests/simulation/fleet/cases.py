"""What a seed stands for: workflows, what the outside does to them, and troubles. Running one, and judging it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

from hypothesis.control import BuildContext
from hypothesis.internal.conjecture.data import ConjectureData

from stabilize_celery.engine import outside
from stabilize_celery.errors import TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.settings import CONTINUATION, FUSED, PER_MESSAGE
from stabilize_celery.tasks.call import current_call
from tests.simulation.fleet.fleet import SETTINGS, Fleet, LawBrokenError
from tests.simulation.fleet.troubles import Troubles, draw_troubles
from tests.simulation.random_graphs import TAME, WILD, definitions

__all__ = ["Case", "Outcome", "draw_case", "run_case", "run_seed"]

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

_PRIORITIES = (0, 3, 6, 9)
_TAKES = 0.5
_MODES = (PER_MESSAGE, PER_MESSAGE, FUSED, CONTINUATION)
_SLICES_MS = (5, 0)


@dataclass(frozen=True, slots=True)
class Case:
    """One run, before it runs. `is_tame`: what comes out must be what comes out when nothing fails."""

    seed: int
    definitions: tuple[dict[str, Any], ...]
    events: tuple[tuple[int, int, str, str], ...]
    """When (ms), to which workflow, what, to which stage."""
    troubles: Troubles
    is_tame: bool
    mode: str = PER_MESSAGE
    """Which of the modes all workers run in."""
    takes: bool = False
    """Whether processes take messages off the broker's lists themselves (decision 015)."""


@dataclass(slots=True)
class Outcome:
    """What became of a case; `broken` is empty if all laws held."""

    broken: str = ""
    statuses: list[dict[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    steps: int = 0
    executions: int = 0


def draw_case(seed: int) -> Case:
    """Return the case of a seed, always the same."""
    random = Random(seed)
    is_tame = random.random() < 0.5
    kinds = TAME if is_tame else WILD
    first = _definition(random, kinds)
    drawn = [first]
    for _ in range(random.choice((0, 0, 1, 2))):
        drawn.append(random.choice((first, _definition(random, kinds))))
    drawn = [_called(one) if random.random() < 0.15 else one for one in drawn]
    drawn = [{**one, "priority": random.choice(_PRIORITIES)} if random.random() < 0.3 else one for one in drawn]
    events = [] if is_tame or random.random() < 0.5 else [_event(random, drawn) for _ in range(random.randint(1, 4))]
    troubles = draw_troubles(random)
    mode, takes = random.choice(_MODES), random.random() < _TAKES
    return Case(seed, tuple(drawn), tuple(sorted(events)), troubles, is_tame, mode, takes)


def _definition(random: Random, kinds: Any) -> dict[str, Any]:
    data = ConjectureData(random=Random(random.getrandbits(64)))
    with BuildContext(data, is_final=False, wrapped_test=_definition):
        drawn: dict[str, Any] = data.draw(definitions(kinds))
    return drawn


def _called(definition: dict[str, Any]) -> dict[str, Any]:
    """Return a workflow that calls this one and goes on when it has ended, whatever became of it."""
    inner = {name: value for name, value in definition.items() if name != "sub_workflows"}
    call = {
        "ref_id": "call",
        "type": "test",
        "name": "call",
        "tasks": [],
        "sub_workflow": "inner",
        "context": {"continuePipelineOnFailure": True},
    }
    task = {"name": "work", "implementing_class": "work"}
    after = {"ref_id": "after", "type": "test", "name": "after", "tasks": [task], "requisite_stage_ref_ids": ["call"]}
    return {
        "application": "tests",
        "name": "caller",
        "stages": [call, after],
        "sub_workflows": {"inner": inner},
        "context": dict(definition.get("context", {})),
    }


def _event(random: Random, drawn: list[dict[str, Any]]) -> tuple[int, int, str, str]:
    number = random.randrange(len(drawn))
    ref_ids = [stage["ref_id"] for stage in drawn[number]["stages"]]
    ref_id = "call" if "call" in ref_ids else random.choice(ref_ids)
    return int(10 ** random.uniform(0, 4)), number, random.choice(sorted(EVENTS)), ref_id


class _Play:
    """One run of a case."""

    def __init__(self, case: Case, *, tells: bool) -> None:
        self.case = case
        self.random = Random(case.seed + 1)
        types = ("work", "write", "fail", "skip", "jump", "again", "flaky", "poll", "crash", "gate", "slow")
        tasks = {name: getattr(self, f"_do_{name}") for name in types}
        settings = replace(SETTINGS, mode=case.mode, fused_slice_ms=_SLICES_MS[case.seed % len(_SLICES_MS)])
        self.fleet = Fleet(case.seed, tasks, case.troubles, settings=settings, takes=case.takes)
        self.fleet.story.is_wanted = tells
        self.asked = 0

    def run(self) -> Outcome:
        fleet = self.fleet
        try:
            self._begin()
            fleet.run()
            broken = ""
        except LawBrokenError as error:
            broken = str(error)
        finally:
            fleet.end()
        return Outcome(broken, self.statuses, fleet.story.lines, fleet.loop.steps, fleet.executions)

    def _begin(self) -> None:
        self.statuses: list[dict[str, str]] = [{} for _ in self.case.definitions]
        for number, definition in enumerate(self.case.definitions):
            workflow_id = f"w{number}"
            self.fleet.ids.append(workflow_id)
            after_ms = self.random.randrange(200)
            for _ in range(self.random.choice((1, 1, 2))):
                self.fleet.submit(definition, workflow_id=workflow_id, after_ms=after_ms)
                # A twin may well come at the same moment.
                after_ms += self.random.choice((0, 1, 100))
        for at_ms, number, what, ref_id in self.case.events:
            self._ask(f"w{number}", what, *EVENTS[what](ref_id), after_ms=at_ms)
        self.fleet.observers.append(self._look)

    def _look(self, slot: Any, transaction: Any) -> None:
        """Keep how it ended, before retention takes it."""
        is_told = slot.kind == "workflow" and slot.name in self.fleet.ids and bool(transaction.events)
        if not is_told or self.fleet.is_live(slot.name) or not self.fleet.is_there(slot.name):
            return
        found = self.fleet.read(slot.name)
        stages = {each.ref_id: each.status.name for each in found.stages}
        self.statuses[self.fleet.ids.index(slot.name)] = {"": found.status.name} | stages

    def _ask(self, workflow_id: str, what: str, event: Any, *arguments: Any, after_ms: int, **named: Any) -> None:
        self.asked += 1
        name = f"e{self.asked}"
        asking = partial(event, workflow_id, name, *arguments, **named)
        pause_ms = self.random.randrange(1, 9_000)

        def then() -> None:
            if event is outside.pause:
                self._again(workflow_id, "resume", outside.resume, after_ms=pause_ms)

        self.fleet.ask(workflow_id, asking, what, after_ms=after_ms, then=then)

    def _again(self, workflow_id: str, what: str, event: Any, *arguments: Any, after_ms: int, **named: Any) -> None:
        """Ask once; and again now and then where Redis may have forgotten it."""
        self._ask(workflow_id, what, event, *arguments, after_ms=after_ms, **named)
        if self.case.troubles.loses_writes:
            for later_ms in (40_000, 80_000):
                self._ask(workflow_id, what, event, *arguments, after_ms=after_ms + later_ms, **named)

    # -- tasks: everything they do depends on what they are given only ----------------------------------------------

    def _by(self, found: StageExecution) -> dict[str, int]:
        """Let the attempt be seen in what it leaves, and take a while."""
        ms = self.random.choice((0, 1, 30, 300, 300, 3_000))
        self.fleet.loop.sleep(ms * 1000)
        return {"by": found.context["execution"]}

    def _do_work(self, found: StageExecution) -> TaskResult:
        return TaskResult.success(outputs={found.ref_id: True, **self._by(found)})

    def _do_write(self, found: StageExecution) -> TaskResult:
        return TaskResult.success(outputs={"number": len(found.requisite_stage_ref_ids), **self._by(found)})

    def _do_fail(self, found: StageExecution) -> TaskResult:
        self._by(found)
        return TaskResult.terminal(error="meant to fail")

    def _do_skip(self, _found: StageExecution) -> TaskResult:
        return TaskResult.skipped()

    def _do_jump(self, found: StageExecution) -> TaskResult:
        self._by(found)
        return TaskResult.jump_to(found.context["to"])

    def _do_again(self, found: StageExecution) -> TaskResult:
        """Run the stage three times."""
        passes = found.context.get("passes", 0)
        by = self._by(found)
        return (
            TaskResult.success(outputs=by) if passes > 1 else TaskResult.jump_to(found.ref_id, {"passes": passes + 1})
        )

    def _do_flaky(self, found: StageExecution) -> TaskResult:
        tries = found.context.get("tries", 0)
        if tries < 2:
            raise TransientError("not yet", retry_after=0.1, context_update={"tries": tries + 1, **self._by(found)})
        return TaskResult.success(outputs=self._by(found))

    def _do_poll(self, found: StageExecution) -> TaskResult:
        polls = found.context.get("polls", 0)
        if polls > 1:
            return TaskResult.success(outputs=self._by(found))
        return TaskResult.running({"polls": polls + 1, **self._by(found)})

    def _do_crash(self, found: StageExecution) -> TaskResult:
        self._by(found)
        raise ZeroDivisionError("meant to crash")

    def _do_slow(self, found: StageExecution) -> TaskResult:
        self.fleet.loop.sleep(self.random.choice((10, 1_000, 12_000, 25_000)) * 1000)
        return TaskResult.success(outputs=self._by(found))

    def _do_gate(self, found: StageExecution) -> TaskResult:
        """Waits for a signal that is on its way."""
        if found.context.get("asked"):
            return TaskResult.success()
        workflow_id = current_call().workflow_id
        left = self._by(found)
        # It may come just while the result is recorded.
        after_ms = self.random.choice((0, 1, 2, 3, self.random.randrange(2_000)))
        self._again(workflow_id, "signal", outside.signal, found.ref_id, "go", None, after_ms=after_ms)
        return TaskResult.suspend(context={"asked": True, **left})


def run_case(case: Case, *, tells: bool = False) -> Outcome:
    """Run a case and judge it: no law is broken, and a tame one ends as it does when nothing fails.

    The story is that of the run which broke a law.
    """
    outcome = _Play(case, tells=tells).run()
    if outcome.broken or not case.is_tame:
        return outcome
    calm = _Play(replace(case, troubles=Troubles()), tells=tells).run()
    if calm.broken:
        outcome.broken, outcome.lines = f"already when nothing fails: {calm.broken}", calm.lines
    elif calm.statuses != outcome.statuses:
        outcome.broken = f"it ends as {outcome.statuses}; without troubles as {calm.statuses}"
    return outcome


def run_seed(seed: int) -> tuple[int, str, int, int]:
    """Run a seed; return it, what is broken (empty: nothing), and how many steps and executions that took."""
    logging.disable(logging.CRITICAL)
    outcome = run_case(draw_case(seed))
    return seed, outcome.broken, outcome.steps, outcome.executions
