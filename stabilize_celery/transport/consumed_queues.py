"""Which queues a worker consumes now: its main process writes that down where its children see it."""

import mmap
import struct
from collections.abc import Sequence

__all__ = ["ConsumedQueues"]

_SIZE = 64 * 1024
_HEAD = struct.Struct("=I")


class ConsumedQueues:
    """The names of the queues that a worker consumes. Made before its children are forked; read by all.

    Args:
        names: Those that it begins with.

    """

    def __init__(self, names: Sequence[str]) -> None:
        self._shared = mmap.mmap(-1, _SIZE)
        self._read: tuple[bytes, tuple[str, ...]] = (b"", ())
        self.set(names)

    def set(self, names: Sequence[str]) -> None:
        """Write down others. More than there is room for, which no worker has, are none."""
        text = "\n".join(names).encode()
        if len(text) > _SIZE - _HEAD.size:
            text = b""
        # The length comes last: who reads meanwhile sees none.
        self._shared[: _HEAD.size] = _HEAD.pack(0)
        self._shared[_HEAD.size : _HEAD.size + len(text)] = text
        self._shared[: _HEAD.size] = _HEAD.pack(len(text))

    def names(self) -> tuple[str, ...]:
        """Return those that it consumes now."""
        (length,) = _HEAD.unpack_from(self._shared)
        text = self._shared[_HEAD.size : _HEAD.size + length]
        if self._read[0] != text:
            self._read = text, tuple(text.decode(errors="replace").split("\n")) if text else ()
        return self._read[1]
