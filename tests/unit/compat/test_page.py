"""The code on docs/migrating.md and docs/async.md, executed."""

import asyncio
from typing import Any

import pytest

from stabilize_celery.client import AsyncClient
from tests.pages import blocks, execute
from tests.unit.client.world import World


def test_the_program_of_the_migration_page_says_hello(capsys: pytest.CaptureFixture[str]) -> None:
    execute(blocks("docs/migrating.md"))

    assert capsys.readouterr().out == "Hello, you!\n"


def test_the_program_for_an_event_loop_approves() -> None:
    names = execute(blocks("docs/async.md"))
    world = World()

    async def story() -> str:
        async with AsyncClient(settings=world.fleet.settings, store=world.fleet.store, publisher=world.fleet) as client:
            status: Any = await names["approve_in_time"](client)
            world.settle()
            return f"{status} {(await client.list()).items[0].status}"

    assert asyncio.run(story()) == "RUNNING SUCCEEDED"


def test_the_fastapi_lifespan_opens_and_closes_a_client(redis_url: str) -> None:
    """Nothing connects before its first use."""
    lifespan = execute(blocks("docs/async.md"))["lifespan"]

    async def story() -> str:
        async with lifespan(object()) as state:
            return type(state["stabilize"]).__name__

    assert asyncio.run(story()) == "AsyncClient"
