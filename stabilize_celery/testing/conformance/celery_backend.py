"""Scenarios on real Celery workers and a real Redis: one fleet for all, several scenarios in flight."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Self

from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.outside import Answer
from stabilize_celery.engine.steps import Handling
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import PER_MESSAGE
from stabilize_celery.store.contract import Filter, StoredEvent
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.testing.conformance.actions import SLEEP_TICK_MS
from stabilize_celery.testing.conformance.definitions import Definitions
from stabilize_celery.testing.conformance.fleet import Fleet, FleetError
from stabilize_celery.testing.conformance.journal import SharedJournal
from stabilize_celery.testing.conformance.outcome import Outcome, outcome_of
from stabilize_celery.testing.conformance.play import Play
from stabilize_celery.testing.conformance.scenario import Scenario
from stabilize_celery.testing.conformance.server import PrivateServerError
from stabilize_celery.testing.conformance.verdicts import Verdict, judge
from stabilize_celery.testing.conformance.world import World
from stabilize_celery.transport.process import open_store
from stabilize_celery.transport.producer import ProducerPublisher

__all__ = ["CeleryBackend", "CeleryBackendError"]

_IN_FLIGHT = 8
_TICK_S = 2.0
"""How long a tick of a trigger or a choice is."""
_QUIET_S = 1.0
"""Ticks pass only while nothing else has happened for so long: triggers of time come after all that needs none."""
_LOOK_S = 0.03
_SILENT_S = 40.0
"""After so long without an event, beside what it sleeps for itself, a scenario has not ended."""
_BATCH = 1_000


class CeleryBackendError(Exception):
    """There is no fleet to run scenarios on; the text says why."""


class CeleryBackend:
    """A context: the fleet runs inside, with that mode (`Settings`); `takes`: its processes take messages themselves.

    Raises:
        CeleryBackendError: the fleet does not come up.

    """

    def __init__(self, paths: Sequence[Path], mode: str = PER_MESSAGE, *, takes: bool = True) -> None:
        self._fleet = Fleet(paths, mode, takes=takes)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self._fleet)
        except (FleetError, PrivateServerError) as error:
            raise CeleryBackendError(str(error)) from None
        settings = self._fleet.settings
        store = open_store(settings.redis_url, settings)
        publisher = ProducerPublisher(settings.broker_url, settings)
        self._stack.callback(store.close)
        self._stack.callback(publisher.close)
        self.runtime = Runtime(store, TaskRegistry(), publisher, settings, "conformance")
        self.journal = SharedJournal(self._fleet.journal_file)
        self.journal.create()
        self._stack.callback(self.journal.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def verdicts(self, chosen: Sequence[tuple[int, Scenario]], seeds: int) -> Iterator[Verdict]:
        """Run each scenario, given with the place of its file among `paths`, `seeds` times; yield in that order."""
        stop = threading.Event()

        def judged(one: tuple[int, Scenario]) -> Verdict:
            file, scenario = one
            try:
                return judge(scenario, range(seeds), lambda *_: _RealRun(self, file, scenario, stop).run())
            finally:
                self.journal.close()

        with ThreadPoolExecutor(_IN_FLIGHT) as pool:
            try:
                yield from pool.map(judged, chosen)
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)


class _RealRun:
    """One execution of a scenario. Names and keys of its workflows begin with a prefix of its own."""

    def __init__(self, backend: CeleryBackend, file: int, scenario: Scenario, stop: threading.Event) -> None:
        self.backend = backend
        self.scenario = scenario
        self.stop = stop
        self.store = backend.runtime.store
        self.world = World(self.store)
        self.definitions = Definitions(scenario, file, f"{token_hex(4)}.", int(_TICK_S * 1000))
        self.play = Play(scenario, self.definitions, self.world, self)
        self._has_inner = any(workflow.is_called for workflow in scenario.workflows) or any(
            stage.sub_workflow for workflow in scenario.workflows for stage in workflow.stages
        )
        self._patience_s = _SILENT_S + scenario.longest_choice * _TICK_S + scenario.longest_sleep * SLEEP_TICK_MS / 1000
        self._positions: dict[str, str] = {}
        self._began_s = self._newest_s = time.monotonic()

    # -- what the outside may do ---------------------------------------------------------------------------------------

    def submit(self, definition: Mapping[str, object]) -> str:
        self._newest_s = time.monotonic()
        return self.backend.runtime.submit(definition, fails_closed=True)

    def ask(self, workflow_id: str, event: Callable[[], Handling]) -> Answer:
        self._newest_s = time.monotonic()
        return self.backend.runtime.ask(workflow_id, event)

    # -- running -------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        problem = self._go_on()
        self._refresh()
        return outcome_of(self.scenario, self.world, self.backend.journal, problem)

    def _go_on(self) -> str:
        waiting = self.play.due()
        while not self.stop.is_set():
            waiting = [due for due in waiting if not self.play.deliver(due)]
            if self.play.is_over():
                return self.play.problem
            if time.monotonic() > self._newest_s + self._patience_s and not self.play.waits_for_time():
                return self._stuck()
            if not self._refresh():
                time.sleep(_LOOK_S)
            waiting += self.play.due()
        return "the runner was stopped"

    def _refresh(self) -> bool:
        """Take note of what has happened since the last call; return whether anything has."""
        if self._has_inner:
            self._find_inner()
        fresh = [self._read_events(workflow_id) for workflow_id in self.world.all_ids()]
        now_s = time.monotonic()
        if any(fresh):
            self._newest_s = now_s
        elif now_s > self._newest_s + _QUIET_S:
            self.world.ticks = (now_s - self._began_s) / _TICK_S
        return any(fresh)

    def _find_inner(self) -> None:
        for workflow in self.scenario.workflows:
            wanted = Filter(name=self.definitions.engine_name(workflow.name))
            for item in reversed(self.store.listing(wanted, _BATCH, None).items):
                self.world.found(workflow.name, item.id)

    def _read_events(self, workflow_id: str) -> int:
        events = self.store.events(workflow_id, self._positions.get(workflow_id, "0"), None, _BATCH)
        for event in events:
            self._tell(workflow_id, event)
        if events:
            self._positions[workflow_id] = events[-1].id
        return len(events)

    def _tell(self, workflow_id: str, event: StoredEvent) -> None:
        fields = event.fields
        data = unpack(fields["data"]) if fields.get("data") else {}
        at_ms = int(event.id.partition("-")[0])
        self.world.history.tell(workflow_id, fields["kind"].decode(), fields["ref"].decode(), data, at_ms)

    def _stuck(self) -> str:
        told = self.world.told()
        return f"it did not end: nothing has happened for {self._patience_s:.0f} s; {told}"
