"""ExpireWorkflow: delete an ended workflow whose retention is over (PROTOCOL 11).

Pure, level-triggered. First the status says GONE, so that everybody treats the workflow as absent; then its keys go in
batches; at last the definition and the record. A crash anywhere goes on at the next delivery.
"""

from collections.abc import Iterable, Iterator, Mapping

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import (
    FOR_KEY_HOLDERS_MS,
    Rules,
    entry_of,
    foreign,
    nothing,
    opening,
    workflow_of,
)
from stabilize_celery.engine.instances import instance_thread
from stabilize_celery.engine.plan import StagePlan, plan_or_bare
from stabilize_celery.engine.sections import section_thread
from stabilize_celery.engine.state import ENTRY, Entry
from stabilize_celery.engine.steps import (
    Decision,
    Delete,
    DeleteFields,
    Expire,
    Fields,
    Handling,
    Hash,
    Index,
    Items,
    Read,
    SetFields,
    Snapshot,
    readable,
)
from stabilize_celery.models.messages import ExpireWorkflow

__all__ = ["handle"]

BATCH = 200
NEEDED_LOOK_MS = 10_000
_DEFINITION = Hash(places.DEFINITION)
_KEPT = Fields(places.COUNTERS, ("kept",))
_NOTICE = Hash(places.ledger("Notify"))


def handle(message: ExpireWorkflow, _rules: Rules, _attempt: int) -> Handling:
    """Decide which keys go next."""
    snapshot = yield opening(message, _DEFINITION, _KEPT, _NOTICE)
    entry, record = entry_of(snapshot, message), workflow_of(snapshot)
    if not entry.exists:
        return nothing("duplicate: nothing is owed under this name")
    if snapshot.now_ms < entry.nb:
        return nothing("early: its retention is not over")
    if (other := foreign(message, snapshot, entry)) is not None:
        return other
    if record.is_live:
        return Decision(note="the workflow was restarted")
    if record.exists and (told := _still_needed(snapshot, entry)):
        return _later(message, snapshot.now_ms, told)
    if record.status != "GONE":
        gone = Decision(keeps_entry=True, nudges=[message])
        gone.change(SetFields(places.WORKFLOW, {"status": "GONE"}))
        gone.change(Index(record.application, record.name, record.started_ms, None))
        return gone
    definition = snapshot[_DEFINITION]
    stages = [field for field in definition if field.startswith("s:")][:BATCH]
    plans = [plan_or_bare(readable(definition), field.removeprefix("s:")) for field in stages]
    return (yield from _delete_stages(message, plans)) if plans else _last(record.key, record.retention_ms)


def _still_needed(snapshot: Snapshot, entry: Entry) -> str:
    """Return why somebody must still find the workflow: who can open it, who asks for its lock, or who called it."""
    definition = snapshot[_DEFINITION]
    is_closed = readable(definition) is not definition
    if is_closed and snapshot.now_ms < entry.nb + FOR_KEY_HOLDERS_MS:
        return "it is left to those who can open it"
    # Of what nobody can open, nobody will give the locks back: who waits for one finds that their holder is gone.
    if not is_closed and int(snapshot[_KEPT].get("kept", b"0")) > 0:
        return "a lock is kept for code that still runs"
    return "its caller is still to be told of its end" if snapshot[_NOTICE] else ""


def _later(message: ExpireWorkflow, now_ms: int, told: str) -> Decision:
    decision = Decision(keeps_entry=True, note=told)
    decision.change(SetFields(places.ledger(message.name), ENTRY.encode(pub=0)))
    decision.defers[message.name] = now_ms + NEEDED_LOOK_MS
    return decision


def _delete_stages(message: ExpireWorkflow, plans: list[StagePlan]) -> Handling:
    """Delete all of some stages, and then their plans, which is how the next look knows what is left."""
    lists = [Items(key) for plan in plans for key in (places.started(plan.ref), places.bypassed(plan.ref))]
    snapshot = yield Read(tuple(lists))
    threads = [thread for query in lists for thread in snapshot[query]]
    totals = {thread: Hash(places.instances(thread)) for thread in threads}
    found = yield Read(tuple(totals.values()))
    instances = {thread: int(found[query].get("total", b"0")) for thread, query in totals.items()}
    decision = Decision(keeps_entry=True, nudges=[message])
    decision.change(Delete((*_keys_of_runs(instances), *(query.key for query in lists), *_keys_of_stages(plans))))
    decision.change(DeleteFields(places.DEFINITION, tuple(f"{kind}:{plan.ref}" for plan in plans for kind in "sx")))
    return decision


def _keys_of_runs(instances: Mapping[str, int]) -> Iterator[str]:
    """Return the keys of runs, and of as many instances as each has."""
    for thread, total in instances.items():
        yield from (places.run(thread), places.room(thread))
        yield from (places.instances(thread), places.instance_counts(thread), places.instance_ends(thread))
        yield from (places.run(instance_thread(thread, index)) for index in range(total))


def _keys_of_stages(plans: Iterable[StagePlan]) -> Iterator[str]:
    for plan in plans:
        yield from (kind(plan.ref) for kind in _OF_STAGE)
        if plan.choice_group:
            yield places.offers(plan.choice_group)
        if plan.mutex_section:
            thread = section_thread(plan.mutex_section)
            yield from (places.run(thread), places.room(thread), places.section_waiters(plan.mutex_section))


_OF_STAGE = (
    places.arrivals,
    places.join,
    places.waiting,
    places.signals,
    places.closed,
    places.component,
    places.shut,
    places.milestone_waiters,
)


def _last(key: str, key_ttl_ms: int) -> Decision:
    decision = Decision(keeps_entry=False)
    single = (places.DEFINITION, places.COUNTERS, places.LIVE, places.FAILURES, places.JUMPS, places.PARKED)
    decision.change(Delete((*single, places.BLOBS, places.OUTSIDE_EVENTS, places.PAGES, places.RESTARTED, "ev")))
    if key:
        decision.change(Expire(places.WORKFLOW, key_ttl_ms))
    else:
        decision.change(Delete((places.WORKFLOW,)))
    return decision
