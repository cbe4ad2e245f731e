"""Where tasks may jump to: programs written for `stabilize` don't say, and here a stage has to declare it (wcp 1.9)."""

import inspect

from stabilize_celery.models.stage import JoinType, StageExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.tasks.variants import CallableTask

__all__ = ["declare_jumps"]

_JUMP, _LIMIT = "jump_to", "_max_jumps"


def declare_jumps(workflow: Workflow, registry: TaskRegistry) -> None:
    """Let each stage jump anywhere that declares nothing, and has a task whose code names `jump_to`.

    One that joins branches starts again when none of them can come any more: the jump may have gone back into one only,
    and the others don't come twice.

    Limits in contexts (`_max_jumps`, there of one stage each) together limit the workflow's jumps.
    """
    top = [stage for stage in workflow.stages if stage.parent_stage_id is None and stage.mi_config is None]
    for stage in top:
        if not stage.jump_targets and _may_jump(stage, registry):
            stage.jump_targets = [other.ref_id for other in top]
            if stage.join_type is JoinType.AND and len(stage.requisite_stage_ref_ids) > 1:
                stage.join_type = JoinType.OR
    limits = [limit for stage in top if isinstance(limit := stage.context.get(_LIMIT), int)]
    if limits:
        workflow.max_jumps = min(workflow.max_jumps, max(0, sum(limits)))


def _may_jump(stage: StageExecution, registry: TaskRegistry) -> bool:
    return any(_JUMP in _source(task.implementing_class, registry) for task in stage.tasks)


def _source(task_type: str, registry: TaskRegistry) -> str:
    """Return the code of a task type; nothing where it can't be read, or is known only to other workers."""
    if not registry.has(task_type):
        return ""
    task = registry.get(task_type)
    code = task.func if isinstance(task, CallableTask) else type(task)
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        return ""
