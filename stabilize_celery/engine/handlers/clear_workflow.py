"""ClearWorkflow: take away what still lives in a workflow that was cut short (wcp 1.10; PROTOCOL 10).

Pure, level-triggered, in batches of 200 runs: a crash between two goes on with the rest. Code that runs in a task
keeps its lock, and its workflow's slot of its pipeline, until it returns. What can't be read of a plan, since a hand
was in Redis, is taken for empty: nothing else ends what such a workflow holds.
"""

from collections.abc import Generator, Mapping
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.endings import (
    end_run,
    owe_expiry,
    release_slot,
)
from stabilize_celery.engine.handler import Rules, guard, opening, stage_fields, workflow_of
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.offers import leave_offer
from stabilize_celery.engine.plan import SPOILT, plan_or_bare, workflow_plan_or_bare
from stabilize_celery.engine.sections import close_sections
from stabilize_celery.engine.state import ENTRY, RUN, Entry, Run
from stabilize_celery.engine.steps import Decision, Delete, Fields, Handling, Hash, Increment, Members, Read, Snapshot
from stabilize_celery.models.messages import ClearWorkflow, run_name

__all__ = ["BATCH", "handle"]

BATCH = 200
_META = Fields(places.DEFINITION, ("meta",))
_KEPT = Fields(places.COUNTERS, ("kept",))


def handle(message: ClearWorkflow, _rules: Rules, _attempt: int) -> Handling:
    """Decide the end of the next live runs, or that nothing is left."""
    snapshot = yield opening(message, Members(places.LIVE), watch=[places.LIVE])
    if (early := guard(message, snapshot)) is not None:
        return early
    record = workflow_of(snapshot)
    if record.is_live:
        return Decision(note="the workflow was restarted")
    live = sorted(snapshot[Members(places.LIVE)])
    if not live:
        decision = Decision()
        seen = yield Read((_META, _KEPT), (places.COUNTERS,))
        close_sections(decision, message.workflow_id, workflow_plan_or_bare(seen[_META]))
        if record.lock_state == "held" and int(seen[_KEPT].get("kept", b"0")) <= 0:
            release_slot(decision, message.workflow_id, record)
        owe_expiry(decision, message.workflow_id, record.ended_ms + record.retention_ms)
        return decision
    runs = yield from _runs(live[:BATCH])
    details = yield from _details(runs)
    decision = Decision(keeps_entry=True, nudges=[message])
    moves = 0
    for thread, run in runs.items():
        frame, entry = _frame(message, thread, run, details)
        moves += end_run(decision, frame, "CANCELED", record.reason, entry)
        if run.offer:
            moves += yield from leave_offer(decision, frame)
    for ref_id in {run.ref for run in runs.values()}:
        decision.change(Delete((places.signals(ref_id),)))
    if moves:
        decision.change(Increment(places.COUNTERS, "act", moves))
    return decision


def _runs(threads: list[str]) -> Generator[Read, Snapshot, dict[str, Run]]:
    keys = {thread: Hash(places.run(thread)) for thread in threads}
    snapshot = yield Read(tuple(keys.values()), tuple(key.key for key in keys.values()))
    return {thread: RUN.decode(snapshot[key]) for thread, key in keys.items()}


def _details(runs: dict[str, Run]) -> Generator[Read, Snapshot, Snapshot]:
    entries = [_entry_key(thread, run) for thread, run in runs.items()]
    fields = [stage_fields(ref) for ref in {run.ref for run in runs.values()}]
    return (yield Read((*map(Hash, entries), *fields, Hash(places.WORKFLOW)), tuple(entries)))


def _entry_key(thread: str, run: Run) -> str:
    return places.ledger(run_name(thread, None, run.task_index))


def _frame(message: ClearWorkflow, thread: str, run: Run, details: Snapshot) -> tuple[Frame, Entry]:
    fields = details[stage_fields(run.ref)]
    entry: Entry = ENTRY.decode(details.hash(_entry_key(thread, run)))
    frame = Frame(
        message.workflow_id,
        details.now_us,
        workflow_of(details),
        plan_or_bare(fields, run.ref),
        thread,
        run,
        _context(fields, run.ref),
    )
    return frame, entry


def _context(fields: Mapping[str, bytes], ref: str) -> dict[str, Any]:
    try:
        return dict(unpack(fields[f"x:{ref}"]))
    except SPOILT:
        return {}
