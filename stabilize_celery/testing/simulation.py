"""The real engine on a memory store, under a seeded scheduler in virtual time.

Deliveries are reordered, delayed, doubled and lost; handlers are interrupted between any two of their steps, by other
deliveries or by the death of their worker; bodies die; leases run out. One seed is one run. Nothing sleeps.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, NoReturn
from uuid import UUID

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.state import WORKFLOW_RECORD
from stabilize_celery.engine.steps import Handling, Hash, Slot, workflow_slot
from stabilize_celery.errors import PayloadError
from stabilize_celery.models.messages import MESSAGE_TYPES
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.executor import TaskExecutor
from stabilize_celery.runtime.keeper import Keeper
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.runtime.probes import PROBE
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Transaction
from stabilize_celery.testing.faults import Faults
from stabilize_celery.testing.registering import Tasks, registry_of
from stabilize_celery.testing.simulated_store import SimulatedStore
from stabilize_celery.testing.waiting import waits_of

__all__ = ["MAX_STEPS", "Faults", "Simulation", "SimulationStuckError"]

START_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z: a plausible day, the same in every run."""

MAX_STEPS = 200_000
"""How much a run may do before it counts as endless (deliveries and looks at what is due, count)."""
MAX_DEPTH = 4
"""How many deliveries are under way at once, each inside another."""
IDLE_STEPS = 200
"""After so many steps without an event, beside the deliveries that were under way, the rest is looking again: what it
waits for must come from outside."""
AFTERWARDS_MS = 60_000
"""How long the fleet goes on when a workflow has ended: finalizers and hooks still run (ms)."""


class SimulationStuckError(AssertionError, TimeoutError):
    """The workflow does not end; the text says what it waits for, or was doing.

    Also a `TimeoutError`, which is what `handle.wait(timeout_s=…)` raises: in virtual time it is known at once.

    Args:
        workflow: The workflow as it was then.

    """

    def __init__(self, message: str, workflow: Workflow) -> None:
        super().__init__(message)
        self.workflow = workflow


class _WorkerDiedError(SystemExit):
    """The simulated death of a worker, which no handler may catch: told as Celery tells it, by a kind of SystemExit."""


@dataclass(order=True, slots=True)
class _Planned:
    at_us: int
    order: int
    act: Callable[[], None] = field(compare=False)


