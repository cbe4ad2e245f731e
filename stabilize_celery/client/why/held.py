"""Waiting for a lock: a stage for its mutex, a workflow for a slot of its pipeline."""

from collections.abc import Iterator

from stabilize_celery.client.why.cycle import MOST_TOLD
from stabilize_celery.client.why.facts import Facts
from stabilize_celery.client.why.locks import LockFacts, Party, told_key
from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.why.waits import MOST_FOLLOWED
from stabilize_celery.client.words import clock_time, duration, ordinal, plural
from stabilize_celery.models.messages import run_name

__all__ = ["deadlock_reasons", "mutex_reason"]


_SEE = "it will not continue by itself: end one of the parties of the deadlock"
_CUT = f"Only the first {MOST_FOLLOWED} locks and workflows on the way were followed: there may be more"


def deadlock_reasons(facts: Facts) -> Iterator[Reason]:
    """Return the deadlocks that the workflow is part of or waits behind; each names its parties."""
    for deadlock in facts.deadlocks.found:
        place = "deadlock" if facts.view.id in deadlock.workflow_ids else "waits behind a deadlock"
        number = len(deadlock.links)
        told = (
            f"each of these {number} waits for another one to end"
            if number > 1
            else "it waits for a mutex that it holds itself"
        )
        lines = [*deadlock.told(facts.now_ms), *([_CUT] if facts.deadlocks.is_cut else [])]
        advice = f"end {'one of them' if number > 1 else 'it'}: " + "\nor ".join(
            f"`{line}`" for line in deadlock.commands[:MOST_TOLD]
        )
        yield Reason("", "deadlock", f"{place}: {told}", ".\n".join(lines), advice, deadlock=deadlock)


def mutex_reason(facts: Facts, ref_id: str, lock: str, thread: str) -> Reason:
    """Return the reason of who asks for a lock: a run, or with an empty thread the workflow itself."""
    known, kind = facts.locks.get(lock), "mutex" if ref_id else "slot"
    what = f"waits for mutex {told_key(lock)}" if ref_id else f"waits for a slot of its pipeline ({lock})"
    is_paused = facts.view.record.status == "PAUSED"
    if known is None or not known.holders:
        when = "it is asked for again when the workflow is resumed" if is_paused else "the request is on its way"
        return Reason(ref_id, kind, what, f"It is free; {when}")
    told = f"{what}, held by {_holders(facts, known)}{_place(facts, known, thread)}"
    if lock in facts.deadlocks.locks:
        return Reason(ref_id, kind, f"{told}: a deadlock", _worker(facts, known.holders[0]), _SEE)
    first = known.holders[0]
    code = "The holder has ended, but its code has not returned yet" if first.has_ended else ""
    turn = "If its turn comes before the workflow is resumed, it gets in line again" if is_paused else ""
    details = [code, _worker(facts, first), turn or _expiry(facts), _CUT if facts.deadlocks.is_cut else ""]
    return Reason(ref_id, kind, told, ". ".join(filter(None, details)), _advice(first))


def _advice(holder: Party) -> str:
    if holder.has_ended:
        return "it continues when that code returns, or its worker is stopped"
    if holder.is_paused:
        return f"it continues when that ends, which is paused: `stabilize-celery resume {holder.workflow_id}`"
    return f"it continues when that ends; `stabilize-celery cancel {holder.workflow_id}` would release it"


def _expiry(facts: Facts) -> str:
    """Return until when a workflow that has not begun waits for its slot; empty if that is for ever."""
    record, expiry_ms = facts.view.record, facts.view.definition.get("start_time_expiry")
    if record.status != "BUFFERED" or record.restarts or expiry_ms is None:
        return ""
    return f"It is cancelled if it has none by {clock_time(expiry_ms, facts.now_ms)}"


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
