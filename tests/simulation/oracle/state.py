"""What there is: workflow executions (cases) with their runs, the work inside a run, and what waits at joins."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from stabilize_celery.testing.conformance.scenario import EventScript, Scenario, StageScript, WorkflowScript
from tests.simulation.oracle.pasts import Past, values

__all__ = ["GOES_ON", "LIVE", "WELL", "Case", "Ended", "Installation", "Join", "Run", "StuckError", "Work"]

GOES_ON = ("SUCCEEDED", "FAILED_CONTINUE", "SKIPPED")
WELL = ("SUCCEEDED", "FAILED_CONTINUE")
LIVE = ("NOT_STARTED", "BUFFERED", "RUNNING", "SUSPENDED")


class StuckError(Exception):
    """It waits for something that nobody does: no scenario."""


class Ended(NamedTuple):
    """What became of a case: its status; per stage its status, its runs, its instances started and done; its data."""

    status: str
    stages: tuple[tuple[str, str], ...]
    runs: tuple[tuple[str, int], ...]
    instances: tuple[tuple[str, int, int], ...]
    outputs: tuple[tuple[str, str], ...]
    records: tuple[tuple[str, str], ...]
    """Per stage what its tasks recorded, in no order."""


@dataclass(eq=False)
class Work:
    """The task list of a run, or of one of its instances."""

    index: int | None = None
    task: int = 0
    step: int = 0
    attempt: int = 0
    waits: str = ""
    status: str = "RUNNING"
    is_soft: bool = False
    """A task of it failed and it went on."""
    effect: Callable[[], None] | None = None
    """What the end of its task does, if that has not been seen yet."""
    names: dict[str, Any] = field(default_factory=dict)
    """More that its expressions see: what came with it, and with the last signal."""
    outputs: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Run:
    """One run of a stage."""

    ref: str
    created: int
    status: str = "NOT_STARTED"
    started: int = 0
    ended: int = 0
    offer: int = 0
    offered_at: int = 0
    works: list[Work] = field(default_factory=list)
    passed_on: bool = False
    judged: int = 0
    done: list[Work] = field(default_factory=list)
    """Instances that are done, in the order of their ends."""
    is_unjudged: bool = False
    """What the last of these ends means for the run has not been looked at."""
    phase: str = ""
    """Before, work, after: which part of it is under way."""
    parent: "Run | None" = None
    """The run that it is a part of: a before or after stage's."""
    parts: "list[Run]" = field(default_factory=list)
    """The runs of its before and after stages."""
    has_news: bool = False
    """One of its parts has ended, and what that means has not been looked at."""
    wanted: int | None = None
    """How many instances it has to begin with."""
    bears: bool = False
    """One of its before stages ended FAILED_CONTINUE: so will it, if it ends well."""
    outcome: str = ""
    """What it will end with, its after stages willing."""
    past: Past = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    past_out: Past = field(default_factory=dict)
    """What is seen behind it, once it has ended or passed its thread on."""
    calls: bool = False
    """It has an inner workflow to start."""
    child: "Case | None" = None

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.status in LIVE

    @property
    def whole(self) -> "Run":
        """What it is a part of, or itself."""
        return self.parent.whole if self.parent is not None else self

    @property
    def is_thread(self) -> bool:
        """Whether its thread may still go on from here."""
        return self.is_live and not self.passed_on and self.parent is None


@dataclass(eq=False)
class Join:
    """What waits on each edge of a stage, and its cycle."""

    waiting: list[list[Past]]
    """Per edge what its arrivals bring along, the oldest first."""
    counted: dict[int, Past] = field(default_factory=dict)
    has_fired: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not any(self.waiting)

    @property
    def holds(self) -> bool:
        """Whether a thread is there: one that waits, or one counted in an unfinished cycle."""
        return not self.is_empty or (bool(self.counted) and not self.has_fired)

    @property
    def filled(self) -> list[int]:
        """The edges that hold something."""
        return [at for at, arrivals in enumerate(self.waiting) if arrivals]

    def empty(self) -> None:
        """Give up what waits."""
        self.waiting = [[] for _ in self.waiting]


