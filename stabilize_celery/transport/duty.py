"""A background duty of a worker's main process: a thread that survives whatever happens to it."""

import logging
import threading
from collections.abc import Callable

from stabilize_celery.errors import UnreachableError

__all__ = ["Duty"]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 10.0

logger = logging.getLogger(__name__)


class Duty(threading.Thread):
    """Calls `act` again and again, each time after the pause (s) that the last call returned, until `stop`.

    While Redis is away it says so once, tries at growing intervals, and says when it is back. Any other error is
    logged with its traceback, and the duty goes on.

    Args:
        wait: Waits for so many seconds or until woken. Default: until `stop`.
        longest_pause_s: The longest pause after a failure (s).

    """

    def __init__(
        self,
        name: str,
        act: Callable[[], float],
        wait: Callable[[float], object] | None = None,
        *,
        longest_pause_s: float = _LONGEST_PAUSE_S,
    ) -> None:
        super().__init__(name=f"stabilize-{name}", daemon=True)
        self._act = act
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._is_away = False
        self._longest_pause_s = longest_pause_s
        self._pause_s = self._first_pause_s = min(_FIRST_PAUSE_S, longest_pause_s)

    def stop(self) -> None:
        """Ask the thread to end; does not wait for it, nor wake a `wait` of its own."""
        self._stopped.set()

    def run(self) -> None:
        """Do the duty until `stop`."""
        while not self._stopped.is_set():
            self._wait(self.once())

    def once(self) -> float:
        """Act once; return the pause before the next time (s)."""
        try:
            pause_s = self._act()
        except UnreachableError as error:
            if not self._is_away:
                logger.warning("%s: %s It goes on by itself once the server is back.", self.name, error)
            self._is_away = True
            return self._longer_pause()
        except Exception:
            # Not one round may end the thread: without it this worker would look healthy and lose its leases.
            logger.exception("%s: this round failed; the next one comes", self.name)
            return self._longer_pause()
        if self._is_away:
            logger.warning("%s: the server is back", self.name)
        self._is_away, self._pause_s = False, self._first_pause_s
        return pause_s

    def _longer_pause(self) -> float:
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, self._longest_pause_s)
        return pause_s
