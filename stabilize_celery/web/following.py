"""The routes of the streams."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

import msgspec
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from stabilize_celery.web.bodies import WorkflowLine
from stabilize_celery.web.desk import Desk, caller_of, query_of
from stabilize_celery.web.queries import BoardQuery, FollowQuery, ListQuery, NoQuery
from stabilize_celery.web.searching import lines_of, list_workflows
from stabilize_celery.web.streams import Board, Follower

__all__ = ["stream_routes"]

_PING_S = 20
_NEWEST = 50
_NEWEST_IN_STATUS = 200
"""Whoever watches one status waits for what comes into it: that may have started long ago."""
_MOST_IDS = 200
_FLEET_S = 2.0
_BOARD_S = 1.0


class Lines(msgspec.Struct):
    """The newest workflows of a list, whether these are all, and how those are that were asked for by id."""

    newest: list[WorkflowLine]
    is_all: bool
    shown: list[WorkflowLine]
    now_ms: int


def stream_routes(desk: Desk) -> list[Route]:
    """Return the routes of all streams."""
    service = desk.service
    board, slow_board = Board(desk.in_thread, _BOARD_S), Board(desk.in_thread, _FLEET_S)

    async def workflow(request: Request) -> Response:
        last = request.headers.get("last-event-id", "")
        wanted = query_of(request, FollowQuery, {"from": last} if last else {})
        await desk.in_thread(service.client.handle(request.path_params["id"]).status)
        follower = Follower(service, desk.listener, desk.in_thread, request.path_params["id"])
        return _Stream(desk, request, follower.follow(wanted.from_id))

    async def workflows(request: Request) -> Response:
        wanted = query_of(request, BoardQuery)
        most = _NEWEST if wanted.status is None else _NEWEST_IN_STATUS
        query = ListQuery(wanted.application, wanted.name, wanted.status, wanted.q, wanted.since_ms, limit=most)
        ids = [one for one in wanted.ids.split(",") if one][:_MOST_IDS]

        def look() -> Lines:
            page = list_workflows(service.client, query)
            return Lines(page.items, page.cursor is None, lines_of(service.client, ids), page.now_ms)

        await desk.in_thread(look)
        return _Stream(desk, request, board.follow(str(request.query_params), "lines", look))

    async def locks(request: Request) -> Response:
        query_of(request, NoQuery)
        return _Stream(desk, request, board.follow("locks", "locks", service.locks))

    async def fleet(request: Request) -> Response:
        query_of(request, NoQuery)
        return _Stream(desk, request, slow_board.follow("fleet", "fleet", service.fleet))

    table: tuple[tuple[str, Callable[[Request], object]], ...] = (
        ("/streams/workflows/{id}", workflow),
        ("/streams/workflows", workflows),
        ("/streams/locks", locks),
        ("/streams/fleet", fleet),
    )
    return [Route(path, endpoint, methods=["GET"]) for path, endpoint in table]


class _Stream(EventSourceResponse):
    """An answer that takes one of the places that there are for live views, for as long as somebody reads it.

    It ends with the session of who asked: they sign in again.
    """

    def __init__(self, desk: Desk, request: Request, events: AsyncIterator[ServerSentEvent]) -> None:
        super().__init__(_with_hello(events), ping=_PING_S, headers={"cache-control": "no-store"}, send_timeout=30)
        self._desk = desk
        caller = caller_of(request)
        self._ends_at_s = None if caller is None else caller.ends_at_s

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Nothing comes between the look and the taking: many that ask at once get no more places than there are.
        if self._desk.streams >= self._desk.settings.max_streams:
            told = (
                f"{self._desk.streams} live views are open, and no more are allowed: close some, or look without them."
            )
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, told)
        self._desk.streams += 1
        try:
            async with asyncio.timeout(None if self._ends_at_s is None else self._ends_at_s - time.time()):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._desk.streams -= 1


async def _with_hello(events: AsyncIterator[ServerSentEvent]) -> AsyncIterator[ServerSentEvent]:
    # Something at once, so that the browser knows that it is through.
    yield ServerSentEvent(comment="hello", retry=2000)
    async for event in events:
        yield event
