"""The real engine on a memory store, under a seeded scheduler in virtual time.

Deliveries are reordered, delayed, doubled and lost; handlers are interrupted between any two of their steps, by other
deliveries or by the death of their worker; bodies die; leases run out. One seed is one run. Nothing sleeps.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, NoReturn
from uuid import UUID

import msgspec

from stabilize_celery.engine.steps import Handling, Query, Slot, Snapshot
from stabilize_celery.models.messages import MESSAGE_TYPES
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.executor import TaskExecutor
from stabilize_celery.runtime.keeper import Keeper
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.runtime.probes import PROBE
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Session, Transaction
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.tasks.task import Task

__all__ = ["Faults", "Simulation", "SimulationStuckError"]

START_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z: a plausible day, the same in every run."""


MAX_DEPTH = 4
"""How many deliveries are under way at once, each inside another."""
IDLE_STEPS = 200
"""After so many steps without an event the rest is looking again: what it waits for must come from outside."""


class SimulationStuckError(AssertionError):
    """The workflow has not ended within the simulation's bounds; the text shows what it was doing."""


class _WorkerDiedError(BaseException):
    """The simulated death of a worker: no handler may catch it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often things go wrong, as probabilities per delivery or step."""

    duplicate: float = 0.1
    lose: float = 0.05
    preempt: float = 0.2
    die: float = 0.02
    max_delay_ms: int = 40

    @classmethod
    def none(cls) -> "Faults":
        """Return a world in which deliveries are only reordered."""
        return cls(duplicate=0, lose=0, preempt=0, die=0)


@dataclass(order=True, slots=True)
class _Planned:
    at_us: int
    order: int
    act: Callable[[], None] = field(compare=False)


