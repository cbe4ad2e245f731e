"""Restart: a stage of an ended workflow and all that lies downstream of it run again (PROTOCOL 10).

The rest keeps its results. An edge into the restarted part from outside keeps one arrival if its last run took it, and
a stage that starts for every arrival starts for that one, too; what still waits at joins outside is gone. A loop may
bring a thread to stages outside again: these are open anew.
A workflow whose pipeline has a limit gets in line for a slot again, and holds its new thread back until it has one.
"""

from collections.abc import Collection, Generator, Mapping, Sequence

from stabilize_celery.engine import places
from stabilize_celery.engine.answers import EVENT_IDS, RECORD, Hindrance, accept, known, refuse
from stabilize_celery.engine.clearing import drop_arrivals
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.creation import bound_workflow
from stabilize_celery.engine.cut_short import joins_cut_short
from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.joins import place_of
from stabilize_celery.engine.judging import place_queries, read_places
from stabilize_celery.engine.moves import Zone, enable
from stabilize_celery.engine.plan import StagePlan, decode_plan, decode_workflow_plan
from stabilize_celery.engine.rooms import arrive_in
from stabilize_celery.engine.state import RUN, WORKFLOW_RECORD, Run, WorkflowRecord
from stabilize_celery.engine.steps import (
    Append,
    Decision,
    Delete,
    DeleteFields,
    Event,
    Hash,
    Increment,
    Index,
    Items,
    Members,
    Owed,
    Read,
    SetFields,
    Snapshot,
    Value,
)
from stabilize_celery.models.messages import StartWorkflow

__all__ = ["restart"]

_DEFINITION, _LIVE = Hash(places.DEFINITION), Members(places.LIVE)
_OPEN = (places.waiting, places.closed, places.shut, places.component)
"""What is stored of who may still come to a stage."""


def restart(workflow_id: str, event_id: str, ref_id: str) -> Generator[Read, Snapshot, Decision]:
    """Run `ref_id` and what follows it again. Refused while the workflow has not ended, or is still being cleared."""
    watch = (places.WORKFLOW, places.OUTSIDE_EVENTS, places.LIVE)
    snapshot = yield Read((RECORD, EVENT_IDS, _DEFINITION, _LIVE), watch)
    if (answered := known(snapshot, event_id) or _refusal(snapshot, ref_id)) is not None:
        return answered
    record = workflow_of(snapshot)
    definition = snapshot[_DEFINITION]
    plans = {name[2:]: decode_plan(data) for name, data in definition.items() if name.startswith("s:")}
    again, revived = _downstream(plans, ref_id), _downstream(plans, ref_id, over_jumps=True)
    past = yield from _last_run(ref_id)
    if past is None:
        return refuse(f"stage {ref_id!r} has not run yet; restart one that has")
    decision = Decision(forgets=["Expire", "Clear", "Settle"])
    beside = [ref for ref in unpack(definition.get("joins", b"\x90")) if ref not in again]
    yield from _give_up(decision, workflow_id, record, plans, beside)
    opened = (kind(ref) for ref in sorted(revived) for kind in _OPEN)
    # Whatever was parked when it ended has been forgotten since.
    decision.change(Delete((places.PARKED, *opened)))
    kept = yield from _reset(decision, workflow_id, plans, again, ref_id, snapshot.now_us)
    for ref in sorted(revived):
        _reopen(decision, plans, plans[ref], revived, kept.get(ref, ()))
    number = record.restarts + 1
    token = thread_id("restart", number, ref_id)
    enable(decision, workflow_id, ref_id, token, snapshot.now_us, past.past, zone=Zone.of(plans[ref_id]))
    others = yield from _enable_beside(decision, workflow_id, plans, again - {ref_id}, again, number, snapshot.now_us)
    decision.change(Increment(places.COUNTERS, "act", 1 + others))
    status = "BUFFERED" if record.lock else "RUNNING"
    values = WORKFLOW_RECORD.encode(
        status=status,
        ended_ms=0,
        is_settled=False,
        reason="",
        restarts=number,
        canceled_by="",
        paused_timed_ms=record.paused_ms,
        lock_state="requested" if record.lock else "",
    )
    decision.change(SetFields(places.WORKFLOW, values))
    decision.change(Index(record.application, record.name, record.started_ms, status, was=record.status))
    if record.lock:
        decision.owes.append(Owed(StartWorkflow(workflow_id=workflow_id)))
    else:
        bound_workflow(decision, workflow_id, decode_workflow_plan(definition["meta"]), snapshot.now_ms)
    after = len(again) - 1
    told = f"restarted {ref_id!r}" + (f" and {after} stage{'s' if after > 1 else ''} after it" if after else "")
    decision.events.append(Event("workflow.restarted", ref_id, {"stages": len(again)}))
    return accept(decision, snapshot, event_id, told)


