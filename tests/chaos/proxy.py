"""A network between a worker and its Redis that can be slow, broken or silent: a TCP proxy on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

from tests.servers import free_port

__all__ = ["Proxy"]

_CHUNK = 65_536


class Proxy:
    """Passes on what comes to `port`, in a context manager. Whoever connects meets whatever the network is like now."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.delay_s = 0.0
        """How long each chunk is under way, in each direction (s)."""
        self._target_port = target_port
        self._is_refusing = False
        self._loop = asyncio.new_event_loop()
        self._passes = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it listens, as a Redis URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def drop(self) -> None:
        """Break all connections; new ones are made."""
        self._do(self._drop())

    def refuse(self) -> None:
        """Break all connections, and every new one at once."""
        self._is_refusing = True
        self.drop()

    def partition(self) -> None:
        """Let nothing through, and say nothing: what is sent meanwhile arrives late, if its connection still stands."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def heal(self) -> None:
        """Be a good network again."""
        self._is_refusing = False
        self.delay_s = 0.0
        self._loop.call_soon_threadsafe(self._passes.set)

    def _do(self, what: object) -> None:
        assert asyncio.iscoroutine(what)
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _open(self) -> None:
        self._passes.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _close(self) -> None:
        self._server.close()
        await self._drop()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _drop(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        for one, other in ((reader, far_writer), (far_reader, writer)):
            self._writers.add(other)
            pump = self._loop.create_task(self._pump(one, other))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(_CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._passes.wait()
                writer.write(chunk)
                await writer.drain()
        except OSError:
            # A broken connection is what this is for.
            writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.close()
