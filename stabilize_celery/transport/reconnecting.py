"""A Celery consumer that outlives its Redis: docs/decisions/008 has what makes a stock one end its worker.

Celery lets go of a broken connection by closing its channels twice, and forgets in between where the server is. A
channel of kombu's Redis transport whose answer is outstanding does not close at the first try; at the second it looks
for the server, finds none, and the AttributeError ends the worker.
"""

from collections.abc import Callable
from typing import Any

from celery.utils.imports import symbol_by_name
from celery.utils.log import get_logger
from celery.utils.threads import bound_open_broker_sockets

from stabilize_celery.transport.acknowledging import give_again_what_is_refused

__all__ = ["close_channels", "reconnecting"]

_SOCKET_TIMEOUT_S = 5.0
"""How long a server that went silent may hold up the closing (s); as Celery's own COLLECT_SOCKET_TIMEOUT."""
_TRIES = 2

logger = get_logger(__name__)


def reconnecting(consumer: Any) -> type:
    """Return a subclass of a Celery consumer class (or of the one that a name stands for) that mends this.

    Args:
        consumer: As in the setting `worker_consumer`.

    """
    base: type = symbol_by_name(consumer)

    class Reconnecting(base):
        connection_errors: tuple[type[BaseException], ...]
        timer: Any

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._refusals = _refusals(self)
            self.connection_errors = (*self.connection_errors, *self._refusals)

        def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
            receive: Callable[[Any], Any] = super().create_task_handler(*arguments, **options)
            if not self._refusals:
                return receive

            def receive_persistently(message: Any) -> Any:
                give_again_what_is_refused(message, self._refusals, self.timer.call_after)
                return receive(message)

            return receive_persistently

        def on_connection_error_after_connected(self, exc: BaseException) -> None:
            if isinstance(exc, self._refusals):
                # Celery tells its class only, and people have to know what is refused.
                logger.error("the broker refuses what this worker asks of it: %s", exc)
            bound_open_broker_sockets(self.connection, _SOCKET_TIMEOUT_S)
            close_channels(self.connection)
            super().on_connection_error_after_connected(exc)

    return Reconnecting


def close_channels(connection: Any) -> None:
    """Close the channels of a broken connection while it still knows where its server is; failures do not matter."""
    for channel in list(getattr(connection.transport, "channels", None) or ()):
        for _ in range(_TRIES):
            try:
                channel.close()
            except Exception as error:  # noqa: BLE001 - the server is away; whatever that leads to, we go on
                logger.debug("closing %r: %r", channel, error)
            else:
                break


def _refusals(consumer: Any) -> tuple[type[BaseException], ...]:
    """Return what a Redis raises that is full, or not the master any more: Celery would end the worker over it."""
    transport = consumer.app.connection_for_read().transport
    return tuple(consumer.channel_errors) if transport.driver_type == "redis" else ()
