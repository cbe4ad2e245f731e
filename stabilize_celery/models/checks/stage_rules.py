"""Rules about the settings of single stages and of groups of them."""

from collections.abc import Iterator

from stabilize_celery.models.checks.view import View
from stabilize_celery.models.limits import MAX_TIME_MS
from stabilize_celery.models.problems import Problem, Suggester, shown
from stabilize_celery.models.reducers import get_reducer, reducer_names
from stabilize_celery.models.schema import MultiInstanceDefinition, StageDefinition
from stabilize_celery.models.stage.enums import JoinType, MutexScope, SplitType
from stabilize_celery.models.status import WorkflowStatus

__all__ = [
    "deferred_choices",
    "expressions",
    "instances",
    "jumps",
    "milestones",
    "mutexes",
    "names",
    "reducers",
    "regions",
    "sub_workflows",
    "switches",
    "synthetic_stages",
]


def names(view: View) -> Iterator[Problem]:
    """Require names that can stand in an address: clients take `stages/../cancel` for the workflow's own `cancel`."""
    for at, stage in view.numbered():
        if stage.ref_id in (".", ".."):
            yield view.problem(at, "ref_id", f"{shown(stage.ref_id)} can't stand in a path: take another", "invalid_id")


def deferred_choices(view: View) -> Iterator[Problem]:
    """Require that members of a choice are offered together: the same single requisite, or none at all."""
    first_of: dict[str, StageDefinition] = {}
    for at, stage in view.numbered():
        group = stage.deferred_choice_group
        if group is None:
            if stage.choose_after_ms is not None:
                message = "has no effect without a deferred_choice_group"
                yield view.problem(at, "choose_after_ms", message, "contradiction")
            continue
        if stage.thread_merge is not None:
            message = "has no effect on a member of a choice: each thread is an offer of its own"
            yield view.problem(at, "thread_merge", message, "contradiction")
        first = first_of.setdefault(group, stage)
        offered_by = set(stage.requisite_stage_ref_ids)
        if len(offered_by) > 1:
            message = f"a member of the choice {shown(group)} must have one requisite or none; this one has several"
            yield view.problem(at, "deferred_choice_group", message, "contradiction")
        elif offered_by != set(first.requisite_stage_ref_ids) or stage.parent_stage_id != first.parent_stage_id:
            message = f"members of the choice {shown(group)} must have the same requisite as {shown(first.ref_id)}"
            yield view.problem(at, "deferred_choice_group", message, "contradiction")


def milestones(view: View) -> Iterator[Problem]:
    """Require that a milestone is another stage and the name of a status."""
    for at, stage in view.numbered():
        ref_id, status = stage.milestone_ref_id, stage.milestone_status
        if ref_id is not None and status is None:
            yield view.problem(at, "milestone_status", "is missing beside milestone_ref_id", "contradiction")
        if status is not None and ref_id is None:
            yield view.problem(at, "milestone_ref_id", "is missing beside milestone_status", "contradiction")
        if status is not None and status not in WorkflowStatus.__members__:
            hint = Suggester(list(WorkflowStatus.__members__)).suggest(status)
            yield view.problem(at, "milestone_status", f"{shown(status)} is not a status{hint}", "unknown_status")
        if ref_id is not None and ref_id not in view.positions:
            yield view.unknown(at, "milestone_ref_id", ref_id)
        elif ref_id is not None and ref_id == stage.ref_id:
            yield view.problem(at, "milestone_ref_id", "a stage can't be its own milestone", "contradiction")


def jumps(view: View) -> Iterator[Problem]:
    """Require that a jump leads to a stage of the top level; instances and synthetic stages can't jump."""
    for at, stage in view.numbered():
        for ref_id in stage.jump_targets:
            target = view.stage(ref_id)
            if target is None:
                yield view.unknown(at, "jump_targets", ref_id)
            elif target.parent_stage_id is not None:
                message = f"{shown(ref_id)} runs only as part of {shown(target.parent_stage_id)}: jump to that stage"
                yield view.problem(at, "jump_targets", message, "contradiction")
        if stage.jump_targets and stage.mi_config is not None:
            yield view.problem(at, "jump_targets", "a stage with mi_config can't jump", "contradiction")
        if stage.jump_targets and stage.parent_stage_id is not None:
            yield view.problem(at, "jump_targets", "a synthetic stage can't jump", "contradiction")


_OF_THE_TOP_LEVEL = {
    "split_type": SplitType.AND,
    "thread_split": 1,
    "thread_merge": None,
    "deferred_choice_group": None,
}
"""What says where threads go, and what it is by default."""


def synthetic_stages(view: View) -> Iterator[Problem]:
    """Require that a before or after stage says nothing of where threads go: its own goes back to its parent."""
    for at, stage in view.numbered():
        if stage.parent_stage_id is None:
            continue
        told = [name for name, default in _OF_THE_TOP_LEVEL.items() if getattr(stage, name) != default]
        several = len(set(stage.requisite_stage_ref_ids)) > 1
        told += ["join_type"] if several and stage.join_type != JoinType.AND else []
        for name in told:
            message = "has no effect on a before or after stage; set it on a stage of the top level"
            yield view.problem(at, name, message, "contradiction")


