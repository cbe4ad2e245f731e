"""Server-sent events: a workflow as its event stream tells it; list, locks and fleet as they are looked at.

Redis tells what happens to a workflow, so following one waits for that and polls nothing. It does not tell of new
workflows, locks and workers: those are looked at about once a second while somebody watches, once for all who do.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
from sse_starlette import ServerSentEvent

from stabilize_celery.client.events import WorkflowEvent, event_of
from stabilize_celery.client.listening import Listener
from stabilize_celery.errors import StabilizeError, WorkflowNotFoundError
from stabilize_celery.web.bodies import EventLine, StageLine
from stabilize_celery.web.service import Service
from stabilize_celery.web.shapes import event_line

__all__ = ["Board", "Change", "Follower", "InThread"]

R = TypeVar("R")

_QUIET_S = 10.0
"""So long nothing may happen before it is looked whether the workflow still exists, and Redis still answers."""
_TOGETHER_S = 0.08
"""What happens within this time is told together."""
_SHARE = 3
"""Reading takes at most one part in so many, plus one, of the time."""
_MOST_STAGES = 2_000
_MOST_EVENTS = 200
_BATCH = 1_000
_BEGINNINGS = ("workflow.created", "workflow.started")
"""What changes no more than the stages that it is told of."""
_AWAY_S = 2.0


class InThread(Protocol):
    """Runs a function that blocks on one of the service's threads."""

    def __call__(self, function: Callable[[], R], /) -> Awaitable[R]:
        """Return what the function returns."""
        ...


class Change(msgspec.Struct):
    """What is new about a workflow. `told`: what happened, oldest first; `left_out`: how many more there were."""

    status: str
    stages: list[StageLine]
    told: list[EventLine]
    left_out: int


class Follower:
    """Follows one workflow from a position in its history."""

    def __init__(self, service: Service, listener: Listener, in_thread: InThread, workflow_id: str) -> None:
        self._service = service
        self._listener = listener
        self._in_thread = in_thread
        self._id = workflow_id

    async def follow(self, position: str) -> AsyncIterator[ServerSentEvent]:
        """Yield what changes, until the workflow is gone or nobody reads any more."""
        pause_s = _TOGETHER_S
        is_away = False
        while True:
            try:
                if is_away:
                    await self._in_thread(self._service.client.handle(self._id).status)
                    is_away = False
                    yield ServerSentEvent("{}", event="back")
                found = await self._next(position)
                if not found:
                    await self._in_thread(self._service.client.handle(self._id).status)
                    continue
                await asyncio.sleep(pause_s)
                found += await self._in_thread(partial(self._since, found[-1].id))
                began = time.monotonic()
                position = found[-1].id
                yield await self._told(found, position)
                pause_s = max(_TOGETHER_S, _SHARE * (time.monotonic() - began))
            except WorkflowNotFoundError:
                yield ServerSentEvent("{}", event="gone")
                return
            except StabilizeError as error:
                is_away = True
                yield _sent("away", {"detail": str(error)})
                await asyncio.sleep(_AWAY_S)

    async def _next(self, position: str) -> list[WorkflowEvent]:
        """Return what happened after a position; nothing if that takes too long."""
        loop = asyncio.get_running_loop()
        future = await self._in_thread(lambda: self._listener.want(self._id, position, loop))
        try:
            return [event_of(stored) for stored in await asyncio.wait_for(future, _QUIET_S)]
        except TimeoutError:
            return []

    def _since(self, position: str) -> list[WorkflowEvent]:
        stored = self._service.store.events(self._id, position, None, 20 * _BATCH)
        return [event_of(one) for one in stored]

    async def _told(self, found: list[WorkflowEvent], position: str) -> ServerSentEvent:
        refs = {event.ref_id for event in found if event.ref_id}
        is_whole = len(refs) > _MOST_STAGES or any(
            event.kind.startswith("workflow.") and event.kind not in _BEGINNINGS for event in found
        )
        if is_whole:
            # Stages that nothing happened to change, too: they won't be reached, or they begin anew.
            return ServerSentEvent("{}", event="reload", id=position)
        status, stages = await self._in_thread(lambda: self._service.changed(self._id, refs))
        told = [event_line(event) for event in found[-_MOST_EVENTS:]]
        return _sent("change", Change(status, stages, told, len(found) - len(told)), position)


def _sent(kind: str, value: Any, position: str | None = None) -> ServerSentEvent:
    return ServerSentEvent(msgspec.json.encode(value).decode(), event=kind, id=position)


class Board:
    """Looks at things that nobody tells of; once per interval, for all who watch the same."""

    def __init__(self, in_thread: InThread, every_s: float) -> None:
        self._in_thread = in_thread
        self._every_s = every_s
        self._seen: dict[str, tuple[float, asyncio.Task[msgspec.Struct]]] = {}

    async def follow(
        self, key: str, kind: str, look: Callable[[], msgspec.Struct], volatile: tuple[str, ...] = ("now_ms",)
    ) -> AsyncIterator[ServerSentEvent]:
        """Yield what `look` returns, first as it is and then when it differs other than in its `volatile` fields."""
        before: object = None
        while True:
            try:
                value = await self._look(key, look)
            except StabilizeError as error:
                # It is told again how it is, though nothing may have changed: so it is seen that somebody looks.
                before = None
                yield _sent("away", {"detail": str(error)})
                await asyncio.sleep(_AWAY_S)
                continue
            lasting = {name: item for name, item in msgspec.structs.asdict(value).items() if name not in volatile}
            if lasting != before:
                before = lasting
                yield _sent(kind, value)
            await asyncio.sleep(self._every_s)

    async def _look(self, key: str, look: Callable[[], msgspec.Struct]) -> msgspec.Struct:
        now = time.monotonic()
        self._seen = {name: item for name, item in self._seen.items() if now < item[0] or not item[1].done()}
        if key not in self._seen:

            async def looking() -> msgspec.Struct:
                return await self._in_thread(look)

            self._seen[key] = (now + 0.9 * self._every_s, asyncio.create_task(looking()))
        # Who stops watching must not end the look that others wait for.
        return await asyncio.shield(self._seen[key][1])
