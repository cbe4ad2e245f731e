"""A Celery worker's pool and consumer, as turns see them: whether its processes may take messages, and wait."""

from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from celery.app.defaults import DEFAULTS
from celery.concurrency import prefork

from stabilize_celery.models.messages import RunTask
from stabilize_celery.transport.publish import task_name

__all__ = ["forks", "has_children", "jobs_in", "may_take", "may_wait", "prefetched_per_process", "telling_queues"]


def forks(worker: Any) -> bool:
    """Return whether a worker's pool are forked children."""
    return issubclass(worker.pool_cls, prefork.TaskPool)


def has_children(worker: Any) -> bool:
    """Return whether a worker's pool are forked children, to which its main process listens on an event loop."""
    return forks(worker) and bool(worker.use_eventloop)


def may_take(worker: Any) -> bool:
    """Return whether processes of a worker may take messages after the one that Celery has delivered.

    Not where it replaces a child after so many deliveries: a body may need a process in which no other one has run.
    """
    return not worker.max_tasks_per_child


def may_wait(worker: Any, app: Celery) -> bool:
    """Return whether children of a worker may wait for messages themselves, for longer than one delivery takes.

    Not where Celery counts or clocks what a child does, or starts and stops children by how many deliveries there are:
    a whole turn is one delivery to it.
    """
    if not (has_children(worker) and may_take(worker)):
        return False
    task = app.tasks[task_name(RunTask.__name__)]
    limits = (worker.time_limit, worker.soft_time_limit, task.time_limit, task.soft_time_limit)
    return not any((*limits, worker.max_concurrency))


def jobs_in(pool: Any) -> int:
    """Return how many deliveries a prefork pool has, running or not (count)."""
    # Celery's own lists know no delivery that is done, though its process goes on.
    return len(pool._pool._cache)  # noqa: SLF001 - it tells nobody else


def prefetched_per_process(worker: Any, *, waits: bool) -> int:
    """Return how many messages a worker may have for each of its processes, those that run among them (count).

    What the main process fetched beyond its processes would lie there until a turn, or a long body, ends, while other
    workers have nothing to do. Who has asked for another number than Celery's own gets it, unless children wait.

    Without an event loop (gevent, eventlet) a worker that has all that it may have sleeps up to 2 s in kombu before it
    looks whether it may have more: there the usual number stays, and what it fetched ahead bridges that.
    """
    chosen = int(worker.prefetch_multiplier)
    if waits:
        return 1
    return 1 if worker.use_eventloop and chosen == DEFAULTS["worker_prefetch_multiplier"] else chosen


def telling_queues(consumer: type, tell: Callable[[Sequence[str]], None]) -> type:
    """Return a subclass of a Celery consumer class that tells which queues are consumed, whenever that changes."""
    base: Any = consumer

    class Telling(base):
        def add_task_queue(self, queue: str, *args: Any, **options: Any) -> None:
            super().add_task_queue(queue, *args, **options)
            tell(list(self.app.amqp.queues.consume_from))

        def cancel_task_queue(self, queue: str) -> None:
            super().cancel_task_queue(queue)
            tell(list(self.app.amqp.queues.consume_from))

    return Telling