def instances(view: View) -> Iterator[Problem]:
    """Require one source of the number of instances, and no condition where nobody waits for them."""
    for at, stage in view.numbered():
        if stage.mi_config is not None:
            yield from _instances_of(view, at, stage.mi_config)


def _instances_of(view: View, at: int, config: MultiInstanceDefinition) -> Iterator[Problem]:
    sources = [name for name in ("count", "count_from_context", "collection_from_context") if getattr(config, name)]
    if len(sources) > 1:
        message = f"has several sources of the number of instances: {', '.join(sources)}; keep one"
        yield view.problem(at, "mi_config", message, "contradiction")
    if config.sync_on_complete:
        return
    for name in ("join_threshold", "completion_condition", "cancel_remaining"):
        if getattr(config, name):
            message = "has no effect with sync_on_complete false: nothing waits for the instances"
            yield view.problem(at, ("mi_config", name), message, "contradiction")


def mutexes(view: View) -> Iterator[Problem]:
    """Require that settings of a mutex stand beside its key."""
    for at, stage in view.numbered():
        if stage.mutex_key is not None:
            continue
        given = {
            "mutex_section": stage.mutex_section is not None,
            "mutex_limit": stage.mutex_limit != 1,
            "mutex_scope": stage.mutex_scope != MutexScope.GLOBAL,
        }
        for name, is_given in given.items():
            if is_given:
                yield view.problem(at, name, "has no effect without a mutex_key", "contradiction")


def regions(view: View) -> Iterator[Problem]:
    """Require that a region that is cancelled has members."""
    known = list(dict.fromkeys(stage.cancel_region for stage in view.stages if stage.cancel_region is not None))
    members = set(known)
    suggester = Suggester(known)
    for at, stage in view.numbered():
        for region in stage.cancels_regions:
            if region not in members:
                hint = suggester.suggest(region)
                message = f"no stage has the cancel_region {shown(region)}{hint}"
                yield view.problem(at, "cancels_regions", message, "unknown_region")


def reducers(view: View) -> Iterator[Problem]:
    """Require that a reducer is known in this process."""
    suggester = Suggester(reducer_names())
    for at, stage in view.numbered():
        for key, name in stage.output_reducers.items():
            if get_reducer(name) is None:
                message = f"no reducer is called {shown(name)}{suggester.suggest(name)}"
                yield view.problem(at, ("output_reducers", key), message, "unknown_reducer")


def sub_workflows(view: View) -> Iterator[Problem]:
    """Require that a stage that calls an inner workflow names a known one and does nothing else."""
    suggester = Suggester(sorted(view.callable_names))
    for at, stage in view.numbered():
        name = stage.sub_workflow
        if name is None:
            if stage.sub_context:
                yield view.problem(at, "sub_context", "has no effect without a sub_workflow", "contradiction")
            continue
        if name not in view.callable_names:
            message = f"no inner workflow is called {shown(name)}{suggester.suggest(name)}"
            yield view.problem(at, "sub_workflow", message, "unknown_workflow")
        if stage.tasks:
            yield view.problem(at, "tasks", "a stage with sub_workflow has no tasks of its own", "contradiction")
        if stage.mi_config is not None:
            yield view.problem(at, "mi_config", "a stage with sub_workflow can't have instances", "contradiction")


def _is_duration(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_TIME_MS


def switches(view: View) -> Iterator[Problem]:
    """Require that the context switches that the engine reads have values that it understands."""
    for at, stage in view.numbered():
        timeout = stage.context.get("stageTimeoutMs")
        if timeout is not None and not _is_duration(timeout):
            message = f"expected a whole number of milliseconds above 0, got {shown(timeout)}"
            yield view.problem(at, ("context", "stageTimeoutMs"), message, "wrong_switch")
        enabled = stage.context.get("stageEnabled", True)
        if not isinstance(enabled, bool) and _expression_of(enabled) is None:
            message = 'expected true, false or {"type": "expression", "expression": "..."}'
            yield view.problem(at, ("context", "stageEnabled"), message, "wrong_switch")


def expressions(view: View) -> Iterator[Problem]:
    """Require that every expression is one of the language of conditions."""
    for at, stage in view.numbered():
        for place, expression in _expressions_of(stage):
            wrong = view.what_is_wrong_with(expression)
            if wrong is not None:
                yield view.problem(at, place, wrong, "invalid_expression")


def _expressions_of(stage: StageDefinition) -> Iterator[tuple[tuple[str, ...], str]]:
    for ref_id, expression in stage.split_conditions.items():
        yield ("split_conditions", ref_id), expression
    for name, expression in stage.sub_context.items():
        yield ("sub_context", name), expression
    if stage.mi_config is not None and stage.mi_config.completion_condition is not None:
        yield ("mi_config", "completion_condition"), stage.mi_config.completion_condition
    enabled = _expression_of(stage.context.get("stageEnabled"))
    if enabled is not None:
        yield ("context", "stageEnabled", "expression"), enabled


def _expression_of(switch: object) -> str | None:
    """Return the expression of a `stageEnabled` that is one; None for any other value."""
    if not isinstance(switch, dict) or switch.get("type") != "expression":
        return None
    expression = switch.get("expression")
    return expression if isinstance(expression, str) else None
