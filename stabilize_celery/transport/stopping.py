"""That a worker was told to stop: its main process knows, and those who wait in its children are to know, too."""

import mmap
import os

__all__ = ["Stopping"]


class Stopping:
    """One bit that a worker's processes share: made before its children are forked."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)
        self._main_pid = os.getpid()

    def begin(self) -> None:
        """Tell all processes that the worker stops."""
        self._shared[0] = 1

    def has_begun(self) -> bool:
        """Whether this process is to end: the worker was told to stop, or its main process is gone."""
        is_child = os.getpid() != self._main_pid
        return self._shared[0] == 1 or (is_child and os.getppid() != self._main_pid)
