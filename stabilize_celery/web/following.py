"""The routes of the streams."""

from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

import msgspec
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stabilize_celery.web.bodies import WorkflowLine
from stabilize_celery.web.desk import Desk, query_of
from stabilize_celery.web.queries import BoardQuery, FollowQuery, ListQuery, NoQuery
from stabilize_celery.web.searching import lines_of, list_workflows
from stabilize_celery.web.streams import Board, Follower

__all__ = ["stream_routes"]

_PING_S = 20
_NEWEST = 50
_MOST_IDS = 200
_FLEET_S = 2.0
_BOARD_S = 1.0


class Lines(msgspec.Struct):
    """The newest workflows of a list, and how those are that were asked for by id."""

    newest: list[WorkflowLine]
    shown: list[WorkflowLine]
    now_ms: int


def stream_routes(desk: Desk) -> list[Route]:
    """Return the routes of all streams."""
    service = desk.service
    board, slow_board = Board(desk.in_thread, _BOARD_S), Board(desk.in_thread, _FLEET_S)

    async def workflow(request: Request) -> Response:
        wanted = query_of(request, FollowQuery)
        await desk.in_thread(service.client.handle(request.path_params["id"]).status)
        position = request.headers.get("last-event-id", "") or wanted.from_id
        position = msgspec.convert({"from": position}, FollowQuery).from_id
        follower = Follower(service, desk.listener, desk.in_thread, request.path_params["id"])
        return _stream(desk, follower.follow(position))

    async def workflows(request: Request) -> Response:
        wanted = query_of(request, BoardQuery)
        query = ListQuery(wanted.application, wanted.name, wanted.status, wanted.q, limit=_NEWEST)
        ids = [one for one in wanted.ids.split(",") if one][:_MOST_IDS]

        def look() -> Lines:
            page = list_workflows(service.client, query)
            return Lines(page.items, lines_of(service.client, ids), page.now_ms)

        await desk.in_thread(look)
        return _stream(desk, board.follow(str(request.query_params), "lines", look))

    async def locks(request: Request) -> Response:
        query_of(request, NoQuery)
        return _stream(desk, board.follow("locks", "locks", service.locks))

    async def fleet(request: Request) -> Response:
        query_of(request, NoQuery)
        return _stream(desk, slow_board.follow("fleet", "fleet", service.fleet))

    table: tuple[tuple[str, Callable[[Request], object]], ...] = (
        ("/streams/workflows/{id}", workflow),
        ("/streams/workflows", workflows),
        ("/streams/locks", locks),
        ("/streams/fleet", fleet),
    )
    return [Route(path, endpoint, methods=["GET"]) for path, endpoint in table]


def _stream(desk: Desk, events: AsyncIterator[ServerSentEvent]) -> Response:
    if desk.streams >= desk.settings.max_streams:
        told = f"{desk.streams} live views are open, and no more are allowed: close some, or look without them."
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, told)

    async def counted() -> AsyncIterator[ServerSentEvent]:
        desk.streams += 1
        try:
            # Something at once, so that the browser knows that it is through.
            yield ServerSentEvent(comment="hello", retry=2000)
            async for event in events:
                yield event
        finally:
            desk.streams -= 1

    return EventSourceResponse(counted(), ping=_PING_S, headers={"cache-control": "no-store"}, send_timeout=30)
