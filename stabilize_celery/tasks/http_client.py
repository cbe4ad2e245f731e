"""One HTTP request over the standard library: guarded addresses, redirects followed, the body read in pieces."""

import http.client
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import quote, urljoin, urlsplit

from typing_extensions import override

from stabilize_celery.errors import PermanentError, redact_url
from stabilize_celery.tasks.http_guard import connect

__all__ = ["Answer", "Body", "Request", "exchange"]

_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BECOMES_GET = frozenset({301, 302, 303})
_URL_SAFE = "%/:=&?~+!$,;'@()*[]"
_CHUNK = 65_536
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PRIVATE_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body of `length` bytes; `chunks` starts from its beginning each time it is called."""

    content_type: str
    length: int
    chunks: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to ask; `timeout_s` is how long the server may be silent, `secrets` never leave the first origin."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Body | None
    timeout_s: float
    tls: ssl.SSLContext
    allow_private: bool
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from `url`, the last after redirects; the body can be read once."""

    status: int
    headers: http.client.HTTPMessage
    url: str
    chunks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class _Origin:
    scheme: str
    host: str
    port: int


class _Connection(http.client.HTTPConnection):
    """A connection to a guarded address, with TLS where the origin's scheme says so."""

    def __init__(self, origin: _Origin, request: Request) -> None:
        super().__init__(origin.host, origin.port, timeout=request.timeout_s)
        self.default_port = _DEFAULT_PORTS[origin.scheme]
        self._origin, self._request = origin, request

    @override
    def connect(self) -> None:
        origin, request = self._origin, self._request
        plain = connect(origin.host, origin.port, request.timeout_s, allow_private=request.allow_private)
        if origin.scheme == "http":
            self.sock = plain
            return
        try:
            self.sock = request.tls.wrap_socket(plain, server_hostname=origin.host)
        except BaseException:
            plain.close()
            raise


@contextmanager
def exchange(request: Request) -> Iterator[Answer]:
    """Send the request, follow its redirects, and give the last answer, open while the block lasts.

    Raises:
        PermanentError: the URL is none that can be asked, or there are too many redirects.
        AddressRefusedError: a host on the way is not public.
        OSError, http.client.HTTPException: no answer, or a broken one.

    """
    for _ in range(_MAX_REDIRECTS + 1):
        origin, target = _parse(request.url)
        connection = _Connection(origin, request)
        try:
            response = _ask(connection, request, target)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                yield Answer(response.status, response.headers, request.url, _chunks(response))
                return
            request = _redirected(request, origin, response.status, location)
        finally:
            connection.close()
    raise PermanentError(f"more than {_MAX_REDIRECTS} redirects, the last to {request.url}")


def _parse(url: str) -> tuple[_Origin, str]:
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError:
        # Its text may show a part of a password that is not escaped.
        raise PermanentError(
            f"{redact_url(url)!r} is not a URL that can be asked: its host or its port can't be one"
        ) from None
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise PermanentError(
            f"{redact_url(url)!r} is not a URL that can be asked: it must start with http:// or https:// and a host"
        )
    if "@" in parts.netloc:
        raise PermanentError("the URL has a user name in it; give `auth` or `bearer_token` instead")
    target = quote(parts.path or "/", safe=_URL_SAFE) + (
        f"?{quote(parts.query, safe=_URL_SAFE)}" if parts.query else ""
    )
    return _Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]), target


def _ask(connection: _Connection, request: Request, target: str) -> http.client.HTTPResponse:
    headers = dict(request.headers)
    given = {name.lower() for name in headers}
    if request.body is not None:
        headers["Content-Length"] = str(request.body.length)
        if "content-type" not in given and request.body.content_type:
            headers["Content-Type"] = request.body.content_type
    elif request.method in {"POST", "PUT", "PATCH"}:
        headers["Content-Length"] = "0"
    if "user-agent" not in given:
        headers["User-Agent"] = "stabilize-celery"
    connection.request(request.method, target, None if request.body is None else request.body.chunks(), headers)
    return connection.getresponse()


def _redirected(request: Request, origin: _Origin, status: int, location: str) -> Request:
    url = urljoin(request.url, location)
    becomes_get = status in _BECOMES_GET and request.method not in {"GET", "HEAD"}
    headers = request.headers
    if _parse(url)[0] != origin:
        headers = {name: value for name, value in headers.items() if not _is_private(name, value, request.secrets)}
    if becomes_get:
        headers = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
        return replace(request, url=url, headers=headers, method="GET", body=None)
    return replace(request, url=url, headers=headers)


def _is_private(name: str, value: str, secrets: tuple[str, ...]) -> bool:
    return name.lower() in _PRIVATE_HEADERS or any(secret in value for secret in secrets)


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := response.read(_CHUNK):
        yield chunk
