"""StartWorkflow: begin a workflow that waited for a concurrency slot of its pipeline (PROTOCOL 8).

Pure. The slots are a semaphore: first come, first served. Without `keep_waiting_pipelines` a newer execution takes
the place of the ones that wait: they are CANCELED, as is who still waits at its expiry. A restarted workflow has its
thread already; it was held back.
"""

from collections.abc import Generator
from typing import Any

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.creation import begin_workflow, bound_workflow, find_expiry
from stabilize_celery.engine.endings import (
    finish_workflow,
)
from stabilize_celery.engine.handler import Rules, guard, opening, workflow_of
from stabilize_celery.engine.locks import Owner, look_ms, owner_of_workflow, request
from stabilize_celery.engine.plan import decode_workflow_plan
from stabilize_celery.engine.state import ENTRY, WORKFLOW_RECORD
from stabilize_celery.engine.steps import (
    Commit,
    Decision,
    Fields,
    Handling,
    Hash,
    Index,
    Owed,
    Ranked,
    Read,
    SetFields,
    lock_slot,
    workflow_slot,
)
from stabilize_celery.models.messages import ResumeParked, StartWorkflow

__all__ = ["handle"]

_META = Fields(places.DEFINITION, ("meta",))


def handle(message: StartWorkflow, rules: Rules, _attempt: int) -> Handling:
    """Decide whether the workflow begins."""
    snapshot = yield opening(message, _META)
    if (early := guard(message, snapshot)) is not None:
        return early
    record, meta = workflow_of(snapshot), decode_workflow_plan(snapshot[_META]["meta"])
    if record.status != "BUFFERED":
        return Decision(note="it has begun already")
    is_first = not record.restarts
    if is_first and (told := find_expiry(meta, snapshot.now_ms)):
        decision = Decision()
        finish_workflow(decision, message.workflow_id, record, "CANCELED", snapshot.now_ms, reason=told, is_empty=True)
        return decision
    owner = owner_of_workflow(message.workflow_id, record)
    token = yield from request(record.lock, owner, meta.concurrency_limit)
    if token is None:
        if not meta.keep_waiting:
            yield from _supersede(record.lock, owner)
        decision = Decision(keeps_entry=True, note="waits for a slot of its pipeline")
        decision.change(SetFields(places.ledger(message.name), ENTRY.encode(pub=0)))
        again_ms = snapshot.now_ms + look_ms(owner, rules.lock_look_ms)
        expires_ms = meta.expiry_ms + 1 if is_first and meta.expiry_ms is not None else again_ms
        decision.defers[message.name] = min(again_ms, expires_ms)
        return decision
    decision = Decision()
    decision.change(SetFields(places.WORKFLOW, WORKFLOW_RECORD.encode(status="RUNNING", lock_state="held")))
    decision.change(Index(record.application, record.name, record.started_ms, "RUNNING", was=record.status))
    if not is_first:
        bound_workflow(decision, message.workflow_id, meta, snapshot.now_ms)
        decision.owes.append(Owed(ResumeParked(workflow_id=message.workflow_id)))
        return decision
    held = msgspec.structs.replace(record, status="RUNNING", lock_state="held")
    begin_workflow(decision, message.workflow_id, held, meta, snapshot.now_us)
    return decision


def _supersede(lock: str, newest: Owner) -> Generator[Read | Commit, Any, None]:
    line = Ranked("q")
    waiting = (yield Read((line,), (), lock_slot(lock)))[line]
    names = [name for name, _ in waiting]
    for name in names[: names.index(str(newest))] if str(newest) in names else []:
        workflow_id = Owner.parse(name).workflow_id
        slot = workflow_slot(workflow_id)
        there = yield Read((Hash(places.WORKFLOW),), (places.WORKFLOW,), slot)
        record = WORKFLOW_RECORD.decode(there.hash(places.WORKFLOW))
        if record.status == "BUFFERED":
            decision = Decision(keeps_entry=True)
            told = f"superseded by the newer execution {newest.workflow_id}"
            finish_workflow(decision, workflow_id, record, "CANCELED", there.now_ms, reason=told)
            yield Commit(decision, slot)
