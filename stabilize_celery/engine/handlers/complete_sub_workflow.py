"""CompleteSubWorkflow: take the result of an ended inner workflow (wcp 1.13; PROTOCOL 10 ChildDone).

Pure, level-triggered. A stage that is a call ends as its child did; a task that called is executed again with the
outcome.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, frame_of, guard, nothing, opening, stage_fields
from stabilize_celery.engine.moves import (
    Frame,
    after_tasks,
    owe_completion,
    owe_task,
    set_run,
    task_list,
)
from stabilize_celery.engine.outputs import workflow_outputs
from stabilize_celery.engine.state import WORKFLOW_RECORD, SubOutcome
from stabilize_celery.engine.steps import Decision, Event, Handling, Hash, Read, Snapshot, workflow_slot
from stabilize_celery.engine.telling import shortened, told_of_inner, whose
from stabilize_celery.models.messages import CompleteSubWorkflow

__all__ = ["handle"]


def handle(message: CompleteSubWorkflow, _rules: Rules, _attempt: int) -> Handling:
    """Decide how the calling run goes on."""
    run_key = places.run(message.thread)
    snapshot = yield opening(message, Hash(run_key), stage_fields(message.ref_id), watch=[run_key])
    if (early := guard(message, snapshot)) is not None:
        return early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if frame.run.is_ended or frame.run.child != message.child_id or frame.run.sub is not None:
        return Decision(note="nobody waits for this inner workflow")
    outcome = yield from _outcome(message.child_id)
    if outcome is None:
        return nothing("the inner workflow has not ended")
    told = {"workflow_id": outcome.workflow_id, "status": outcome.status, **whose(message.thread)}
    event = Event("stage.returned", message.ref_id, told)
    if frame.plan.sub_workflow is None:
        return _resume_task(frame, outcome, event)
    return _complete(frame, outcome, event)


def _outcome(child_id: str) -> Generator[Read, Snapshot, SubOutcome | None]:
    slot = workflow_slot(child_id)
    snapshot = yield Read((Hash(places.WORKFLOW),), (), slot)
    record = WORKFLOW_RECORD.decode(snapshot.hash(places.WORKFLOW))
    if record.is_live:
        return None
    if record.status == "SUCCEEDED":
        return SubOutcome(child_id, record.status, (yield from workflow_outputs(slot)))
    return SubOutcome(child_id, record.status or "CANCELED", reason=shortened(record.reason))


def _resume_task(frame: Frame, outcome: SubOutcome, event: Event) -> Decision:
    decision = Decision(events=[event])
    index = frame.run.task_index
    set_run(decision, frame.thread, sub=outcome)
    owe_task(decision, frame, index, task_list(frame.plan, frame.run.planned)[index].type, att=frame.run.att)
    return decision


def _complete(frame: Frame, outcome: SubOutcome, event: Event) -> Decision:
    decision = Decision(events=[event])
    set_run(decision, frame.thread, sub=outcome, outputs={**frame.run.outputs, **outcome.outputs})
    if outcome.status == "SUCCEEDED":
        after_tasks(decision, frame, frame.run.planned)
        return decision
    told = told_of_inner(outcome.workflow_id, outcome.status, outcome.reason)
    status = "CANCELED" if outcome.status in ("CANCELED", "GONE") else "TERMINAL"
    set_run(decision, frame.thread, outcome=status, reason=told)
    owe_completion(decision, frame)
    return decision
