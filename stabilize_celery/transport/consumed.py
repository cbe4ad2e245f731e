"""Which queues workers of an app consume, and how."""

import logging
from collections.abc import Sequence

from celery import Celery
from celery.exceptions import QueueNotFound
from kombu.exceptions import SerializerNotInstalled
from kombu.serialization import prepare_accept_content

from stabilize_celery.transport.publish import SUBMIT, queue_named, task_name

__all__ = ["add_queues", "forget_acks", "is_ours_alone", "warn_of_strays"]

_JSON = "application/json"
_SUBMIT = task_name(SUBMIT)

logger = logging.getLogger(__name__)


def add_queues(app: Celery, names: Sequence[str]) -> None:
    """Let workers of the app consume these queues beside those they would anyway; `-Q` and `-X` still choose.

    Says so if such a worker could not read what comes there.
    """
    for name in names:
        app.amqp.queues.select_add(queue_named(app, name))
    _warn_of_content(app)


def _warn_of_content(app: Celery) -> None:
    accepted = app.conf.accept_content
    try:
        # None: all that Celery knows and does not hold dangerous.
        is_readable = accepted is None or _JSON in prepare_accept_content(accepted)  # type: ignore[no-untyped-call]
    except SerializerNotInstalled:
        return  # Celery itself ends the worker, and says why
    if not is_readable:
        logger.error(
            "this worker throws away every message of stabilize, so no workflow moves: its messages are JSON, and the "
            "app's accept_content is %s. Add 'json' to it",
            sorted(accepted),
        )


def warn_of_strays(app: Celery) -> None:
    """Say so if the app's own routes take what its programs submit to a queue that no plain worker of it consumes."""
    try:
        queue = app.amqp.router.route({}, _SUBMIT)["queue"].name
    except QueueNotFound:
        # Who sends is told.
        return
    if queue not in app.amqp.queues.consume_from:
        logger.warning(
            "the app's task_routes send %s to the queue %r, which this worker does not consume: workflows that are "
            "submitted by it wait there. Begin the routes with {%r: {'queue': %r}}, or start a worker with -Q %s",
            _SUBMIT,
            queue,
            _SUBMIT,
            app.conf.task_default_queue,
            queue,
        )


def is_ours_alone(chosen: str | Sequence[str] | None, ours: Sequence[str]) -> bool:
    """Return whether a worker was told to consume queues (as `-Q` takes them), and all of them are ours."""
    names = chosen.split(",") if isinstance(chosen, str) else list(chosen or ())
    return bool(names) and {name.strip() for name in names} <= set(ours)


def forget_acks(app: Celery) -> None:
    """Let workers of the app take messages off a Redis for good: what they lose with them the ledger sends again."""
    app.conf.broker_transport_options = {**(app.conf.broker_transport_options or {}), "ack_emulation": False}
