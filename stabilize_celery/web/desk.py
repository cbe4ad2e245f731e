"""What all requests share: the service, its threads, who listens to Redis; and how a request is read."""

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from types import MappingProxyType
from typing import TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

from stabilize_celery.client import Client
from stabilize_celery.client.listening import Listener
from stabilize_celery.web import bodies
from stabilize_celery.web.answers import BadRequestError
from stabilize_celery.web.service import Service
from stabilize_celery.web.sessions import Caller, Sessions
from stabilize_celery.web.settings import WebSettings

__all__ = ["Desk", "caller_of", "query_of", "user_of"]

R = TypeVar("R")
S = TypeVar("S", bound=msgspec.Struct)


class Desk:
    """One page at work. Close it at the end."""

    def __init__(self, client: Client, settings: WebSettings) -> None:
        self.service = Service(client)
        self.settings = settings
        self.sessions = Sessions(settings)
        self.listener = Listener(client.store)
        self.streams = 0
        """How many streams are open (count)."""
        self._threads = ThreadPoolExecutor(settings.max_threads, thread_name_prefix="stabilize-web")

    async def in_thread(self, function: Callable[[], R], /) -> R:
        """Return what a function that blocks returns; carried out on one of a few threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def close(self) -> None:
        """End all threads."""
        await asyncio.get_running_loop().run_in_executor(None, self.listener.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def body(self, request: Request, kind: type[S]) -> S:
        """Return the body of a request.

        Raises:
            BadRequestError: it is not what is asked for; the text says where and why.
            HTTPException: it is too large.

        """
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self.settings.max_body_bytes:
                told = f"The body is larger than {self.settings.max_body_bytes:,} bytes."
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, told)
            parts.append(part)
        decode = functools.partial(msgspec.json.decode, b"".join(parts) or b"{}", type=kind)
        try:
            # A large definition takes a while.
            return await self.in_thread(decode)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise BadRequestError(f"can't read the body: {error}") from error

    def service_line(self, caller: str, now_ms: int | None = None) -> bodies.Service:
        """Return what this service is, for who asks."""
        return bodies.Service(
            version=self.service.version,
            namespace=self.service.client.settings.namespace,
            user=caller,
            read_only=self.settings.is_read_only,
            asks_for_token=bool(self.settings.token),
            now_ms=round(time.time() * 1000) if now_ms is None else now_ms,
        )


def caller_of(request: Request) -> Caller | None:
    """Return who asks; None: they have not said so."""
    caller: Caller | None = request.state.caller
    return caller


def user_of(request: Request) -> str:
    """Return the name of who asks; empty: they have not said so."""
    caller = caller_of(request)
    return "" if caller is None else caller.name


def query_of(request: Request, kind: type[S], over: Mapping[str, str] = MappingProxyType({})) -> S:
    """Return what stands behind the `?`; what is in `over` wins.

    Raises:
        BadRequestError: there is no such parameter, or its value is not allowed; the text says which.

    """
    names = Counter(name for name, _ in request.query_params.multi_items())
    if several := sorted(name for name, times in names.items() if times > 1):
        raise BadRequestError(f"can't read the query of the address: {', '.join(several)} stands in it more than once")
    try:
        return msgspec.convert({**request.query_params, **over}, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"can't read the query of the address: {error}") from error
