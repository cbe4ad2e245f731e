"""QueueProcessor: a worker inside this process. For fleets, run `celery worker` with `Stabilize(app)` instead."""

import logging
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from stabilize_celery.compat import handlers
from stabilize_celery.compat.celery_queue import CeleryQueue
from stabilize_celery.compat.event_bus import get_event_bus
from stabilize_celery.compat.executing import FormerExecutor, OnlyRegistry
from stabilize_celery.compat.finalizers import get_finalizer_registry
from stabilize_celery.compat.handler_config import HandlerConfig, get_handler_config
from stabilize_celery.compat.recovery import RecoveryResult, WorkflowRecovery
from stabilize_celery.compat.store import RedisWorkflowStore
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.messages import MESSAGE_TYPES, TimeOut
from stabilize_celery.models.redaction import Redaction
from stabilize_celery.runtime.keeper import Keeper
from stabilize_celery.runtime.leases import Leases
from stabilize_celery.runtime.ports import Claim, Outgoing
from stabilize_celery.runtime.probes import PROBE
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.transport.claims import LocalClaims
from stabilize_celery.transport.incoming import message_of, split_task_id

__all__ = ["QueueProcessor", "QueueProcessorConfig", "register_all_handlers"]

logger = logging.getLogger("stabilize_celery")

_LOOK_S = 0.02
"""How long the processor waits at most for a message before it looks after what is due (s)."""


class _Engine:
    """What does the work, once store and task types are known."""

    def __init__(self, queue: CeleryQueue, registry: TaskRegistry, name: str, config: HandlerConfig) -> None:
        client = queue.store.client
        self.settings = replace(client.settings, keeper_busy_ms=10, keeper_idle_ms=100)
        known = OnlyRegistry(registry) if isinstance(client.store, MemoryStore) else registry
        hidden = Redaction(self.settings.redact_keys)
        executor = FormerExecutor(self.settings.max_output_bytes, redaction=hidden, config=config)
        self.runtime = Runtime(client.store, known, queue, self.settings, name, executor=executor)
        self.runtime.runner = LocalClaims(client.store, self.settings.lease_ms / 3000)
        self.keeper = Keeper(client.store, queue, self.settings, name)
        self.leases = Leases(client.store, queue, self.settings, name)


@dataclass
class QueueProcessorConfig:
    """Settings of a processor. Those without an effect here are accepted: recovery and de-duplication are always on."""

    poll_frequency_ms: int = 50
    max_workers: int = 10
    retry_delay: timedelta = timedelta(seconds=15)
    stop_on_error: bool = False
    enable_deduplication: bool = True
    dedup_trust_negative_cache: bool = False
    enable_lock_heartbeat: bool = True
    lock_heartbeat_interval_seconds: float | None = None
    dlq_check_interval_seconds: float = 30.0
    retention_sweep_interval_seconds: float = 0.0
    processed_messages_max_age_hours: float = 24.0
    retention_batch_size: int = 10_000
    retention_max_rows_per_sweep: int = 200_000
    shutdown_timeout_seconds: float = 60.0
    recover_on_start: bool = False
    recovery_interval_seconds: float = 0.0
    recovery_application: str | None = None
    recovery_max_age_hours: float = 24.0

    @classmethod
    def from_handler_config(cls, handler_config: HandlerConfig | None = None) -> Self:
        """Return the part of a `HandlerConfig` (default: the environment's) that is about a processor."""
        chosen = handler_config or get_handler_config()
        return cls(
            poll_frequency_ms=chosen.poll_frequency_ms,
            max_workers=chosen.max_workers,
            retry_delay=timedelta(seconds=chosen.handler_retry_delay_seconds),
        )


