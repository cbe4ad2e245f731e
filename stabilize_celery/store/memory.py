"""The store in memory: the same commands as against Redis, for tests, simulation and the impatient."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from stabilize_celery.store.command_store import CommandStore
from stabilize_celery.store.keys import DEFAULT_PARTITIONS
from stabilize_celery.store.memory_database import MemoryDatabase
from stabilize_celery.store.vault import PLAIN, Vault
from stabilize_celery.store.wire import Batch, Command, Refused, Reply

__all__ = ["MemoryStore"]


class MemoryStore(CommandStore):
    """A namespace in this process's memory, gone with it.

    Args:
        clock_us: The server's clock: epoch time in us. Expiry and stream ids follow it; waiting for events does not.
        namespace: As of a Redis store; there is one namespace per memory store.
        partitions: Number of partitions (count).
        vault: What stored payloads look like.

    """

    def __init__(
        self,
        clock_us: Callable[[], int] | None = None,
        *,
        namespace: str = "stabilize",
        partitions: int = DEFAULT_PARTITIONS,
        vault: Vault = PLAIN,
    ) -> None:
        super().__init__(_MemoryWire(clock_us or _wall_clock_us), namespace, partitions, vault)


class _MemoryWire:
    url = "memory://"

    def __init__(self, clock_us: Callable[[], int]) -> None:
        self.round_trips = 0
        self._database = MemoryDatabase(clock_us)
        self._changed = threading.Condition()

    is_sharded = False

    def link(self, _key: str) -> "_MemoryLink":
        return _MemoryLink(self)

    def redirected(self, _refused: Refused) -> None:
        """Nothing moves in memory."""

    def scan(self, pattern: str) -> Iterator[bytes]:
        with self._changed:
            found = list(self._database.matching(pattern))
        yield from found

    def survey(self, commands: Sequence[Command]) -> list[list[Reply]]:
        return self.gather([Batch("", commands)])

    def gather(self, batches: Sequence[Batch]) -> list[list[Reply]]:
        with self._changed:
            self.round_trips += 1
            replies = [[self._run(command) for command in batch.commands] for batch in batches]
            if any(command[0] == "XADD" for batch in batches for command in batch.commands):
                self.woken()
            return replies

    def gather_reached(self, batches: Sequence[Batch]) -> list[list[Reply] | None]:
        return [*self.gather(batches)]

    def wait(self, batch: Batch, block_ms: int) -> list[Reply]:
        deadline = time.monotonic() + block_ms / 1000
        with self._changed:
            self.round_trips += 1
            while True:
                replies = [self._run(command) for command in batch.commands]
                left_s = deadline - time.monotonic()
                if any(reply is not None for reply in replies) or left_s <= 0:
                    return replies
                self._changed.wait(left_s)

    def close(self) -> None:
        """Nothing is open."""

    def exchange(self, link: "_MemoryLink", commands: Sequence[Command]) -> list[Reply]:
        with self._changed:
            self.round_trips += 1
            return [link.take(command, self._database) for command in commands]

    def _run(self, command: Command) -> Reply:
        if command[0] in ("INFO", "CONFIG"):
            return Refused("ERR", "there is no server") if command[0] == "CONFIG" else b"redis_version:memory\r\n"
        return self._database.run(command)

    def woken(self) -> None:
        """Wake who waits for events."""
        self._changed.notify_all()


class _MemoryLink:
    """One connection: what it watches, and what it has queued since MULTI."""

    def __init__(self, wire: _MemoryWire) -> None:
        self._wire = wire
        self._watched: dict[bytes, int] = {}
        self._queued: list[Command] | None = None

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        return self._wire.exchange(self, commands)

    def close(self, *, watching: bool) -> None:  # noqa: ARG002 - the connection is not used again
        self._watched.clear()

    def take(self, command: Command, database: MemoryDatabase) -> Reply:
        match command[0]:
            case "WATCH":
                for key in command[1:]:
                    name = str(key).encode()
                    self._watched.setdefault(name, database.touches(name))
                return b"OK"
            case "MULTI":
                self._queued = []
                return b"OK"
            case "EXEC":
                return self._execute(database)
        if self._queued is not None:
            self._queued.append(command)
            return b"QUEUED"
        return database.run(command)

    def _execute(self, database: MemoryDatabase) -> Reply:
        queued, self._queued = self._queued or [], None
        is_dirty = any(database.touches(key) != seen for key, seen in self._watched.items())
        self._watched.clear()
        if is_dirty:
            return None
        replies = [database.run(command) for command in queued]
        self._wire.woken()
        return replies


def _wall_clock_us() -> int:
    return time.time_ns() // 1000
