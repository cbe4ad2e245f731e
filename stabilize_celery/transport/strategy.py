"""How a worker's main process receives our messages: what is no message is refused before Celery trips over it."""

from collections.abc import Callable
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker import strategy

__all__ = ["readable_only"]

_MAX_NESTING = 320
"""Lists and objects inside each other in a message (levels): what pickle surely manages in a worker's main process."""


def readable_only(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return Celery's own way to receive a message, after a look at its body.

    Celery 5.7 ends the whole worker over a body such as `5` or nothing at all, or one that is nested too deep to be
    handed to a process, and the message goes back to its queue, for the next worker to end over.
    """
    receive: Callable[..., Any] = strategy.default(task, app, consumer, **options)

    def receive_readable(message: Any, body: Any, *more: Any, **options: Any) -> Any:
        found = message.payload if body is None else body
        if not _is_call(found):
            raise InvalidTaskError(f"{task.name}: a body must be [args, kwargs, options]")
        if not _is_flat(found, message.headers):
            raise InvalidTaskError(f"{task.name}: nested deeper than {_MAX_NESTING} levels")
        return receive(message, body, *more, **options)

    return receive_readable


def _is_call(body: Any) -> bool:
    """Return whether a body can be one: of protocol 2, or an object of protocol 1, which Celery looks at itself."""
    if isinstance(body, dict):
        return True
    if not isinstance(body, list | tuple) or len(body) != len(("args", "kwargs", "options")):
        return False
    return isinstance(body[0], list | tuple) and isinstance(body[1], dict) and isinstance(body[2], dict | None)


def _is_flat(*things: Any) -> bool:
    """Return whether lists and objects are inside each other for no more than so many levels."""
    level = [one for one in things if isinstance(one, dict | list | tuple)]
    for _ in range(_MAX_NESTING):
        items = (item for one in level for item in (one.values() if isinstance(one, dict) else one))
        level = [item for item in items if isinstance(item, dict | list | tuple)]
        if not level:
            return True
    return False
