"""Is a workflow as every commit leaves it? One generator finds what is not, and decides what mends it (PROTOCOL 11).

Driven without WATCH it only suspects, for many workflows in one round trip; driven by a unit of work, which WATCHes
all that it reads, its decision can be committed. `Decision.call` is an `Inspected`.
"""

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.endings import lock_name, owe_expiry
from stabilize_celery.engine.handler import stage_fields, workflow_of
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.state import ENTRY, RUN, Run, WorkflowRecord
from stabilize_celery.engine.steps import (
    Count,
    Decision,
    Event,
    Fields,
    Handling,
    Hash,
    Increment,
    Look,
    Members,
    Owed,
    Query,
    Read,
    Remove,
    SetFields,
    Snapshot,
)
from stabilize_celery.models.messages import ClearWorkflow, EvaluateJoin, ResumeParked, SettleWorkflow, StartWorkflow
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.flaws import read_entry
from stabilize_celery.runtime.waits import Idle, live_names, moving_names, owe_what_it_lacks, read_waits

__all__ = ["Inspected", "Scope", "inspect", "inspect_entries"]

_ACT = Fields(places.COUNTERS, ("act",))
_LIVE = Members(places.LIVE)
_JOINS = Fields(places.DEFINITION, ("joins",))
_OF_WORKFLOW = ("Begin", "Settle", "Clear", "Unpark", "Notify", "Expire", "TO:workflow")


