"""The ASGI application: the table of endpoints, streams, signing in, and the page's files."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router

from stabilize_celery.client import Client
from stabilize_celery.errors import ConfigurationError, StabilizeError
from stabilize_celery.telemetry.optional import exporter_module
from stabilize_celery.telemetry.tally import Tally
from stabilize_celery.web import bodies
from stabilize_celery.web.answers import on_bug, on_error, on_http_error, reply
from stabilize_celery.web.desk import Desk, query_of, user_of
from stabilize_celery.web.endpoints import ENDPOINTS, Ask, Endpoint
from stabilize_celery.web.files import file_routes
from stabilize_celery.web.following import stream_routes
from stabilize_celery.web.guard import API, HEALTH_PATH, METRICS_PATH, SECURITY_HEADERS, SESSION_PATH, Guard
from stabilize_celery.web.openapi import document
from stabilize_celery.web.queries import NoQuery
from stabilize_celery.web.settings import WebSettings

__all__ = ["make_web_app"]

R = TypeVar("R", Route, Mount)

_NOTHING_COUNTED = Tally()


def make_web_app(client: Client, settings: WebSettings | None = None) -> Starlette:
    """Return the ASGI application of the page and its API; any ASGI server serves it, under any path.

    Args:
        client: Whose workflows are shown. It is not closed with the application.
        settings: Who may see it, who may act. Default: this machine's users, without a token.

    """
    chosen = settings or WebSettings()
    desk = Desk(client, chosen)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await desk.close()

    health = Route(HEALTH_PATH, _healthy, methods=["GET"])
    files, doors = file_routes(), _door_routes(desk)
    api: list[BaseRoute] = [*doors, _service(desk), *stream_routes(desk), *(_route(desk, one) for one in ENDPOINTS)]
    routes = [
        # Nothing is sent on to a path without a last slash: a program that does not follow would take it for an answer.
        _with_breaks(Mount(API, app=Router(api, redirect_slashes=False))),
        health,
        _metrics(desk),
        *files,
    ]
    guard = Middleware(
        Guard, settings=chosen, sessions=desk.sessions, routes=routes, public=[*doors, *files], health=health
    )
    app = Starlette(
        routes=routes,
        middleware=[guard],
        exception_handlers={StabilizeError: on_error, HTTPException: on_http_error, Exception: _on_bug},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def _route(desk: Desk, endpoint: Endpoint) -> Route:
    async def answer(request: Request) -> Response:
        query = query_of(request, endpoint.query)
        body = bodies.Nothing() if request.method == "GET" else await desk.body(request, endpoint.takes)
        ask = Ask(desk.service, request.path_params, query, body, f"{user_of(request)} (web)")
        return reply(await desk.in_thread(lambda: endpoint.answer(ask)), endpoint.status)

    return _with_breaks(Route(endpoint.path, answer, methods=[endpoint.method]))


def _with_breaks(route: R) -> R:
    """Let a path have line breaks in it: a stage is called what its author likes."""
    route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
    return route


def _service(desk: Desk) -> Route:
    async def describe(request: Request) -> Response:
        query_of(request, NoQuery)
        return reply(desk.service_line(user_of(request)))

    return Route("/service", describe, methods=["GET"])


def _door_routes(desk: Desk) -> list[Route]:
    """Return what stands before signing in."""
    cookie = desk.sessions.cookie

    async def sign_in(request: Request) -> Response:
        shown = await desk.body(request, bodies.SignIn)
        if not desk.sessions.is_token(shown.token):
            raise HTTPException(HTTPStatus.UNAUTHORIZED, "That is not the token.")
        answer = reply(desk.service_line("token"))
        value, age_s, is_secure = desk.sessions.made(time.time()), desk.settings.session_s, _is_secure(request, desk)
        answer.set_cookie(cookie, value, max_age=age_s, httponly=True, samesite="strict", secure=is_secure)
        return answer

    async def sign_out(request: Request) -> Response:
        answer = reply(desk.service_line(""))
        answer.delete_cookie(cookie, httponly=True, samesite="strict", secure=_is_secure(request, desk))
        return answer

    async def schema(_: Request) -> Response:
        return JSONResponse(document(desk.service.version), headers={"cache-control": "no-cache"})

    session = SESSION_PATH.removeprefix(API)
    return [
        Route(session, sign_in, methods=["POST"]),
        Route(session, sign_out, methods=["DELETE"]),
        Route("/openapi.json", schema, methods=["GET"]),
    ]


def _is_secure(request: Request, desk: Desk) -> bool:
    peer = request.client.host if request.client else ""
    told = request.headers.get("x-forwarded-proto", "") if peer in desk.settings.trusted_proxies else ""
    return (told.partition(",")[0].strip() or request.url.scheme) == "https"


async def _on_bug(request: Request, error: Exception) -> Response:
    answer = await on_bug(request, error)
    # It is made outside of the guard.
    answer.headers.update(SECURITY_HEADERS)
    return answer


def _metrics(desk: Desk) -> Route:
    async def answer(_: Request) -> Response:
        try:
            exporting = exporter_module("/metrics")
        except ConfigurationError as error:
            raise HTTPException(HTTPStatus.NOT_IMPLEMENTED, str(error)) from error
        text = await desk.in_thread(lambda: exporting.Exporter(_NOTHING_COUNTED, (desk.service.gauges.read,)).text())
        return Response(text, media_type=exporting.CONTENT_TYPE)

    return Route(METRICS_PATH, answer, methods=["GET"])


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("ok\n")
