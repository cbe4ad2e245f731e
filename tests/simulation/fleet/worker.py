"""A simulated worker: processes that handle messages, a keeper, heartbeats, a repair sweep; all of the real code."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import msgspec

from stabilize_celery.engine.steps import Read
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.messages import MESSAGE_TYPES, Message
from stabilize_celery.runtime.executor import TaskExecutor
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.keeper import Keeper
from stabilize_celery.runtime.leases import Leases
from stabilize_celery.runtime.ports import Body, Claim, Outcome, Outgoing
from stabilize_celery.runtime.probes import PROBE
from stabilize_celery.runtime.running import RunningBody
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.runtime.sweep import Sweep
from stabilize_celery.settings import FUSED, Settings
from stabilize_celery.store.lists import Lists
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.transport.taking import Taking
from stabilize_celery.transport.turns import Delivered
from stabilize_celery.transport.waiting import Waits
from tests.simulation.fleet.actors import Actor, Group, Loop, WorkerDiedError
from tests.simulation.fleet.broker import SimulatedBroker
from tests.simulation.fleet.lists import SimulatedWaiting
from tests.simulation.fleet.wire import FleetStore

__all__ = ["Began", "SimulatedWorker"]

_PROCESSES = 4
_WAIT_MS = 50
_LONGER_MS = 100
_SWEEP_EVERY_US = 30_000_000
_LOOK_US = 2_000_000
_QUIET_US = 300_000_000
"""How long a thread sleeps where nobody is at work whom it could look after."""

Began = Callable[[Claim, RunningBody], None]


@dataclass(slots=True, eq=False)
class SimulatedWorker:
    """One machine. Its processes share nothing but its death."""

    name: str
    loop: Loop
    broker: SimulatedBroker
    store: FleetStore
    registry: TaskRegistry
    settings: Settings
    log: Callable[[str], None]
    began_body: Began
    complain: Callable[[str], None]
    findings: list[Finding]
    """What the repair sweeps of all workers have found."""
    group: Group = field(init=False)
    runtime: Runtime = field(init=False)
    keeper: Keeper = field(init=False)
    leases: Leases = field(init=False)
    waiting: SimulatedWaiting | None = field(init=False)
    _idle: list[Taking] = field(init=False)
    """What processes know of the lists that handle nothing now."""
    claims: dict[Claim, tuple[Actor | None, Body | None]] = field(default_factory=dict)
    """Who holds what, and the body that runs; None: it has returned, and its result may wait to be recorded."""
    busy: dict[Actor, Outgoing] = field(default_factory=dict)
    given_up: int = 0
    """Deliveries that others' commits kept from being handled each time they were tried."""
    is_alive: bool = True
    is_beating: bool = False
    missed_us: int = 0
    """When a heartbeat failed last though Redis was there: its connection broke."""
    takes: bool = False
    """Its processes take messages off the broker's lists themselves, after what the broker has given them."""

    def __post_init__(self) -> None:
        random = self.loop.random
        self.group = Group(self.name)
        self.runtime = Runtime(
            self.store,
            self.registry,
            self.broker,
            self.settings,
            self.name,
            executor=TaskExecutor(
                self.settings.max_output_bytes,
                random.random,
                ends_worker=lambda error: isinstance(error, WorkerDiedError),
            ),
            pause_ms=self._pause,
            new_nonce=lambda: UUID(int=random.getrandbits(128)).hex[:12],
            clock_us=lambda: self.loop.now_us,
        )
        self.runtime.runner = self
        self.runtime.serves = lambda: frozenset((self.settings.control_queue, self.settings.work_queue))
        self.keeper = Keeper(self.store, self.broker, self.settings, self.name)
        self.leases = Leases(self.store, self.broker, self.settings, self.name)
        queues = (self.settings.control_queue, self.settings.work_queue)
        self.waiting = SimulatedWaiting(random, queues) if self.takes else None
        self._idle: list[Taking] = []
        self._spawn("keeper", self._keep)
        self._spawn("sweep", self._sweep)

    def _pause(self, ms: float) -> None:
        # Between two tries of a commit it waits for a while that no seed draws.
        drawn_us = self.loop.random.randint(2_000, 40_000)
        self.loop.sleep(drawn_us if ms < _LONGER_MS else int(ms * 1000))

    def _spawn(self, name: str, act: Callable[[], object]) -> Actor:
        return self.loop.spawn(f"{self.name} {name}", act, group=self.group)

    # -- messages ----------------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether a process is free."""
        return self.is_alive and len(self.busy) < _PROCESSES

    def take(self, message: Outgoing) -> None:
        """Handle a delivery in a process of its own."""
        name = f"{self.name} at {message.task_id}"
        actor = self.loop.spawn(name, lambda: self._handle(message), group=self.group, is_mortal=True)
        self.busy[actor] = message

    def _handle(self, message: Outgoing) -> None:
        actor = self.loop.current
        assert actor is not None
        try:
            self._do(message)
        except UnreachableError as error:
            self.log(f"{self.name} gives {message.task_id} up: {error.__class__.__name__}")
        except WorkerDiedError:
            if self.is_alive:
                self.log(f"{self.name}: the process that handles {message.task_id} dies")
                self._process_was_lost(actor, message)
            raise
        finally:
            self.busy.pop(actor, None)
            if self.is_alive:
                self.broker.offer()

    def _do(self, message: Outgoing) -> None:
        if message.kind == PROBE:
            self.store.probe_came_back(str(message.kwargs["queue"]), int(message.kwargs["sent_ms"]))
            return
        self.log(f"{self.name} gets {message.task_id}")
        delivered = msgspec.convert(dict(message.kwargs), MESSAGE_TYPES[message.kind])
        if self.waiting is None:
            self.handle(delivered)
        else:
            self._go_on(delivered, self.waiting)

    def handle(self, message: Message) -> str:
        """Handle a delivery, or what a process has taken itself."""
        try:
            note = self.runtime.handle(message)
        finally:
            self._forget_ended(self.loop.current)
        self.log(f"{self.name} is done with {message.workflow_id}/{message.name}: {note}")
        self.given_up += note.startswith("lost every commit")
        if note.startswith(("failed", "dead letter")):
            error = self.store.error_of(message.workflow_id, message.name)
            told = f"the handler of {message.workflow_id}/{message.name} raised"
            self.complain(f"{told}: {error.strip().rpartition(chr(10))[2]}")
        return note

    def opening(self, message: Message) -> Read | None:
        """See `Runtime.opening`."""
        return self.runtime.opening(message)

    def _go_on(self, delivered: Message, waiting: SimulatedWaiting) -> None:
        """Handle a delivery, and take what stands on the lists; a process that dies leaves nothing that it knows."""
        taking = self._idle.pop() if self._idle else self._new_taking(waiting)
        begun = taking.begin(delivered)
        taking.go_on(begun, Delivered("", begun.note, 0.0, 0))
        self._idle.append(taking)

    def _new_taking(self, waiting: SimulatedWaiting) -> Taking:
        return Taking(
            Lists(self.store.redis),
            waiting.queues(),
            self,
            self.going_on,
            self.settings.take_ms,
            waits=Waits(waiting, _WAIT_MS, looks=self.settings.mode == FUSED),
            databases=(0, 0),
            clock_s=lambda: self.loop.now_us / 1_000_000,
        )

    def _process_was_lost(self, actor: Actor, message: Outgoing) -> None:
        """The main process sees it, and tells whoever may claim it next. It may die before it does."""
        held = [claim for claim, (holder, _) in self.claims.items() if holder is actor]
        for claim in held:
            del self.claims[claim]
            self._spawn("reports", lambda claim=claim: self._report(claim))
        if self.loop.random.random() < 0.5:
            self.broker.send(message)

    def _report(self, claim: Claim) -> None:
        self.loop.sleep(self.loop.random.randint(0, 500_000))
        try:
            self.leases.report_lost(claim.workflow_id, claim.name, claim.owner)
        except UnreachableError:
            self.log(f"{self.name} can't report the loss of {claim.name}")

    # -- bodies ------------------------------------------------------------------------------------------------------

    def began(self, claim: Claim, body: Body) -> None:
        """Take note: a body starts now."""
        assert isinstance(body, RunningBody)
        self.claims[claim] = (self.loop.current, body)
        self.began_body(claim, body)
        if not self.is_beating:
            self.is_beating = True
            self._spawn("heartbeats", self._beat)

    @property
    def is_stopping(self) -> bool:
        """Whether it shuts down."""
        return not self.is_alive

    def ended(self, claim: Claim) -> None:
        """Take note: it has returned, or its process has died. Its lease is extended until its process is done."""
        actor = self.loop.current
        if claim in self.claims and (actor is None or actor.is_alive):
            self.claims[claim] = (actor, None)

    def _forget_ended(self, actor: Actor | None) -> None:
        for claim in [claim for claim, held in self.claims.items() if held == (actor, None)]:
            del self.claims[claim]

    def going_on(self, message: Message) -> AbstractContextManager[Outcome]:
        """Take note: a process goes on with what it did not get from the broker."""
        self.log(f"{self.name} goes on with {message.workflow_id}/{message.name}")
        return nullcontext(Outcome())

    # -- threads of the main process ---------------------------------------------------------------------------------

    def _keep(self) -> None:
        """As the real one, but rounds in which nothing is due are left out: they would find nothing."""
        renew_at_us = 0
        while True:
            pause_us = self._idle_us
            try:
                if pause_us <= 0:
                    if self.loop.now_us >= renew_at_us:
                        self.keeper.renew()
                        renew_at_us = self.loop.now_us + self.keeper.lease_ms * 1000 // 3
                    pause_us = self.keeper.tick() * 1000
            except UnreachableError:
                self.log(f"{self.name}: its keeper can't reach Redis")
                pause_us = self.settings.keeper_idle_ms * 1000
            since_us = self.loop.now_us
            self.loop.sleep(pause_us)
            if self.store.redis.away_until_us <= since_us:
                self.keeper.leave_out(pause_us // 1000)

    @property
    def _idle_us(self) -> int:
        """How long nothing will be due, at most as long as what is made due now takes."""
        due_us = self.store.first_due_us - self.store.redis.skew_us - self.loop.now_us
        most_us = _LOOK_US if self.loop.at_work else _QUIET_US
        return min(due_us + self.loop.random.randint(0, 250_000), most_us) if due_us > 0 else 0

    def _beat(self) -> None:
        """As the real one, while there is anything to extend."""
        beat_us = pause_us = self.settings.lease_ms * 1000 // 3
        while self.claims:
            self.loop.sleep(pause_us)
            pause_us = beat_us
            if not self.claims:
                break
            try:
                foreign = self.leases.extend(list(self.claims))
            except UnreachableError:
                if not self.store.redis.is_away:
                    self.missed_us = self.loop.now_us
                pause_us = beat_us // 3
                continue
            for claim in foreign:
                body = self.claims.get(claim, (None, None))[1]
                if body is not None:
                    self._spawn("stops a body", lambda body=body: self._stop(body))
        self.is_beating = False

    def _stop(self, body: Body) -> None:
        assert isinstance(body, RunningBody)
        try:
            # As `body.stop()`, which would do the second in a thread of its own.
            if body._was_cancelled():
                body._tell()
        except UnreachableError:
            self.log(f"{self.name} can't learn why a claim is gone")

    def _sweep(self) -> None:
        sweep = Sweep(self.store, self.broker, self.settings)
        while True:
            self.loop.sleep(_SWEEP_EVERY_US if self.loop.at_work else _QUIET_US)
            try:
                found = sweep.step(self.keeper.held, self.loop.now_us // 1000)
            except UnreachableError:
                continue
            for one in found:
                self.log(f"{self.name} sweeps: {one.told}; done: {one.mends or 'nothing'}")
            self.findings += found

    # -- what befalls it ---------------------------------------------------------------------------------------------

    def freeze(self, for_ms: int) -> None:
        """Stop in the middle of everything, and go on later as if nothing had been."""
        self.group.frozen_until_us = self.loop.now_us + for_ms * 1000

    def die(self) -> list[Outgoing]:
        """Be gone, with all that it had; return what it was handling."""
        self.is_alive = False
        lost = list(self.busy.values())
        for actor in list(self.group.actors):
            self.loop.kill(actor)
        return lost

    def lose_a_process(self, random: Random) -> bool:
        """Lose one of the processes that handle something; False: none does."""
        if not self.busy:
            return False
        self.loop.kill(random.choice(list(self.busy)))
        return True

    def shut_down(self) -> None:
        """Give back what it holds, then be gone."""
        self.is_alive = False
        for actor in list(self.busy):
            self.loop.kill(actor)
        try:
            for claim in list(self.claims):
                self.leases.hand_back(claim.workflow_id, claim.name, claim.owner)
            self.keeper.give_back()
        except UnreachableError:
            self.log(f"{self.name} can't give back what it holds")
        for actor in list(self.group.actors):
            if actor is not self.loop.current:
                self.loop.kill(actor)
