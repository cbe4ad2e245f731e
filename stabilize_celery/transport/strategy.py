"""How a worker's main process receives our messages: what is no message is refused before Celery trips over it."""

from collections.abc import Callable
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker import strategy

__all__ = ["readable_only"]


def readable_only(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return Celery's own way to receive a message, after a look at its body.

    Celery 5.7 ends the whole worker over a body such as `5` or nothing at all, and the message goes back to its
    queue, for the next worker to end over.
    """
    receive: Callable[..., Any] = strategy.default(task, app, consumer, **options)

    def receive_readable(message: Any, body: Any, *more: Any, **options: Any) -> Any:
        if not _is_call(message.payload if body is None else body):
            raise InvalidTaskError(f"{task.name}: a body must be [args, kwargs, options]")
        return receive(message, body, *more, **options)

    return receive_readable


def _is_call(body: Any) -> bool:
    """Return whether a body can be one: of protocol 2, or an object of protocol 1, which Celery looks at itself."""
    if isinstance(body, dict):
        return True
    if not isinstance(body, list | tuple) or len(body) != len(("args", "kwargs", "options")):
        return False
    return isinstance(body[0], list | tuple) and isinstance(body[1], dict) and isinstance(body[2], dict | None)
