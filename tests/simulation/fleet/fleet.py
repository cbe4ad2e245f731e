"""A whole fleet in one thread: workers, clients, a broker, a Redis, and all that can befall them. One seed, one run."""

import traceback
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.outside import Answer
from stabilize_celery.engine.state import WORKFLOW_RECORD
from stabilize_celery.engine.steps import Handling, Hash, Slot, workflow_slot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.ports import Claim, Outgoing
from stabilize_celery.runtime.reading import read_workflow
from stabilize_celery.runtime.running import RunningBody
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Transaction
from stabilize_celery.tasks.registry import TaskImplementation, TaskRegistry
from tests.simulation.fleet.actors import START_US, Loop
from tests.simulation.fleet.broker import SimulatedBroker
from tests.simulation.fleet.laws import FleetLaws
from tests.simulation.fleet.lists import text_of
from tests.simulation.fleet.story import Story
from tests.simulation.fleet.troubles import Incident, Troubles
from tests.simulation.fleet.wire import FleetStore, SimulatedRedis
from tests.simulation.fleet.worker import SimulatedWorker

__all__ = ["SETTINGS", "Fleet", "LawBrokenError"]

SETTINGS = Settings(partitions=2, max_lost=1_000, retention_ms=600_000, commit_tries=5)
"""Of all workers. A task that loses its worker often is no failure here: what comes out must not depend on it."""
TROUBLE_US = 60_000_000
"""After so long nothing fails by chance any more: what can go on must come to its end."""
PATIENCE_US = 2 * 3_600_000_000
"""How long that may take, in virtual time: whoever waits for a lock looks again every 5 minutes."""
MAX_STEPS = 400_000
_WORKERS = 3
_BEHIND_US = 400_000_000
"""How long after an end somebody may still be at work behind it: a frozen worker, who waits for a lock."""


class LawBrokenError(AssertionError):
    """Something is not as it must be; the text says what, and since when."""


