"""Several instances of one stage."""

from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.stage.stage import StageExecution

__all__ = ["instances"]


def instances(  # noqa: PLR0913 - a table of independent settings
    stage: StageExecution,
    *,
    count: int | None = None,
    count_from: str | None = None,
    over: str | None = None,
    threshold: int = 0,
    until: str | None = None,
    cancel_rest: bool = False,
    dynamic: bool = False,
    wait: bool = True,
    at_once: int = 0,
) -> StageExecution:
    """Let a stage's tasks run once per instance, side by side (WCP-12 to 15, 34 to 36).

    A task sees `instance_index`, and with `over` its `instance_item`. Outputs are collected into lists.

    Args:
        stage: The stage whose tasks they run.
        count: The number of instances, known in the design (WCP-13).
        count_from: The name under which the number is found when the stage starts (WCP-14).
        over: The name under which a list is found when the stage starts; one instance per item.
        threshold: Go on after this many instances are done (count; WCP-34); 0: after all.
        until: Go on when this expression over `completed`, `total`, `active` is true (WCP-36).
        cancel_rest: Cancel what is unfinished when the stage goes on (WCP-35).
        dynamic: Instances may be added while others run (WCP-15).
        wait: False: go on at once; the workflow waits for the instances at its end (WCP-12).
        at_once: At most this many at work at the same time (count); 0: no limit.

    Raises:
        ValueError: not exactly one of `count`, `count_from` and `over` is given.

    """
    given = [
        name for name, value in (("count", count), ("count_from", count_from), ("over", over)) if value is not None
    ]
    if len(given) != 1 or "" in (count_from, over):
        told = " and ".join(given) if len(given) > 1 else "an empty name" if given else "none of them"
        raise ValueError(
            f"stage {stage.ref_id!r}: the number of instances is unclear: {told} given; give exactly one of count (a "
            "number), count_from (the name of a number) and over (the name of a list)"
        )
    stage.mi_config = MultiInstanceConfig(
        count=count or 0,
        count_from_context=count_from or "",
        collection_from_context=over or "",
        sync_on_complete=wait,
        allow_dynamic=dynamic,
        join_threshold=threshold,
        cancel_remaining=cancel_rest,
        completion_condition=until,
        max_concurrent=at_once,
    )
    return stage
