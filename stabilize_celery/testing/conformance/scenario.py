"""Scenario files: their shape, and one clear error for a file that does not have it.

Unknown keys are refused everywhere: one that is mistyped must not go unnoticed. Remarks have a key, `note`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from stabilize_celery.models.schema import StageDefinition
from stabilize_celery.testing.conformance.steps import Step, compile_steps

__all__ = [
    "MAIN",
    "Effect",
    "EventScript",
    "Expectation",
    "InstanceCounts",
    "MostAtOnce",
    "RunRange",
    "Scenario",
    "ScenarioFileError",
    "StageScript",
    "SumOfRuns",
    "TaskScript",
    "Trigger",
    "WorkflowScript",
    "load_scenarios",
]

MAIN = ""
"""Stands for the main workflow in a resolved reference."""


class ScenarioFileError(Exception):
    """A file that cannot be read as scenarios; the text says which and why."""


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Refuses unknown keys: one that is mistyped must not go unnoticed."""


def _only_one(thing: msgspec.Struct, names: tuple[str, ...], what: str) -> None:
    given = [name for name in names if getattr(thing, name) is not None]
    if len(given) != 1:
        raise ValueError(f"{what} needs exactly one of {', '.join(names)}; it has {' and '.join(given) or 'none'}")


class TaskScript(_Strict):
    """A task and the actions that it does, in order."""

    name: str
    does: list[Any]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The actions, flat."""
        return compile_steps(self.does)

    def __post_init__(self) -> None:
        compile_steps(self.does)


class StageScript(StageDefinition, forbid_unknown_fields=True, kw_only=True):
    """A stage: the fields of a definition, with scripts for tasks. `choose_after` is in ticks."""

    type: Literal["script", "sub_workflow"] = "script"
    tasks: list[TaskScript] = []  # type: ignore[assignment] # noqa: RUF012 - scripts, where others have tasks
    choose_after: int | None = None


class Trigger(_Strict):
    """One condition of an event; exactly one of its kinds is given."""

    tick: int | None = None
    started: str | None = None
    completed: str | None = None
    suspended: str | None = None
    instances_completed: str | None = None
    offered: str | None = None
    held: str | None = None
    skipped: str | None = None
    canceled: str | None = None
    event: str | None = None
    ended: str | None = None
    count: int = 1

    def __post_init__(self) -> None:
        _only_one(self, _TRIGGERS, "a trigger")

    @property
    def kind(self) -> str:
        """Which of its kinds is given."""
        return next(name for name in _TRIGGERS if getattr(self, name) is not None)

    @property
    def stage(self) -> str | None:
        """The stage that it looks at, if it looks at one."""
        return None if self.kind in ("tick", "event", "ended") else str(getattr(self, self.kind))


_TRIGGERS = tuple(name for name in Trigger.__struct_fields__ if name != "count")


class WorkflowScript(_Strict):
    """A definition. `start`: None: at the beginning; "called": only as an inner workflow; else when it holds."""

    name: str
    stages: list[StageScript]
    context: dict[str, Any] = {}
    max_jumps: int = 100
    max_depth: int = 10
    start: Literal["called"] | Trigger | list[Trigger] | None = None

    @property
    def is_called(self) -> bool:
        """Whether it runs only as an inner workflow."""
        return self.start == "called"

    @property
    def triggers(self) -> list[Trigger]:
        """What must hold before it starts; none: it starts at the beginning."""
        if isinstance(self.start, Trigger):
            return [self.start]
        return self.start if isinstance(self.start, list) else []

    def stage(self, ref_id: str) -> StageScript | None:
        """Return the stage of that name, or None."""
        return next((stage for stage in self.stages if stage.ref_id == ref_id), None)


class Effect(_Strict):
    """What an event does; exactly one of its verbs is given, the other fields go with it."""

    signal: str | None = None
    cancel_workflow: str | None = None
    cancel_stage: str | None = None
    skip_stage: str | None = None
    cancel_region: str | None = None
    complete_mi: str | None = None
    add_instances: int | None = None
    choose: str | None = None
    stage: str | None = None
    persistent: bool = False
    data: Any = None
    instance: int | None = None
    workflow: str | None = None
    context: dict[str, Any] = {}

    def __post_init__(self) -> None:
        _only_one(self, _VERBS, "an event's do")
        if self.verb in ("signal", "add_instances") and self.stage is None:
            raise ValueError(f"{self.verb} needs a stage")

    @property
    def verb(self) -> str:
        """Which of its verbs is given."""
        return next(name for name in _VERBS if getattr(self, name) is not None)

    @property
    def target(self) -> str | None:
        """The stage that it is about, if it is about one."""
        if self.verb in ("signal", "add_instances"):
            return self.stage
        return None if self.verb in ("cancel_workflow", "cancel_region") else str(getattr(self, self.verb))


_VERBS = (
    "signal",
    "cancel_workflow",
    "cancel_stage",
    "skip_stage",
    "cancel_region",
    "complete_mi",
    "add_instances",
    "choose",
)


class EventScript(_Strict):
    """Something that the outside does once, when all its triggers hold at one moment."""

    when: Trigger | list[Trigger]
    do: Effect
    id: str = ""

    @property
    def triggers(self) -> list[Trigger]:
        """What must hold, all at the same moment."""
        return self.when if isinstance(self.when, list) else [self.when]


class RunRange(_Strict):
    """How many runs are allowed."""

    min: int = 0
    max: int | None = None

    def __str__(self) -> str:
        return f"{self.min} to {'any' if self.max is None else self.max}"

    def __contains__(self, seen: int) -> bool:
        return seen >= self.min and (self.max is None or seen <= self.max)


class SumOfRuns(_Strict):
    """Runs of several stages together."""

    stages: list[str]
    runs: int | RunRange


class InstanceCounts(_Strict):
    """Instances of a stage over all its runs; what is not given does not matter."""

    started: int | RunRange | None = None
    completed: int | RunRange | None = None
    canceled: int | RunRange | None = None


class MostAtOnce(_Strict):
    """How many runs of these stages may be at work at the same time."""

    stages: list[str]
    max: int


class Expectation(_Strict):
    """What must be true of a workflow in the end, and of its history."""

    status: str | list[str] | None = None
    stages: dict[str, str | list[str]] = {}
    runs: dict[str, int | RunRange] = {}
    not_run: list[str] = []
    sum_runs: list[SumOfRuns] = []
    mi: dict[str, InstanceCounts] = {}
    outputs: dict[str, Any] = {}
    records: dict[str, list[Any]] = {}
    records_in_order: dict[str, list[Any]] = {}
    order: list[tuple[str, str]] = []
    starts_before_end: list[tuple[str, str]] = []
    never_overlap: list[list[str]] = []
    never_interleave: list[list[list[str]]] = []
    max_concurrent: list[MostAtOnce] = []
    workflows: dict[str, "Expectation"] = {}
    instances: int | None = None

    def names(self) -> Iterator[str]:
        """Yield every stage that is named here, as written, for this workflow."""
        yield from (*self.stages, *self.runs, *self.not_run, *self.mi, *self.records, *self.records_in_order)
        for together in self.sum_runs:
            yield from together.stages
        for most in self.max_concurrent:
            yield from most.stages
        for row in (*self.order, *self.starts_before_end, *self.never_overlap):
            yield from row
        for groups in self.never_interleave:
            for group in groups:
                yield from group


class Scenario(_Strict, kw_only=True):
    """One scenario: definitions, what the outside does, and what must be seen."""

    id: str
    pattern: int
    title: str = ""
    also: Any = None
    note: Any = None
    workflows: list[WorkflowScript]
    expect: Expectation
    events: list[EventScript] = []

    def __post_init__(self) -> None:
        if not self.workflows:
            raise ValueError("a scenario needs a workflow")

    @property
    def main(self) -> WorkflowScript:
        """The main workflow."""
        return self.workflows[0]

    @property
    def longest_choice(self) -> int:
        """After how long an offered stage chooses itself at the latest (ticks)."""
        return max((stage.choose_after or 0 for workflow in self.workflows for stage in workflow.stages), default=0)

    @property
    def longest_sleep(self) -> int:
        """How long a task sleeps at the most without a word (ticks)."""
        tasks = (task for workflow in self.workflows for stage in workflow.stages for task in stage.tasks)
        return max((step.argument for task in tasks for step in task.steps if step.verb == "sleep"), default=0)

    def workflow(self, name: str) -> WorkflowScript:
        """Return the definition of that name; KeyError: there is none."""
        for workflow in self.workflows:
            if workflow.name == name:
                return workflow
        raise KeyError(name)

    def resolve(self, reference: str, home: str = MAIN) -> tuple[str, str]:
        """Return (workflow, ref_id) of `ref_id` or `name/ref_id`; without a name it is one of `home`."""
        name, slash, ref_id = reference.partition("/")
        if slash and any(workflow.name == name for workflow in self.workflows):
            return name, ref_id
        return home or self.main.name, reference


class _File(_Strict, kw_only=True):
    format: Literal[1]
    scenarios: list[Scenario]


def load_scenarios(path: Path) -> list[Scenario]:
    """Read a scenario file.

    Raises:
        ScenarioFileError: it cannot be read, or is not of the format; the text says where.

    """
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise ScenarioFileError(f"{path}: {error.strerror or error}") from None
    except msgspec.MsgspecError as error:
        raise ScenarioFileError(f"{path}: this is not a scenario file of format 1: {error}") from None
    seen: set[str] = set()
    for scenario in file.scenarios:
        if scenario.id in seen:
            raise ScenarioFileError(f"{path}: there are two scenarios {scenario.id!r}; ids must be unique")
        seen.add(scenario.id)
        for problem in _unknown_names(scenario):
            raise ScenarioFileError(f"{path}: scenario {scenario.id!r}: {problem}")
    return file.scenarios


def _unknown_names(scenario: Scenario) -> Iterator[str]:
    names = [workflow.name for workflow in scenario.workflows]
    yield from (f"two workflows are called {name!r}" for name in set(names) if names.count(name) > 1)
    ids = [event.id for event in scenario.events if event.id]
    for event in scenario.events:
        for trigger in event.triggers:
            yield from _unknown_in_trigger(scenario, trigger, ids)
        if (stage := event.do.target) is not None:
            yield from _unknown_stage(scenario, stage)
        for name in (event.do.workflow, event.do.cancel_workflow):
            if name is not None and name not in names:
                yield f"an event names the workflow {name!r}; there is none"
    for workflow in scenario.workflows:
        for trigger in workflow.triggers:
            yield from _unknown_in_trigger(scenario, trigger, ids)
    yield from (f"expect names the workflow {name!r}" for name in scenario.expect.workflows if name not in names)
    for home, expectation in ((scenario.main.name, scenario.expect), *scenario.expect.workflows.items()):
        for reference in expectation.names():
            yield from _unknown_stage(scenario, bare(reference), home)


def bare(reference: str) -> str:
    """Return a reference without `#run` and `@instance`."""
    return reference.partition("@")[0].partition("#")[0]


def _unknown_in_trigger(scenario: Scenario, trigger: Trigger, ids: list[str]) -> Iterator[str]:
    if trigger.stage is not None:
        yield from _unknown_stage(scenario, trigger.stage)
    if trigger.event is not None and trigger.event not in ids:
        yield f"a trigger names the event {trigger.event!r}; there is none"
    if trigger.ended is not None and all(trigger.ended != workflow.name for workflow in scenario.workflows):
        yield f"a trigger names the workflow {trigger.ended!r}; there is none"


def _unknown_stage(scenario: Scenario, reference: str, home: str = MAIN) -> Iterator[str]:
    name, ref_id = scenario.resolve(reference, home)
    if scenario.workflow(name).stage(ref_id) is None:
        yield f"there is no stage {reference!r} in workflow {name!r}"
