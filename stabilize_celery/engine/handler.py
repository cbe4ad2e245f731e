"""What a handler is, and the beginning that all handlers share (PROTOCOL 4)."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.ledger import is_owed
from stabilize_celery.engine.moves import (
    Frame,
)
from stabilize_celery.engine.past import (
    Page,
    Past,
    decode_page,
    merged,
    newest_of,
    pages_to_merge,
    resolve,
    threads_of,
)
from stabilize_celery.engine.plan import context_or_empty, decode_plan, plan_or_bare
from stabilize_celery.engine.state import ENTRY, RUN, WORKFLOW_RECORD, Entry, Run, WorkflowRecord
from stabilize_celery.engine.steps import (
    Add,
    Decision,
    Fields,
    Handling,
    Hash,
    Query,
    Read,
    SetFields,
    Snapshot,
    readable,
)
from stabilize_celery.models.expressions import UnknownNameError
from stabilize_celery.models.messages import LEDGER_VERSION, MESSAGE_TYPES, Message

__all__ = [
    "FOR_KEY_HOLDERS_MS",
    "Handler",
    "Rules",
    "entry_of",
    "evaluated",
    "foreign",
    "frame_of",
    "frame_of_rest",
    "frame_with",
    "guard",
    "meet",
    "nothing",
    "opening",
    "park",
    "rest_ms",
    "stage_fields",
    "unknown_in",
    "visible_values",
    "what_is_left",
    "workflow_of",
    "zone_fields",
]

T = TypeVar("T")

FIRST_REST_MS, LONGEST_REST_MS = 5_000, 300_000
"""How long rests what only a newer version knows: doubled each time."""
FOR_KEY_HOLDERS_MS = 60_000
"""For so long only those end the rest of a workflow who can open all of it (ms)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that decisions depend on. Times in ms."""

    lease_ms: int = 9_000
    max_lost: int = 5
    lock_look_ms: int = 300_000
    republish_ms: int = 2_000


Handler = Callable[[Any, Rules, int], Handling]
"""`handle(message, rules, attempt)`: attempt counts conflicts of this delivery, from 0."""


def nothing(note: str) -> Decision:
    """Return the decision to write nothing: the entry, if there is one, stays owed."""
    return Decision(keeps_entry=True, note=note)


def opening(message: Message, *queries: Query, watch: Iterable[str] = ()) -> Read:
    """Return the first read of a handler: its ledger entry, the workflow, and what it asks for."""
    entry = places.ledger(message.name)
    return Read(
        (Hash(entry), Hash(places.WORKFLOW), *queries),
        (entry, places.WORKFLOW, *watch),
    )


def entry_of(snapshot: Snapshot, message: Message) -> Entry:
    """Return the handled message's ledger entry."""
    return snapshot.record(places.ledger(message.name), ENTRY.decode)


def workflow_of(snapshot: Snapshot) -> WorkflowRecord:
    """Return the workflow's record. Only its reason may be sealed: nothing is decided by that, so it may be lacking."""
    return snapshot.record(places.WORKFLOW, _record_of)


def _record_of(fields: Mapping[str, bytes]) -> WorkflowRecord:
    return WORKFLOW_RECORD.decode(readable(fields))


def guard(message: Message, snapshot: Snapshot) -> Decision | None:
    """Return the decision that every handler takes alike, or None: duplicate, early, ended, gone, held back."""
    entry, workflow = entry_of(snapshot, message), workflow_of(snapshot)
    if not entry.exists:
        return nothing("duplicate: nothing is owed under this name")
    if snapshot.now_ms < entry.nb:
        return nothing("early: not before its time")
    if (other := foreign(message, snapshot, entry)) is not None:
        return other
    if not workflow.exists and not message.outlives_workflow:
        return Decision(note="the workflow is gone")
    if not workflow.is_live and not message.works_after_end:
        return Decision(note="the workflow has ended")
    if workflow.holds_back and message.begins_work:
        return park(message, workflow)
    return None


