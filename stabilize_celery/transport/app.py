"""`Stabilize(app)`: durable workflows on somebody's Celery app."""

import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from celery import Celery
from celery.signals import celeryd_init
from typing_extensions import Unpack

from stabilize_celery.errors import ConfigurationError, redact_url
from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import FUSED, JSON, LEDGER, Settings
from stabilize_celery.store.contract import Store
from stabilize_celery.tasks.builders import StageDefinitionBuilder
from stabilize_celery.tasks.finalizers import Finalizer
from stabilize_celery.tasks.options import OptionFields, TaskOptions
from stabilize_celery.tasks.registry import TaskImplementation, TaskRegistry
from stabilize_celery.telemetry.optional import modules_for
from stabilize_celery.telemetry.telemetry import Telemetry
from stabilize_celery.transport.broker_place import databases_of_one_server, lists_url
from stabilize_celery.transport.canvas_call import PREFIX as CANVAS_PREFIX
from stabilize_celery.transport.canvas_call import resolve_canvas_task
from stabilize_celery.transport.celery_call import PREFIX, celery_task_options, resolve_celery_task, task_of
from stabilize_celery.transport.celery_tasks import add_tasks
from stabilize_celery.transport.consumed import add_queues, forget_acks, is_ours_alone, warn_of_strays
from stabilize_celery.transport.consumed_queues import ConsumedQueues
from stabilize_celery.transport.logs import log_as_json
from stabilize_celery.transport.process import Process, make_process, open_store, taking_from
from stabilize_celery.transport.publish import CeleryPublisher
from stabilize_celery.transport.reports import Reports
from stabilize_celery.transport.stopping import Stopping
from stabilize_celery.transport.surroundings import Surroundings
from stabilize_celery.transport.taking import Begun
from stabilize_celery.transport.turns import Delivered, Turns
from stabilize_celery.transport.waiting import Waiting, Waits
from stabilize_celery.transport.worker_steps import has_worker_step, worker_step

__all__ = ["Stabilize"]

_Registered = TypeVar("_Registered", bound=TaskImplementation)
_Builder = TypeVar("_Builder", bound=type[StageDefinitionBuilder])
_Callback = TypeVar("_Callback", bound=Finalizer)

_WRONG_USAGE = 2
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


