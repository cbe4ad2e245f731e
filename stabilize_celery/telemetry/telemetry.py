"""What a worker has for the people who watch it: observers for each of its processes, a server for its metrics."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from stabilize_celery.runtime.observing import Observer, Observers
from stabilize_celery.settings import JSON, ON, Settings
from stabilize_celery.store.contract import Store
from stabilize_celery.telemetry.counting import CountingObserver
from stabilize_celery.telemetry.fleet_gauges import FleetGauges
from stabilize_celery.telemetry.funnel import Funnel
from stabilize_celery.telemetry.log_lines import LogContext
from stabilize_celery.telemetry.optional import modules_for
from stabilize_celery.telemetry.serving import Serving
from stabilize_celery.telemetry.tally import Count, Tally

__all__ = ["Telemetry"]

logger = logging.getLogger(__name__)

_SEND_S = 3.0
"""How long the end of a process waits for its spans to be sent (s)."""


class Telemetry:
    """Made in a worker's main process before it forks.

    Raises:
        ConfigurationError: a setting asks for what is not installed.

    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tally = Tally()
        self._exporting, self._tracing = modules_for(settings)
        self._funnel = Funnel(self._tally) if settings.metrics_port else None
        self._closing: Sequence[Callable[[], None]] = ()
        self._tracer: Any = None

    @classmethod
    def of(cls, settings: Settings) -> "Telemetry | None":
        """Return what the settings ask for; None: nothing."""
        wanted = settings.metrics_port or settings.traces == ON or settings.log_format == JSON
        return cls(settings) if wanted else None

    def observer(self) -> Observer:
        """Return the observer of this process, which may be a child of the one that made this."""
        observers: list[Observer] = []
        if self._settings.log_format == JSON:
            observers.append(LogContext())
        if self._tracing is not None:
            self._tracer = self._tracing.make_tracing_observer()
            observers.append(self._tracer)
        if self._funnel is not None:
            observers.append(CountingObserver(self._funnel))
        return observers[0] if len(observers) == 1 else Observers(observers)

    def start(
        self,
        store: Store,
        own: Callable[[], Sequence[Count]],
        lengths: Callable[[Sequence[str]], Mapping[str, int]],
        *,
        has_forked: bool,
    ) -> None:
        """Serve metrics, if they are wanted. Called in the main process, after it has forked.

        Where the port can't be had, that is told in the log, and it is tried again until `close`.

        Args:
            store: Where the numbers of the namespace are read.
            own: Returns what the main process itself has counted.
            lengths: Returns how many messages wait in each of some queues.
            has_forked: Whether there are child processes, which tell what they count.

        """
        if self._funnel is None or self._exporting is None:
            return
        settings, gauges = self._settings, FleetGauges(store, self._settings, lengths)
        shown = self._exporting.Exporter(self._tally, (own, gauges.read))
        serving = Serving(partial(shown.serve, settings.metrics_host, settings.metrics_port))
        serving.start()
        if has_forked:
            self._funnel.start()
        self._closing = (serving.close, shown.close, self._funnel.close)

    def send(self) -> None:
        """Send the spans that this process still has, a child of the pool that is about to end."""
        if self._tracer is not None and not self._tracer.send(_SEND_S):
            logger.warning("the last spans of this process are lost: they could not be sent within %g s", _SEND_S)

    def close(self) -> None:
        """End the server. Called in the main process."""
        closing, self._closing = self._closing, ()
        for close in closing:
            close()
