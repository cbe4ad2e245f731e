"""What every request passes: its host, who asks, whether another site made the browser ask, and read-only mode."""

import time
from collections.abc import Mapping, Sequence
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
_OPEN_PATHS = (SESSION_PATH, f"{API}/openapi.json")
"""What may be asked for without saying who asks; nothing outside of the API and the metrics holds data."""
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

    Args:
        routes: What the application answers. A change that is none of it passes: the application says 404 or 405.

    """

    def __init__(self, app: ASGIApp, settings: WebSettings, sessions: Sessions, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = routes
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
        headers, path = Headers(scope=scope), scope["path"]
        is_proxy = _peer(scope) in self._settings.trusted_proxies
        host = (headers.get("x-forwarded-host", "") if is_proxy else "") or headers.get("host", "")
        # Whoever looks whether it lives, such as Kubernetes, may know only its address.
        if path != HEALTH_PATH and not self._settings.allows_host(urlsplit(f"//{host}").hostname or ""):
            told = f"this page is not to be asked for as {host!r}; start it with --allow-host to add a name"
            return _refused(HTTPStatus.MISDIRECTED_REQUEST, told)
        caller = self._sessions.caller(headers, _peer(scope), time.time())
        scope.setdefault("state", {})["caller"] = caller
        if caller is None and path.startswith((API, METRICS_PATH)) and path not in _OPEN_PATHS:
            told = "Sign in, or send the token: `Authorization: Bearer TOKEN`."
            return _refused(HTTPStatus.UNAUTHORIZED, told)
        if scope["method"] in _SAFE or not _is_answered(self._routes, scope):
            return None
        return self._check_change(headers, host, path, caller)

    def _check_change(self, headers: Headers, host: str, path: str, caller: Caller | None) -> Problem | None:
        if (caller is None or caller.is_ambient) and not _is_from_here(headers, host):
            return _refused(HTTPStatus.FORBIDDEN, "The request came from another site.")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # A page of another site can't send this type without asking first, and nobody answers that.
            told = "Send JSON: `Content-Type: application/json`, also for an empty body (`{}`)."
            return _refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, told)
        if self._settings.is_read_only and path != SESSION_PATH:
            return _refused(HTTPStatus.FORBIDDEN, "This page is read-only: use the command line, or another page.")
        return None


def _is_answered(routes: Sequence[BaseRoute], scope: Scope) -> bool:
    """Whether one of these has this path and this method; what has no routes of its own holds files, to be read."""
    for route in routes:
        match, inside = route.matches(scope)
        if match is Match.FULL:
            return not isinstance(route, Mount) or _is_answered(route.routes, {**scope, **inside})
    return False


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _is_from_here(headers: Headers, host: str) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == host


def _refused(status: HTTPStatus, told: str) -> Problem:
    return Problem(status.phrase, status, told)
