"""Waiting for a lock: a stage for its mutex, a workflow for a slot of its pipeline."""

from stabilize_celery.client.why.facts import Facts
from stabilize_celery.client.why.locks import LockFacts, Party, shown_key
from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.words import duration, ordinal, plural
from stabilize_celery.models.messages import run_name

__all__ = ["mutex_reason"]


def mutex_reason(facts: Facts, ref_id: str, lock: str, thread: str) -> Reason:
    """Return the reason of who asks for a lock: a run, or with an empty thread the workflow itself."""
    known = facts.locks.get(lock)
    what = f"waits for mutex {shown_key(lock)!r}" if ref_id else f"waits for a slot of its pipeline ({lock})"
    if known is None or not known.holders:
        return Reason(ref_id, "mutex" if ref_id else "slot", what, "It is free; the request is on its way")
    return Reason(
        ref_id,
        "mutex" if ref_id else "slot",
        f"{what}, held by {_holders(facts, known)}{_place(facts, known, thread)}",
        _worker(facts, known.holders[0]),
        f"it goes on when that ends; `stabilize-celery cancel {known.holders[0].workflow_id}` would free it",
    )


def _holders(facts: Facts, lock: LockFacts) -> str:
    first = lock.holders[0]
    since = f" for {duration(facts.now_ms - first.since_ms)}" if first.since_ms else ""
    more = f" and {plural(len(lock.holders) - 1, 'other')}" if len(lock.holders) > 1 else ""
    return f"{first}{since}{more}"


def _place(facts: Facts, lock: LockFacts, thread: str) -> str:
    for position, waiter in enumerate(lock.waiters, 1):
        if (waiter.workflow_id, waiter.thread) == (facts.view.id, thread):
            return f", {ordinal(position)} of {len(lock.waiters)} in line"
    return ""


def _worker(facts: Facts, holder: Party) -> str:
    if holder.workflow_id == facts.view.id and facts.is_dead(run_name(holder.thread, None, 0)):
        return "The holder's message is a dead letter"
    worker = facts.fleet.find(holder.worker) if holder.worker else None
    if worker is None:
        return ""
    return f"Worker {worker.node}, which runs the holder's task, answered {duration(worker.silent_ms)} ago"
