"""Choices: by conditions when a stage completes, or from outside while several stages are offered."""

from collections.abc import Mapping

from stabilize_celery.models.stage.enums import SplitType
from stabilize_celery.models.stage.stage import StageExecution

__all__ = ["deferred_choice", "exclusive_choice", "multi_choice"]


def exclusive_choice(
    stage: StageExecution, conditions: Mapping[str, str], *, default: str | None = None
) -> StageExecution:
    """Let the first branch, in written order, be taken whose condition is true (WCP-4).

    Args:
        stage: The stage that chooses when it completes.
        conditions: Downstream ref_id -> expression over what `stage` sees and its outputs.
        default: The downstream ref_id taken when no condition holds; without one the stage fails then.

    Raises:
        ValueError: there is no condition, or the stage chooses by others already.

    """
    return _split(stage, SplitType.XOR, conditions, default)


def multi_choice(stage: StageExecution, conditions: Mapping[str, str], *, default: str | None = None) -> StageExecution:
    """Let every branch be taken whose condition is true, and those without one (WCP-6).

    Args:
        stage: The stage that chooses when it completes.
        conditions: Downstream ref_id -> expression over what `stage` sees and its outputs.
        default: The downstream ref_id taken when no other branch is; without one the stage fails then.

    Raises:
        ValueError: there is no condition, or the stage chooses by others already.

    """
    return _split(stage, SplitType.OR, conditions, default)


def _split(
    stage: StageExecution, kind: SplitType, conditions: Mapping[str, str], default: str | None
) -> StageExecution:
    if not conditions:
        raise ValueError(f"stage {stage.ref_id!r}: a choice needs conditions: {{downstream ref_id: expression}}")
    if stage.split_conditions:
        raise ValueError(
            f"stage {stage.ref_id!r} already has split_conditions, and a stage makes only one choice: "
            "add a stage for this one"
        )
    stage.split_type = kind
    stage.split_conditions = dict(conditions)
    stage.split_default = default
    return stage


def deferred_choice(
    group: str, *stages: StageExecution, after: str | None = None, choose_after_ms: Mapping[str, int] | None = None
) -> list[StageExecution]:
    """Offer stages together; the outside, or the first time to run out, picks one of them (WCP-16).

    Args:
        group: The choice's name, one of its own in the workflow.
        stages: What is offered.
        after: The ref_id of the stage behind which they are offered; None: their own requisite, or at the start.
        choose_after_ms: ref_id -> how long it is offered before it chooses itself (milliseconds).

    Raises:
        ValueError: there is no stage, a time is for none of them, or one has other requisites than `after`.

    """
    times = dict(choose_after_ms or {})
    if not stages:
        raise ValueError(f"the choice {group!r} has no stages: give those that it offers")
    if strange := sorted(times.keys() - {stage.ref_id for stage in stages}):
        raise ValueError(f"choose_after_ms names {strange[0]!r}, which is not a stage of the choice {group!r}")
    for stage in stages:
        if after is not None:
            _put_behind(stage, after, group)
        stage.deferred_choice_group = group
        stage.choose_after_ms = times.get(stage.ref_id, stage.choose_after_ms)
    return list(stages)


def _put_behind(stage: StageExecution, after: str, group: str) -> None:
    if others := sorted(stage.requisite_stage_ref_ids - {after}):
        raise ValueError(
            f"stage {stage.ref_id!r} waits for {', '.join(others)}; a member of the choice {group!r} has one "
            "requisite: remove the others, or put a stage before the choice that joins them"
        )
    stage.requisite_stage_ref_ids = {after}