class Fleet:
    """Workers, clients, broker and Redis. `observers` are told of every commit, at the moment it is applied.

    `takes`: broker and state are one server, and processes take messages off its lists themselves.
    """

    def __init__(
        self,
        seed: int,
        tasks: Mapping[str, TaskImplementation],
        troubles: Troubles,
        *,
        settings: Settings = SETTINGS,
        takes: bool = False,
    ) -> None:
        self.random = Random(seed)
        self.loop = Loop(self.random)
        self.settings = settings
        self.story = Story(self.loop)
        self.redis = SimulatedRedis(self.loop, troubles, log=self.story.tell)
        self.redis.applied.append(self._applied)
        self.broker = SimulatedBroker(self.loop, troubles, self._take, self.story.tell)
        if takes:
            self.broker.text_of = text_of
            self.redis.has_lists_of(self.broker, settings)
        self.store = FleetStore(self.redis, settings.partitions)
        self.registry = TaskRegistry()
        for name, task in tasks.items():
            self.registry.register(name, task)
        self.observers: list[Callable[[Slot, Transaction], None]] = []
        self.findings: list[Finding] = []
        self.laws = FleetLaws(self.store, self)
        self.executions = 0
        self.limits: dict[str, int] = {}
        self.ids: list[str] = []
        self.troubles = troubles
        self._takes = takes
        self._may_have_ended = True
        self._clock_changed_us = 0
        self._begun_us: dict[Claim, int] = {}
        self._known: set[str] = set()
        """Workflows that have begun: one that is not there any more has been forgotten since."""
        self._client = Runtime(
            self.store,
            self.registry,
            self.broker,
            settings,
            "client",
            pause_ms=lambda _: self.loop.sleep(self.random.randint(2_000, 40_000)),
        )
        self.workers: list[SimulatedWorker] = []
        for _ in range(_WORKERS):
            self.add_worker()
        self._plan_incidents()

    # -- what a simulation has ---------------------------------------------------------------------------------------

    @property
    def now_us(self) -> int:
        """The true time."""
        return self.loop.now_us

    def limit_of(self, lock: str) -> int:
        """Return how many may hold a lock."""
        return self.limits.get(lock, 1)

    def drain(self, *, until_ms: int) -> None:
        """Go on for so long (epoch ms)."""
        while (next_us := self.loop.next_us) is not None and next_us <= until_ms * 1000:
            self._step()
        self.loop.now_us = max(self.loop.now_us, until_ms * 1000)

    def read(self, workflow_id: str) -> Workflow:
        """Return a workflow as it is."""
        found: Workflow = self.store.calmly(lambda: read_workflow(self.store, workflow_id))
        return found

    # -- clients -----------------------------------------------------------------------------------------------------

    def submit(self, definition: Mapping[str, Any], *, after_ms: int = 0, **ids: Any) -> None:
        """Start a workflow, as a client does that tries until it is told that it runs."""

        def run() -> None:
            while True:
                try:
                    workflow_id = self._client.submit(definition, **ids)
                except UnreachableError:
                    self.loop.sleep(self.random.randint(10_000, 1_000_000))
                    continue
                self.story.tell(f"a client has started {workflow_id}")
                if not self.troubles.loses_writes or self.now_us > START_US + TROUBLE_US:
                    return
                # Its client will find out, some day, that Redis has forgotten it.
                self.loop.sleep(TROUBLE_US)

        self.loop.spawn("client", run, after_us=after_ms * 1000, is_mortal=True)

    def ask(
        self,
        workflow_id: str,
        event: Callable[[], Handling],
        what: str,
        *,
        after_ms: int,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        """Let an outside event happen, as a client does that tries until it has an answer."""

        def run() -> None:
            answer = self.asked(workflow_id, event)
            self.story.tell(f"outside: {what} of {workflow_id}: {answer.told or 'done'}")
            then()

        self.loop.spawn(f"client: {what}", run, after_us=after_ms * 1000, is_mortal=True)

    def asked(self, workflow_id: str, event: Callable[[], Handling]) -> Answer:
        """Ask until there is an answer."""
        while True:
            try:
                answer = self._client.ask(workflow_id, event)
            except UnreachableError:
                self.loop.sleep(self.random.randint(10_000, 1_000_000))
                continue
            if "too busy" not in answer.told:
                return answer

    # -- workers -----------------------------------------------------------------------------------------------------

    def add_worker(self) -> None:
        """Let one more worker come."""
        self.workers.append(
            SimulatedWorker(
                f"worker{len(self.workers) + 1}",
                self.loop,
                self.broker,
                FleetStore(self.redis, self.settings.partitions),
                self.registry,
                self.settings,
                self.story.tell,
                self._began,
                self.laws.broken.append,
                self.findings,
                takes=self._takes,
            )
        )

    @property
    def alive(self) -> list[SimulatedWorker]:
        """The workers that are there; some may be frozen."""
        return [worker for worker in self.workers if worker.is_alive]

    def is_in_touch(self, claim: Claim) -> bool:
        """Whether a claim is of a body that runs, on a worker whom nothing but Redis' absence kept from its heartbeats."""
        if self.troubles.loses_writes:
            return False
        since_us = self.now_us - self.settings.lease_ms * 1000
        hindered_us = max(self._clock_changed_us, self._begun_us.get(claim, self.now_us))
        held_by = (worker for worker in self.alive if claim in worker.claims)
        return any(max(hindered_us, worker.group.frozen_until_us, worker.missed_us) < since_us for worker in held_by)

    def _take(self, message: Outgoing) -> bool:
        free = [worker for worker in self.alive if worker.has_room]
        if not free:
            return False
        self.random.choice(free).take(message)
        return True

    def _began(self, claim: Claim, body: RunningBody) -> None:
        self.executions += 1
        body.stage.context["execution"] = self.executions
        self._begun_us[claim] = self.now_us
        self.laws.attempts.began(self.executions, claim, body)
        self.story.tell(f"execution {self.executions} of {claim.workflow_id}/{claim.name} begins: {claim.owner}")

    # -- incidents ---------------------------------------------------------------------------------------------------

    def _plan_incidents(self) -> None:
        for incident in self.troubles.incidents:
            if incident.kind == "Redis loses its last writes":
                self._plan_loss(incident)
            else:
                self._at(incident.at_ms, partial(self._happen, incident))

    def _at(self, ms: int, act: Callable[[], object]) -> None:
        self.loop.spawn("incident", act, after_us=max(0, START_US + ms * 1000 - self.loop.now_us))

    def _happen(self, incident: Incident) -> None:
        lasts = f" ({incident.for_ms} ms)" if incident.for_ms else ""
        self.story.tell(f"*** {incident.kind}{lasts}")
        until_us = self.now_us + incident.for_ms * 1000
        worker = self.random.choice(self.alive) if self.alive else None
        match incident.kind:
            case "Redis is away":
                self.redis.away_until_us, self.redis.generation = until_us, self.redis.generation + 1
            case "Redis is slow":
                self.redis.slow_until_us = until_us
            case "Redis' clock jumps ahead" | "Redis' clock falls back" as what:
                self._clock_changed_us = self.now_us
                self.redis.skew_us += incident.for_ms * (1000 if what.endswith("ahead") else -1000)
            case "the broker is away":
                self.broker.away_until_us = until_us
            case "the broker's queues are flushed":
                self.broker.flush()
            case "a keeper's leases are given to another":
                self._move_leases()
            case "a new worker comes":
                self.add_worker()
            case _ if worker is not None:
                self._befall(worker, incident)

    def _befall(self, worker: SimulatedWorker, incident: Incident) -> None:
        self.story.tell(f"    it is {worker.name}")
        if incident.kind == "a worker freezes":
            worker.freeze(incident.for_ms)
        elif incident.kind == "a process of a worker is lost":
            worker.lose_a_process(self.random)
        elif incident.kind == "a worker is shut down":
            self.loop.spawn("shutdown", worker.shut_down)
            self._replace()
        else:
            for message in worker.die():
                if self.random.random() < 0.5:
                    self.broker.send(message)
            self._replace()

    def _replace(self) -> None:
        self.loop.spawn("supervisor", self.add_worker, after_us=self.random.randint(0, 5_000_000))

    def _move_leases(self) -> None:
        """Two keepers look after the same partitions for a while."""
        everything = list(range(self.settings.partitions))
        for worker in self.alive:
            worker.keeper._held = everything

    def _plan_loss(self, incident: Incident) -> None:
        """Keep a copy in time, and go back to it: all clients lose their connections, and what came after is gone."""

        def copy() -> None:
            backup, forget, known = self.redis.backup(), self.laws.remember(), set(self._known)

            def lose() -> None:
                self.story.tell(f"*** {incident.kind}: those of {incident.for_ms} ms")
                self.redis.restore(backup)
                forget()
                self._known = known
                self._may_have_ended = True

            self._at(incident.at_ms, lose)

        self._at(max(0, incident.at_ms - incident.for_ms), copy)

    # -- running -----------------------------------------------------------------------------------------------------

    def _applied(self, slot: Slot, transaction: Transaction, replies: list[Any]) -> None:
        self.story.tell_commit(slot, transaction)
        if slot.kind == "workflow":
            self._known.add(slot.name)
        if transaction.events:
            self._may_have_ended = True
        try:
            for observe in self.observers:
                observe(slot, transaction)
        except Exception as error:
            self.loop.failures.append(error)

    def _step(self) -> bool:
        has_done = self.loop.step()
        if self.loop.now_us > START_US + TROUBLE_US and self.redis.troubles is self.troubles:
            self.redis.troubles = self.broker.troubles = Troubles()
        if self.laws.broken or self.loop.failures:
            broken = self.laws.broken[0] if self.laws.broken else repr(self.loop.failures[0])
            self.story.tell(f"!!! {broken}")
            raise LawBrokenError(broken)
        if self.loop.steps > MAX_STEPS:
            raise LawBrokenError(f"no end after {MAX_STEPS} steps")
        return has_done

    def run(self) -> None:
        """Go on until all workflows of `ids` have ended and been forgotten.

        Raises:
            LawBrokenError: a law was broken, or one of them does not end.

        """
        while not self._have_ended():
            if not self._step() or self.now_us > START_US + PATIENCE_US:
                raise LawBrokenError(self._stuck())
        self._check_the_end()
        for workflow_id in self.ids:
            self._require(partial(self.laws.runs.require_no_trace, workflow_id))

    def _check_the_end(self) -> None:
        """All that is still to be done behind an end is done soon; then nothing is left but what retention keeps."""
        until_us = self.now_us + _BEHIND_US
        while self.now_us < until_us and any(self.owed(workflow_id) != {"Expire"} for workflow_id in self.ids):
            self.drain(until_ms=self.now_us // 1000 + 500)
        for workflow_id in self.ids:
            if self.is_there(workflow_id):
                self._require(partial(self.store.calmly, partial(self.laws.runs.require_the_end, workflow_id)))
        for workflow_id in sorted(self._known.difference(self.ids)):
            if self.is_live(workflow_id):
                raise LawBrokenError(f"the inner workflow {workflow_id} lives on, and its caller has ended")
        if self.troubles == Troubles():
            self._require_calm()
        if self.findings:
            raise LawBrokenError(f"the repair sweep found something: {self.findings[0].told}")
        if repaired := sum(worker.keeper.stats.repaired for worker in self.workers):
            raise LawBrokenError(f"keepers took {repaired} names out of due that were not owed")

    def _require_calm(self) -> None:
        """Where nothing fails, nothing is brought back, and nobody gives up."""
        done = [worker.keeper.stats for worker in self.workers]
        seen = {
            "leases ran out": sum(stats.reaped for stats in done),
            "messages were published again": sum(stats.again for stats in done),
            "decisions were given up": sum(worker.given_up for worker in self.workers),
        }
        for what, count in seen.items():
            if count:
                raise LawBrokenError(f"{count} {what}, though nothing failed")

    def _require(self, holds: Callable[[], object]) -> None:
        try:
            holds()
        except AssertionError as error:
            self.story.tell(f"!!! {error}")
            raise LawBrokenError(str(error) or f"{traceback.format_exc(limit=-1)}") from error

    def owed(self, workflow_id: str) -> set[str]:
        """Return what is owed to a workflow."""
        return set(self.laws.runs.owed(workflow_id))

    def is_there(self, workflow_id: str) -> bool:
        """Whether a workflow exists: retention may have taken it."""
        record = Hash(places.WORKFLOW)
        found = self.store.calmly(lambda: self.store.look(workflow_slot(workflow_id), (record,)))
        return bool(WORKFLOW_RECORD.decode(found[record]).exists)

    def is_live(self, workflow_id: str) -> bool:
        """Whether a workflow has not ended (or not begun)."""
        record = Hash(places.WORKFLOW)
        found = self.store.calmly(lambda: self.store.look(workflow_slot(workflow_id), (record,)))
        status = WORKFLOW_RECORD.decode(found[record]).status
        return status in ("RUNNING", "PAUSED", "BUFFERED") or (status == "" and workflow_id not in self._known)

    def _have_ended(self) -> bool:
        if not self._may_have_ended:
            return False
        self._may_have_ended = False
        return not any(map(self.is_live, self.ids))

    def _stuck(self) -> str:
        live = next(filter(self.is_live, self.ids), "")
        owed = sorted(self.owed(live))
        stages = {each.ref_id: each.status.name for each in self.read(live).stages} if self.is_there(live) else {}
        told = f"{live} does not end; it owes {owed}; {stages}"
        self.story.tell(f"!!! {told}")
        return told

    def end(self) -> None:
        """End all actors."""
        self.loop.end()
