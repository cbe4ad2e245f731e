"""ResumeParked: bring back what was parked while the workflow held it back (PROTOCOL 10 Unpark).

Pure, level-triggered, 200 names per EXEC; stops at once when the workflow is paused again.
"""

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, guard, opening, workflow_of
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import Decision, Handling, Hash, Members, Read, Remove, SetFields
from stabilize_celery.models.messages import ResumeParked

__all__ = ["handle"]

BATCH = 200


def handle(message: ResumeParked, _rules: Rules, _attempt: int) -> Handling:
    """Decide which parked messages are due again."""
    snapshot = yield opening(message, Members(places.PARKED), watch=[places.PARKED])
    if (early := guard(message, snapshot)) is not None:
        return early
    if workflow_of(snapshot).holds_back:
        return Decision(note=f"{workflow_of(snapshot).status} again")
    names = sorted(snapshot[Members(places.PARKED)])
    if not names:
        return Decision()
    batch = names[:BATCH]
    keys = [places.ledger(name) for name in batch]
    entries = yield Read(tuple(map(Hash, keys)), tuple(keys))
    decision = Decision(keeps_entry=len(names) > BATCH)
    decision.change(Remove(places.PARKED, tuple(batch)))
    for name, key in zip(batch, keys, strict=True):
        entry = ENTRY.decode(entries.hash(key))
        if entry.exists and entry.nb:
            # A deadline counts from its time: a nudge would forget that.
            decision.change(SetFields(key, ENTRY.encode(pub=0)))
            decision.defers[name] = entry.nb
        elif (parked := message_of(entry, message.workflow_id)) is not None:
            decision.nudges.append(parked)
    if decision.keeps_entry:
        decision.nudges.append(message)
    return decision
