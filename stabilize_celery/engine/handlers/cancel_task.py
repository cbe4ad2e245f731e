"""CancelTask: a task's `on_cancel` has been called. Works whatever the workflow's status (PROTOCOL 4.3).

Pure: the runtime calls the hook (user code) before this handler forgets the message, so it runs at least once.
"""

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, entry_of, foreign, frame_of, guard, nothing, opening, stage_fields
from stabilize_celery.engine.moves import task_list
from stabilize_celery.engine.steps import Decision, Event, Handling, Hash, Read, Snapshot
from stabilize_celery.engine.telling import whose
from stabilize_celery.models.messages import CancelTask

__all__ = ["handle", "settle"]


def handle(message: CancelTask, _rules: Rules, _attempt: int) -> Handling:
    """Decide that nothing more is owed to the task."""
    snapshot = yield _opening(message)
    if (early := guard(message, snapshot)) is not None:
        return early
    return _told(message, snapshot)


def settle(message: CancelTask) -> Handling:
    """Decide the same before the message's time: the process that executed the body has called the hook."""
    snapshot = yield _opening(message)
    entry = entry_of(snapshot, message)
    if not entry.exists or foreign(message, snapshot, entry) is not None:
        return nothing("duplicate: nothing is owed under this name")
    return _told(message, snapshot)


def _opening(message: CancelTask) -> Read:
    return opening(message, Hash(places.run(message.thread)), stage_fields(message.ref_id))


def _told(message: CancelTask, snapshot: Snapshot) -> Decision:
    if not snapshot[stage_fields(message.ref_id)]:
        return Decision(note="the workflow is gone")
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    tasks = task_list(frame.plan, frame.run.planned)
    name = tasks[message.task_index].name if message.task_index < len(tasks) else message.task_type
    return Decision(events=[Event("task.cancel_told", message.ref_id, {"task": name, **whose(message.thread)})])
