"""Whether a stage may start, judged from its upstream stages alone, as upstream's `dag.readiness` does.

For programs that ask it about stages of their own. The engine doesn't: it knows threads and runs, which a list of
stages does not show (docs/concepts.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from stabilize_celery.models.stage.enums import JoinType
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import CONTINUABLE_STATUSES, HALT_STATUSES, WorkflowStatus

__all__ = ["PredicatePhase", "ReadinessResult", "evaluate_readiness"]


class PredicatePhase(Enum):
    """What is to become of a stage."""

    READY = "READY"
    NOT_READY = "NOT_READY"
    SKIP = "SKIP"
    UNDEFINED = "UNDEFINED"
    """Never answered here."""


@dataclass(frozen=True)
class ReadinessResult:
    """An answer with its reason, and the ids of the stages that it is for."""

    phase: PredicatePhase
    reason: str = ""
    failed_upstream_ids: list[str] = field(default_factory=list)
    active_upstream_ids: list[str] = field(default_factory=list)


def evaluate_readiness(
    stage: StageExecution, upstream_stages: Sequence[StageExecution | None], jump_bypass: bool = False
) -> ReadinessResult:
    """Return whether a stage may start: as many of its upstream stages have succeeded as its join needs.

    Args:
        stage: Its join, and of its context what upstream's engine noted: `_activated_branches`, `_join_fired`.
        upstream_stages: Those that it follows.
        jump_bypass: It was jumped to: it starts whatever they are.

    """
    if jump_bypass:
        return ReadinessResult(PredicatePhase.READY, "Jump bypass: it starts whatever its upstream stages are")
    asked = [one for one in upstream_stages if one is not None]
    if not asked:
        return ReadinessResult(PredicatePhase.READY, "No upstream dependencies")
    counted = _counted(stage, asked)
    if not counted:
        return ReadinessResult(PredicatePhase.READY, "No activated branches to wait for")
    if _has_fired(stage):
        return ReadinessResult(PredicatePhase.NOT_READY, f"{stage.join_type.name} join has fired already")
    return _judged(counted, _needed(stage, len(counted)))


def _counted(stage: StageExecution, asked: Sequence[StageExecution]) -> list[StageExecution]:
    activated = stage.context.get("_activated_branches")
    if stage.join_type is not JoinType.OR or activated is None:
        return list(asked)
    return [one for one in asked if one.ref_id in activated]


def _has_fired(stage: StageExecution) -> bool:
    fires_once = stage.join_type is JoinType.DISCRIMINATOR or (
        stage.join_type is JoinType.N_OF_M and stage.join_threshold > 0
    )
    return fires_once and bool(stage.context.get("_join_fired"))


def _needed(stage: StageExecution, number: int) -> int:
    if stage.join_type in (JoinType.MULTI_MERGE, JoinType.DISCRIMINATOR):
        return 1
    is_n_of_m = stage.join_type is JoinType.N_OF_M and stage.join_threshold > 0
    return stage.join_threshold if is_n_of_m else number


def _judged(counted: Sequence[StageExecution], needed: int) -> ReadinessResult:
    done = [one for one in counted if one.status in CONTINUABLE_STATUSES]
    halted = [one for one in counted if one.status in HALT_STATUSES]
    told = f"{len(done)} of {len(counted)} upstream stages are complete, {needed} needed"
    if len(counted) - len(halted) < needed:
        return ReadinessResult(PredicatePhase.SKIP, f"{told}; halted: {_ids(halted)}", _id_list(halted))
    if len(done) >= needed:
        return ReadinessResult(PredicatePhase.READY, told)
    rest = [one for one in counted if one.status not in CONTINUABLE_STATUSES | HALT_STATUSES]
    active = [one for one in rest if one.status is not WorkflowStatus.NOT_STARTED] or rest
    return ReadinessResult(PredicatePhase.NOT_READY, f"{told}; waits for {_ids(active)}", [], _id_list(active))


def _id_list(stages: Iterable[StageExecution]) -> list[str]:
    return [one.id for one in stages]


def _ids(stages: Iterable[StageExecution]) -> str:
    return ", ".join(_id_list(stages))
