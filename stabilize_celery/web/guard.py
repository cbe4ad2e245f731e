"""What every request passes: its host, who asks, whether another site made the browser ask, and read-only mode."""

import time
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stabilize_celery.web.answers import problem
from stabilize_celery.web.bodies import Problem
from stabilize_celery.web.sessions import Caller, Sessions
from stabilize_celery.web.settings import WebSettings

__all__ = ["API", "HEALTH_PATH", "METRICS_PATH", "SECURITY_HEADERS", "SESSION_PATH", "Guard"]

API = "/api/v1"
"""Where the API begins."""
SESSION_PATH = f"{API}/session"
"""Where browsers sign in and out."""
HEALTH_PATH = "/healthz"
"""Where it says that it lives; holds no data."""
METRICS_PATH = "/metrics"
"""Where Prometheus reads; asked for like the API."""
_SAFE = ("GET", "HEAD", "OPTIONS")

SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""On every answer: no inline code, no other site's code, no frames."""


class Guard:
    """ASGI middleware. Answers itself what must not pass; tells the rest who asks, in `request.state.caller`.

    It judges by the route that will answer, as the application finds it: so it holds under any path that the
    application is mounted at.

    Args:
        routes: What the application answers. A change that is none of it passes: the application says 404 or 405.
        public: Those of them that hold no data: anybody may ask, and in read-only mode change. All others are closed.
        health: The one that may be asked for under any name.

    """

    def __init__(
        self,
        app: ASGIApp,
        settings: WebSettings,
        sessions: Sessions,
        routes: Sequence[BaseRoute],
        public: Sequence[BaseRoute],
        health: BaseRoute,
    ) -> None:
        self._app = app
        self._routes = routes
        self._public = public
        self._health = health
        self._settings = settings
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._check(scope)
        await (self._app if refused is None else problem(refused))(scope, receive, send_guarded)

    def _check(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        route, has_method = _answering(self._routes, scope)
        # Whoever looks whether it lives, such as Kubernetes, may know only its address.
        for host in () if route is self._health else self._asked_for(headers, _peer(scope)):
            if not self._settings.allows_host(_name_in(host)):
                told = f"this page is not to be asked for as {host!r}; start it with --allow-host to add a name"
                return _refused(HTTPStatus.MISDIRECTED_REQUEST, told)
        caller = self._sessions.caller(headers, _peer(scope), time.time())
        scope.setdefault("state", {})["caller"] = caller
        is_public = route is self._health or any(route is one for one in self._public)
        if caller is None and not is_public:
            told = "Sign in, or send the token: `Authorization: Bearer TOKEN`."
            return _refused(HTTPStatus.UNAUTHORIZED, told)
        if scope["method"] in _SAFE or not has_method:
            return None
        return self._check_change(headers, caller, is_public=is_public)

    def _asked_for(self, headers: Headers, peer: str) -> Iterator[str]:
        """Yield the names that the page was asked for by: the browser's own word, and the proxy's word for it."""
        yield headers.get("host", "")
        if peer in self._settings.proxies:
            yield from _first(headers.get("x-forwarded-host", ""))

    def _check_change(self, headers: Headers, caller: Caller | None, *, is_public: bool) -> Problem | None:
        if (caller is None or caller.is_ambient) and (told := _why_from_elsewhere(headers)):
            return _refused(HTTPStatus.FORBIDDEN, told)
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # A page of another site can't send this type without asking first, and nobody answers that.
            told = "Send JSON: `Content-Type: application/json`, also for an empty body (`{}`)."
            return _refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, told)
        if self._settings.is_read_only and not is_public:
            return _refused(HTTPStatus.FORBIDDEN, "This page is read-only: use the command line, or another page.")
        return None


def _answering(routes: Sequence[BaseRoute], scope: Scope) -> tuple[BaseRoute | None, bool]:
    """Return the route that has this path, and whether it has this method; what holds files is a route, to be read."""
    other: BaseRoute | None = None
    for route in routes:
        match, inside = route.matches(scope)
        if match is Match.FULL:
            if not isinstance(route, Mount):
                return route, True
            return _answering(route.routes, {**scope, **inside}) if route.routes else (route, False)
        if match is Match.PARTIAL:
            other = other or route
    return other, False


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _first(forwarded: str) -> Iterator[str]:
    """Yield what the first of several proxies was asked for, if there is any."""
    if first := forwarded.partition(",")[0].strip():
        yield first


def _name_in(host: str) -> str:
    """Return a host without its port; empty: it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _why_from_elsewhere(headers: Headers) -> str:
    """Return why a request was made by another site's page, in words; empty: it was not.

    No other site can add `X-Forwarded-Host` without asking first, and nobody answers that: whoever sends it is a proxy,
    or a page of an origin that is allowed.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "none") or (site is None and origin is None):
        return ""
    hosts = [headers.get("host", ""), *_first(headers.get("x-forwarded-host", ""))]
    if site is None and origin is not None and _place_in(origin) in hosts:
        return ""
    told = f"The request came from another site: from {origin or site!r} to {' or '.join(map(repr, hosts))}."
    return f"{told} A proxy in front of this page must pass on the Host header, or set X-Forwarded-Host."


def _place_in(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _refused(status: HTTPStatus, told: str) -> Problem:
    return Problem(status.phrase, status, told)
