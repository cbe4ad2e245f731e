"""Where tasks may jump to, and how often: programs written for `stabilize` don't say; here it is declared (wcp 1.9).

They read in a stage's context how often it was jumped to or from (`_jump_count`, `_jump_history`), and why a jump was
refused (`jump_error`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from stabilize_celery.compat.jumpers import may_jump
from stabilize_celery.models.stage import JoinType, StageExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks.registry import TaskRegistry

__all__ = ["DEFAULT_MAX_JUMPS", "declare_jumps", "jumps_behind", "jumps_with", "tell_jumps"]

_LIMIT, _COUNT, _HISTORY = "_max_jumps", "_jump_count", "_jump_history"
_HANDED_ON = "_jump_context_keys"
"""Names of what a stage's outputs have only because its jump handed it on."""
DEFAULT_MAX_JUMPS = 10
"""So often a stage jumps that does not say how often (count)."""


def declare_jumps(workflow: Workflow, registries: Iterable[TaskRegistry]) -> None:
    """Let each stage jump anywhere that declares nothing, and has a task whose code may jump.

    One that joins branches starts again when none of them can come any more: the jump may have gone back into one only,
    and the others don't come twice.

    Limits (`_max_jumps` in the workflow's context or a stage's, else 10; there of one stage each) together limit the
    workflow's jumps, unless it has a `max_jumps` of its own.
    """
    known = list(registries)
    top = [stage for stage in workflow.stages if stage.parent_stage_id is None and stage.mi_config is None]
    may = {name: _may_jump(name, known) for name in {task.implementing_class for stage in top for task in stage.tasks}}
    undeclared = (stage for stage in top if not stage.jump_targets)
    jumpers = [stage for stage in undeclared if any(may[task.implementing_class] for task in stage.tasks)]
    for stage in jumpers:
        stage.jump_targets = [other.ref_id for other in top]
        if stage.join_type is JoinType.AND and len(stage.requisite_stage_ref_ids) > 1:
            stage.join_type = JoinType.OR
    limits = [_limit(stage, workflow) for stage in top if stage in jumpers or _LIMIT in stage.context]
    if limits and workflow.max_jumps == Workflow.max_jumps:
        workflow.max_jumps = max(0, sum(limits))


def jumps_with(
    context: Mapping[str, Any], ref_id: str, target: str, handed_on: Mapping[str, Any], outputs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what contexts tell of the jumps so far, and of one more that hands something on besides its outputs."""
    history = [*context.get(_HISTORY, []), {"from_stage": ref_id, "to_stage": target, "context_keys": [*handed_on]}]
    history[-1]["jump_number"] = len(history)
    only_handed_on = [name for name in handed_on if name not in outputs]
    return {_COUNT: len(history), _HISTORY: history, _HANDED_ON: only_handed_on}


def jumps_behind(context: Mapping[str, Any], ref_id: str) -> dict[str, Any]:
    """Return what the context of a stage keeps of them: those up to its own last one."""
    history = context.get(_HISTORY, [])
    while history and ref_id not in (history[-1]["from_stage"], history[-1]["to_stage"]):
        history = history[:-1]
    return {_COUNT: len(history), _HISTORY: history} if history else {}


def tell_jumps(workflow: Workflow) -> None:
    """Say in each stage's context what became of its jumps."""
    for stage in workflow.stages:
        about_jumps = {_COUNT, _HISTORY, *stage.outputs.pop(_HANDED_ON, ())}
        told = {name: value for name, value in stage.outputs.items() if name in about_jumps}
        stage.outputs = {name: value for name, value in stage.outputs.items() if name not in told}
        stage.context = {**stage.context, **told}
        history = stage.context.get(_HISTORY, [])
        if stage.status.is_halt and history and history[-1]["from_stage"] == stage.ref_id:
            target, count = history[-1]["to_stage"], len(history) - 1
            stage.context |= {_COUNT: count, _HISTORY: history[:-1]}
            stage.context["jump_error"] = _refusal(stage, workflow, target, count)
            jumper = next((task for task in reversed(stage.tasks) if task.end_time is not None), None)
            if jumper is not None:
                jumper.status = stage.status


def _refusal(stage: StageExecution, workflow: Workflow, target: str, count: int) -> str:
    """Return why a stage that has failed at a jump could not make it."""
    if target not in {one.ref_id for one in workflow.stages}:
        return f"Target stage not found: {target}"
    if target not in stage.jump_targets:
        return f"Jump to {target!r} is not declared: add it to the jump_targets of stage {stage.ref_id!r}"
    return f"Max jump count exceeded: {count}/{_limit(stage, workflow)}"


def _limit(stage: StageExecution, workflow: Workflow) -> int:
    limits = (workflow.context.get(_LIMIT), stage.context.get(_LIMIT))
    return next((limit for limit in limits if isinstance(limit, int)), DEFAULT_MAX_JUMPS)


def _may_jump(task_type: str, registries: Iterable[TaskRegistry]) -> bool:
    """Return whether tasks of a type may; of one that only other workers know, nothing can be told."""
    known = next((one for one in registries if one.has(task_type)), None)
    if known is None:
        return False
    try:
        task = known.get(task_type)
    except Exception:  # noqa: BLE001 - its class can't be made, which fails the task when it is executed
        return False
    return may_jump(task)
