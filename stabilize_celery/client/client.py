"""Client: start workflows and find them again."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from types import TracebackType
from typing import Any, Self, TypeAlias

from stabilize_celery.client.asked import checked_number, checked_text
from stabilize_celery.client.handle import WorkflowHandle
from stabilize_celery.client.pages import Page, page_of, status_named
from stabilize_celery.client.publishing import BatchPublisher, NoBroker
from stabilize_celery.client.replacing import Replacement
from stabilize_celery.client.schedules import Schedules
from stabilize_celery.errors import ConfigurationError, QueueError
from stabilize_celery.models.problems import shown
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.ports import Publisher
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Filter, Store
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.telemetry.carrying import current_traceparent
from stabilize_celery.transport.process import open_store
from stabilize_celery.transport.producer import ProducerPublisher

__all__ = ["Client"]

logger = logging.getLogger("stabilize_celery")

_FORMS = {
    "redis_url": "redis://localhost:6379/1",
    "broker_url": "redis://localhost:6379/0",
    "namespace": "stabilize",
}

Handles: TypeAlias = list[WorkflowHandle]


class Client:
    """Starts workflows and gives handles to them. Connects at its first use; threads may share it; close it at the end.

    Args:
        redis_url: Where workflows are kept. Default: `STABILIZE_REDIS_URL`.
        broker_url: Where workers take their messages from. Default: `STABILIZE_BROKER_URL`, else `redis_url`.
        namespace: Start of all keys in Redis, as the workers have it. Default: `STABILIZE_NAMESPACE`, else `stabilize`.
        settings: All settings, in place of the environment's; the arguments above win.
        store: A store instead of the one that the URL names, for tests.
        publisher: A publisher instead of the one that the URL names, for tests.

    Raises:
        ConfigurationError: no Redis is configured, or Celery can't use the given broker.
        TypeError: a URL or the namespace is not a text.

    """

    def __init__(
        self,
        redis_url: str | None = None,
        broker_url: str | None = None,
        namespace: str | None = None,
        *,
        settings: Settings | None = None,
        store: Store | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        given: dict[str, Any] = {"redis_url": redis_url, "broker_url": broker_url, "namespace": namespace}
        known = {name: value for name, value in given.items() if value is not None}
        if wrong := [name for name, value in known.items() if not isinstance(value, str)]:
            raise TypeError(f"{wrong[0]} must be text, such as {_FORMS[wrong[0]]!r}, not {shown(known[wrong[0]])}")
        chosen = replace(settings, **known) if settings else Settings.from_env(os.environ, **known)
        if store is None and not chosen.redis_url:
            raise ConfigurationError(
                "no state server is given: pass Client(redis_url=...) or set STABILIZE_REDIS_URL, "
                "such as redis://localhost:6379/0"
            )
        self.settings = chosen
        self.store = store or open_store(chosen.redis_url, chosen)
        self._publisher = publisher or _publisher_for(chosen)
        self.runtime = self._runtime(self._publisher)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, for good: it and its handles raise RuntimeError then. Closing again does nothing."""
        self.store.close()
        if isinstance(self._publisher, ProducerPublisher):
            self._publisher.close()

    def start(self, workflow: Workflow | Mapping[str, Any], *, idempotency_key: str | None = None) -> WorkflowHandle:
        """Start a workflow, or find the one that was started under the same key (or the same id).

        Args:
            workflow: A `Workflow`, or its definition as JSON has it.
            idempotency_key: The same key starts one workflow however often it is used.

        Raises:
            InvalidWorkflowError: the definition is wrong; the text lists every problem. Nothing was started.
            IdempotencyConflictError: the key (or the id) was used for another definition.
            UnreachableError: the state server can't be reached. With a key it is safe to try again.

        """
        return self.handle(self.runtime.submit(workflow, idempotency_key, trace=current_traceparent()))

    def replace(self, workflow: Workflow | Mapping[str, Any], key: str, *, delay_s: float = 0.0) -> WorkflowHandle:
        """Start a workflow in place of those of the same application and key that wait or run: they are cancelled.

        This one begins when the other one has ended and its code, which is told to stop, has returned; what that
        returns is not kept. With `delay_s` it begins that much later, and another call in that time replaces it: of
        a burst of calls, the last one counts. Called again with the same `Workflow`, it changes nothing.

        Args:
            workflow: A `Workflow`, or its definition as JSON has it; its limit of concurrent executions is set by this.
            key: Names the one workflow that may run at a time, such as `user-17`.
            delay_s: How long to wait for another call (s).

        Raises:
            InvalidWorkflowError: the definition, the key or the delay is wrong; the text lists every problem. Nothing
                was changed.
            IdempotencyConflictError: the `Workflow` was started with another definition or key. Nothing was changed.
            UnreachableError: the state server can't be reached. Calling it again with the same `Workflow` is safe.

        """
        replacement = Replacement.of(self.store, workflow, key, delay_s)
        replacement.take_key()
        handle = self.start(replacement.workflow)
        replacement.take_place(lambda workflow_id, by: self.handle(workflow_id).cancel(f"replaced by {by}"))
        return handle

    def start_many(
        self,
        workflows: Iterable[Workflow | Mapping[str, Any]],
        *,
        idempotency_keys: Iterable[str | None] | None = None,
    ) -> Handles:
        """Start several workflows, each for itself.

        Those of a list share round trips, up to 16 at a time; those that come one by one are started one by one.
        Messages that are not sent in the commits go to the broker in one batch at the end.

        Args:
            workflows: Each a `Workflow`, or its definition as JSON has it.
            idempotency_keys: One for each workflow, or None for those that have none. Given these, all workflows are
                taken in before the first is started.

        Raises:
            TypeError: `workflows` is not several of them, or `idempotency_keys` is not several keys.
            ValueError: there are more of one than of the other. Nothing was started.
            InvalidWorkflowError: one is wrong. Those before it are started.
            IdempotencyConflictError: an id was used for another definition. Those before it are started.

        """
        workflows, keys = _paired(workflows, idempotency_keys)
        batch = BatchPublisher(self._publisher)
        runtime = self._runtime(batch)
        handles: Handles = []
        try:
            trace = current_traceparent()
            keyed = zip(workflows, keys, strict=False)
            if isinstance(workflows, Sequence):
                ids = runtime.submissions.many(keyed, trace=trace)
            else:
                ids = (runtime.submit(workflow, key, trace=trace) for workflow, key in keyed)
            handles.extend(map(self.handle, ids))
        finally:
            try:
                batch.flush()
            except QueueError as error:
                logger.warning("%s. The workers publish what is owed as soon as they can.", error)
        return handles

    def handle(self, workflow_id: str) -> WorkflowHandle:
        """Return the handle of a workflow, without any I/O. Raises TypeError: the id is not a text."""
        return WorkflowHandle(self.runtime, workflow_id)

    def get(self, workflow_id: str) -> Workflow:
        """Return a whole workflow as it is now. Raises WorkflowNotFoundError; TypeError: the id is not a text."""
        return self.handle(workflow_id).get()

    def list(
        self,
        *,
        application: str | None = None,
        name: str | None = None,
        status: WorkflowStatus | str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of workflows, newest first.

        Args:
            application: Only those of this application.
            name: Only those of this name.
            status: Only those in this status, given as such or by its name.
            limit: At most this many (count, 1 to 100,000).
            cursor: The cursor of the previous page.

        Raises:
            TypeError: something is not of its type.
            ValueError: there is no such status, no page of that size, or no such cursor.

        """
        texts = {"application": application, "name": name, "cursor": cursor}
        told = {key: None if text is None else checked_text(text, f"list: {key}") for key, text in texts.items()}
        wanted = Filter(told["application"], told["name"], None if status is None else status_named(status))
        page = self.store.listing(wanted, checked_number(limit, "list: limit"), told["cursor"])
        return page_of(page, self.store.dead_letters() if page.items else ())

    @property
    def schedules(self) -> Schedules:
        """The schedules of this namespace: add, list, start, pause, resume and remove them."""
        return Schedules(self.store, self.start)

    def _runtime(self, publisher: Publisher) -> Runtime:
        return Runtime(self.store, TaskRegistry(), publisher, self.settings, "client")


Workflows: TypeAlias = Iterable[Workflow | Mapping[str, Any]]


def _paired(workflows: Workflows, keys: Iterable[str | None] | None) -> tuple[Workflows, Iterable[str | None]]:
    """Return workflows, and a key (or None) for each. Raises TypeError, ValueError."""
    if not _is_several(workflows):
        raise TypeError(f"start_many takes several workflows, such as a list of them, not {shown(workflows)}")
    if keys is None:
        return workflows, repeat(None)
    if not _is_several(keys):
        raise TypeError(f"idempotency_keys must be a list with a key (or None) for each workflow, not {shown(keys)}")
    listed, keys = list(workflows), list(keys)
    if len(listed) != len(keys):
        raise ValueError(
            f"start_many got {len(listed)} workflows and {len(keys)} idempotency_keys; nothing was started"
        )
    return listed, keys


def _is_several(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _publisher_for(settings: Settings) -> Publisher:
    try:
        return ProducerPublisher(settings.broker_url or settings.redis_url, settings, settings.redis_url)
    except ConfigurationError as error:
        if settings.broker_url:
            raise
        return NoBroker(error)
