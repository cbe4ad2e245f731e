"""Random definitions, and the tasks that they are made of. Everything a task does depends on what it is given only."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hypothesis import event
from hypothesis import strategies as st

from stabilize_celery.errors import TransientError
from stabilize_celery.models.definition import to_definition
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import JoinMode, JoinType, SplitType, SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from tests.simulation.stories import stage, workflow

FAILURES: dict[str, dict[str, Any]] = {
    "continue": {"continuePipelineOnFailure": True},
    "stop": {"failPipeline": False},
    "stop, then fail": {"failPipeline": False, "completeOtherBranchesThenFail": True},
    "let siblings go on": {"allowSiblingStagesToContinueOnFailure": True},
}
AT_ONCE: dict[str, dict[str, Any]] = {**FAILURES, "end all": {}}
"""With a failure that ends the workflow at once, what else became of it depends on the schedule."""


@dataclass(slots=True)
class Kinds:
    """What a random definition may be made of. As it stands, nothing in it depends on who is faster."""

    does: list[str] = field(default_factory=lambda: ["work", "work", "fail", "flaky", "poll", "gate"])
    failures: dict[str, dict[str, Any]] = field(default_factory=lambda: FAILURES)
    joins: list[JoinType] = field(default_factory=lambda: [JoinType.AND, JoinType.MULTI_MERGE, JoinType.OR])
    conditions: list[str] = field(default_factory=lambda: ["True", "False", "number > 1", "not number"])
    mutexes: list[str | None] = field(default_factory=lambda: [None, None, "m", "n"])
    threads: list[int] = field(default_factory=lambda: [1, 1, 1, 2])
    jumps: bool = False
    loops: bool = False
    """Stages that jump to themselves a fixed number of times."""
    always_default: bool = True
    """A split without a default fails its stage, and with it the workflow, at once."""
    extras: list[str] = field(default_factory=list)
    """Patterns of which a stage may have one."""
    around: list[str] = field(default_factory=lambda: ["work", "poll", "gate"])
    """What before and after stages do; a failing one would race with those beside it."""


TAME = Kinds(loops=True, extras=["instances alike"])
"""All instances of a stage do the same: which of them is first makes no difference."""
WILD = Kinds(
    does=["work", "write", "fail", "flaky", "poll", "gate", "crash", "skip", "slow"],
    failures=AT_ONCE,
    joins=[JoinType.AND, JoinType.MULTI_MERGE, JoinType.OR, JoinType.DISCRIMINATOR, JoinType.N_OF_M],
    conditions=["True", "False", "number > 1", "missing", "number / 0"],
    jumps=True,
    loops=True,
    always_default=False,
    extras=["instances", "milestone", "region", "clears", "section", "merge", "terminates", "expires"],
    around=["work", "fail", "poll", "gate", "slow"],
)


def _flaky(found: StageExecution) -> TaskResult:
    tries = found.context.get("tries", 0)
    if tries < 2:
        raise TransientError("not yet", retry_after=0.1, context_update={"tries": tries + 1})
    return TaskResult.success()


def _poll(found: StageExecution) -> TaskResult:
    polls = found.context.get("polls", 0)
    return TaskResult.success() if polls > 1 else TaskResult.running({"polls": polls + 1})


def _again(found: StageExecution) -> TaskResult:
    """Run the stage three times."""
    passes = found.context.get("passes", 0)
    return TaskResult.success() if passes > 1 else TaskResult.jump_to(found.ref_id, {"passes": passes + 1})


def _crash(_found: StageExecution) -> TaskResult:
    raise ZeroDivisionError("meant to crash")


TASKS: dict[str, Callable[[StageExecution], TaskResult]] = {
    "work": lambda found: TaskResult.success(outputs={found.ref_id: True}),
    "write": lambda found: TaskResult.success(outputs={"number": len(found.requisite_stage_ref_ids)}),
    "fail": lambda _: TaskResult.terminal(error="meant to fail"),
    "skip": lambda _: TaskResult.skipped(),
    "jump": lambda found: TaskResult.jump_to(found.context["to"]),
    "again": _again,
    "flaky": _flaky,
    "poll": _poll,
    "crash": _crash,
    "hang": lambda _: TaskResult.suspend(),
    "endless": lambda _: TaskResult.running(),
}


@cache
def _one_of(*items: Any) -> st.SearchStrategy[Any]:
    """Return the same strategy for the same items: to make one costs as much as to draw from it."""
    return st.sampled_from(items)


@cache
def _up_to_two(*items: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(_one_of(*items), min_size=0, max_size=2)


@st.composite
def definitions(draw: st.DrawFn, kinds: Kinds = TAME) -> dict[str, Any]:
    """A definition of up to eight stages and a few around them; every value drawn shrinks to something duller."""
    count = draw(_one_of(*SIZES))
    stages = [_stage(draw, at, kinds) for at in range(count)]
    below: dict[str, list[str]] = {one.ref_id: [] for one in stages}
    for one in stages:
        for above in one.requisite_stage_ref_ids:
            below[above].append(one.ref_id)
    for one in stages:
        _split(draw, one, below[one.ref_id], kinds)
    if kinds.jumps and draw(st.booleans()):
        _jump(draw, stages)
    for one in stages:
        if kinds.loops and one.tasks and draw(st.integers(0, 7)) == 7:
            _loop(one)
        _extra(draw, one, stages, kinds)
    if kinds.jumps:
        _choice(draw, stages)
    around = [made for one in stages for made in _around(draw, one, kinds)]
    context = {"number": draw(st.integers(0, 2))}
    max_jumps = draw(st.integers(0, 3)) if kinds.jumps else 1_000
    made = to_definition(workflow(*stages, *around, max_jumps=max_jumps, context=context))
    for told in sorted(_told(made["stages"])):
        event(told)
    return made


SIZES = [1, 2, 3, *range(4, 9), *range(4, 9)]
ABOVE = [0, 1, 1, 2, 2, 2, 3]
"""How many stages one is behind, at most."""


def _told(stages: list[dict[str, Any]]) -> set[str]:
    """Return what a definition has, for `--hypothesis-show-statistics`."""
    joins = {f"join {one.get('join_type', 'AND')}" for one in stages if len(one.get("requisite_stage_ref_ids", ())) > 1}
    modes = {f"join mode {one['join_mode']}" for one in stages if "join_mode" in one}
    return joins | modes | {name for name in _TOLD for one in stages if one.get(name)}


_TOLD = (
    "mi_config", "jump_targets", "milestone_ref_id", "cancels_regions", "mutex_section", "thread_merge",
    "deferred_choice_group", "terminates_workflow", "parent_stage_id", "split_conditions",
)  # fmt: skip


def _stage(draw: st.DrawFn, at: int, kinds: Kinds) -> StageExecution:
    wanted = min(at, draw(_one_of(*ABOVE)))
    above = draw(st.sets(st.integers(0, at - 1), min_size=wanted, max_size=wanted)) if wanted else set()
    made = stage(
        f"s{at}",
        *(f"s{one}" for one in sorted(above)),
        does=draw(_up_to_two(*kinds.does)),
        context=dict(kinds.failures[draw(_one_of(*sorted(kinds.failures)))]),
        mutex_key=draw(_one_of(*kinds.mutexes)),
        thread_split=draw(_one_of(*kinds.threads)),
    )
    if draw(st.integers(0, 5)) == 5:
        made.context["stageEnabled"] = {"type": "expression", "expression": draw(_one_of(*kinds.conditions))}
    if len(above) > 1:
        made.join_type = draw(_one_of(*kinds.joins))
        if made.join_type is JoinType.N_OF_M:
            made.join_threshold = draw(st.integers(0, len(above)))
        if made.join_type in (JoinType.DISCRIMINATOR, JoinType.N_OF_M) and draw(st.booleans()):
            made.join_mode = JoinMode.CANCELLING
    return made


def _split(draw: st.DrawFn, one: StageExecution, below: list[str], kinds: Kinds) -> None:
    one.split_type = draw(_one_of(SplitType.AND, SplitType.XOR, SplitType.OR)) if below else SplitType.AND
    if one.split_type is SplitType.AND:
        return
    one.split_conditions = {ref: draw(_one_of(*kinds.conditions)) for ref in below}
    if kinds.always_default or draw(st.booleans()):
        one.split_default = draw(_one_of(*below))
        one.split_conditions.pop(one.split_default)


def _jump(draw: st.DrawFn, stages: list[StageExecution]) -> None:
    jumper, target = draw(st.sampled_from(stages)), draw(st.sampled_from(stages))
    jumper.jump_targets = [target.ref_id]
    jumper.context["to"] = target.ref_id
    jumper.tasks = stage("jumper", does=["jump"]).tasks


def _loop(one: StageExecution) -> None:
    one.jump_targets = [one.ref_id]
    one.tasks = [*one.tasks, *stage("again", does=["again"]).tasks]


def _extra(draw: st.DrawFn, one: StageExecution, stages: list[StageExecution], kinds: Kinds) -> None:
    """Give a stage one more pattern, where it fits; else leave it as it is."""
    extra = draw(_one_of("", "", *kinds.extras))
    others = [other.ref_id for other in stages if other is not one]
    if extra == "instances" and one.tasks and not one.jump_targets:
        one.mi_config = draw(_INSTANCES)
    elif extra == "instances alike" and one.tasks and not one.jump_targets:
        one.mi_config = draw(_ALIKE)
    elif extra == "milestone" and others:
        one.milestone_ref_id = draw(_one_of(*others))
        one.milestone_status = draw(_one_of("NOT_STARTED", "RUNNING", "SUCCEEDED", "SKIPPED"))
    elif extra == "region":
        one.cancel_region = "region"
    elif extra == "clears":
        one.cancels_regions = ["region"]
        draw(st.sampled_from(stages)).cancel_region = "region"
    elif extra == "section":
        one.mutex_key, one.mutex_section = "section", "section"
    elif extra == "merge" and len(one.requisite_stage_ref_ids) == 1:
        one.thread_merge = draw(st.integers(1, 3))
    elif extra == "terminates":
        one.terminates_workflow = True
    elif extra == "expires":
        one.context["stageTimeoutMs"] = draw(st.integers(1, 3_000))


_LOOSE = st.builds(MultiInstanceConfig, count=st.integers(0, 3), sync_on_complete=st.just(False))
_ALIKE = st.one_of(
    _LOOSE,
    st.builds(
        MultiInstanceConfig,
        count=st.integers(0, 3),
        join_threshold=st.integers(0, 3),
        cancel_remaining=st.booleans(),
        max_concurrent=st.integers(0, 2),
    ),
)
_INSTANCES = st.one_of(
    _LOOSE,
    st.builds(
        MultiInstanceConfig,
        count_from_context=st.sampled_from(["number", "missing"]),
        join_threshold=st.integers(0, 3),
        cancel_remaining=st.booleans(),
        max_concurrent=st.integers(0, 2),
    ),
    st.builds(
        MultiInstanceConfig,
        count=st.integers(0, 3),
        allow_dynamic=st.just(True),
        completion_condition=st.sampled_from([None, "completed >= 1", "completed > number", "missing"]),
    ),
)


def _choice(draw: st.DrawFn, stages: list[StageExecution]) -> None:
    """Offer stages with one and the same single requisite, or with none; each chooses itself later."""
    fit = [one for one in stages if len(one.requisite_stage_ref_ids) < 2 and not one.thread_merge]
    groups = [[one for one in fit if one.requisite_stage_ref_ids == first.requisite_stage_ref_ids] for first in fit]
    groups = [members for members in groups if len(members) > 1]
    if groups and draw(st.booleans()):
        for one in draw(st.sampled_from(groups)):
            one.deferred_choice_group = "choice"
            one.choose_after_ms = draw(st.integers(100, 2_000))


def _around(draw: st.DrawFn, parent: StageExecution, kinds: Kinds) -> list[StageExecution]:
    made = []
    if draw(st.integers(0, 4)) == 4:
        for at in range(draw(st.integers(1, 2))):
            one = stage(f"{parent.ref_id}.{at}", does=[draw(_one_of(*kinds.around))])
            one.parent_stage_id = parent.id
            one.synthetic_stage_owner = draw(_one_of(*SyntheticStageOwner))
            one.mutex_key = draw(_one_of(None, "o"))
            made.append(one)
    return made
