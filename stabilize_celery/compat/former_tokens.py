"""Cancellation tokens by the id of a task, for code that makes and raises them itself.

The tokens of tasks that a workflow runs are the engine's: they are raised when the stage or its workflow is cancelled,
in whichever process it runs, and `cancel_task` knows nothing of them.
"""

from stabilize_celery.tasks.binding import Binding
from stabilize_celery.tasks.cancellation import CancellationToken, bind_token

__all__ = [
    "bind_current_token",
    "cancel_task",
    "get_token",
    "register_token",
    "reset_cancellation_state",
    "reset_current_token",
    "unregister_token",
]

_TOKENS: dict[str, CancellationToken] = {}


def register_token(task_id: str) -> CancellationToken:
    """Return the token of an id, made if there is none."""
    return _TOKENS.setdefault(task_id, CancellationToken())


def get_token(task_id: str) -> CancellationToken | None:
    """Return the token that was registered for an id."""
    return _TOKENS.get(task_id)


def unregister_token(task_id: str) -> None:
    """Forget the token of an id."""
    _TOKENS.pop(task_id, None)


def cancel_task(task_id: str) -> bool:
    """Raise the token that was registered for an id. False: there is none, as for a task that a workflow runs."""
    token = _TOKENS.get(task_id)
    if token is not None:
        token.cancel()
    return token is not None


def bind_current_token(token: CancellationToken | None) -> Binding[CancellationToken | None]:
    """Make a token the one that the code of this thread looks at, until `reset_current_token`."""
    bound = bind_token(token)
    bound.__enter__()
    return bound


def reset_current_token(handle: Binding[CancellationToken | None]) -> None:
    """Look at the token of before again."""
    handle.__exit__(None, None, None)


def reset_cancellation_state() -> None:
    """Forget all tokens that were registered."""
    _TOKENS.clear()
