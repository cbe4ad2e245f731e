"""Ending a program warmly: what it has begun is finished. For a `QueueProcessor`; Celery's workers do so themselves."""

import atexit
import logging
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from stabilize_celery.compat.processor import QueueProcessor

__all__ = ["LifecycleManager", "get_lifecycle_manager", "install_shutdown_handlers", "set_lifecycle_manager"]

logger = logging.getLogger("stabilize_celery")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Callback = Callable[[], None]
"""What a program wants done at its end."""


class LifecycleManager:
    """Stops processors at the end of the program, or at SIGTERM or SIGINT, then calls what was registered, in order.

    Args:
        shutdown_timeout: How long all processors together may take to finish what they have begun (s).
        graceful_shutdown_delay: Accepted; nothing is killed.

    """

    def __init__(self, shutdown_timeout: float = 30.0, graceful_shutdown_delay: float = 5.0) -> None:
        self.shutdown_timeout, self.graceful_shutdown_delay = shutdown_timeout, graceful_shutdown_delay
        self._processors: list[QueueProcessor] = []
        self._callbacks: list[Callback] = []
        self._former: dict[signal.Signals, Any] = {}
        self._requested, self._ended = threading.Event(), threading.Event()
        self._ending = threading.Lock()
        self._has_begun = False

    def register_processor(self, processor: QueueProcessor) -> None:
        """Stop this processor, too."""
        if processor not in self._processors:
            self._processors.append(processor)

    def unregister_processor(self, processor: QueueProcessor) -> None:
        """Leave this processor alone."""
        if processor in self._processors:
            self._processors.remove(processor)

    def on_shutdown(self, callback: Callback) -> Callback:
        """Call this when the processors have stopped; a decorator."""
        self._callbacks.append(callback)
        return callback

    def add_shutdown_callback(self, callback: Callback) -> None:
        """Call this when the processors have stopped."""
        self._callbacks.append(callback)

    def install_handlers(self) -> None:
        """End warmly at SIGTERM and SIGINT, and at the end of the program. Signals: from the main thread only."""
        if not self._former:
            self._former = {one: signal.signal(one, self._on_signal) for one in _SIGNALS}
            atexit.register(self.shutdown)

    def uninstall_handlers(self) -> None:
        """Leave signals to who had them before."""
        for one, handler in self._former.items():
            signal.signal(one, handler)
        self._former = {}
        atexit.unregister(self.shutdown)

    @property
    def is_shutdown_requested(self) -> bool:
        """Whether the program was asked to end."""
        return self._requested.is_set()

    @property
    def is_shutdown_in_progress(self) -> bool:
        """Whether the end has begun."""
        return self._has_begun

    def request_shutdown(self) -> None:
        """Take no more messages, and say that the program is to end; `shutdown` does the rest."""
        self._requested.set()
        for processor in list(self._processors):
            processor.request_stop()

    def wait_for_shutdown(self, timeout: float | None = None) -> bool:
        """Wait until the end is over (`timeout` in s); False: it is not yet."""
        return self._ended.wait(timeout)

    def shutdown(self) -> None:
        """Stop the processors, then call what was registered; once. One that raises keeps no other from it."""
        with self._ending:
            if self._has_begun:
                return
            self._has_begun = True
        self.request_shutdown()
        deadline = time.monotonic() + self.shutdown_timeout
        for processor in list(self._processors):
            processor.stop(wait=True, timeout=max(0.0, deadline - time.monotonic()))
        for callback in list(self._callbacks):
            try:
                callback()
            except Exception:
                logger.exception("at the end of the program: %r failed", callback)
        self._ended.set()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        logger.info("%s: finishing what has begun", signal.Signals(number).name)
        if not self._requested.is_set():
            self._requested.set()
            threading.Thread(target=self.shutdown, name="shutdown").start()


_ours: list[LifecycleManager] = []


def get_lifecycle_manager() -> LifecycleManager:
    """Return the one of this process; the first call makes it."""
    if not _ours:
        _ours.append(LifecycleManager())
    return _ours[0]


def set_lifecycle_manager(manager: LifecycleManager) -> None:
    """Let this be the one of this process."""
    _ours[:] = [manager]


def install_shutdown_handlers(shutdown_timeout: float = 30.0, graceful_shutdown_delay: float = 5.0) -> LifecycleManager:
    """Make a manager, let it see to signals, and let it be the one of this process."""
    manager = LifecycleManager(shutdown_timeout, graceful_shutdown_delay)
    manager.install_handlers()
    set_lifecycle_manager(manager)
    return manager
