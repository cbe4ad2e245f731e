"""CheckMilestone: look again at who waits for a stage's status (WCP-18). Pure, level-triggered."""

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, frame_of, guard, opening, stage_fields, zone_fields
from stabilize_celery.engine.milestones import GONE, HOLDS, milestone_verdict, wake, withdraw
from stabilize_celery.engine.moves import (
    count_moves,
)
from stabilize_celery.engine.steps import Decision, Handling, Hash, Read
from stabilize_celery.models.messages import CheckMilestone

__all__ = ["handle"]


def handle(message: CheckMilestone, _rules: Rules, _attempt: int) -> Handling:
    """Decide which of the held runs try to start, and which are withdrawn."""
    waiters = Hash(places.milestone_waiters(message.ref_id))
    snapshot = yield opening(message, waiters, watch=[waiters.key])
    if (early := guard(message, snapshot)) is not None:
        return early
    held = {thread: ref.decode() for thread, ref in snapshot[waiters].items()}
    keys = {thread: Hash(places.run(thread)) for thread in held}
    fields = [query for ref in held.values() for query in (stage_fields(ref), zone_fields(ref))]
    runs = yield Read((*keys.values(), *fields), tuple(key.key for key in keys.values()))
    seen = snapshot.merged(runs)
    decision, moves = Decision(), 0
    for thread, ref in held.items():
        frame = frame_of(message, seen, ref, thread)
        verdict = yield from milestone_verdict(frame.plan)
        if verdict == HOLDS:
            moves += wake(decision, frame)
        elif verdict == GONE:
            moves += withdraw(decision, frame)
    count_moves(decision, message.workflow_id, moves)
    return decision
