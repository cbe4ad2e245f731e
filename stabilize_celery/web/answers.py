"""Answers: typed values as JSON, errors as problems (RFC 9457) with the words of the typed errors."""

import logging
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stabilize_celery.errors import (
    EngineError,
    IdempotencyConflictError,
    QueueError,
    RecoveryError,
    RefusedError,
    StabilizeError,
    TransientError,
    UnreachableError,
    WorkflowNotFoundError,
)
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.web.bodies import Problem, ProblemLine

__all__ = ["BadRequestError", "NotFoundError", "on_bug", "on_error", "on_http_error", "problem", "reply"]

logger = logging.getLogger("stabilize_celery.web")

_STATUSES: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    # The first that fits.
    (WorkflowNotFoundError, HTTPStatus.NOT_FOUND),
    (IdempotencyConflictError, HTTPStatus.CONFLICT),
    (RefusedError, HTTPStatus.CONFLICT),
    (InvalidWorkflowError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (UnreachableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (QueueError, HTTPStatus.SERVICE_UNAVAILABLE),
    (TransientError, HTTPStatus.SERVICE_UNAVAILABLE),
    (RecoveryError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
_MOST_PROBLEMS = 200


class BadRequestError(StabilizeError):
    """What was sent can't be read; the text says where and why."""


class NotFoundError(StabilizeError):
    """There is no such thing; the text says which and where to look."""


def reply(value: msgspec.Struct, status: int = HTTPStatus.OK) -> Response:
    """Return a value as JSON; what changes is never kept by anybody on the way."""
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


def problem(told: Problem) -> Response:
    """Return an error as a problem document."""
    headers = {"cache-control": "no-store"}
    if told.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="stabilize-celery"'
    return Response(msgspec.json.encode(told), told.status, headers, media_type="application/problem+json")


async def on_error(_: Request, error: Exception) -> Response:
    """Return a typed error in its own words."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)
    if isinstance(error, NotFoundError):
        status = HTTPStatus.NOT_FOUND
    text = str(error)
    told = Problem(status.phrase, status, text[:1].upper() + text[1:])
    if isinstance(error, EngineError):
        told.code = error.code
    if isinstance(error, InvalidWorkflowError):
        lines = [ProblemLine(one.path, one.message, one.code) for one in error.problems[:_MOST_PROBLEMS]]
        told.problems = lines
    return problem(told)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Return an error of the framework: no such path, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
    found = problem(Problem(HTTPStatus(error.status_code).phrase, error.status_code, error.detail))
    found.headers.update(error.headers or {})
    return found


async def on_bug(request: Request, error: Exception) -> Response:
    """Return that something is wrong here; what it is stands in the log and nowhere else."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    told = "This is a defect of the page; its log has the traceback."
    return problem(Problem(HTTPStatus.INTERNAL_SERVER_ERROR.phrase, HTTPStatus.INTERNAL_SERVER_ERROR, told))
