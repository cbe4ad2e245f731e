"""The instances of stages: how many have begun and ended, which are at work, which failed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.instances import Crowd, instance_thread
from stabilize_celery.engine.state import RUN, Run
from stabilize_celery.engine.steps import Fields, Hash, workflow_slot
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import WorkflowView
from stabilize_celery.store.contract import Store

__all__ = ["MOST_FAILURES", "Instance", "Instances", "read_instances"]

MOST_FAILURES = 30
"""So many failed instances of a stage are read with their reason (count)."""
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance: its index, what it was made from in words, and its run."""

    index: int
    name: str
    run: Run

    @property
    def is_at_work(self) -> bool:
        """Whether a worker has begun its task (or will try it again)."""
        return self.run.status == "RUNNING" and any(task.status == "RUNNING" for task in self.run.tasks)

    @property
    def reason(self) -> str:
        """Why it failed; empty if nobody said so."""
        errors = (str(task.error.get("message", "")) for task in self.run.tasks if task.error)
        return self.run.reason or next(errors, "")


@dataclass(frozen=True, slots=True)
class Instances:
    """The instances of a stage's newest run. `ended`: how many have each final status; `failures`: the first ones."""

    total: int
    done: int
    live: Sequence[Instance] = ()
    ended: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[Instance] = ()

    @property
    def at_work(self) -> int:
        """How many a worker has begun (count)."""
        return sum(one.is_at_work for one in self.live)

    @property
    def failed(self) -> int:
        """How many failed, also those whose failure the stage bears (count)."""
        return sum(number for status, number in self.ended.items() if WorkflowStatus[status].is_failure)

    @property
    def canceled(self) -> int:
        """How many were taken away (count)."""
        return self.ended.get("CANCELED", 0)

    @property
    def waiting(self) -> int:
        """How many wait: for a worker, a signal, or their turn (count)."""
        return max(0, self.total - sum(self.ended.values()) - self.at_work)

    def told(self, *, is_over: bool) -> str:
        """Return the counts in words; once the run is over nothing waits in it."""
        waiting = 0 if is_over else self.waiting
        counts = ((self.at_work, "at work"), (waiting, "wait"), (self.failed, "failed"), (self.canceled, "cancelled"))
        return ", ".join([f"{self.done:,} of {self.total:,} done", *(f"{n:,} {what}" for n, what in counts if n)])

    def as_json(self) -> dict[str, Any]:
        """Return the counts, and the failures by index, as JSON has it."""
        counts = ("total", "done", "at_work", "waiting", "failed", "canceled")
        failures = [{"index": one.index, "status": one.run.status, "reason": one.reason} for one in self.failures]
        return {**{name: getattr(self, name) for name in counts}, "failures": failures}


def read_instances(store: Store, view: WorkflowView) -> dict[str, Instances]:
    """Read the instances of every stage that has begun some, by ref: three round trips, none where there are none."""
    newest = {ref: stage.newest for ref, stage in view.stages.items() if stage.plan.instances is not None}
    runs = {ref: item for ref, item in newest.items() if item is not None}
    if not runs:
        return {}
    slot = workflow_slot(view.id)
    keys = {
        ref: (Hash(places.instances(thread)), Hash(places.instance_counts(thread))) for ref, (thread, _) in runs.items()
    }
    found = store.look(slot, [key for pair in keys.values() for key in pair])
    crowds = {ref: Crowd.of(found[totals], found[counts]) for ref, (totals, counts) in keys.items()}
    return {
        ref: _instances(store, view, ref, thread, run, crowds[ref])
        for ref, (thread, run) in runs.items()
        if crowds[ref].total
    }


def _instances(store: Store, view: WorkflowView, ref: str, thread: str, run: Run, crowd: Crowd) -> Instances:
    items = run.planned.get("instances", [])
    live = [
        Instance(one.instance, _name(items, one.instance), one)
        for _, one in view.stages[ref].runs
        if one.instance is not None and one.parent == thread and not one.is_ended
    ]
    at_work = {one.index for one in live}
    threads = {index: instance_thread(thread, index) for index in range(crowd.begun) if index not in at_work}
    statuses = _statuses(store, view.id, threads)
    ended = Counter(status for status in statuses.values() if WorkflowStatus[status].is_complete)
    failed = [index for index, status in statuses.items() if WorkflowStatus[status].is_failure]
    failures = _runs(store, view.id, {index: threads[index] for index in failed[:MOST_FAILURES]})
    told = [Instance(index, _name(items, index), one) for index, one in failures.items()]
    done = sum(number for status, number in ended.items() if status in ("SUCCEEDED", "SKIPPED", "FAILED_CONTINUE"))
    return Instances(crowd.total, done, live, ended, told)


def _statuses(store: Store, workflow_id: str, threads: Mapping[int, str]) -> dict[int, str]:
    queries = {index: Fields(places.run(thread), ("status",)) for index, thread in threads.items()}
    found = store.look(workflow_slot(workflow_id), list(queries.values()))
    return {index: found[query]["status"].decode() for index, query in queries.items() if found[query]}


def _runs(store: Store, workflow_id: str, threads: Mapping[int, str]) -> dict[int, Run]:
    if not threads:
        return {}
    queries = {index: Hash(places.run(thread)) for index, thread in threads.items()}
    found = store.look(workflow_slot(workflow_id), list(queries.values()), without_payloads=True)
    return {index: RUN.decode(found[query]) for index, query in queries.items()}


def _name(items: Sequence[Any], index: int) -> str:
    """Return what an instance is called: its index, and its item where that is a few words on one line."""
    item = items[index] if index < len(items) else None
    shown = str(item) if isinstance(item, str | int) else ""
    return f"#{index} {shown}" if 0 < len(shown) <= _LONGEST_NAME and shown.isprintable() else f"#{index}"