def _refusal(snapshot: Snapshot, ref_id: str) -> Decision | None:
    record = workflow_of(snapshot)
    if record.is_live:
        return refuse(f"the workflow is {record.status}; only one that has ended can be restarted")
    if snapshot[_LIVE]:
        told = "the workflow has ended, but some of its stages are still being cancelled; try again in a moment"
        return refuse(told, Hindrance.CLEARING)
    if record.lock_state == "held":
        return refuse(
            "the workflow has ended, but some of its code still runs under the limit of its pipeline; wait for that"
        )
    plan = snapshot[_DEFINITION].get(f"s:{ref_id}")
    if plan is None:
        return refuse(f"the workflow has no stage {ref_id!r}")
    if decode_plan(plan).owner is not None:
        return refuse(f"{ref_id!r} is a before or after stage; restart the stage that it belongs to")
    return None


def _downstream(plans: Mapping[str, StagePlan], ref_id: str, *, over_jumps: bool = False) -> set[str]:
    found, stack = {ref_id}, [ref_id]
    while stack:
        plan = plans[stack.pop()]
        edges = (*plan.edges, *plan.jumps) if over_jumps else plan.edges
        targets = {edge.target for edge in edges} | {ref for ref in (*plan.before, *plan.after) if ref in plans}
        fresh = targets - found
        found |= fresh
        stack.extend(fresh)
    return found


def _last_run(ref_id: str) -> Generator[Read, Snapshot, Run | None]:
    lists = (Items(places.started(ref_id)), Items(places.bypassed(ref_id)))
    snapshot = yield Read(lists)
    runs = [Hash(places.run(thread)) for query in lists for thread in snapshot[query]]
    found = yield Read(tuple(runs))
    return max((RUN.decode(found[run]) for run in runs), key=lambda run: run.created_us, default=None)


def _give_up(
    decision: Decision,
    workflow_id: str,
    record: WorkflowRecord,
    plans: Mapping[str, StagePlan],
    joins: Sequence[str],
) -> Generator[Read, Snapshot, None]:
    """Take away what still waits at these joins; where the workflow was cut short it was cancelled with it."""
    queries = [query for ref in joins for query in place_queries(ref)]
    watch = [key for ref in joins for key in (places.arrivals(ref), places.join(ref))]
    snapshot = yield Read(tuple(queries), tuple(watch))
    found = read_places(snapshot, joins, {})
    is_cut = not record.is_settled and any(place.holds for place in found.values())
    cut = (yield from _cut_short(record, plans)) if is_cut else set()
    for ref, place in found.items():
        if place.has_fired:
            place.absorb()
            place.new_cycle()
        drop_arrivals(decision, workflow_id, place, snapshot.now_us, counts=ref in cut)


def _cut_short(record: WorkflowRecord, plans: Mapping[str, StagePlan]) -> Generator[Read, Snapshot, set[str]]:
    """Return the joins that were CANCELED with the workflow, and as such are told of before the restart, too."""
    restarted = Hash(places.RESTARTED)
    lists = {ref: (Items(places.started(ref)), Items(places.bypassed(ref))) for ref in plans}
    graph = [query for ref in plans for query in place_queries(ref)]
    snapshot = yield Read((restarted, *graph, *(query for pair in lists.values() for query in pair)))
    threads = {ref: [thread for query in pair for thread in snapshot[query]] for ref, pair in lists.items()}
    keys = {thread: Hash(places.run(thread)) for of_stage in threads.values() for thread in of_stage}
    found = yield Read(tuple(keys.values()))
    since = {ref: int(snapshot[restarted].get(ref, b"0")) for ref in plans}
    runs = {ref: [RUN.decode(found[keys[thread]]) for thread in of_stage] for ref, of_stage in threads.items()}
    counted = {ref: [run for run in of_stage if run.created_us >= since[ref]] for ref, of_stage in runs.items()}
    return joins_cut_short(read_places(snapshot, list(plans), {}), counted, record)


