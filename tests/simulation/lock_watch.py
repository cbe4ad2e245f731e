"""Which bodies execute under which lock, by what the definition says: nothing here asks the engine's own lock state.

The limit of a pipeline is taken for 1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.plan import StagePlan, decode_plan
from stabilize_celery.engine.state import RUN, WORKFLOW_RECORD, Run, WorkflowRecord
from stabilize_celery.engine.steps import DeleteFields, Fields, Hash, Slot, workflow_slot
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.store.contract import Transaction
from stabilize_celery.tasks.call import current_call
from stabilize_celery.testing import Simulation

__all__ = ["LockWatch"]

Body = Callable[[StageExecution], Any]
Lock = tuple[str, str, str]
"""Scope, what it is narrowed to, key."""
Holder = tuple[str, str]
"""Workflow, and the thread of a run or the name of a section."""


@dataclass(slots=True, eq=False)
class _Executing:
    """A body at work. `under`: each lock that covers it, to who holds that and with which limit."""

    entry: tuple[str, str]
    under: dict[Lock, tuple[Holder, int]]
    is_given_up: bool = False


@dataclass(slots=True)
class LockWatch:
    """Counts real bodies. What breaks the law is written down: an assertion would only fail the body's own task."""

    simulation: Simulation
    broken: list[str] = field(default_factory=list)
    tokens: list[tuple[str, int | None]] = field(default_factory=list)
    """Stage and fencing token of each body, in order of beginning."""
    bodies: list[_Executing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.simulation.observers.append(self._see)

    def watched(self, body: Body) -> Body:
        """The body, counted while it executes."""

        def counted(stage: StageExecution) -> Any:
            call = current_call()
            thread, _, index = call.idempotency_key.split("/", 2)[2].rpartition("/")
            entry = (call.workflow_id, places.ledger(f"Run:{thread}..{index}"))
            begun = _Executing(entry, dict(self._under(call.workflow_id, thread)))
            self.tokens.append((stage.ref_id, call.fencing_token))
            self.bodies.append(begun)
            self._check(stage)
            try:
                return body(stage)
            finally:
                self.bodies.remove(begun)

        return counted

    def _see(self, slot: Slot, transaction: Transaction) -> None:
        """A claim that is taken away from a body at work: its lease has run out, and what it does is a zombie's."""
        for change in transaction.changes:
            if isinstance(change, DeleteFields) and "own" in change.fields:
                for body in self.bodies:
                    body.is_given_up |= body.entry == (slot.name, change.key)

    def _check(self, stage: StageExecution) -> None:
        holders: dict[Lock, dict[Holder, int]] = {}
        for body in self.bodies:
            for lock, (holder, limit) in body.under.items() if not body.is_given_up else ():
                holders.setdefault(lock, {})[holder] = limit
        for lock, found in holders.items():
            if len(found) > min(found.values()):
                self.broken.append(f"{stage.ref_id} of {stage.execution.id} begins under {lock} beside {found}")

    def _under(self, workflow_id: str, thread: str) -> Iterator[tuple[Lock, tuple[Holder, int]]]:
        """The locks around a run: its own, its section's, those of the run that it is part of, and so on outwards."""
        while thread:
            record, run, plan = self._facts(workflow_id, thread)
            if record.lock:
                yield ("PIPELINE", "", record.lock), ((workflow_id, "workflow"), 1)
            if plan.mutex_key is not None and run.instance is None:
                within = {"WORKFLOW": workflow_id, "APPLICATION": plan.application}.get(plan.mutex_scope, "")
                holder = (workflow_id, f"section {plan.mutex_section}" if plan.mutex_section else thread)
                yield (plan.mutex_scope, within, plan.mutex_key), (holder, plan.mutex_limit)
            thread = run.parent
            if not thread and record.parent_thread:
                workflow_id, thread = record.parent_id, record.parent_thread

    def _facts(self, workflow_id: str, thread: str) -> tuple[WorkflowRecord, Run, StagePlan]:
        key, record = Hash(places.run(thread)), Hash(places.WORKFLOW)
        seen = self._look(workflow_id, key, record)
        run = RUN.decode(seen[key])
        plan = Fields(places.DEFINITION, (f"s:{run.ref}",))
        fields = self._look(workflow_id, plan)[plan]
        return WORKFLOW_RECORD.decode(seen[record]), run, decode_plan(fields[f"s:{run.ref}"])

    def _look(self, workflow_id: str, *queries: Any) -> Any:
        store = self.simulation.store
        return store.calmly(lambda: store.look(workflow_slot(workflow_id), queries))
