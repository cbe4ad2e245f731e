"""What is read of a workflow to tell what its live runs wait for: never more than those, and their stages' plans."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.plan import StagePlan, decode_plan
from stabilize_celery.engine.sections import section_thread
from stabilize_celery.engine.state import RUN, WORKFLOW_RECORD, Run, WorkflowRecord
from stabilize_celery.engine.steps import Fields, Hash, Members, Query, Slot, workflow_slot
from stabilize_celery.errors import WorkflowNotFoundError
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import WorkflowView, read_view
from stabilize_celery.store.contract import Store

__all__ = ["MOST_RUNS", "Seen", "see_workflows"]

MOST_RUNS = 10_000
"""So many live runs of a workflow are read (count)."""

_RECORD, _LIVE = Hash(places.WORKFLOW), Members(places.LIVE)


@dataclass(slots=True)
class Seen:
    """A workflow: its runs that live or were asked for, by thread, and their stages' plans, by ref.

    `view`: all of it, where it is the asked one or holds a lock for a mutex section.
    """

    id: str
    record: WorkflowRecord
    threads: Collection[str] = ()
    runs: dict[str, Run] = field(default_factory=dict)
    plans: dict[str, StagePlan] = field(default_factory=dict)
    view: WorkflowView | None = None
    is_cut: bool = False
    _by_parent: dict[tuple[str, bool], list[str]] | None = None

    @classmethod
    def of(cls, view: WorkflowView) -> "Seen":
        """Return what a view tells."""
        runs = {thread: run for stage in view.stages.values() for thread, run in stage.runs}
        live = frozenset(thread for thread, run in runs.items() if not run.is_ended)
        plans = {ref_id: stage.plan for ref_id, stage in view.stages.items()}
        return cls(view.id, view.record, live, runs, plans, view)

    @property
    def live(self) -> Iterator[tuple[str, Run]]:
        """The runs that have not ended."""
        for thread in self.threads:
            run = self.runs.get(thread)
            if run is not None and not run.is_ended and run.ref in self.plans:
                yield thread, run

    def live_run(self, thread: str) -> Run | None:
        """Return a run that has not ended, or None."""
        run = self.runs.get(thread) if thread in self.threads else None
        return None if run is None or run.is_ended or run.ref not in self.plans else run

    def section_of(self, thread: str) -> str:
        """Return the name of the mutex section that asks for its lock under this thread; empty: it is a run."""
        run = self.runs.get(thread)
        plan = self.plans.get(run.ref) if run is not None else None
        is_section = plan is not None and plan.mutex_section and section_thread(plan.mutex_section) == thread
        return plan.mutex_section if plan is not None and is_section else ""

    def children(self, thread: str, *, instances: bool) -> Sequence[str]:
        """Return the live instances of a run, or its before, after and on-failure stages."""
        if self._by_parent is None:
            self._by_parent = {}
            for child, run in self.live:
                self._by_parent.setdefault((run.parent, run.instance is not None), []).append(child)
        return self._by_parent.get((thread, instances), ())

    def add(self, runs: Mapping[str, Run]) -> None:
        """Take in runs that were read."""
        self.runs |= runs
        self._by_parent = None

    def joins_in(self, section: str) -> Iterator[str]:
        """Return the stages of a mutex section at which branches have arrived and wait for others."""
        for ref_id, stage in self.view.stages.items() if self.view is not None else ():
            if stage.plan.mutex_section == section and stage.waiting:
                yield ref_id

    def missing_before(self, ref_id: str) -> tuple[Sequence[str], bool]:
        """Return the requisites of a stage that are not complete, and whether it needs all of them."""
        if self.view is None or ref_id not in self.view.stages:
            return (), True
        plan = self.view.stages[ref_id].plan
        return [ref for ref in plan.requisites if not self._is_complete(self.view, ref)], plan.join == "AND"

    def _is_complete(self, view: WorkflowView, ref_id: str) -> bool:
        return WorkflowStatus[view.stages[ref_id].status(view.record)].is_complete


def see_workflows(store: Store, seen: dict[str, Seen], wanted: Mapping[str, Collection[str]]) -> None:
    """Add workflows to `seen`, each with its live runs and with the threads that are wanted of it.

    Three round trips; more for workflows with mutex sections.
    """
    fresh = [workflow_id for workflow_id in wanted if workflow_id not in seen]
    tops = _look(store, dict.fromkeys(fresh, (_RECORD, _LIVE)))
    for workflow_id, (record, live) in tops.items():
        few = frozenset(sorted(live)[:MOST_RUNS])
        seen[workflow_id] = Seen(workflow_id, WORKFLOW_RECORD.decode(record), few, is_cut=len(live) > MOST_RUNS)
    _add_runs(store, seen, {name: {*threads, *seen[name].threads} for name, threads in wanted.items()})
    _add_runs(store, seen, {name: set(_sections_that_ask(seen[name])) for name in wanted})
    for workflow_id, threads in wanted.items():
        one = seen[workflow_id]
        if one.view is None and any(map(one.section_of, threads)):
            one.view = _view(store, workflow_id)


def _sections_that_ask(seen: Seen) -> Iterator[str]:
    for _, run in seen.live:
        if run.status == "BUFFERED" and seen.plans[run.ref].mutex_section:
            yield section_thread(seen.plans[run.ref].mutex_section)


def _add_runs(store: Store, seen: Mapping[str, Seen], wanted: Mapping[str, Collection[str]]) -> None:
    threads = {
        name: sorted(thread for thread in found if thread not in seen[name].runs) for name, found in wanted.items()
    }
    queries = {name: tuple(Hash(places.run(thread)) for thread in found) for name, found in threads.items() if found}
    for name, answers in _look(store, queries).items():
        seen[name].add(dict(zip(threads[name], map(RUN.decode, answers), strict=True)))
    refs = {name: {run.ref for run in seen[name].runs.values() if run.ref} - seen[name].plans.keys() for name in wanted}
    fields = {
        name: Fields(places.DEFINITION, tuple(f"s:{ref}" for ref in sorted(found)))
        for name, found in refs.items()
        if found
    }
    for name, (plans,) in _look(store, {name: (query,) for name, query in fields.items()}).items():
        seen[name].plans |= {plan.ref: plan for plan in map(decode_plan, plans.values())}


def _look(store: Store, queries: Mapping[str, Sequence[Query]]) -> dict[str, list[Any]]:
    asked: list[tuple[Slot, Sequence[Query]]] = [(workflow_slot(name), found) for name, found in queries.items()]
    snapshots = store.look_many(asked, without_payloads=True) if asked else []
    return {
        name: [snapshot[query] for query in found]
        for (name, found), snapshot in zip(queries.items(), snapshots, strict=True)
    }


def _view(store: Store, workflow_id: str) -> WorkflowView | None:
    try:
        return read_view(store, workflow_id, without_payloads=True)
    except WorkflowNotFoundError:
        return None
