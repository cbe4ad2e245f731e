"""Reading stages for the page: all of a workflow's, or just those that something happened to."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from stabilize_celery.client.outcomes import no_such_workflow
from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.instances import Crowd
from stabilize_celery.engine.moves import SYNTHETIC_PHASES
from stabilize_celery.engine.plan import StagePlan, decode_plan, decode_workflow_plan
from stabilize_celery.engine.standing import waiting
from stabilize_celery.engine.state import RUN, WORKFLOW_RECORD, Run, WorkflowRecord
from stabilize_celery.engine.steps import Fields, Hash, Items, Members, Query, Snapshot, workflow_slot
from stabilize_celery.runtime.reading import StageView
from stabilize_celery.store.contract import Store

__all__ = ["Part", "read_crowds", "read_part", "read_regions"]

_RECORD, _LIVE, _RESTARTED = Hash(places.WORKFLOW), Members(places.LIVE), Hash(places.RESTARTED)


@dataclass(frozen=True, slots=True)
class Part:
    """Some stages of a workflow as they are now, and the instances of their newest runs."""

    record: WorkflowRecord
    stages: Mapping[str, StageView]
    crowds: Mapping[str, Crowd]
    now_ms: int


def read_part(store: Store, workflow_id: str, refs: Collection[str], *, without_payloads: bool = False) -> Part:
    """Read these stages, in three round trips however large the workflow is; unknown refs are left out.

    Where there are stages before or after them, those come along, and what they are part of: what waits is told by all
    of it (wcp 1.2). That costs a few round trips more.
    Whether a thread may still come is not looked at: what has not begun is NOT_STARTED until the whole is read again.
    `without_payloads`: large contexts and outputs look empty.

    Raises:
        WorkflowNotFoundError: there is no such workflow (any more).

    """
    slot = workflow_slot(workflow_id)
    fields = Fields(places.DEFINITION, tuple(name for ref in refs for name in (f"s:{ref}", f"x:{ref}")))
    lists = {ref: (Items(places.started(ref)), Items(places.bypassed(ref))) for ref in refs}
    look = partial(store.look, slot, without_payloads=without_payloads)
    found = look((_RECORD, _RESTARTED, _LIVE, fields, *(one for pair in lists.values() for one in pair)))
    record = WORKFLOW_RECORD.decode(found[_RECORD])
    if not record.exists:
        raise no_such_workflow(workflow_id)
    plans = {ref: decode_plan(data) for ref in refs if (data := found[fields].get(f"s:{ref}")) is not None}
    threads = {ref: list(dict.fromkeys(found[lists[ref][0]] + found[lists[ref][1]])) for ref in plans}
    for ref, plan in plans.items():
        if plan.instances is not None:
            parents = tuple(f"{thread}." for thread in threads[ref])
            threads[ref] += sorted(thread for thread in found[_LIVE] if parents and thread.startswith(parents))
    since = {ref: int(time_us) for ref, time_us in found[_RESTARTED].items()}
    runs = _runs(look, {thread for of_stage in threads.values() for thread in of_stage})
    if more := _family(plans, runs) - {*refs}:
        return read_part(store, workflow_id, {*refs, *more}, without_payloads=without_payloads)
    suspended = waiting(runs)
    stages = {
        ref: _view(plan, found[fields].get(f"x:{ref}"), threads[ref], runs, since.get(ref, 0), suspended)
        for ref, plan in plans.items()
    }
    return Part(record, stages, read_crowds(store, workflow_id, stages), found.now_ms)


def _family(plans: Mapping[str, StagePlan], runs: Mapping[str, Run]) -> set[str]:
    """Return the stages before and after these, defined and planned, and those that they are before or after."""
    found = {ref for plan in plans.values() for ref in (plan.parent, *plan.before, *plan.after) if ref is not None}
    return found | {ref for run in runs.values() for phase in SYNTHETIC_PHASES for ref in run.planned.get(phase, ())}


def _runs(look: Callable[[Sequence[Query]], Snapshot], threads: Collection[str]) -> dict[str, Run]:
    queries = {thread: Hash(places.run(thread)) for thread in threads}
    found = look(tuple(queries.values())) if queries else None
    return {thread: RUN.decode(found[query]) for thread, query in queries.items()} if found else {}


def _view(
    plan: StagePlan,
    context: bytes | None,
    threads: Sequence[str],
    runs: Mapping[str, Run],
    since_us: int,
    suspended: Collection[str],
) -> StageView:
    """Return a stage with those of the runs that are its own and count."""
    own = {thread: runs[thread] for thread in threads}
    counted = [
        item for item in own.items() if item[1].ref == plan.ref and item[1].status and item[1].created_us >= since_us
    ]
    ordered = sorted(counted, key=lambda item: item[1].created_us)
    return StageView(plan, unpack(context) if context else {}, ordered, 0, suspended=suspended)


def read_crowds(store: Store, workflow_id: str, stages: Mapping[str, StageView]) -> dict[str, Crowd]:
    """Return the instances of the newest run of each stage that has some, counted; one round trip, or none."""
    newest = {ref: view.newest for ref, view in stages.items() if view.plan.instances is not None}
    queries: dict[str, tuple[Query, Query]] = {
        ref: (Hash(places.instances(item[0])), Hash(places.instance_counts(item[0])))
        for ref, item in newest.items()
        if item is not None
    }
    if not queries:
        return {}
    found = store.look(workflow_slot(workflow_id), [one for pair in queries.values() for one in pair])
    crowds = {ref: Crowd.of(found[totals], found[counts]) for ref, (totals, counts) in queries.items()}
    return {ref: crowd for ref, crowd in crowds.items() if crowd.exists}


def read_regions(store: Store, workflow_id: str) -> dict[str, list[str]]:
    """Return the stages of each region of a workflow; one round trip."""
    meta = Fields(places.DEFINITION, ("meta",))
    found = store.look(workflow_slot(workflow_id), [meta])[meta].get("meta")
    return decode_workflow_plan(found).regions if found else {}
