"""What an ending run or workflow gives back, takes with it, and leaves to who is still at work (PROTOCOL 4.3, 8)."""

from typing import Any

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import end_code, end_run, finish_workflow
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.past import Past
from stabilize_celery.engine.state import RUN, Run, SubOutcome, TaskState, WorkflowRecord
from stabilize_celery.engine.steps import Decision, DeleteFields, Increment, SetFields
from tests.unit.engine.driving import NOW_MS, W, as_stored, owed_names, plan_of


def frame(workflow: WorkflowRecord | None = None, **run: Any) -> Frame:
    values = {"ref": "a", "status": "RUNNING", "started_ms": 1, "tasks": [TaskState()], "phase": "tasks", **run}
    return Frame(
        W, NOW_MS * 1000, workflow or WorkflowRecord(status="RUNNING"), plan_of("a", "shell"), "t", Run(**values)
    )


def ended(**run: Any) -> Decision:
    decision = Decision()
    end_run(decision, frame(**run), "CANCELED")
    return decision


@pytest.mark.parametrize(("more", "is_cancelled"), [({}, True), ({"sub": SubOutcome("w2", "SUCCEEDED")}, False)])
def test_who_calls_a_workflow_takes_it_along_unless_that_has_answered(more: dict[str, Any], is_cancelled: bool) -> None:
    """Nobody else would ever end it, or ask for what it brings."""
    assert ("Kill:t" in owed_names(ended(child="w2", **more))) is is_cancelled


def test_who_waits_for_a_milestone_waits_there_no_longer() -> None:
    """Else it would be let in behind its end."""
    assert DeleteFields(places.milestone_waiters("open"), ("t",)) in ended(held_for="open").changes


def test_outputs_are_stamped_behind_all_that_their_run_has_seen() -> None:
    """The clock of the server may have gone back: a later write must win all the same."""
    decision = ended(outputs={"x": 1}, past=Past(latest=NOW_MS * 2000))
    (written,) = (c.fields for c in decision.changes if isinstance(c, SetFields) and c.key == places.run("t"))

    assert RUN.decode(as_stored(written)).wrote_us == NOW_MS * 2000 + 1


@pytest.mark.parametrize(("before", "kept"), [([], 0), (["b"], 1)])
def test_a_lock_that_may_cover_others_outlives_its_workflow(before: list[str], kept: int) -> None:
    """Until who was the last inside has given it back, its keys must not expire."""
    ending = frame(lock="held", request=1)
    ending.plan = plan_of("a", "shell", before=before)
    decision = Decision()
    end_run(decision, ending, "CANCELED")

    by = [c.by for c in decision.changes if isinstance(c, Increment) and (c.key, c.field) == (places.COUNTERS, "kept")]
    assert sum(by) == kept
    assert ("Leave:t" in owed_names(decision), "Unlock:t#1" in owed_names(decision)) == (bool(kept), not kept)


@pytest.mark.parametrize(
    ("state", "is_empty", "kept", "gives_back"),
    [
        ("held", True, 0, True),
        ("held", True, 1, False),
        ("held", False, 0, False),
        ("requested", False, 1, True),
        ("done", True, 0, False),
    ],
)
def test_the_slot_of_a_pipeline_is_kept_while_anything_of_its_workflow_is_at_work(
    state: str, is_empty: bool, kept: int, gives_back: bool
) -> None:
    """What still lives, and code that still runs; a request that was never granted covers nothing."""
    record = WorkflowRecord(status="RUNNING", lock="PIPELINE:p", lock_state=state)
    decision = Decision()
    finish_workflow(decision, W, record, "CANCELED", NOW_MS, is_empty=is_empty, kept=kept)

    assert ("Unlock:#0" in owed_names(decision)) is gives_back


@pytest.mark.parametrize(("status", "looks"), [("RUNNING", False), ("CANCELED", True)])
def test_code_that_returns_last_looks_after_the_slot_of_an_ended_workflow(status: str, looks: bool) -> None:
    """One that goes on keeps it in any case."""
    decision = Decision()
    end_code(decision, frame(WorkflowRecord(status=status, lock="PIPELINE:p", lock_state="held"), status="CANCELED"))

    assert ("Leave:" in owed_names(decision)) is looks
