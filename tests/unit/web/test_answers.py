"""What the API answers: every error by whose fault it is, every stage by its name."""

import asyncio
import json
from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest

from stabilize_celery.errors import (
    CommitConflictError,
    ConcurrencyError,
    IdempotencyConflictError,
    QueueError,
    RecoveryError,
    RefusedError,
    StabilizeError,
    UnreachableError,
    WorkflowNotFoundError,
)
from stabilize_celery.web import make_web_app
from stabilize_celery.web.answers import BadRequestError, NotFoundError, on_error
from stabilize_celery.web.guard import API
from tests.hostile import HOSTILE_NAMES
from tests.unit.client.world import World, gate


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadRequestError("x"), 400),
        (NotFoundError("x"), 404),
        (WorkflowNotFoundError("x"), 404),
        (IdempotencyConflictError("x"), 409),
        (RefusedError("x"), 409),
        (RecoveryError("x"), 500),
        (UnreachableError("it", "redis://here", "look"), 503),
        (QueueError("x"), 503),
        (ConcurrencyError("x"), 503),
        (CommitConflictError("x"), 503),
    ],
)
def test_the_status_says_whose_fault_it_is(error: StabilizeError, status: int) -> None:
    """Who asked (4xx), or what is behind us (5xx); what may go well the next time is 503."""
    answer = asyncio.run(on_error(httpx.Request("GET", "http://x"), error))  # type: ignore[arg-type]

    assert (answer.status_code, json.loads(bytes(answer.body))["status"]) == (status, status)


@pytest.fixture
def ask() -> Callable[..., list[httpx.Response]]:
    """Ask the page of a simulated fleet; in one go, since an application lives in one event loop."""

    def asked(world: World, *requests: tuple[str, str]) -> list[httpx.Response]:
        async def asking() -> list[httpx.Response]:
            transport = httpx.ASGITransport(make_web_app(world.client))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                headers = {"content-type": "application/json"}
                return [await http.request(how, path, content=b"{}", headers=headers) for how, path in requests]

        return asyncio.run(asking())

    return asked


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_stage_is_found_whatever_it_is_called(ask: Callable[..., list[httpx.Response]], name: str) -> None:
    """Slashes, line breaks and what else a path does not have by itself."""
    world = World()
    handle = world.start(gate(name))
    path = f"{API}/workflows/{handle.id}/stages/{quote(name, safe='')}"

    found, skipped = ask(world, ("GET", path), ("POST", f"{path}/skip"))

    assert found.json()["stage"]["ref_id"] == name
    assert skipped.json()["took_effect"] is True