class Simulation:
    """A small fleet in one thread.

    Args:
        seed: Names the schedule.
        tasks: Task type to a function of the stage, a `Task` class or instance.
        faults: What goes wrong; nothing but reordering by default.

    """

    def __init__(
        self,
        seed: int = 0,
        tasks: Mapping[str, Any] | None = None,
        *,
        faults: Faults | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.random = Random(seed)  # noqa: S311 - a schedule, not a secret
        self.faults = faults or Faults.none()
        self.settings = settings or Settings()
        self.now_us = START_US
        self.store = _InterruptedStore(self)
        self.registry = TaskRegistry()
        for name, task in (tasks or {}).items():
            self.registry.register(name, task)
        self.observers: list[Callable[[Slot, Transaction], None]] = []
        """Told of every commit, right after it."""
        self.delivered = 0
        self.deaths = 0
        self._plan: list[_Planned] = []
        self._order = count()
        self._depth = 0
        self._is_calm = True
        self._idle_steps = 0
        executor = TaskExecutor(self.settings.max_output_bytes, self.random.random)
        self.runtime = Runtime(
            self.store,
            self.registry,
            self,
            self.settings,
            "simulated",
            executor=executor,
            pause_ms=lambda ms: self.advance_us(int(ms * 1000)),
            new_nonce=lambda: UUID(int=self.random.getrandbits(128)).hex[:12],
        )
        self._keeper = Keeper(self.store, self, self.settings, "simulated")

    # -- the broker ----------------------------------------------------------------------------------------------------

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Take messages as the broker does: they come later, in any order, perhaps twice, perhaps never."""
        for message in batch:
            if message.kind != PROBE and self.random.random() < self.faults.lose:
                continue
            self._deliver_later(message)
            if self.random.random() < self.faults.duplicate:
                self._deliver_later(message)

    def _deliver_later(self, message: Outgoing) -> None:
        delay_us = self.random.randint(0, self.faults.max_delay_ms * 1000)
        self.plan(self.now_us + delay_us, lambda: self._deliver(message))

    def plan(self, at_us: int, act: Callable[[], None]) -> None:
        """Do something at that time, as the broker delivers a message: perhaps inside a handler, and so earlier."""
        heapq.heappush(self._plan, _Planned(at_us, next(self._order), act))

    def _deliver(self, message: Outgoing) -> None:
        self.delivered += 1
        if message.kind == PROBE:
            self.store.probe_came_back(str(message.kwargs["queue"]), int(message.kwargs["sent_ms"]))
            return
        self._depth += 1
        try:
            self.runtime.handle(msgspec.convert(dict(message.kwargs), MESSAGE_TYPES[message.kind]))
        except _WorkerDiedError:
            self.deaths += 1
        finally:
            self._depth -= 1

    # -- time ----------------------------------------------------------------------------------------------------------

    def advance_us(self, by_us: int) -> None:
        """Let time pass."""
        self.now_us += by_us

    def clock_us(self) -> int:
        """Return the time; every look takes a microsecond."""
        self.now_us += 1
        return self.now_us

    def interrupt(self) -> None:
        """Between two steps of a handler: another delivery runs first, or this worker dies."""
        if self._is_calm or not self._depth:
            return
        if self._depth < MAX_DEPTH and self._plan and self.random.random() < self.faults.preempt:
            index = self.random.randrange(len(self._plan))
            chosen = self._plan.pop(index)
            heapq.heapify(self._plan)
            chosen.act()
        if self.random.random() < self.faults.die:
            raise _WorkerDiedError

    # -- running -------------------------------------------------------------------------------------------------------

    def start(self, workflow: Workflow | Mapping[str, Any], **more: Any) -> str:
        """Submit a workflow; return its id."""
        return self.runtime.submit(workflow, **more)

    def ask(self, workflow_id: str, event: Callable[[], Handling]) -> Any:
        """Apply an outside event; see engine/outside.py."""
        was_calm, self._is_calm = self._is_calm, True
        try:
            return self.runtime.ask(workflow_id, event)
        finally:
            self._is_calm = was_calm

    def read(self, workflow_id: str) -> Workflow:
        """Return a workflow as it is now."""
        workflow: Workflow = self.store.calmly(lambda: self.runtime.read(workflow_id))
        return workflow

    def run(self, *workflow_ids: str, max_steps: int = 200_000) -> None:
        """Go on until these workflows have ended, or wait for something that only the outside can give.

        Raises:
            SimulationStuckError: `max_steps` were not enough.

        """
        self._is_calm = False
        try:
            self._idle_steps = 0
            for _ in range(max_steps):
                if self._idle_steps > IDLE_STEPS or not self._step(workflow_ids):
                    return
        finally:
            self._is_calm = True
        raise SimulationStuckError(f"not ended after {max_steps} steps: {[str(self.read(i)) for i in workflow_ids]}")

    def step(self) -> bool:
        """Do the next thing that is planned or due; False: there is none."""
        self._is_calm = False
        try:
            return self._advance()
        finally:
            self._is_calm = True

    def meanwhile(self, ms: int) -> None:
        """Let time pass inside a task's body: the rest of the fleet goes on, nobody extends this attempt's lease."""
        until_us = self.now_us + ms * 1000
        while self._depth < MAX_DEPTH and self._next_us(until_us) < until_us:
            self._advance()
        self.now_us = max(self.now_us, until_us)

    def die(self) -> NoReturn:
        """Let the worker die that executes this task's body."""
        raise _WorkerDiedError

    def drain(self, *, until_ms: int) -> None:
        """Go on until nothing is due any more before `until_ms` (virtual epoch time)."""
        while self._plan or (self._next_due_us() or until_ms * 1000 + 1) <= until_ms * 1000:
            self._advance()

    def _step(self, workflow_ids: Sequence[str]) -> bool:
        if self._have_ended(workflow_ids):
            return False
        return self._advance()

    def noticed(self, slot: Slot, transaction: Transaction, results: object) -> None:
        """Take note of a commit: one that tells an event is progress."""
        if results is None:
            return
        if transaction.events:
            self._idle_steps = 0
        for observe in self.observers:
            observe(slot, transaction)

    def _advance(self) -> bool:
        self._idle_steps += 1
        due_us = self._next_due_us()
        if self._plan and (due_us is None or self._plan[0].at_us <= due_us):
            planned = heapq.heappop(self._plan)
            self.now_us = max(self.now_us, planned.at_us)
            planned.act()
            return True
        if due_us is None:
            return False
        self.now_us = max(self.now_us, due_us)
        self._keep()
        return True

    def _keep(self) -> None:
        was_calm, self._is_calm = self._is_calm, True
        self._keeper.renew()
        self._keeper.tick()
        self._is_calm = was_calm
        self.now_us += 1000

    def _next_due_us(self) -> int | None:
        def first() -> int | None:
            _, entries = self.store.first_due(range(self.store.partitions()), 1)
            times = [items[0].due_ms * 1000 for items in entries.values() if items]
            return min(times, default=None)

        due_us: int | None = self.store.calmly(first)
        return due_us

    def _next_us(self, default: int) -> int:
        planned_us = self._plan[0].at_us if self._plan else default
        due_us = self._next_due_us()
        return min(planned_us, default if due_us is None else due_us)

    def _have_ended(self, workflow_ids: Sequence[str]) -> bool:
        return all(self.read(workflow_id).status.is_complete for workflow_id in workflow_ids)


class _InterruptedStore(MemoryStore):
    """A memory store whose sessions give the simulation a chance to interfere between any two steps."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation.clock_us, partitions=simulation.settings.partitions)
        self._simulation = simulation

    def session(self, slot: Slot) -> AbstractContextManager[Session]:
        """Check a session out that can be interrupted."""
        return self._interrupted(slot)

    @contextmanager
    def _interrupted(self, slot: Slot) -> Iterator[Session]:
        with super().session(slot) as session:
            yield _InterruptedSession(slot, session, self._simulation)

    def calmly(self, look: Callable[[], Any]) -> Any:
        """Look without moving the clock."""
        before = self._simulation.now_us
        try:
            return look()
        finally:
            self._simulation.now_us = before


@dataclass(frozen=True, slots=True)
class _InterruptedSession:
    slot: Slot
    inner: Session
    simulation: Simulation

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> Snapshot:
        self.simulation.interrupt()
        return self.inner.read(queries, watch)

    def commit(self, transaction: Transaction) -> list[int | None] | None:
        self.simulation.interrupt()
        results = self.inner.commit(transaction)
        self.simulation.noticed(self.slot, transaction, results)
        self.simulation.interrupt()
        return results

    def commit_and_read(
        self, transaction: Transaction, queries: Sequence[Query], watch: Sequence[str] = ()
    ) -> tuple[list[int | None], Snapshot] | None:
        self.simulation.interrupt()
        answer = self.inner.commit_and_read(transaction, queries, watch)
        self.simulation.noticed(self.slot, transaction, answer)
        self.simulation.interrupt()
        return answer


TaskLike = Callable[[StageExecution], TaskResult] | Task | type[Task]