class Installation:
    """All cases of one scenario, and the outside; `random` decides who is next."""

    def __init__(self, scenario: Scenario, random: Random) -> None:
        self.scenario = scenario
        self.random = random
        self.cases: list[Case] = []
        self.now = 0
        self.haste = random.choice((1.0, 1.0, 0.5, 0.1))
        """How likely it is at each step that joins are looked at."""
        self.promptness = random.choice((0.9, 0.5, 0.1))
        """How likely the end of a task has its effect at once."""
        self.spread = random.choice((0, 1, 4, 12))
        """0: all go on alike; more: some are faster than others, by so many times at most, as a power of two."""
        self.paces: dict[object, float] = {None: 1}
        """By owner; steps that only pass time have none, and are not fast."""
        self.events = list(scenario.events)
        self.due: list[EventScript] = []
        self.delivered: set[str] = set()
        self.unstarted = [one for one in scenario.workflows if one.triggers]
        """Workflows that start upon something which has not happened yet."""
        self.starting: list[WorkflowScript] = []
        """Those of which it has."""
        for workflow in scenario.workflows:
            if not workflow.is_called and not workflow.triggers:
                self.open(workflow)

    def open(
        self, workflow: WorkflowScript, caller: "Case | None" = None, context: dict[str, Any] | None = None
    ) -> "Case":
        """Make a case; its first stages are the caller's affair."""
        case = Case(self, workflow, caller, {**workflow.context, **(context or {})})
        self.cases.append(case)
        return case

    def pick(self, steps: list[tuple[object, Callable[[], None]]]) -> Callable[[], None]:
        """Return the step that is next; the owner of each is as fast as when it was first seen."""
        paces = [self.paces.setdefault(owner, 2 ** (self.spread * self.random.random())) for owner, _ in steps]
        return self.random.choices(steps, paces)[0][1]

    def of(self, name: str) -> list["Case"]:
        """Return the cases of a workflow."""
        return [case for case in self.cases if case.name == name]


class Case:
    """One execution of a workflow."""

    def __init__(
        self, home: Installation, workflow: WorkflowScript, caller: "Case | None", context: dict[str, Any]
    ) -> None:
        self.home = home
        self.name = workflow.name
        self.workflow = workflow
        self.context = context
        self.depth = caller.depth + 1 if caller is not None else 0
        self.stages: dict[str, StageScript] = {stage.ref_id: stage for stage in workflow.stages}
        parts = {ref for ref, stage in self.stages.items() if stage.parent_stage_id}
        self.top = [ref for ref in self.stages if ref not in parts]
        self.sources = {ref: sorted(set(self.stages[ref].requisite_stage_ref_ids)) for ref in self.top}
        self.targets = {ref: [other for other in self.top if ref in self.sources[other]] for ref in self.top}
        self.joins = {ref: Join([[] for _ in self.sources[ref]]) for ref in self.top}
        self.runs: list[Run] = []
        self.started: Counter[str] = Counter()
        self.instances: dict[str, list[int]] = {ref: [0, 0] for ref, one in self.stages.items() if one.mi_config}
        self.counts: Counter[Any] = Counter()
        self.records: dict[str, list[str]] = {ref: [] for ref in self.stages}
        self.kept: dict[str, list[tuple[str, Any]]] = {ref: [] for ref in self.stages}
        """Signals that nobody waited for, by stage: their names and data."""
        self.status = "RUNNING"
        self.is_doomed = False
        """Its caller has been taken away."""
        self.failure_put_off = False
        self.sections: set[str | None] = set()
        """Mutex sections that hold their key."""
        self.clock = 0
        self.is_judged = True
        """Its joins have been looked at since something happened."""

    @property
    def is_live(self) -> bool:
        """Whether it goes on."""
        return self.status == "RUNNING"

    def tick(self) -> int:
        """Return the time of something new."""
        self.clock += 1
        return self.clock

    def live(self) -> Iterator[Run]:
        """Yield the runs that have not ended."""
        return (run for run in self.runs if run.is_live)

    def parts_of(self, ref: str, owner: str) -> list[str]:
        """Return the stages before or after a stage."""
        wanted = f"STAGE_{owner.upper()}"
        return [
            other
            for other, stage in self.stages.items()
            if stage.parent_stage_id == ref and str(stage.synthetic_stage_owner) == wanted
        ]

    def children_of(self, run: Run) -> list[Run]:
        """Return the runs of the stages before and after it that belong to this run."""
        return [other for other in self.runs if other.parent is run]

    def names(self, run: Run, written: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what an expression of a run's stage sees (1.4); `written`: its own outputs, or its instance's."""
        own = run.outputs if written is None else written
        return {**self.context, **values(run.past), **self.stages[run.ref].context, **own}

    def outputs(self) -> dict[str, Any]:
        """Return what its runs wrote: what one that ended well wrote wins, then the later write."""
        found: dict[str, Any] = {}
        for run in sorted(self.runs, key=lambda run: (run.status in GOES_ON, run.ended)):
            found |= run.outputs
        return found

    def is_direct(self, ref: str) -> bool:
        """Whether each arrival at a stage is a run at once."""
        stage = self.stages[ref]
        return not stage.thread_merge and (len(self.sources[ref]) < 2 or stage.join_type == "MULTI_MERGE")
