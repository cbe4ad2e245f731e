"""Structured loops: a ready-made `jump` task at the end of the body leads back (WCP-21).

`Workflow.max_jumps` bounds the passes of all loops together.
"""

from stabilize_celery.models.expressions import check_expression
from stabilize_celery.models.patterns.choices import exclusive_choice
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution

__all__ = ["repeat_until", "while_loop"]


def repeat_until(last: StageExecution, condition: str, back_to: str) -> StageExecution:
    """Let a body run once, and again as long as a condition is false behind it (WCP-21, repeat).

    Give `last` its own tasks first: a jump is added behind them. Several loops may end at one stage, the
    inner one first.

    Args:
        last: The body's last stage; what follows it follows the loop.
        condition: An expression over what `last` sees and its outputs.
        back_to: The ref_id of the body's first stage, which may be `last` itself.

    Raises:
        ValueError: the condition can't be parsed, or stands on a stage that can't jump.

    """
    if wrong := check_expression(condition):
        raise ValueError(f"stage {last.ref_id!r}: repeat_until: {wrong}")
    return _jump(last, back_to, {"jump_unless": condition})


def while_loop(
    head: StageExecution,
    condition: str,
    *,
    body: str,
    exit: str,  # noqa: A002 - a loop's word
    last: StageExecution,
) -> StageExecution:
    """Let a body run again and again as long as a condition is true before it, perhaps never (WCP-21, while).

    `body` and `exit` require `head`. Give `last` its own tasks first: a jump is added behind them.

    Args:
        head: The stage that decides, once per pass.
        condition: An expression over what `head` sees and its outputs.
        body: The ref_id of the body's first stage.
        exit: The ref_id of the stage behind the loop.
        last: The body's last stage, which may be its first; it always leads back to `head`.

    Raises:
        ValueError: `head` chooses by other conditions already or is `last`, `body` is `exit`, or `last` can't jump.

    """
    if last is head:
        raise ValueError(f"stage {head.ref_id!r}: the head of a while loop can't be in its body; use repeat_until")
    if body == exit:
        raise ValueError(f"stage {head.ref_id!r}: the loop's body and exit are the same stage, {body!r}")
    exclusive_choice(head, {body: condition}, default=exit)
    _jump(last, head.ref_id, {})
    return head


def _jump(stage: StageExecution, target: str, settings: dict[str, str]) -> StageExecution:
    if stage.mi_config is not None or stage.sub_workflow is not None:
        kind = "instances" if stage.mi_config is not None else "an inner workflow"
        raise ValueError(f"stage {stage.ref_id!r} has {kind} and can't jump: add a stage after it that ends the loop")
    name = _free_name(stage, f"back to {target}")
    jumps = dict(stage.context.get("jumps", {}))
    stage.context["jumps"] = {**jumps, name: {"jump_to": target, **settings}}
    stage.jump_targets = list(dict.fromkeys([*stage.jump_targets, target]))
    _append(stage, TaskExecution.create(name, "jump"))
    return stage


def _free_name(stage: StageExecution, name: str) -> str:
    """Return a name that no task of the stage has: the jump's settings are found by it."""
    taken = {task.name for task in stage.tasks}
    number = 2
    wanted = name
    while wanted in taken:
        wanted, number = f"{name} ({number})", number + 1
    return wanted


def _append(stage: StageExecution, task: TaskExecution) -> None:
    for before in stage.tasks:
        if before.ends_stage_early:
            before.stage_end, task.stage_end = False, True
    stage.tasks.append(task)
    stage.attach_tasks()
