"""A limit: the bytes that our runtime sends to Redis, recorded once and sent again, with no code of ours between.

The server is emptied before each replay and goes through the same states again. Reads wait for their answers as the
runtime did: one round trip each.
"""

import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from redis.connection import Connection

from benchmarks.backends import InProcess
from benchmarks.peers.in_process import Alone
from benchmarks.peers.servers import durable_redis
from benchmarks.peers.serving import Answer, Peer, serve
from stabilize_celery import Workflow
from stabilize_celery.store.redis_store import RedisStore

__all__ = ["Replay", "commands_in"]


def commands_in(sent: bytes) -> int:
    """Return how many commands (RESP arrays) a request has: so many answers come."""
    at = count = 0
    while at < len(sent):
        end = sent.index(b"\r\n", at)
        parts, at = int(sent[at + 1 : end]), end + 2
        for _ in range(parts):
            end = sent.index(b"\r\n", at)
            at = end + 2 + int(sent[at + 1 : end]) + 2
        count += 1
    return count


class Replay(Alone):
    """Records a shape in process, in the mode that the argument names, then sends what was recorded."""

    packages: tuple[str, ...] = ("redis", "hiredis")

    def __init__(self, folder: Path, stack: ExitStack, arguments: list[str]) -> None:
        Peer.__init__(self, folder, stack, arguments)
        self.server = stack.enter_context(durable_redis())
        self._mode = arguments[0]
        self._recorded: list[tuple[int, bytes]] | None = None
        self._record_what_is_sent()

    def _record_what_is_sent(self) -> None:
        # What is patched is this process' own: it does nothing but record and replay.
        library: Any = Connection
        plain = library.send_packed_command

        def recording(connection: Connection, command: Any, check_health: bool = True) -> None:
            if self._recorded is not None:
                parts = [command] if isinstance(command, bytes) else list(command)
                request = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
                self._recorded.append((id(connection), request))
            plain(connection, command, check_health)

        library.send_packed_command = recording

    def _run(self, workflows: list[Workflow]) -> Answer:
        requests = self._record(workflows)
        with redis.Redis.from_url(self.server.url) as client:
            keys = client.dbsize()
        self._empty()
        with ExitStack() as stack:
            # One for each that was used: a WATCH belongs to its connection.
            connections = {one: stack.enter_context(self._connection()) for one, _ in requests}
            counted = [(connections[one], request, commands_in(request)) for one, request in requests]
            began = time.perf_counter()
            for connection, request, answers in counted:
                connection.sendall(request)
                _take(connection, answers)
            seconds = time.perf_counter() - began
        with redis.Redis.from_url(self.server.url) as client:
            if client.dbsize() != keys:
                raise RuntimeError(
                    f"the replay left {client.dbsize()} keys, the recording {keys}: nothing was measured"
                )
        commands = sum(answers for _, _, answers in counted)
        return {"seconds": seconds, "round_trips": len(counted), "commands": commands}

    def _empty(self) -> None:
        """Bring the server to where both the recording and the replay begin: a namespace without workflows."""
        with redis.Redis.from_url(self.server.url) as client:
            client.flushall()
        store = RedisStore(self.server.url)
        store.partitions()
        store.close()

    def _connection(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.server.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _record(self, workflows: list[Workflow]) -> list[tuple[int, bytes]]:
        self._empty()
        backend = InProcess(self.server.url, self._mode)
        backend.store.partitions()
        self._recorded = []
        try:
            self.backend = backend
            super()._run(workflows)
            return self._recorded
        finally:
            self._recorded = None
            backend.store.close()


def _take(connection: socket.socket, answers: int) -> None:
    import hiredis  # noqa: PLC0415 - its absence is told by `serve`

    reader = hiredis.Reader()
    while answers:
        reader.feed(connection.recv(1 << 16))
        while answers and (answer := reader.gets()) is not False:
            if isinstance(answer, Exception):
                raise answer
            answers -= 1


if __name__ == "__main__":
    serve(Replay, "hiredis")