class QueueProcessor:
    """Executes what workflows owe, in this process.

    Args:
        queue: Whose messages it takes; they stay in this process from now on, until `close`.
        config: `max_workers` (in the background) and `shutdown_timeout_seconds` have an effect.
        store: Where workflows are kept; default: the store that the queue serves, or that of a registered handler.
        handler_config: The pauses between tries, and `config` if that is not given; default: the environment's.
        task_registry: The task types it knows; default: those of a registered handler.
        bulkhead_manager: As upstream's; without an effect.
        circuit_factory: As upstream's; without an effect.

    """

    def __init__(
        self,
        queue: CeleryQueue,
        config: QueueProcessorConfig | None = None,
        store: RedisWorkflowStore | None = None,
        handler_config: HandlerConfig | None = None,
        task_registry: TaskRegistry | None = None,
        bulkhead_manager: Any = None,
        circuit_factory: Any = None,
    ) -> None:
        del bulkhead_manager, circuit_factory
        self.queue, self.config = queue, config or QueueProcessorConfig.from_handler_config(handler_config)
        self._pauses = handler_config or get_handler_config()
        self._name = f"in-process-{uuid4().hex[:8]}"
        self._registry = task_registry
        self._made: _Engine | None = None
        self._renew_at = self._beat_at = self._look_at = 0.0
        self._busy: dict[Future[None], Outgoing] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        queue.attach()
        if store is not None:
            queue.serve(store)
        if queue.is_bound:
            self.store.task_registry = self.task_registry

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def store(self) -> RedisWorkflowStore:
        """Where workflows are kept. Raises ConfigurationError: nobody has told."""
        return self.queue.store

    @property
    def task_registry(self) -> TaskRegistry:
        """The task types it knows."""
        if self._registry is None:
            self._registry = TaskRegistry()
        return self._registry

    def use(self, task_registry: TaskRegistry) -> None:
        """Take the task types from there, unless it was told before from where."""
        if self._registry is None:
            self._registry = task_registry
        if self.queue.is_bound:
            self.store.task_registry = self.task_registry

    # -- running to the end --------------------------------------------------------------------------------------------

    def process_all(self, timeout: float = 60.0) -> int:
        """Handle messages until nothing will be due within `timeout` seconds; return how many were handled.

        One at a time, in the order in which they came: so programs find what they found before. A workflow that waits
        for a signal, or for a task type that this process does not know, ends the call.

        Raises:
            RuntimeError: the processor runs in the background.
            UnreachableError: the state server is away.

        """
        if self.is_running:
            raise RuntimeError("the processor runs in the background: stop it first, or wait for the workflow")
        deadline = time.monotonic() + timeout
        handled, self._look_at = 0, 0.0
        while True:
            handled += self._turn(1)
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not (self._busy or self.queue.is_due_within(left_s) or self._is_due_within(left_s)):
                return handled + self._finish()

    def process_one(self) -> bool:
        """Handle one message; False: there is none now.

        Between two calls, other processors may look after what is owed: programs let one go that is not closed.
        """
        self._look_after()
        try:
            if self.queue.apply_due():
                return True
            message = self.queue.take()
            if message is not None:
                self._handle(message)
            return message is not None
        finally:
            self._give_back()

    def _is_due_within(self, left_s: float) -> bool:
        kept = self.store.client.store
        now_ms, due = kept.first_due(range(kept.partitions()), 1)
        return any(entries[0].due_ms <= now_ms + left_s * 1000 for entries in due.values() if entries)

    # -- running in the background -------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether it runs in the background."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping.is_set()

    @property
    def active_count(self) -> int:
        """How many messages are being handled now."""
        return len(self._busy)

    def start(self) -> None:
        """Run in the background until `stop`."""
        if not self.is_running:
            if self.config.recover_on_start:
                self._recover()
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _recover(self) -> None:
        try:
            self.run_recovery()
        except UnreachableError as error:
            logger.warning("in-process worker: %s", error)

    def request_stop(self) -> None:
        """Take no more messages; what is being handled goes on to its end."""
        self._stopping.set()

    def stop(self, wait: bool = True, timeout: float | None = None) -> int:
        """Take no more messages; with `wait`, return when what is being handled has ended, or after `timeout` (s).

        Returns how many messages are being handled still.
        """
        self.request_stop()
        if wait and self._thread is not None:
            self._thread.join(self.config.shutdown_timeout_seconds if timeout is None else timeout)
        return self.active_count

    def close(self) -> None:
        """Stop, and let messages go to the broker again."""
        self.stop()
        self.queue.detach()

    def run_recovery(self) -> list[RecoveryResult]:
        """Start what is only stored, and look once after what is owed; in the background, at the next turn.

        It looks after what is owed by itself, all the time.
        """
        self._look_at = 0.0
        if self.is_running or not self.queue.is_bound:
            return []
        recovery = WorkflowRecovery(self.store, self.queue, self.config.recovery_max_age_hours)
        return recovery.recover_pending_workflows(self.config.recovery_application)

    def register_handler(self, handler: Any) -> None:
        """Take store and task types from one of the stand-ins in `compat.handlers`; the engine's handling is its own.

        Raises:
            TypeError: it is anything else, such as a subclass of one, whose code would never be called.

        """
        if type(handler).__module__ != handlers.__name__:
            raise TypeError(
                f"{type(handler).__name__}: handlers can't be replaced here; change what tasks do, or follow the events"
            )
        if handler.repository is not None and not self.queue.is_bound:
            self.queue.serve(handler.repository)
        if handler.task_registry is not None:
            self.use(handler.task_registry)

    replace_handler = register_handler

    @property
    def _handlers(self) -> dict[str, Any]:
        """What test-suites find the task types by."""
        return {"RunTask": handlers.RunTaskHandler(self.queue, self.store, self.task_registry)}

    def register_handler_func(self, message_type: Any, handler_func: Any) -> None:
        """Refuse.

        Raises:
            TypeError: always: a function in place of the engine's handling would never be called.

        """
        kind, code = (getattr(one, "__name__", repr(one)) for one in (message_type, handler_func))
        raise TypeError(f"{kind}: {code} can't take the engine's place; change what tasks do, or follow the events")

    def _run(self) -> None:
        self._look_at = 0.0
        while not self._stopping.is_set():
            try:
                self._turn(self.config.max_workers)
            except UnreachableError as error:
                logger.warning("in-process worker: %s", error)
                self._stopping.wait(0.5)
        self._finish()

    # -- one turn ------------------------------------------------------------------------------------------------------

    def _turn(self, at_once: int) -> int:
        """Look after what is due, hand messages to threads; return how many have been handled meanwhile."""
        self._look_after()
        applied = self.queue.apply_due()
        if len(self._busy) < at_once:
            message = self.queue.take(0.0 if self._busy else _LOOK_S)
            while message is not None:
                self._busy[self._threads().submit(self._handle, message)] = message
                message = self.queue.take() if len(self._busy) < at_once else None
        if not self._busy:
            return applied
        applied += self._end_what_takes_too_long() if len(self._busy) >= at_once else 0
        done, _ = wait(self._busy, _LOOK_S, FIRST_COMPLETED)
        return applied + self._collect(done)

    def _end_what_takes_too_long(self) -> int:
        """Handle deadlines beside the tasks that keep all threads busy, and are what they are about."""
        over = self.queue.take_all(TimeOut.__name__)
        for message in over:
            self._handle(message)
        return len(over)

    def _collect(self, done: set[Future[None]]) -> int:
        for future in done:
            del self._busy[future]
            future.result()
        return len(done)

    def _finish(self) -> int:
        done, _ = wait(self._busy, self.config.shutdown_timeout_seconds)
        handled = self._collect(done)
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None
        self._give_back()
        return handled

    def _give_back(self) -> None:
        if self._made is not None:
            self._made.keeper.give_back()
        self._renew_at = 0.0

    @property
    def _engine(self) -> _Engine:
        if self._made is None:
            self.store.task_registry = self.task_registry
            self._made = _Engine(self.queue, self.task_registry, self._name, self._pauses)
        return self._made

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.config.max_workers, self._name)
        return self._pool

    def _handle(self, message: Outgoing) -> None:
        if message.kind == PROBE:
            self.store.client.store.probe_came_back(str(message.kwargs["queue"]), int(message.kwargs["sent_ms"]))
            return
        self._engine.runtime.handle(message_of(MESSAGE_TYPES[message.kind], message.task_id, message.kwargs))
        workflow_id = split_task_id(message.task_id)[0]
        get_event_bus().look(self.store.client, workflow_id)
        if (registry := get_finalizer_registry()).pending_count():
            registry.execute_ended(self.store.retrieve(workflow_id))

    def _look_after(self) -> None:
        now = time.monotonic()
        if now >= self._renew_at:
            self._engine.keeper.renew()
            self._renew_at = now + self._engine.keeper.lease_ms / 3000
        if now >= self._beat_at:
            claims = [Claim(*split_task_id(one.task_id), self._name) for one in self._busy.values()]
            self._engine.leases.extend([claim for claim in claims if claim.name.startswith("Run:")])
            self._beat_at = now + self._engine.settings.lease_ms / 3000
        if now >= self._look_at:
            self._look_at = now + self._engine.keeper.tick() / 1000


def register_all_handlers(
    processor: QueueProcessor, repository: RedisWorkflowStore, task_registry: TaskRegistry, queue: CeleryQueue
) -> None:
    """Give a processor its store and its task types; the engine's handling is always there."""
    processor.queue.serve(repository)
    processor.use(task_registry)
    queue.serve(repository)