def park(message: Message, workflow: WorkflowRecord) -> Decision:
    """Return the decision to lay a message aside until the workflow holds nothing back any more."""
    parked = Decision(keeps_entry=True, parks=[message.name], note=f"parked: the workflow is {workflow.status}")
    parked.change(Add(places.PARKED, (message.name,)))
    return parked


def foreign(message: Message, snapshot: Snapshot, entry: Entry) -> Decision | None:
    """Return the decision about an `entry` if it owes not this message, or nothing for this version (PROTOCOL 11)."""
    if told := unknown_in(entry) or _unknown_of(workflow_of(snapshot)):
        at_ms = snapshot.now_ms + rest_ms(entry)
        parked = Decision(keeps_entry=True, defers={message.name: at_ms}, note=told)
        fields = ENTRY.encode(parked=told, rests=entry.rests + 1, pub=0, nb=at_ms)
        parked.change(SetFields(places.ledger(message.name), fields))
        return parked
    if not is_owed(message, entry):
        return nothing("not the message that is owed under this name")
    return None


def unknown_in(entry: Entry) -> str:
    """Return what of an entry only a newer version knows, as told to people; empty if this one can handle it."""
    if entry.t not in MESSAGE_TYPES:
        what = f"the message type {entry.t!r}"
    elif entry.v > LEDGER_VERSION:
        what = f"version {entry.v} of the ledger (up to {LEDGER_VERSION})"
    else:
        return ""
    return _waiting_for_newer(what)


def _unknown_of(workflow: WorkflowRecord) -> str:
    return _waiting_for_newer(f"the workflow status {workflow.status!r}") if workflow.is_of_newer_version else ""


def _waiting_for_newer(what: str) -> str:
    return f"this version does not know {what}; it waits for a newer worker"


def rest_ms(entry: Entry) -> int:
    """Return how long an entry rests that nobody here can handle: longer each time."""
    return min(LONGEST_REST_MS, FIRST_REST_MS << min(entry.rests, 10))


@lru_cache(maxsize=1024)
def stage_fields(ref_id: str) -> Fields:
    """Return the query for a stage's plan and context."""
    return Fields(places.DEFINITION, (f"s:{ref_id}", f"x:{ref_id}"))


@lru_cache(maxsize=1024)
def zone_fields(ref_id: str) -> Fields:
    """Return the query for what is known of threads that may still come to a stage that is alone in its component."""
    return Fields(places.component(ref_id), ("in", "live"))


def what_is_left(fields: Mapping[str, bytes], workflow: WorkflowRecord, now_ms: int) -> Mapping[str, bytes]:
    """Return a hash of an ended workflow, for who ends the rest of it: at first as it is, later what can be opened.

    So whoever has the key does it, if there is anybody; if there is nobody, it ends all the same.
    """
    return readable(fields) if now_ms >= workflow.ended_ms + FOR_KEY_HOLDERS_MS else fields


def frame_of_rest(workflow_id: str, snapshot: Snapshot, ref_id: str, thread: str, run: Run | None = None) -> Frame:
    """Return a run of an ended workflow; the snapshot has read `stage_fields`, and its hash if it is not given.

    What is spoilt of its stage is taken for empty, and what nobody could open for too long.
    """
    workflow = workflow_of(snapshot)
    fields = what_is_left(snapshot[stage_fields(ref_id)], workflow, snapshot.now_ms)
    run = run or RUN.decode(what_is_left(snapshot.hash(places.run(thread)), workflow, snapshot.now_ms))
    context = {**context_or_empty(fields, ref_id), **run.context}
    return Frame(workflow_id, snapshot.now_us, workflow, plan_or_bare(fields, ref_id), thread, run, context)


def frame_of(message: Message, snapshot: Snapshot, ref_id: str, thread: str) -> Frame:
    """Return the run that a message is about; the snapshot has read `stage_fields` and the run's hash.

    What can still come (`zone_fields`) is in it if it was read, too.
    """
    return snapshot.once(f"{ref_id} {thread}", lambda: _frame(message.workflow_id, snapshot, ref_id, thread))