@dataclass(frozen=True, slots=True)
class Inspected:
    """What was found of a workflow, and the names of the locks that it waits for."""

    findings: tuple[Finding, ...] = ()
    locks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """How much of a large workflow one look takes in; what it leaves out comes another time.

    Args:
        most_runs: Live runs (count); 0: all of them.
        most_children: Inner workflows that are waited for (count); 0: all.
        turn: Which part of them; any number that changes from look to look.

    """

    most_runs: int = 0
    most_children: int = 0
    turn: int = 0

    def part(self, items: Sequence[str]) -> Sequence[str]:
        """Return the part that this look takes in."""
        if not self.most_runs or len(items) <= self.most_runs:
            return items
        parts = -(-len(items) // self.most_runs)
        start = self.turn % parts * self.most_runs
        return items[start : start + self.most_runs]


@dataclass(slots=True)
class _Case:
    """One workflow under inspection: what was read, what was found, what mends it."""

    workflow_id: str
    record: WorkflowRecord
    now_ms: int
    lease_ms: int
    runs: Mapping[str, Run]
    is_whole: bool
    """All its live runs have been read."""
    ghosts: Collection[str] = ()
    """Threads that count as live, though their run has ended or is gone."""
    entries: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    decision: Decision = field(default_factory=lambda: Decision(keeps_entry=True))
    findings: list[Finding] = field(default_factory=list)

    def found(self, kind: str, told: str, mends: str, ref_id: str = "") -> None:
        self.findings.append(Finding(kind, self.workflow_id, told, mends, ref_id))

    def is_owed(self, names: Iterable[str]) -> bool:
        return any(self.entries.get(name) for name in names)


def inspect(workflow_id: str, lease_ms: int, scope: Scope) -> Handling:
    """Decide what mends a workflow; the decision's `call` says what was found."""
    first = yield Read((Hash(places.WORKFLOW), Count(places.LIVE), _ACT), (places.WORKFLOW,))
    record = workflow_of(first)
    if not record.exists or record.is_of_newer_version:
        return Decision(keeps_entry=True, call=Inspected())
    live, is_whole = yield from _live(scope, first[Count(places.LIVE)])
    keys = {thread: Hash(places.run(thread)) for thread in live}
    seen = (yield Read(tuple(keys.values()), tuple(key.key for key in keys.values()))) if keys else first
    runs = {thread: RUN.decode(seen[key]) for thread, key in keys.items()}
    case = _Case(
        workflow_id,
        record,
        first.now_ms,
        lease_ms,
        {thread: run for thread, run in runs.items() if not run.is_ended},
        is_whole,
        [thread for thread, run in runs.items() if run.is_ended],
    )
    names = [*_OF_WORKFLOW, *(name for thread, run in case.runs.items() for name in live_names(thread, run))]
    yield from _check_entries(case, names)
    _check_ghosts(case)
    locks: tuple[str, ...] = ()
    if record.status == "BUFFERED":
        _check_begin(case)
        locks = (record.lock,)
    elif record.is_live:
        yield from _check_runs(case, scope)
        yield from _check_counts(case, _number(first))
        locks = yield from _waited_for(case)
    else:
        _check_end(case)
    return _told(case, locks)


def inspect_entries(workflow_id: str, lease_ms: int, names: Sequence[str]) -> Handling:
    """Decide about ledger names of any kind: each must be an entry, and have one place where it is looked at."""
    first = yield Read((Hash(places.WORKFLOW),), (places.WORKFLOW,))
    record = workflow_of(first)
    case = _Case(workflow_id, record, first.now_ms, lease_ms, {}, is_whole=False)
    seen = yield from _read_entries(case, names)
    for name in names:
        place = next((what for what, found in seen.items() if name in found), "")
        if name not in case.entries:
            if place in ("due", "dead"):
                _forget(case, "stray", name, f"{name} is {place}, but there is no entry of it")
        elif not record.exists and place in ("", "dead"):
            _forget(
                case, "dead_letter", name, f"{name} is owed to a workflow that is gone, and nobody would look at it"
            )
        elif not place:
            _make_due(case, name)
        elif place == "due":
            _check_tries(case, name)
    decision = _told(case)
    if not record.exists:
        decision.events.clear()
    return decision


def _check_tries(case: _Case, name: str) -> None:
    """Tell of what fails again and again, long before it is a dead letter; nobody else would."""
    entry, _ = read_entry(case.workflow_id, name, case.entries[name])
    if entry.tries and entry.error:
        last = entry.error.strip().splitlines()[-1]
        times = "once" if entry.tries == 1 else f"{entry.tries} times"
        case.found("failing", f"{name} could not be handled, {times} now: {last}", "")


def _forget(case: _Case, kind: str, name: str, told: str) -> None:
    case.decision.forgets.append(name)
    case.found(kind, told, "forget it")


def _live(scope: Scope, count: int) -> Generator[Read, Snapshot, tuple[Sequence[str], bool]]:
    """Return the live threads of this look, and whether these are all. Only then is the set itself WATCHed."""
    is_whole = not scope.most_runs or count <= scope.most_runs
    live = sorted((yield Read((_LIVE,), (places.LIVE,) if is_whole else ()))[_LIVE])
    part = scope.part(live)
    return part, is_whole and len(part) == len(live)


def _read_entries(case: _Case, names: Sequence[str]) -> Generator[Read, Snapshot, Mapping[str, Collection[str]]]:
    """Read which names are owed; return which are due, dead letters, and parked."""
    parked = Members(places.PARKED)
    hashes = {name: Hash(places.ledger(name)) for name in names}
    due, dead = Look(tuple(names)), Look(tuple(names), "dead")
    queries: list[Query] = [*hashes.values(), due, dead, parked]
    seen = yield Read(tuple(queries), (places.PARKED, *(query.key for query in hashes.values())))
    case.entries = {**case.entries, **{name: seen[query] for name, query in hashes.items() if seen[query]}}
    return {"due": seen[due], "dead": seen[dead], "parked": seen[parked]}


def _check_entries(case: _Case, names: Sequence[str]) -> Generator[Read, Snapshot, None]:
    """Each entry is due, or a dead letter, or parked: what has lost its time would never be looked at again."""
    seen = yield from _read_entries(case, names)
    _require_places(case, names, seen)
    if seen["parked"] and case.record.status == "RUNNING" and not case.is_owed(("Unpark",)):
        case.decision.owes.append(Owed(ResumeParked(workflow_id=case.workflow_id)))
        told = f"{len(seen['parked'])} messages are parked, though the workflow is not paused"
        case.found("not_due", told, "owe Unpark again")


def _require_places(case: _Case, names: Iterable[str], seen: Mapping[str, Collection[str]]) -> None:
    for name in names:
        if name in case.entries and not any(name in found for found in seen.values()):
            _make_due(case, name)


def _make_due(case: _Case, name: str) -> None:
    entry, flawed = read_entry(case.workflow_id, name, case.entries[name])
    at_ms = case.now_ms + case.lease_ms if entry.own else max(entry.nb, case.now_ms)
    case.decision.defers[name] = at_ms
    if not entry.own and flawed is None:
        case.decision.change(SetFields(places.ledger(name), ENTRY.encode(pub=0)))
    case.found("not_due", f"{name} is owed, but nobody would look at it", "make it due")


def _check_ghosts(case: _Case) -> None:
    if case.ghosts and case.is_whole:
        case.decision.change(Remove(places.LIVE, tuple(case.ghosts)))
        case.found("count", f"{len(case.ghosts)} ended runs count as live", "count them no more")


def _check_runs(case: _Case, scope: Scope) -> Generator[Read, Snapshot, None]:
    """Each live run has something owed to it, or a reason to wait."""
    idle = {t: run for t, run in case.runs.items() if not case.is_owed(moving_names(t, run))}
    parents = {run.parent for run in case.runs.values() if run.parent}
    if not case.is_whole:
        # Whether others of their own live is not known here.
        idle = {t: run for t, run in idle.items() if run.phase not in ("instances", "before", "after", "failure")}
    if not idle:
        return
    most = scope.most_children or len(idle)
    waits: Idle = yield from read_waits(case.workflow_id, idle, parents, most_children=most)
    if requests := sorted({section.lock_name for section in waits.sections.values()}):
        _require_places(case, requests, (yield from _read_entries(case, requests)))
    for thread, run in idle.items():
        if waits.reason(thread):
            continue
        mends = owe_what_it_lacks(case.decision, waits, thread)
        told = f"stage {run.ref!r} is {run.status}, but nothing is owed to it and it waits for nothing"
        case.found("run", told, mends, run.ref)


def _check_counts(case: _Case, seen: int) -> Generator[Read, Snapshot, None]:
    """`act` is the number of threads that move; where none does, somebody is owed to judge the standstill.

    Args:
        case: The workflow.
        seen: What `act` was at first, without WATCH: every move writes it, so it is WATCHed only if it looks wrong.

    """
    if not case.is_whole:
        return
    expected = _moving(case.runs.values())
    if seen == expected and (expected or case.is_owed(("Settle", "Clear"))):
        return
    counted = yield Read((_ACT, _JOINS), (places.COUNTERS,))
    if (act := _number(counted)) != expected:
        case.decision.change(Increment(places.COUNTERS, "act", expected - act))
        case.found("count", f"{act} threads are counted, {expected} move", f"count {expected}")
    if expected == 0 and not case.is_owed(("Settle",)):
        yield from _check_standstill(case, unpack(counted[_JOINS].get("joins", b"\x90")))


def _number(counted: Snapshot) -> int:
    return int(counted[_ACT].get("act", b"0"))


def _moving(runs: Iterable[Run]) -> int:
    """Return what `act` should be: live runs; an offer once for all its members; never instances, or who is held."""
    live = list(runs)
    moving = [run for run in live if run.instance is None and not run.offer and not run.held_for]
    return len(moving) + len({run.offer for run in live if run.offer})


def _check_standstill(case: _Case, joins: Sequence[str]) -> Generator[Read, Snapshot, None]:
    """Nothing moves: if no judgement of that is owed, all joins are judged anew, and the workflow itself."""
    plans = (yield Read(tuple(map(stage_fields, joins)))) if joins else None
    names = [decode_plan(plans[stage_fields(ref)][f"s:{ref}"]).component or ref for ref in joins] if plans else []
    looks = [EvaluateJoin(workflow_id=case.workflow_id, ref_id=name) for name in dict.fromkeys(names)]
    hashes = [Hash(places.ledger(look.name)) for look in looks]
    owed = yield Read(tuple(hashes), tuple(query.key for query in hashes))
    if any(owed[query] for query in hashes):
        return
    case.decision.owes += [Owed(message) for message in (*looks, SettleWorkflow(workflow_id=case.workflow_id))]
    told = "the workflow is RUNNING, but nothing moves, and nobody is owed to judge it"
    case.found("standstill", told, f"owe Settle and the judgement of {len(looks)} joins")


def _waited_for(case: _Case) -> Generator[Read, Snapshot, tuple[str, ...]]:
    """Return the names of the locks that its runs wait for."""
    refs = sorted({run.ref for run in case.runs.values() if run.lock == "requested"})
    if not refs:
        return ()
    seen = yield Read(tuple(map(stage_fields, refs)))
    plans = [decode_plan(seen[stage_fields(ref)][f"s:{ref}"]) for ref in refs]
    return tuple(dict.fromkeys(lock_name(plan, case.workflow_id) for plan in plans))


def _check_begin(case: _Case) -> None:
    if not case.is_owed(("Begin",)):
        case.decision.owes.append(Owed(StartWorkflow(workflow_id=case.workflow_id)))
        case.found("standstill", "the workflow waits for its turn, but nobody would begin it", "owe Begin again")


def _check_end(case: _Case) -> None:
    """Require that it is owed to be cleared, or to be deleted: as long as it is there, one of these is."""
    if case.is_owed(("Clear",)):
        return
    if case.runs:
        case.decision.owes.append(Owed(ClearWorkflow(workflow_id=case.workflow_id)))
        case.found("end", f"it has ended, but {len(case.runs)} of its runs live on", "owe Clear again")
    elif not case.is_owed(("Expire",)):
        # Where its end is unknown, too, its retention begins now.
        owe_expiry(case.decision, case.workflow_id, (case.record.ended_ms or case.now_ms) + case.record.retention_ms)
        case.found("end", "it has ended, but nobody would ever delete it", "owe Expire again")


def _told(case: _Case, locks: tuple[str, ...] = ()) -> Decision:
    for finding in filter(lambda one: one.mends, case.findings):
        data: dict[str, Any] = {"found": finding.told, "done": finding.mends}
        case.decision.events.append(Event("workflow.repaired", finding.ref_id, data))
    case.decision.call = Inspected(tuple(case.findings), locks)
    return case.decision
