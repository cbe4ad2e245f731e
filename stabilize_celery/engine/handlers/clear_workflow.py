"""ClearWorkflow: take away what still lives in a workflow that was cut short (wcp 1.10; PROTOCOL 10).

Pure, level-triggered, in batches of 200 runs: a crash between two goes on with the rest. Code that runs in a task
keeps its lock, and its workflow's slot of its pipeline, until it returns. What can't be read of a plan, since a hand
was in Redis, is taken for empty: nothing else ends what such a workflow holds. So is what can't be opened, once those
who have its key have had the time to do this better.
"""

from collections.abc import Generator

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import (
    end_run,
    owe_expiry,
    release_slot,
)
from stabilize_celery.engine.handler import (
    Rules,
    frame_of_rest,
    guard,
    opening,
    stage_fields,
    what_is_left,
    workflow_of,
)
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.offers import leave_offer
from stabilize_celery.engine.plan import workflow_plan_or_bare
from stabilize_celery.engine.sections import close_sections
from stabilize_celery.engine.state import ENTRY, RUN, Entry, Run, WorkflowRecord
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
        plan = workflow_plan_or_bare(what_is_left(seen[_META], record, seen.now_ms))
        close_sections(decision, message.workflow_id, plan)
        if record.lock_state == "held" and int(seen[_KEPT].get("kept", b"0")) <= 0:
            release_slot(decision, message.workflow_id, record)
        owe_expiry(decision, message.workflow_id, record.ended_ms + record.retention_ms)
        return decision
    runs = yield from _runs(live[:BATCH], record)
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


def _runs(threads: list[str], record: WorkflowRecord) -> Generator[Read, Snapshot, dict[str, Run]]:
    keys = {thread: Hash(places.run(thread)) for thread in threads}
    seen = yield Read(tuple(keys.values()), tuple(key.key for key in keys.values()))
    return {thread: RUN.decode(what_is_left(seen[key], record, seen.now_ms)) for thread, key in keys.items()}


def _details(runs: dict[str, Run]) -> Generator[Read, Snapshot, Snapshot]:
    entries = [_entry_key(thread, run) for thread, run in runs.items()]
    fields = [stage_fields(ref) for ref in {run.ref for run in runs.values()}]
    return (yield Read((*map(Hash, entries), *fields, Hash(places.WORKFLOW)), tuple(entries)))


def _entry_key(thread: str, run: Run) -> str:
    return places.ledger(run_name(thread, None, run.task_index))


def _frame(message: ClearWorkflow, thread: str, run: Run, details: Snapshot) -> tuple[Frame, Entry]:
    entry: Entry = ENTRY.decode(details.hash(_entry_key(thread, run)))
    return frame_of_rest(message.workflow_id, details, run.ref, thread, run), entry
