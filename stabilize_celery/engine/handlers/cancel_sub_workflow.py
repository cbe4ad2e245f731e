"""CancelSubWorkflow: cancel the inner workflow of a run that ended early (PROTOCOL 10 Kill).

Pure. Works whatever became of the caller. Not created yet: a tombstone under its id keeps it from ever being created.
"""

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import (
    finish_workflow,
)
from stabilize_celery.engine.handler import Rules, guard, opening
from stabilize_celery.engine.state import WORKFLOW_RECORD
from stabilize_celery.engine.steps import Commit, Decision, Expire, Handling, Hash, Read, SetFields, workflow_slot
from stabilize_celery.models.messages import CancelSubWorkflow

__all__ = ["TOMBSTONE_TTL_MS", "handle"]

TOMBSTONE_TTL_MS = 7 * 24 * 3600 * 1000


def handle(message: CancelSubWorkflow, _rules: Rules, _attempt: int) -> Handling:
    """Decide the end of the child."""
    snapshot = yield opening(message)
    if (early := guard(message, snapshot)) is not None:
        return early
    slot = workflow_slot(message.child_id)
    child = yield Read((Hash(places.WORKFLOW),), (places.WORKFLOW,), slot)
    record = WORKFLOW_RECORD.decode(child.hash(places.WORKFLOW))
    decision = Decision(keeps_entry=True)
    if not record.status:
        decision.change(SetFields(places.WORKFLOW, {"status": "GONE"}))
        decision.change(Expire(places.WORKFLOW, TOMBSTONE_TTL_MS))
        yield Commit(decision, slot)
    elif record.is_live:
        told = f"the calling workflow {message.workflow_id} gave it up"
        finish_workflow(decision, message.child_id, record, "CANCELED", child.now_ms, reason=told)
        yield Commit(decision, slot)
    return Decision()