def _reset(
    decision: Decision,
    workflow_id: str,
    plans: Mapping[str, StagePlan],
    again: Collection[str],
    ref_id: str,
    now_us: int,
) -> Generator[Read, Snapshot, dict[str, list[str]]]:
    refs = sorted(again)
    keys = {ref: (Items(places.arrivals(ref)), Hash(places.join(ref))) for ref in refs}
    watch = [query.key for pair in keys.values() for query in pair]
    snapshot = yield Read(tuple(query for pair in keys.values() for query in pair), tuple(watch))
    since: dict[str, Value] = {}
    kept: dict[str, list[str]] = {}
    for ref in refs:
        arrivals, consumed = keys[ref]
        decision.change(Delete((arrivals.key, consumed.key, places.signals(ref))))
        latest = _kept_arrivals(plans[ref], snapshot[arrivals], refs)
        kept[ref] = latest if ref != ref_id else []
        place = place_of(plans[ref], snapshot[arrivals], snapshot[consumed])
        change = len(kept[ref]) - place.threads
        arrive_in(decision, workflow_id, plans[ref].mutex_section, ref, change)
        for item in latest:
            decision.change(Append(arrivals.key, item))
        if kept[ref]:
            decision.change(Increment(places.waiting(ref), "n", len(kept[ref])))
        # The number of firings names the join's threads: it only grows, or a new run would be an old one's.
        if place.fired:
            decision.change(SetFields(consumed.key, {"fired": place.fired}))
        if latest and ref == ref_id:  # its run is there already; a restart of a stage before it still needs them
            used: dict[str, Value] = {f"u{item.partition(':')[0]}": 1 for item in latest}
            decision.change(SetFields(consumed.key, used))
        since[ref] = now_us
    decision.change(SetFields(places.RESTARTED, since))
    decision.change(DeleteFields(places.FAILURES, tuple(refs)))
    return kept


def _enable_beside(
    decision: Decision,
    workflow_id: str,
    plans: Mapping[str, StagePlan],
    refs: Collection[str],
    again: Collection[str],
    number: int,
    now_us: int,
) -> Generator[Read, Snapshot, int]:
    """Let those of `refs` that start for every arrival run for the last that came from outside. Returns how many."""
    direct = [plans[ref] for ref in sorted(refs) if plans[ref].is_direct and plans[ref].owner is None]
    edges = [(plan.ref, source) for plan in direct for source in plan.requisites if source not in again]
    lists = {s: (Items(places.started(s)), Items(places.bypassed(s))) for s in {source for _, source in edges}}
    restarted = Hash(places.RESTARTED)
    snapshot = yield Read((restarted, *(query for pair in lists.values() for query in pair)))
    enabled = 0
    for ref, source in edges:
        threads = [thread for query in lists[source] for thread in snapshot[query]]
        tokens = {thread: thread_id(thread, ref, 0) for thread in threads}
        found = yield Read(tuple(Hash(places.run(thread)) for pair in tokens.items() for thread in pair))
        runs = {thread: RUN.decode(found.hash(places.run(thread))) for pair in tokens.items() for thread in pair}
        since = int(snapshot[restarted].get(source, b"0"))
        came = [one for one, token in tokens.items() if runs[token].status and runs[one].created_us >= since]
        if came:
            past = runs[tokens[max(came, key=lambda thread: runs[thread].created_us)]].past
            token = thread_id("kept", number, ref, source)
            enable(decision, workflow_id, ref, token, now_us, past, zone=Zone.of(plans[ref]))
            enabled += 1
    return enabled


def _reopen(
    decision: Decision, plans: Mapping[str, StagePlan], plan: StagePlan, revived: Collection[str], kept: Collection[str]
) -> None:
    """Count again what can come into a stage: only from what may run again; the rest has ended, and stays closed."""
    if not plan.component:
        return
    sources = [(str(at), source) for at, source in enumerate(plan.requisites)]
    sources += [(f"j:{source}", source) for source in plan.jumped_from]
    from_outside = [(name, source) for name, source in sources if plans[source].component != plan.component]
    dead = {name: 1 for name, source in from_outside if source not in revived}
    key = places.component(plan.component)
    decision.change(Increment(key, "in", len(from_outside) - len(dead)))
    decision.change(Increment(key, "live", len(kept)))
    if dead:
        filled = {item.partition(":")[0] for item in kept}
        decision.change(
            Increment(places.waiting(plan.ref), "x", sum(name.isdecimal() for name in dead.keys() - filled))
        )
        decision.change(SetFields(places.closed(plan.ref), dead))


def _kept_arrivals(plan: StagePlan, arrivals: list[str], again: Collection[str]) -> list[str]:
    latest: dict[int, str] = {}
    for item in arrivals:
        edge, _, _ = item.partition(":")
        latest[int(edge)] = item
    return [item for edge, item in sorted(latest.items()) if plan.requisites[edge] not in again]
