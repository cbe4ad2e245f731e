"""What is added to a Celery worker: queues to consume, and the duties of its main process."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from celery import Celery, bootsteps
from celery.platforms import EX_OK
from celery.signals import task_received, worker_process_shutdown, worker_shutdown, worker_shutting_down

from stabilize_celery.errors import TaskNotFoundError
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.transport.broker_place import names_of_its_own
from stabilize_celery.transport.canvas_call import canvas_task_names
from stabilize_celery.transport.celery_call import celery_task_names
from stabilize_celery.transport.duty import Duty
from stabilize_celery.transport.pools import (
    forks,
    has_children,
    jobs_in,
    may_take,
    may_wait,
    prefetched_per_process,
    telling_queues,
)
from stabilize_celery.transport.process import vault_of
from stabilize_celery.transport.publish import queue_named
from stabilize_celery.transport.queues import lengths_on
from stabilize_celery.transport.reconnecting import reconnecting
from stabilize_celery.transport.request import LedgerRequest
from stabilize_celery.transport.running_attempts import active_requests, running_attempts
from stabilize_celery.transport.upkeep import Upkeep, fleet_line
from stabilize_celery.transport.worker_bridge import WorkerBridge

__all__ = ["WorkerStep", "has_worker_step", "worker_step"]

_JOIN_S = 2.0


class WorkerStep(bootsteps.StartStopStep):
    """Runs the duties from when the pool has forked until it has ended."""

    requires: ClassVar[set[str]] = {"celery.worker.components:Pool"}
    bridge: ClassVar[WorkerBridge]

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._worker = worker
        self._upkeep: Upkeep | None = None
        self._duties: tuple[Duty, ...] = ()
        self._asked_to_end: set[str] = set()
        self.bridge.name_worker(worker.hostname)
        worker.consumer_cls = telling_queues(reconnecting(worker.consumer_cls), self._consume)
        known = self.bridge.app.amqp.queues
        for name in self.bridge.queues():
            # Workers that are embedded in a program are not told by `celeryd_init`.
            if name not in known:
                known.select_add(queue_named(self.bridge.app, name))
        self.bridge.watch_work()
        self.bridge.watch_turns(
            worker.hostname,
            list(known.consume_from),
            has_children=has_children(worker),
            may_take=may_take(worker),
            may_wait=may_wait(worker, self.bridge.app),
        )
        self._heed_who_watches()
        worker_process_shutdown.connect(self._on_child_shutdown, weak=False)
        worker.prefetch_multiplier = prefetched_per_process(worker, waits=self.bridge.children_wait)
        if self.bridge.waiting is not None:
            worker.wait_for_soft_shutdown = self._after_turns(worker.wait_for_soft_shutdown)

    def start(self, worker: Any) -> None:
        """Start the keeper and the heartbeats, on threads of the main process."""
        bridge = self.bridge
        vault = vault_of(bridge.settings)
        upkeep = Upkeep(
            bridge.store,
            bridge.publisher,
            bridge.settings,
            bridge.worker_id,
            bridge.reports,
            running=running_attempts,
            turns=bridge.turns,
            line=lambda: fleet_line(
                worker.hostname,
                _types(bridge),
                list(bridge.app.amqp.queues.consume_from),
                keys=vault.proof(),
                broker=json.dumps(names_of_its_own(bridge.app), sort_keys=True),
            ),
            time_limit_s=lambda task_type: _time_limit_s(bridge.registry, task_type),
        )
        self._upkeep = upkeep
        # A node of a cluster may be away for long: leases on the others are to be extended in time all the same. And
        # once a server is back, who lives says so well before a keeper, which is there soon, takes it for lost.
        beat_s = bridge.settings.lease_ms / 3000
        self._duties = (
            Duty("keeper", partial(self._keeper_round, upkeep), longest_pause_s=beat_s),
            Duty("heartbeat", upkeep.heartbeat_round, bridge.reports.wait, longest_pause_s=beat_s / 3),
        )
        if bridge.telemetry is not None:
            bridge.telemetry.start(bridge.store, upkeep.counts, self._lengths, has_forked=forks(worker))
        for duty in self._duties:
            duty.start()
        worker_shutdown.connect(self._on_worker_shutdown, weak=False)
        worker_shutting_down.connect(self._on_asked_to_end, weak=False)
        if bridge.waiting is not None and bridge.waiting.has_children:
            task_received.connect(self._on_received, weak=False)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Listen to children that go on with messages: called at each connection to the broker."""
        if self.bridge.waiting is not None and self.bridge.waiting.has_children:
            hub.add_reader(self.bridge.waiting.reader, self._on_delivered)

    def info(self, worker: Any) -> dict[str, Any]:  # noqa: ARG002 - Celery's signature
        """Return what `inspect stats` tells beside Celery's own counts, which are of deliveries."""
        turns = self.bridge.turns
        return {} if turns is None else {"stabilize": {"taken": turns.count()}}

    def _keeper_round(self, upkeep: Upkeep) -> float:
        self._heed_who_watches()
        return upkeep.keeper_round()

    def _heed_who_watches(self) -> None:
        if self.bridge.surroundings is not None:
            self.bridge.surroundings.events.are_wanted = _sends_task_events(self._worker)

    def _on_child_shutdown(self, **_: Any) -> None:
        """Send what a child of the pool has to tell that is about to end; it runs no `atexit`."""
        self._send_events()
        if self.bridge.telemetry is not None:
            self.bridge.telemetry.send()

    def _send_events(self) -> None:
        if self.bridge.surroundings is not None:
            self.bridge.surroundings.events.send_now()

    def _on_delivered(self) -> None:
        waiting = self.bridge.waiting
        for delivered in waiting.delivered() if waiting is not None else ():
            # Not by Celery's own table: it knows one delivery by an id, and of several the last.
            requests = (one for one in active_requests() if isinstance(one, LedgerRequest) and one.is_of(delivered))
            if (request := next(requests, None)) is not None:
                request.delivery_is_done(delivered)
            elif waiting is not None:
                waiting.keep_early(delivered)

    def _on_received(self, **_: Any) -> None:
        """Let a process come back from its turn if none is free: after a reconnection, or with a larger prefetch."""
        pool = self._worker.pool
        if self.bridge.waiting is not None and jobs_in(pool) >= pool.num_processes:
            self.bridge.waiting.ask_for_a_process()

    def _consume(self, queues: Sequence[str]) -> None:
        if self.bridge.consumed is not None:
            self.bridge.consumed.set(queues)
        if self.bridge.waiting is not None:
            self.bridge.waiting.end_turns()

    def _after_turns(self, wait: Callable[[], None]) -> Callable[[], None]:
        """Return Celery's wait for tasks before a cold shutdown, in which children take no more."""

        def end_turns_and_wait() -> None:
            self._begin_to_stop()
            wait()

        return end_turns_and_wait

    def _on_asked_to_end(self, how: str, **_: Any) -> None:
        """Note how it is to end: `Warm`, and `Cold` where a second signal asks for that."""
        self._asked_to_end.add(how)
        self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        """Let processes take no more, and wait no longer with what they can't record."""
        if self.bridge.stopping is not None:
            self.bridge.stopping.begin()
        if self.bridge.waiting is not None:
            self.bridge.waiting.end_turns()

    def _lengths(self, queues: Sequence[str]) -> Mapping[str, int]:
        return lengths_on(self.bridge.app, self.bridge.settings, queues)

    def stop(self, worker: Any) -> None:  # noqa: ARG002 -- Celery's signature
        """Warm shutdown: bodies that still run need their heartbeats until the pool has ended."""
        self._begin_to_stop()

    def terminate(self, worker: Any) -> None:  # noqa: ARG002 -- Celery's signature
        """Cold shutdown: hand back what runs, now; its processes are about to be killed."""
        self._finish()

    def _on_worker_shutdown(self, sender: Any = None, **_: Any) -> None:
        if sender is not self._worker:
            return
        if self._asked_to_end == {"Warm"}:
            # Celery's own code is 1 after a Ctrl-C, whatever became of the tasks: being asked to end is no failure.
            self._worker.exitcode = EX_OK
        self._finish()

    def _finish(self) -> None:
        upkeep, self._upkeep = self._upkeep, None
        if upkeep is None:
            return
        for duty in self._duties:
            duty.stop()
        self.bridge.reports.wake()
        for duty in self._duties:
            duty.join(_JOIN_S)
        upkeep.finish()
        self._send_events()
        if self.bridge.telemetry is not None:
            self.bridge.telemetry.close()
        worker_shutdown.disconnect(self._on_worker_shutdown)
        worker_shutting_down.disconnect(self._on_asked_to_end)
        worker_process_shutdown.disconnect(self._on_child_shutdown)
        task_received.disconnect(self._on_received)


def worker_step(bridge: WorkerBridge) -> type[WorkerStep]:
    """Return the bootstep class for one `Stabilize`."""
    return type("StabilizeStep", (WorkerStep,), {"bridge": bridge, "__module__": __name__})


def has_worker_step(app: Celery) -> bool:
    """Return whether the app has a `Stabilize` already."""
    return any(isinstance(step, type) and issubclass(step, WorkerStep) for step in app.steps["worker"])


def _sends_task_events(worker: Any) -> bool:
    """Return whether a worker tells of its tasks now: with `-E`, or since somebody (Flower) has asked it to."""
    dispatcher = getattr(getattr(worker, "consumer", None), "event_dispatcher", None)
    if dispatcher is None:
        # It is not connected yet.
        return bool(worker.task_events)
    # No group at all stands for every one.
    return dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups)


def _types(bridge: WorkerBridge) -> list[str]:
    app = bridge.app
    return [*bridge.registry.names(), *celery_task_names(app), *canvas_task_names(app)]


def _time_limit_s(registry: TaskRegistry, task_type: str) -> float | None:
    try:
        return registry.options(task_type).timeout_s
    except TaskNotFoundError:
        return None
