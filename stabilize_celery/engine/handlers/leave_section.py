"""LeaveSection: the last thread may have left a mutex section: give its lock back (WCP-39). Pure, level-triggered."""

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, frame_of, guard, opening, stage_fields
from stabilize_celery.engine.sections import leave_section, section_thread
from stabilize_celery.engine.steps import Handling, Hash
from stabilize_celery.models.messages import LeaveSection

__all__ = ["handle"]


def handle(message: LeaveSection, _rules: Rules, _attempt: int) -> Handling:
    """Decide whether the section is empty."""
    thread = section_thread(message.section)
    snapshot = yield opening(message, Hash(places.run(thread)), stage_fields(message.ref_id))
    if (early := guard(message, snapshot)) is not None:
        return early
    return (yield from leave_section(frame_of(message, snapshot, message.ref_id, thread)))