class Simulation:
    """A small fleet in one thread. The same seed gives the same run, whatever the process and the machine.

    Args:
        seed: Names the schedule.
        tasks: Task type to a function of the stage, a `Task` class or instance, beside the ready-made ones; or the
            registry of an app, used itself.
        faults: What goes wrong; nothing but reordering by default.
        settings: Those of its workers.

    Raises:
        TypeError: `seed` is not a whole number, or `tasks` has a wrong type.

    """

    def __init__(
        self,
        seed: int = 0,
        tasks: Tasks | None = None,
        *,
        faults: Faults | None = None,
        settings: Settings | None = None,
    ) -> None:
        if not isinstance(seed, int):
            raise TypeError(f"seed= must be a whole number, not {seed!r}: the same seed is the same run")
        self.random = Random(seed)  # noqa: S311 - a schedule, not a secret
        self.faults = faults or Faults.none()
        self.settings = settings or Settings()
        self.now_us = START_US
        self.store = SimulatedStore(self, self.settings.partitions)
        self.registry = registry_of(tasks)
        self.observers: list[Callable[[Slot, Transaction], None]] = []
        """Told of every commit, right after it."""
        self.delivered = 0
        self.deaths = 0
        self._plan: list[_Planned] = []
        self._order = count()
        self._depth = 0
        self._is_calm = True
        self._idle_steps = 0
        self._promised = 0
        self._raised: BaseException | None = None
        self._ids: dict[str, str] = {}
        self._may_have_ended = True
        self.runtime = self._runtime()
        self._keeper = Keeper(self.store, self, self.settings, "simulated")
        self._kept_us = START_US
        self.store.calmly(self._keeper.renew)

    def _runtime(self) -> Runtime:
        return Runtime(
            self.store,
            self.registry,
            self,
            self.settings,
            "simulated",
            executor=TaskExecutor(
                self.settings.max_output_bytes,
                self.random.random,
                ends_worker=lambda error: isinstance(error, _WorkerDiedError),
            ),
            # How long it wants to pause is drawn by a generator of its own, which no seed rules.
            pause_ms=lambda _: self.advance_us(self.random.randint(2_000, 40_000)),
            new_nonce=lambda: UUID(int=self.random.getrandbits(128)).hex[:12],
            clock_us=self.clock_us,
        )

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
            # In a worker that lacks the key the message stays owed, too, and comes back.
            with suppress(PayloadError):
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
        """Submit a workflow; return its id, which is the simulation's own: a random one would change the schedule.

        Args:
            workflow: A workflow, or a definition; the same object again is the same workflow.
            more: `workflow_id`, `idempotency_key` or `fails_closed`, as `Runtime.submit` has them.

        Raises:
            InvalidWorkflowError: names every problem of the definition.

        """
        if not more.keys() & {"workflow_id", "idempotency_key"}:
            known = workflow.id if isinstance(workflow, Workflow) else f"definition {len(self._ids)}"
            more["workflow_id"] = self._ids.setdefault(known, f"simulated-{len(self._ids) + 1}")
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

    def run(self, *workflow_ids: str, max_steps: int = MAX_STEPS) -> None:
        """Run until these workflows have ended, or wait for something from outside.

        Raises:
            SimulationStuckError: `max_steps` were not enough.

        """
        self._is_calm = False
        self._may_have_ended = True
        try:
            self._idle_steps = -self.under_way
            for _ in range(max_steps):
                waits = self._idle_steps > IDLE_STEPS and not self._promised
                if waits or not self._step(workflow_ids):
                    return
        finally:
            self._is_calm = True
        raise self.stuck(f"has not ended after {max_steps} steps; give max_steps= if it is only long", workflow_ids)

    def finish(self, workflow_id: str, max_steps: int = MAX_STEPS) -> Workflow:
        """Run until this workflow and everything that it left to do have ended; return it.

        Raises:
            SimulationStuckError: it waits for something from outside, or `max_steps` were not enough.

        """
        self.run(workflow_id, max_steps=max_steps)
        if not self._have_ended((workflow_id,)):
            raise self.stuck("does not end by itself", (workflow_id,))
        self.pass_time(AFTERWARDS_MS)
        return self.read(workflow_id)

    def stuck(self, what: str, workflow_ids: Sequence[str]) -> SimulationStuckError:
        """Return the error that says what the first of these workflows that has not ended waits for."""
        stuck = next((name for name in workflow_ids if not self._have_ended((name,))), workflow_ids[0])
        workflow = self.read(stuck)
        waits = self.store.calmly(lambda: waits_of(self.store, self.registry, stuck))
        lines = "\n".join(f"  {line}" for line in waits or ["nothing is owed and nothing runs"])
        return SimulationStuckError(f"workflow {workflow.name!r} ({stuck}) {what}:\n{lines}", workflow)

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

    def after(self, ms: int, act: Callable[[], object]) -> None:
        """Call `act` when that much time has passed: a signal, a choice, an assertion (milliseconds).

        It may happen in the middle of whatever the fleet is doing then. Its exceptions are raised by `run`.
        """
        at_us = self.now_us + ms * 1000
        self._promised += 1

        def come() -> None:
            if self.now_us < at_us:
                # Taken out of turn: what is planned may overtake each other.
                self.plan(at_us, come)
                return
            self._promised -= 1
            self._idle_steps = -self.under_way
            was_calm, self._is_calm = self._is_calm, True
            try:
                act()
            except Exception as error:  # noqa: BLE001 - a handler under way would take it for a failure of its own
                self._raised = self._raised or error
            finally:
                self._is_calm = was_calm

        self.plan(at_us, come)

    def pass_time(self, ms: int) -> None:
        """Let time pass, and do everything that is due meanwhile (milliseconds)."""
        until_us = self.now_us + ms * 1000
        self._is_calm = False
        try:
            while self._next_us(until_us + 1) <= until_us:
                self._advance()
        finally:
            self._is_calm = True
        self.now_us = max(self.now_us, until_us)

    @property
    def under_way(self) -> int:
        """How much is planned that may come to nothing: deliveries, copies of them, what the outside does (count)."""
        return len(self._plan)

    @property
    def now_ms(self) -> int:
        """The time (epoch milliseconds)."""
        return self.now_us // 1000

    def die(self) -> NoReturn:
        """Make the worker die that executes this task's body."""
        raise _WorkerDiedError

    def drain(self, *, until_ms: int) -> None:
        """Run until nothing is due any more before `until_ms` (virtual epoch time)."""
        while self._plan or (self._next_due_us() or until_ms * 1000 + 1) <= until_ms * 1000:
            self._advance()

    def _step(self, workflow_ids: Sequence[str]) -> bool:
        if self._may_have_ended and self._have_ended(workflow_ids):
            return False
        self._may_have_ended = False
        return self._advance()

    def noticed(self, slot: Slot, transaction: Transaction, results: object) -> None:
        """Take note of a commit: one that tells an event is progress."""
        if results is None:
            return
        if transaction.events:
            self._idle_steps = -self.under_way
            self._may_have_ended = True
        for observe in self.observers:
            observe(slot, transaction)

    def _advance(self) -> bool:
        self._idle_steps += 1
        has_done = self._do_next()
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        return has_done

    def _do_next(self) -> bool:
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
        self._keeper.leave_out((self.now_us - self._kept_us) // 1000)
        self._kept_us = self.now_us
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
        return not any(self._is_live(workflow_id) for workflow_id in workflow_ids)

    def _is_live(self, workflow_id: str) -> bool:
        record = Hash(places.WORKFLOW)
        found = self.store.calmly(lambda: self.store.look(workflow_slot(workflow_id), (record,)))
        workflow = WORKFLOW_RECORD.decode(found[record])
        return workflow.is_live if workflow.exists else not self.read(workflow_id).status.is_complete
