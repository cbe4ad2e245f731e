"""NotifyParent: tell the calling run that its inner workflow has ended (PROTOCOL 10). Pure."""

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, guard, opening, workflow_of
from stabilize_celery.engine.state import RUN
from stabilize_celery.engine.steps import Commit, Decision, Handling, Hash, Owed, Read, readable, workflow_slot
from stabilize_celery.models.messages import CompleteSubWorkflow, NotifyParent

__all__ = ["handle"]


def handle(message: NotifyParent, _rules: Rules, _attempt: int) -> Handling:
    """Decide whether the caller still waits."""
    snapshot = yield opening(message)
    if (early := guard(message, snapshot)) is not None:
        return early
    own = workflow_of(snapshot)
    slot, run_key = workflow_slot(own.parent_id), places.run(own.parent_thread)
    caller = yield Read((Hash(places.WORKFLOW), Hash(run_key)), (places.WORKFLOW, run_key), slot)
    # Whom it waits for, and whether, stands in plain.
    run = RUN.decode(readable(caller.hash(run_key)))
    if workflow_of(caller).exists and run.child == message.workflow_id and not run.is_ended:
        done = CompleteSubWorkflow(
            workflow_id=own.parent_id, ref_id=own.parent_ref, thread=own.parent_thread, child_id=message.workflow_id
        )
        yield Commit(Decision(keeps_entry=True, owes=[Owed(done)]), slot)
    return Decision()
