"""Who may be at work at the same time, and who only while another is."""

from stabilize_celery.models.stage.enums import MutexScope
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus

__all__ = ["critical_section", "interleaved", "milestone"]


def critical_section(
    key: str,
    *stages: StageExecution,
    name: str | None = None,
    scope: MutexScope = MutexScope.GLOBAL,
    limit: int = 1,
) -> list[StageExecution]:
    """Let stages hold a mutex together: from the first one's start to the last one's end (WCP-39).

    One stage alone holds it while it runs. Threads must pass directly from member to member of a section.

    Args:
        key: Whoever uses the same key, in any workflow within `scope`, is kept out meanwhile.
        stages: The section's members.
        name: The section's name in its workflow; the default is made from the key and the first stage.
        scope: Who shares the key: the installation, the application or the workflow.
        limit: How many sections may hold the key at once (count).

    Raises:
        ValueError: there is no stage, a stage without ref_id, or one that holds another key already.

    """
    if not stages:
        raise ValueError(f"the critical section {key!r} has no stages: give those that need the key")
    if name is None and len(stages) > 1:
        # The key alone would make two sections of one workflow one section, and let them overlap.
        name = f"{key}/{_named(stages[0])}"
    for stage in stages:
        _hold(stage, key, scope)
        stage.mutex_limit = limit
        stage.mutex_section = name
    return list(stages)


def interleaved(*stages: StageExecution, key: str | None = None) -> list[StageExecution]:
    """Let stages of one workflow run one at a time, in any order that their requisites allow (WCP-17, WCP-40).

    Args:
        stages: Those that must not run at the same time.
        key: What their common mutex is called; the default is made from the first stage.

    Raises:
        ValueError: there is no stage, a stage without ref_id, or one that holds another key already.

    """
    if not stages:
        raise ValueError("interleaved() has no stages: give those that must not run at the same time")
    key = key or f"interleaved/{_named(stages[0])}"
    for stage in stages:
        _hold(stage, key, MutexScope.WORKFLOW)
    return list(stages)


def _named(stage: StageExecution) -> str:
    if not stage.ref_id:
        raise ValueError("the first stage has no ref_id, from which a name could be made: set it, or give a name")
    return stage.ref_id


def _hold(stage: StageExecution, key: str, scope: MutexScope) -> None:
    if stage.mutex_key not in (None, key):
        raise ValueError(
            f"stage {stage.ref_id!r} holds the mutex_key {stage.mutex_key!r} already; it can't hold {key!r} too"
        )
    stage.mutex_key = key
    stage.mutex_scope = scope


def milestone(stage: StageExecution, while_stage: str, status: str = "RUNNING") -> StageExecution:
    """Let a stage start only while another one has a status (WCP-18).

    It waits as long as that is still possible, and is skipped once it is not. What happens after its start does not
    matter. RUNNING stands for any status between start and end, NOT_STARTED for any before the start.

    Args:
        stage: The stage that may start.
        while_stage: The ref_id of the other stage.
        status: The name of a status.

    Raises:
        ValueError: there is no such status.

    """
    if status not in WorkflowStatus.__members__:
        known = ", ".join(WorkflowStatus.__members__)
        raise ValueError(f"stage {stage.ref_id!r}: {status!r} is not a status; use one of {known}")
    stage.milestone_ref_id = while_stage
    stage.milestone_status = WorkflowStatus[status].name
    return stage
