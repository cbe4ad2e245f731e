"""One scenario execution as its triggers and events see it: the engine's store, and what was started."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.outputs import workflow_outputs
from stabilize_celery.engine.state import RUN, SIGNALS
from stabilize_celery.engine.steps import Hash, Members, Snapshot, workflow_slot
from stabilize_celery.runtime.reading import StageView, WorkflowView, read_view
from stabilize_celery.store.contract import Store
from stabilize_celery.testing.conformance.history import History

__all__ = ["World"]

_RECORD, _LIVE = Hash(places.WORKFLOW), Members(places.LIVE)


@dataclass(slots=True)
class World:
    """What can be seen of a scenario execution.

    Args:
        store: Where the engine keeps it.
        calmly: Looks without any effect on a simulation.

    """

    store: Store
    calmly: Callable[[Callable[[], Any]], Any] = lambda look: look()
    history: History = field(default_factory=History)
    executions: dict[str, list[str]] = field(default_factory=dict)
    """Workflow of the scenario to the ids of its executions, oldest first."""
    delivered: set[str] = field(default_factory=set)
    """Ids of events that were delivered and took effect."""
    ticks: float = 0
    """How many ticks have passed."""
    _seen: dict[tuple[str, ...], Any] | None = None

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Inside, what is looked at twice is the same: triggers that are alike hold together or not at all."""
        self._seen = {}
        try:
            yield
        finally:
            self._seen = None

    def _once(self, key: tuple[str, ...], look: Callable[[], Any]) -> Any:
        if self._seen is None:
            return self.calmly(look)
        if key not in self._seen:
            self._seen[key] = self.calmly(look)
        return self._seen[key]

    def ids(self, workflow: str) -> list[str]:
        """Return the executions of a workflow."""
        return self.executions.get(workflow, [])

    def all_ids(self) -> list[str]:
        """Return all executions."""
        return [workflow_id for ids in self.executions.values() for workflow_id in ids]

    def found(self, workflow: str, workflow_id: str) -> None:
        """Take note of an execution."""
        known = self.executions.setdefault(workflow, [])
        if workflow_id not in known:
            known.append(workflow_id)

    def view(self, workflow_id: str) -> WorkflowView:
        """Return all of an execution as it is now."""
        view: WorkflowView = self._once(("view", workflow_id), lambda: read_view(self.store, workflow_id))
        return view

    def is_live(self, workflow_id: str) -> bool:
        """Whether an execution has not ended."""
        return self._state(workflow_id)[0]

    def is_over(self, workflow_id: str) -> bool:
        """Whether an execution has ended, and its last run with it."""
        is_live, runs = self._state(workflow_id)
        return not is_live and not runs

    def _state(self, workflow_id: str) -> tuple[bool, int]:
        slot = workflow_slot(workflow_id)
        snapshot = self._once(("state", workflow_id), lambda: self.store.look(slot, [_RECORD, _LIVE]))
        return workflow_of(snapshot).is_live, len(snapshot[_LIVE])

    def waiting(self, workflow: str, ref_id: str) -> dict[str, int]:
        """Return how many runs or instances of a stage wait for a signal now, by execution; 0 is left out."""
        counts = {
            workflow_id: self._once(("waiters", workflow_id, ref_id), partial(self._waiters, workflow_id, ref_id))
            for workflow_id in self.ids(workflow)
        }
        return {workflow_id: count for workflow_id, count in counts.items() if count}

    def _waiters(self, workflow_id: str, ref_id: str) -> int:
        slot, box_key = workflow_slot(workflow_id), Hash(places.signals(ref_id))
        box = self.store.look(slot, [box_key, _RECORD])
        waiters = SIGNALS.decode(box[box_key]).waiters
        if not waiters or not workflow_of(box).is_live:
            return 0
        keys = {waiter.thread: Hash(places.run(waiter.thread)) for waiter in waiters}
        runs = self.store.look(slot, list(keys.values()))
        return sum(not RUN.decode(runs[keys[waiter.thread]]).is_ended for waiter in waiters)

    def stage_views(self, workflow: str, ref_id: str) -> Iterator[tuple[str, WorkflowView, StageView]]:
        """Yield a stage in each execution that has it."""
        for workflow_id in self.ids(workflow):
            view = self.view(workflow_id)
            if ref_id in view.stages:
                yield workflow_id, view, view.stages[ref_id]

    def has_status(self, workflow: str, ref_id: str, status: str) -> bool:
        """Whether a stage has that status in some execution."""
        return any(stage.status(view.record) == status for _, view, stage in self.stage_views(workflow, ref_id))

    def held(self, workflow: str, ref_id: str, *, is_offered: bool = False) -> list[str]:
        """Return the executions in which a stage is enabled but kept from starting; with `is_offered`, by a choice."""
        return [
            workflow_id
            for workflow_id, view, stage in self.stage_views(workflow, ref_id)
            if view.record.is_live
            and any(run.status == "BUFFERED" and (run.offer or not is_offered) for _, run in stage.runs)
        ]

    def told(self) -> str:
        """Return in words how far every execution is."""
        parts = []
        for workflow, ids in self.executions.items():
            for workflow_id in ids:
                view = self.view(workflow_id)
                stages = ", ".join(f"{ref} {stage.status(view.record)}" for ref, stage in view.stages.items())
                parts.append(f"{workflow} is {view.record.status} ({stages})")
        return "; ".join(parts) or "no workflow was started"

    def outputs(self, workflow_id: str) -> Mapping[str, Any]:
        """Return the outputs of an ended execution, as its caller would get them."""
        slot = workflow_slot(workflow_id)
        reading = workflow_outputs(slot)
        read = next(reading)
        while True:
            snapshot: Snapshot = self.calmly(partial(self.store.look, slot, read.queries))
            try:
                read = reading.send(snapshot)
            except StopIteration as done:
                outputs: Mapping[str, Any] = done.value
                return outputs
