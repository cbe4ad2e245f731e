"""ExpireWorkflow: delete an ended workflow whose retention is over (PROTOCOL 11).

Pure, level-triggered. First the status says GONE, so that everybody treats the workflow as absent; then its keys go in
batches; at last the definition and the record. A crash anywhere goes on at the next delivery.
"""

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, entry_of, foreign, nothing, opening, workflow_of
from stabilize_celery.engine.steps import (
    Decision,
    Delete,
    DeleteFields,
    Expire,
    Handling,
    Hash,
    Index,
    Items,
    Read,
    SetFields,
)
from stabilize_celery.models.messages import ExpireWorkflow

__all__ = ["handle"]

BATCH = 200
_DEFINITION = Hash(places.DEFINITION)


def handle(message: ExpireWorkflow, _rules: Rules, _attempt: int) -> Handling:
    """Decide which keys go next."""
    snapshot = yield opening(message, _DEFINITION)
    entry, record = entry_of(snapshot, message), workflow_of(snapshot)
    if not entry.exists:
        return nothing("duplicate: nothing is owed under this name")
    if snapshot.now_ms < entry.nb:
        return nothing("early: its retention is not over")
    if (other := foreign(message, snapshot)) is not None:
        return other
    if record.is_live:
        return Decision(note="the workflow was restarted")
    if record.status != "GONE":
        gone = Decision(keeps_entry=True, nudges=[message])
        gone.change(SetFields(places.WORKFLOW, {"status": "GONE"}))
        gone.change(Index(record.application, record.name, record.started_ms, None))
        return gone
    refs = [field[2:] for field in snapshot[_DEFINITION] if field.startswith("s:")][:BATCH]
    return (yield from _delete_stages(message, refs)) if refs else _last(record.key, record.retention_ms)


def _delete_stages(message: ExpireWorkflow, refs: list[str]) -> Handling:
    """Delete all of some stages, and then their plans, which is how the next look knows what is left."""
    lists = [Items(key) for ref in refs for key in (places.started(ref), places.bypassed(ref))]
    snapshot = yield Read(tuple(lists))
    runs = [places.run(thread) for query in lists for thread in snapshot[query]]
    kinds = (
        places.arrivals,
        places.join,
        places.waiting,
        places.signals,
        places.closed,
        places.component,
        places.shut,
    )
    of_stages = [kind(ref) for ref in refs for kind in kinds]
    decision = Decision(keeps_entry=True, nudges=[message])
    decision.change(Delete((*runs, *(query.key for query in lists), *of_stages)))
    plans = tuple(f"{kind}:{ref}" for ref in refs for kind in "sx")
    decision.change(DeleteFields(places.DEFINITION, plans))
    return decision


def _last(key: str, key_ttl_ms: int) -> Decision:
    decision = Decision(keeps_entry=False)
    single = (places.DEFINITION, places.COUNTERS, places.LIVE, places.FAILURES, places.JUMPS, places.PARKED)
    decision.change(Delete((*single, places.OUTSIDE_EVENTS, places.RESTARTED, "ev")))
    if key:
        decision.change(Expire(places.WORKFLOW, key_ttl_ms))
    else:
        decision.change(Delete((places.WORKFLOW,)))
    return decision