class Stabilize:
    """Adds tasks `stabilize.*`, their queues and a background thread to an app; the app's own tasks are not changed.

    Nothing is connected, and the app's configuration is not read, before a worker starts or something is sent.

    Args:
        redis_url: Where workflows are kept. Default: `STABILIZE_REDIS_URL`, else the app's broker if it is Redis.
        registry: Known tasks; default: a new registry with the ready-made ones.
        settings: Default: read from the environment.
        namespace: Start of all keys in Redis; default: the settings'.

    Raises:
        ConfigurationError: the app has a `Stabilize` already.

    """

    def __init__(
        self,
        app: Celery,
        redis_url: str | None = None,
        *,
        registry: TaskRegistry | None = None,
        settings: Settings | None = None,
        namespace: str | None = None,
    ) -> None:
        if has_worker_step(app):
            raise ConfigurationError(f"the Celery app {app.main!r} has a Stabilize already; use that one")
        self.app = app
        self.registry = registry or TaskRegistry()
        chosen = settings or Settings.from_env(os.environ)
        self._queues: dict[str, str] = dict(chosen.task_queues)
        given: dict[str, Any] = {"redis_url": redis_url, "namespace": namespace}
        self.settings = replace(
            chosen, task_queues=self._queues, **{name: value for name, value in given.items() if value is not None}
        )
        self.reports = Reports()
        self.worker_id = _new_worker_id(socket.gethostname())
        self.turns: Turns | None = None
        self.waiting: Waiting | None = None
        self.consumed: ConsumedQueues | None = None
        self._takes: tuple[str, Sequence[str]] | None = None
        self._is_ours_alone = False
        self._may_wait = False
        self.surroundings: Surroundings | None = None
        self.telemetry: Telemetry | None = None
        self.stopping: Stopping | None = None
        self._processes: dict[int, Process] = {}
        for prefix, resolve in ((PREFIX, resolve_celery_task), (CANVAS_PREFIX, resolve_canvas_task)):
            options = partial(_options_of, app, prefix)
            self.registry.add_resolver(prefix, partial(resolve, app), options)
        add_tasks(app, self)
        app.steps["worker"].add(worker_step(self))
        celeryd_init.connect(self._on_worker_init, weak=False)

    def task(
        self,
        name: str,
        aliases: Sequence[str] | None = None,
        *,
        options: TaskOptions | None = None,
        **fields: Unpack[OptionFields],
    ) -> Callable[[_Registered], _Registered]:
        """Return a decorator that registers a function or Task class as `name`; see `TaskRegistry.task`.

        With `queue`, its messages go to that queue, which workers of this app consume; the settings' own
        `task_queues` come first.
        """
        queue = fields.get("queue") if options is None else options.queue
        if queue:
            self._queues.setdefault(name, queue)
        return self.registry.task(name, aliases, options=options, **fields)

    def builder(self, builder_class: _Builder) -> _Builder:
        """Register a stage builder class; a decorator."""
        self.registry.builders.register_class(builder_class)
        return builder_class

    def finalizer(self, name: str) -> Callable[[_Callback], _Callback]:
        """Return a decorator that registers a function as the finalizer `name`."""

        def decorate(callback: _Callback) -> _Callback:
            self.registry.finalizers.register(name, callback)
            return callback

        return decorate

    @property
    def runtime(self) -> Runtime:
        """The runtime of this process."""
        return self.process().runtime

    @property
    def store(self) -> Store:
        """The store of this process."""
        return self.process().store

    @property
    def publisher(self) -> CeleryPublisher:
        """The publisher of this process."""
        return self.process().publisher

    @property
    def state_url(self) -> str:
        """Where workflows are kept.

        Raises:
            ConfigurationError: nobody said, and the broker is no Redis.

        """
        if self.settings.redis_url:
            return self.settings.redis_url
        broker = str(self.app.conf.broker_url or "").split(";")[0]
        if broker.startswith(_REDIS_SCHEMES):
            return broker
        raise ConfigurationError(
            f"there is no place to keep workflows: the broker {redact_url(broker)!r} is not a Redis: give "
            "Stabilize(app, redis_url=...) or set STABILIZE_REDIS_URL"
        )

    @property
    def children_wait(self) -> bool:
        """Whether processes of this worker wait for messages themselves: not where the app's other tasks come, too."""
        return self._wait_ms() > 0

    def _wait_ms(self) -> int:
        return self.settings.wait_ms if self._is_ours_alone and self._may_wait and self.waiting is not None else 0

    def queues(self) -> list[str]:
        """Return the names of all our queues: control, work, and those of single task types."""
        settings = self.settings
        return list(dict.fromkeys((settings.control_queue, settings.work_queue, *self._queues.values())))

    def begin(self, message: Message) -> Begun:
        """Handle a delivery, with which a turn begins if this worker's processes take messages; see `Taking`."""
        process = self.process()
        return Begun(process.runtime.handle(message)) if process.taking is None else process.taking.begin(message)

    def go_on(self, begun: Begun, delivered: Delivered) -> None:
        """Take what waits on the broker, if this worker's processes do that."""
        taking = self.process().taking
        if taking is not None:
            taking.go_on(begun, delivered)

    def process(self) -> Process:
        """Return what this process holds; made at the first call in each process, so never shared over a fork.

        Raises:
            ConfigurationError: see `state_url`.

        """
        pid = os.getpid()
        found = self._processes.get(pid)
        if found is None:
            # Without a lock: one that another thread holds at a fork would stay locked in the child.
            found = self._processes.setdefault(pid, self._make_process(pid))
        return found

    def name_worker(self, node: str) -> None:
        """Give this worker, and the processes it will fork, an id of their own: called once, before it forks."""
        self.worker_id = _new_worker_id(node)
        self.stopping = Stopping()

    def watch_turns(
        self, node: str, queues: Sequence[str], *, has_children: bool, may_take: bool, may_wait: bool
    ) -> None:
        """Prepare for processes that go on with tasks by themselves: called once in a worker, before it forks."""
        self._may_wait = may_wait
        broker = lists_url(self.app) if may_take and self.settings.take_ms > 0 else None
        takes = broker is not None and any(name in self.queues() for name in queues)
        if not (takes or self.settings.is_fused):
            return
        self.consumed = ConsumedQueues(queues)
        if broker is not None and takes:
            self._takes = (broker, self.queues())
            self.waiting = Waiting(self.consumed, has_children=has_children)
        self.turns = Turns()
        self.surroundings = Surroundings(self.app, node)

    def watch_work(self) -> None:
        """Prepare for the metrics and traces that the settings ask for: called once in a worker, before it forks."""
        self.telemetry = Telemetry.of(self.settings)

    def _make_process(self, pid: int) -> Process:
        store = open_store(self.state_url, self.settings)
        publisher = CeleryPublisher(self.app, self.state_url)
        process = make_process(
            store,
            publisher,
            self.registry,
            self.settings,
            f"{self.worker_id}:{pid}",
            turns=self.turns,
            surroundings=self.surroundings,
            observer=self.telemetry.observer() if self.telemetry is not None else None,
            is_stopping=self._is_stopping,
        )
        if self.consumed is not None and self.settings.is_fused:
            process.runtime.serves = self.consumed.names
        if self._takes is None:
            return process
        # What commits may take lies where they may send to, if that is where this worker reads.
        reads_elsewhere = self.app.conf.broker_read_url != self.app.conf.broker_write_url
        databases = None if reads_elsewhere else databases_of_one_server(self.app, self.state_url)
        looks = self.settings.mode == FUSED
        waits = Waits(self.waiting, self._wait_ms(), looks=looks) if self.waiting is not None else None
        return taking_from(process, *self._takes, self.settings, waits, databases)

    def _is_stopping(self) -> bool:
        """Whether what can't be recorded is not to be waited with: outside of a worker nobody extends its lease."""
        return self.stopping is None or self.stopping.has_begun()

    def _on_worker_init(self, instance: Any = None, options: Mapping[str, Any] | None = None, **_: Any) -> None:
        if getattr(instance, "app", None) is not self.app:
            return
        self._end_where_settings_ask_too_much()
        add_queues(self.app, self.queues())
        if not (options or {}).get("queues"):
            warn_of_strays(self.app)
        if self.settings.log_format == JSON:
            log_as_json(instance)
        self._is_ours_alone = is_ours_alone((options or {}).get("queues"), self.queues())
        if self.settings.acks == LEDGER and self._is_ours_alone:
            forget_acks(self.app)

    def _end_where_settings_ask_too_much(self) -> None:
        """End `celery worker` with one line and the code of wrong usage: a package is missing, a URL wrong."""
        try:
            modules_for(self.settings)
            open_store(self.state_url, self.settings)
        except ConfigurationError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(_WRONG_USAGE) from None


def _new_worker_id(node: str) -> str:
    return f"{node}#{secrets.token_hex(4)}"


def _options_of(app: Celery, prefix: str, name: str) -> TaskOptions:
    return celery_task_options(task_of(app, name, prefix))
