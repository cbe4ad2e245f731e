"""Scenarios on the real engine in memory, in virtual time: reordered, doubled and lost deliveries, by seed."""

from collections.abc import Callable, Mapping

from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.outside import Answer
from stabilize_celery.engine.steps import Handling, Slot
from stabilize_celery.settings import PER_MESSAGE, Settings
from stabilize_celery.store.contract import Transaction
from stabilize_celery.testing.conformance.actions import OPTIONS, PREFIX, Scripts
from stabilize_celery.testing.conformance.asking import add_instance
from stabilize_celery.testing.conformance.definitions import Definitions
from stabilize_celery.testing.conformance.journal import MemoryJournal
from stabilize_celery.testing.conformance.outcome import Outcome, outcome_of
from stabilize_celery.testing.conformance.play import Due, Play
from stabilize_celery.testing.conformance.scenario import Scenario
from stabilize_celery.testing.conformance.world import World
from stabilize_celery.testing.simulation import Faults, Simulation

__all__ = ["run_simulated"]

CRASH_FREE = Faults(die=0)
"""Scenarios are meant for runs in which no worker dies."""

TICK_US = 600_000_000
"""How long a tick of a trigger or a choice is: all that can happen without waiting happens within one."""

_SLICES_MS = (5, 0)
"""By seed: in the one each thread keeps its process for long here, in the other each task goes over the broker."""
_PREFIX = "s."
_PARTITIONS = 2
_IDLE_STEPS = 400
"""After so many steps without a commit that tells something, what it waits for will not come."""
_MAX_STEPS = 200_000


def run_simulated(scenario: Scenario, seed: int, mode: str = PER_MESSAGE) -> Outcome:
    """Run a scenario once, with workers in that mode (`Settings.mode`); the same seed gives the same run."""
    return _SimulatedRun(scenario, seed, mode).run()


class _SimulatedRun:
    def __init__(self, scenario: Scenario, seed: int, mode: str) -> None:
        self.scenario = scenario
        self.journal = MemoryJournal()
        settings = Settings(partitions=_PARTITIONS, mode=mode, fused_slice_ms=_SLICES_MS[seed % len(_SLICES_MS)])
        self.simulation = Simulation(seed, faults=CRASH_FREE, settings=settings)
        self.simulation.registry.add_resolver(PREFIX, Scripts([[scenario]], self.journal, self._add_instance), OPTIONS)
        self.simulation.observers.append(self._noticed)
        self.world = World(self.simulation.store, self.simulation.store.calmly)
        definitions = Definitions(scenario, 0, _PREFIX, TICK_US // 1000)
        self.play = Play(scenario, definitions, self.world, self)
        self._began_us = self.simulation.now_us
        self._clock = 0
        self._idle_steps = 0
        self._may_be_over = True

    # -- what the outside may do ---------------------------------------------------------------------------------------

    def submit(self, definition: Mapping[str, object]) -> str:
        return self.simulation.start(definition, fails_closed=True)

    def ask(self, workflow_id: str, event: Callable[[], Handling]) -> Answer:
        answer: Answer = self.simulation.ask(workflow_id, event)
        return answer

    def _add_instance(
        self, workflow_id: str, event_id: str, ref_id: str, run: int, context: Mapping[str, object]
    ) -> None:
        self.ask(workflow_id, add_instance(workflow_id, event_id, ref_id, run, context))

    # -- running -------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        self._look()
        for tick in self.play.ticks():
            self._pass_ticks_at(self._began_us + tick * TICK_US)
        problem = self._go_on()
        return outcome_of(self.scenario, self.world, self.journal, problem)

    def _go_on(self) -> str:
        for _ in range(_MAX_STEPS):
            if self._may_be_over and self.play.is_over():
                return self.play.problem
            self._idle_steps += 1
            if self._idle_steps > _IDLE_STEPS and not self.play.waits_for_time():
                return self._stuck("nothing happens any more")
            if not self.simulation.step():
                return self.play.problem or self._stuck("nothing is owed")
        return self._stuck(f"still at work after {_MAX_STEPS} steps")

    def _stuck(self, why: str) -> str:
        return f"it did not end: {why}; {self.world.told()}"

    def _pass_ticks_at(self, at_us: int) -> None:
        def passed() -> None:
            if self.simulation.now_us < at_us:
                # Taken out of turn: the simulation lets planned things overtake each other.
                self._pass_ticks_at(at_us)
                return
            self._look()

        self.simulation.plan(at_us, passed)

    # -- seeing --------------------------------------------------------------------------------------------------------

    def _noticed(self, slot: Slot, transaction: Transaction) -> None:
        """Take note of a commit: every moment at which a trigger can begin to hold is one."""
        if slot.kind != "workflow":
            return
        self._may_be_over = True
        for event in transaction.events:
            self._idle_steps = -self.simulation.under_way
            self._clock += 1
            kind, ref_id, packed = str(event["kind"]), str(event["ref"]), event["data"]
            data = unpack(packed) if isinstance(packed, bytes) else {}
            if kind == "workflow.created":
                self.world.found(str(data["name"]).removeprefix(_PREFIX), slot.name)
            self.world.history.tell(slot.name, kind, ref_id, data, self._clock)
        self._look()

    def _look(self) -> None:
        self.world.ticks = (self.simulation.now_us - self._began_us) / TICK_US
        for due in self.play.due():
            delay_us = self.simulation.random.choice((0, self.simulation.random.randint(0, 60_000)))
            self._deliver_at(self.simulation.now_us + delay_us, due)

    def _deliver_at(self, at_us: int, due: Due) -> None:
        def deliver() -> None:
            self._idle_steps = -self.simulation.under_way
            self._may_be_over = True
            if self.play.deliver(due):
                self._look()
            else:
                self._deliver_at(self.simulation.now_us + 1_000_000, due)

        self.simulation.plan(at_us, deliver)