def _frame(workflow_id: str, snapshot: Snapshot, ref_id: str, thread: str) -> Frame:
    run, counts = snapshot.record(places.run(thread), RUN.decode), snapshot.get(zone_fields(ref_id), None)
    fields, workflow = snapshot[stage_fields(ref_id)], workflow_of(snapshot)
    frame = frame_with(workflow_id, snapshot.now_us, workflow, fields, ref_id, thread, run)
    if counts:
        frame.zone = {name: int(count) for name, count in counts.items()}
    return frame


def frame_with(
    workflow_id: str,
    now_us: int,
    workflow: WorkflowRecord,
    fields: Mapping[str, bytes],
    ref_id: str,
    thread: str,
    run: Run,
) -> Frame:
    """Return a run of a stage; `fields`: of the definition, as `stage_fields` asks for them."""
    context = unpack(fields[f"x:{ref_id}"])
    return Frame(
        workflow_id=workflow_id,
        now_us=now_us,
        workflow=workflow,
        plan=decode_plan(fields[f"s:{ref_id}"]),
        thread=thread,
        run=run,
        context={**context, **run.context} if run.context else context,
    )


def visible_values(
    frame: Frame, names: Iterable[str], extra: dict[str, Any]
) -> Generator[Read, Snapshot, dict[str, Any]]:
    """Read what a run sees under `names`: workflow context, causal past, own context, then `extra` (wcp 1.4).

    Raises:
        EvaluationError: a reducer can't combine what the branches brought.

    """
    own, plan, past = {**frame.context, **extra}, frame.plan, frame.run.past
    wanted = set(names) - own.keys()
    sources = {name: past.near[name] for name in wanted & past.near.keys()}
    if past.pages and wanted - sources.keys():
        old = newest_of((yield from _read_pages(past.pages)).values())
        sources |= {name: old[name] for name in (wanted - sources.keys()) & old.keys()}
    missing = wanted - sources.keys()
    known = {name: plan.known[name] for name in missing & plan.known.keys()}
    queries = {thread: Fields(places.run(thread), ("outputs",)) for thread in threads_of(sources.values())}
    context = [Fields(places.DEFINITION, ("context",))] if missing.difference(plan.settled) else []
    snapshot = (yield Read((*context, *queries.values()))) if context or queries else None
    read = {query: snapshot[query] for query in (*context, *queries.values())} if snapshot else {}
    outputs = {thread: unpack(read[query].get("outputs", b"\x80")) for thread, query in queries.items()}
    given = {name: value for query in context for name, value in unpack(read[query].get("context", b"\x80")).items()}
    seen = {name: resolve(name, source, outputs) for name, source in sources.items()}
    return {**given, **known, **seen, **own}


def evaluated(
    frame: Frame, names: Iterable[str], extra: dict[str, Any], evaluate: Callable[[Mapping[str, Any]], T]
) -> Generator[Read, Snapshot, T]:
    """Return what `evaluate` makes of what a run sees under `names`; see `visible_values`.

    Raises:
        EvaluationError: it can't be evaluated; an unknown name is told beside all that there are.

    """
    values = yield from visible_values(frame, names, extra)
    try:
        return evaluate(values)
    except UnknownNameError as error:
        raise error.among((yield from _visible_names(frame, extra))) from None


def _visible_names(frame: Frame, extra: Iterable[str]) -> Generator[Read, Snapshot, set[str]]:
    past, context = frame.run.past, Fields(places.DEFINITION, ("context",))
    old = newest_of((yield from _read_pages(past.pages)).values()) if past.pages else {}
    given = unpack((yield Read((context,)))[context].get("context", b"\x80"))
    return {*given, *frame.plan.known, *past.near, *old, *frame.context, *extra}


def meet(pasts: Sequence[Past], reducers: Mapping[str, str]) -> Generator[Read, Snapshot, Past]:
    """Return what is visible where branches meet, given in order of their edges; reads pages where it must."""
    pages = pages_to_merge(pasts, reducers)
    return merged(pasts, reducers, (yield from _read_pages(pages)) if pages else {})


def _read_pages(names: Sequence[str]) -> Generator[Read, Snapshot, dict[str, Page]]:
    query = Fields(places.PAGES, tuple(names))
    stored = (yield Read((query,)))[query]
    return {name: decode_page(stored[name]) for name in names}
