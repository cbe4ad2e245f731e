"""Acknowledgements that a broker refuses for a while are given again: docs/decisions/008.

A Redis that is a read-only replica for a moment, or that can't write to its disk, refuses them on a connection that
holds. Celery would log that and go on, and kombu still counts the message as unacknowledged: after as many of them as
a worker may have at once it takes no more, until somebody restarts it.
"""

from collections.abc import Callable
from typing import Any

from celery.utils.log import get_logger

__all__ = ["give_again_what_is_refused"]

_AGAIN_S = 1.0

logger = get_logger(__name__)

Errors = tuple[type[BaseException], ...]
Later = Callable[[float, Callable[[], None]], object]


def give_again_what_is_refused(message: Any, refusals: Errors, later: Later) -> None:
    """Let a kombu message's acknowledgement, or rejection, be tried again until the broker takes it.

    A connection that breaks ends that: who connects anew begins to count anew.

    Args:
        message: As the consumer has received it.
        refusals: What the broker raises that refuses something.
        later: Calls a function after so many seconds, on the consumer's thread.

    """
    for name in ("ack_log_error", "reject_log_error"):
        setattr(message, name, _persistent(message, getattr(message, name), refusals, later))


def _persistent(message: Any, give: Callable[..., None], refusals: Errors, later: Later) -> Callable[..., None]:
    def first(log: Any, errors: Errors, *arguments: Any, **options: Any) -> None:
        others = tuple(error for error in errors if error not in refusals)

        def again() -> None:
            if not message.channel.closed and not message.acknowledged and refused() is not None:
                later(_AGAIN_S, again)

        def refused() -> BaseException | None:
            try:
                give(log, others, *arguments, **options)
            except refusals as error:
                return error
            return None

        if (error := refused()) is not None:
            logger.warning("the broker refuses to hear that a message is done: %s. It is told again", error)
            later(_AGAIN_S, again)

    return first
