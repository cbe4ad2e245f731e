"""A server for metrics, which a worker can do without: where its port is taken, it goes on and tries again."""

import logging
import threading
from collections.abc import Callable

from stabilize_celery.errors import ConfigurationError

__all__ = ["Serving"]

logger = logging.getLogger(__name__)

_RETRY_S = 10.0


class Serving:
    """Calls `serve` until it can: at once, and if it can't, again every `retry_s` on a thread, until `close`.

    A missing scrape is less harm than a missing worker: so a port that another worker has is told once, in the log.

    Args:
        serve: Begins to serve, returns the port; raises ConfigurationError if it can't.

    """

    def __init__(self, serve: Callable[[], int], retry_s: float = _RETRY_S) -> None:
        self._serve = serve
        self._retry_s = retry_s
        self._is_closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve, or begin to try."""
        try:
            self._serve()
        except ConfigurationError as error:
            logger.warning("%s. This worker goes on without and tries again every %g s", error, self._retry_s)
            self._thread = threading.Thread(target=self._try, name="stabilize-metrics", daemon=True)
            self._thread.start()

    def close(self, within_s: float = 1.0) -> None:
        """End trying; what is served is for the caller to end."""
        self._is_closed.set()
        self.join(within_s)

    def join(self, within_s: float) -> bool:
        """Wait until it does not try any more; return whether it is so."""
        if self._thread is not None:
            self._thread.join(within_s)
        return self._thread is None or not self._thread.is_alive()

    def _try(self) -> None:
        while not self._is_closed.wait(self._retry_s):
            try:
                port = self._serve()
            except ConfigurationError:
                continue
            logger.warning("metrics are served now: port %d is free", port)
            return
