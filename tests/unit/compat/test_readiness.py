"""Readiness as upstream judges it: a row per join and what its upstream stages have come to."""

import pytest
from stabilize_celery.compat.dag.readiness import PredicatePhase, evaluate_readiness

from stabilize_celery.models.stage.enums import JoinType
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus

DONE, FAILS, RUNS, WAITS, SKIPPED = "SUCCEEDED", "TERMINAL", "RUNNING", "NOT_STARTED", "SKIPPED"


def stage(ref_id: str, status: str = WAITS, **more: object) -> StageExecution:
    return StageExecution(ref_id=ref_id, status=WorkflowStatus[status], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("join", "threshold", "upstream", "phase"),
    [
        ("AND", 0, [], "READY"),
        ("AND", 0, [DONE, SKIPPED], "READY"),
        ("AND", 0, [DONE, RUNS], "NOT_READY"),
        ("AND", 0, [DONE, WAITS], "NOT_READY"),
        ("AND", 0, [FAILS, RUNS], "SKIP"),
        ("AND", 0, ["CANCELED"], "SKIP"),
        ("AND", 0, ["STOPPED"], "SKIP"),
        ("OR", 0, [DONE, RUNS], "NOT_READY"),
        ("MULTI_MERGE", 0, [DONE, RUNS], "READY"),
        ("MULTI_MERGE", 0, [FAILS, FAILS], "SKIP"),
        ("DISCRIMINATOR", 0, [DONE, FAILS], "READY"),
        ("DISCRIMINATOR", 0, [RUNS, FAILS], "NOT_READY"),
        ("N_OF_M", 2, [DONE, DONE, RUNS], "READY"),
        ("N_OF_M", 2, [DONE, RUNS, FAILS], "NOT_READY"),
        ("N_OF_M", 2, [DONE, FAILS, FAILS], "SKIP"),
        ("N_OF_M", 0, [DONE, RUNS], "NOT_READY"),
    ],
)
def test_a_join_and_its_upstream(join: str, threshold: int, upstream: list[str], phase: str) -> None:
    """As many as the join needs have succeeded, still can, or can't any more."""
    asked = stage("join", join_type=JoinType[join], join_threshold=threshold)
    before = [stage(f"u{at}", status) for at, status in enumerate(upstream)]
    result = evaluate_readiness(asked, before)

    assert result.phase is PredicatePhase[phase]
    assert set(result.failed_upstream_ids) == {
        one.id for one in before if phase == "SKIP" and one.status.name in (FAILS, "CANCELED", "STOPPED")
    }
    assert bool(result.active_upstream_ids) == (phase == "NOT_READY")


def test_what_upstreams_engine_noted_counts() -> None:
    """Branches that an OR-split chose, a join that has fired, a jump."""
    before = [stage("a", DONE), stage("b", RUNS)]
    chosen = stage("join", join_type=JoinType.OR, context={"_activated_branches": ["a"]})
    none = stage("join", join_type=JoinType.OR, context={"_activated_branches": []})
    fired = stage("join", join_type=JoinType.DISCRIMINATOR, context={"_join_fired": True})

    found = [evaluate_readiness(one, before).phase.name for one in (chosen, none, fired)]
    assert found == ["READY", "READY", "NOT_READY"]
    assert evaluate_readiness(stage("join"), [stage("a", FAILS)], jump_bypass=True).phase is PredicatePhase.READY
