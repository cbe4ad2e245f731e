"""AsyncClient: the client's names in an event loop, and waiting that costs no thread for each who waits."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from stabilize_celery import InvalidWorkflowError
from stabilize_celery.client import AsyncClient, AsyncSchedules, AsyncWorkflowHandle, Client, WorkflowHandle
from stabilize_celery.client.schedules import Schedules
from stabilize_celery.errors import UnreachableError, WorkflowNotFoundError
from stabilize_celery.models.definition import to_definition
from stabilize_celery.models.schedule import Schedule
from stabilize_celery.models.status import WorkflowStatus
from tests.integration.fleet import eventually
from tests.servers import RedisServer
from tests.unit.client.world import World, gate, stage, workflow


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story in an event loop that must not be blocked for long by anything in it."""

    async def timed() -> None:
        async with asyncio.timeout(60):
            await story()

    asyncio.run(timed())


@pytest.mark.parametrize(
    ("its", "other"),
    [(AsyncClient, Client), (AsyncWorkflowHandle, WorkflowHandle), (AsyncSchedules, Schedules)],
)
def test_it_has_the_names_and_parameters_of_the_client(its: type, other: type) -> None:
    """Whoever knows one knows the other."""

    def shape(kind: type) -> dict[str, list[tuple[str, Any, Any]]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        public = {name: method for name, method in methods if not name.startswith("_")}
        return {
            name: [(one.name, one.kind, one.default) for one in inspect.signature(method).parameters.values()]
            for name, method in public.items()
        }

    assert shape(its) == shape(other)


def test_a_workflow_from_start_to_end() -> None:
    """Start, look, act, wait, list and read back; nothing of it blocks the loop's thread."""
    world = World()

    async def story() -> None:
        async with AsyncClient(settings=world.fleet.settings, store=world.fleet.store, publisher=world.fleet) as client:
            handle = await client.start(workflow(gate(), stage("after", "gate"), name="async"), idempotency_key="once")
            assert (
                await client.start(workflow(gate(), stage("after", "gate"), name="async"), idempotency_key="once")
                == handle
            )
            assert len(await client.start_many([workflow(stage("a")), workflow(stage("b"))])) == 2
            world.settle()
            assert await handle.status() is WorkflowStatus.RUNNING
            assert "approve" in str((await handle.why())[0])
            assert not await handle.signal("after", "approve", transient=True)
            assert await client.handle(handle.id).signal("gate", "approve", {"by": "me"})
            world.settle()
            ended = await handle.wait(timeout_s=10)
            assert ended.status is WorkflowStatus.SUCCEEDED
            assert (await client.get(handle.id)).id == handle.id
            assert [line.name for line in (await client.list(name="async")).items] == ["async"]
            kinds = [event.kind async for event in handle.events()]
            assert kinds[0] == "workflow.created"
            assert "workflow.succeeded" in kinds

    run(story)


def test_a_schedule_is_started_now() -> None:
    """Beside its times, which stay as they are, by either client; an unknown one starts nothing."""
    world = World()

    async def story() -> None:
        async with AsyncClient(settings=world.fleet.settings, store=world.fleet.store, publisher=world.fleet) as client:
            kept = await client.schedules.add(
                Schedule(name="nightly", definition=to_definition(workflow(stage("a"))), cron="0 3 * * *")
            )
            started = await client.schedules.start("nightly")
            assert started is not None
            world.settle()
            assert (await started.wait(10)).trigger.type == "schedule"
            assert await client.schedules.start("daily") is None
            assert await client.schedules.get("nightly") == kept

    run(story)
    with Client(settings=world.fleet.settings, store=world.fleet.store, publisher=world.fleet) as client:
        started = client.schedules.start("nightly")
        assert started is not None
        assert started.status() is not None


def test_errors_are_those_of_the_client() -> None:
    """A bad definition, an unknown id, time that runs out."""
    world = World()

    async def story() -> None:
        async with AsyncClient(settings=world.fleet.settings, store=world.fleet.store, publisher=world.fleet) as client:
            with pytest.raises(InvalidWorkflowError, match="duplicate"):
                await client.start({"application": "a", "name": "n", "stages": [{"ref_id": "x"}, {"ref_id": "x"}]})
            for call in (client.get, lambda name: client.handle(name).wait(5)):
                with pytest.raises(WorkflowNotFoundError):
                    await call("nobody")
            with pytest.raises(WorkflowNotFoundError):
                _ = [event async for event in client.handle("nobody").events(follow=True)]
            waiting = await client.start(workflow(gate()))
            world.settle()
            with pytest.raises(TimeoutError, match=f"{waiting.id}.*why"):
                await waiting.wait(timeout_s=0.05)

    run(story)


def test_many_wait_at_once_on_a_few_threads(redis_url: str) -> None:
    """200 waits and 20 followers, each woken by its own workflow's end; the loop goes on meanwhile."""

    async def story() -> None:
        before = threading.active_count()
        async with AsyncClient(redis_url, threads=4) as client:
            handles = await client.start_many([workflow(gate(), name=f"n{at}") for at in range(200)])
            waits = [asyncio.create_task(handle.wait()) for handle in handles]
            follows = [asyncio.create_task(_kinds(handle)) for handle in handles[:20]]
            await asyncio.sleep(0)
            for handle in reversed(handles):
                assert await handle.cancel("enough")
            ended = await asyncio.gather(*waits)
            assert {one.status for one in ended} == {WorkflowStatus.CANCELED}
            assert [one.id for one in ended] == [handle.id for handle in handles]
            for kinds in await asyncio.gather(*follows):
                assert kinds[0] == "workflow.created"
                assert kinds.count("workflow.canceled") == 1
            assert threading.active_count() - before <= 4 + 16

    run(story)


async def _kinds(handle: AsyncWorkflowHandle) -> list[str]:
    return [event.kind async for event in handle.events(follow=True)]


def _listeners() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("stabilize-listener")]


def test_who_waits_hears_of_the_end_at_once(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when another of the same partition has been waiting for long: nothing polls."""
    monkeypatch.setattr("stabilize_celery.client.listening._BLOCK_MS", 3_600_000)
    monkeypatch.setattr("stabilize_celery.client.following._BLOCK_S", 3_600)

    async def story() -> None:
        async with AsyncClient(redis_url) as client:
            first = await client.start(workflow(gate()))
            early = asyncio.create_task(first.wait())
            await asyncio.to_thread(eventually, _listeners)
            second = first
            while (
                client._client.store.partition_of(second.id) != client._client.store.partition_of(first.id)
                or second == first
            ):
                second = await client.start(workflow(gate()))
            late = asyncio.create_task(second.wait())
            wishes = client._line._own.listener._wishes
            await asyncio.to_thread(eventually, lambda: sum(map(len, wishes.copy().values())) == 2)
            await second.cancel("enough")
            await late
            assert not early.done()
            early.cancel()

    run(story)


def test_closing_ends_what_waits(redis_url: str) -> None:
    """No thread is left, and who waited is told."""

    async def story() -> None:
        client = AsyncClient(redis_url)
        waiting = asyncio.create_task((await client.start(workflow(gate()))).wait())
        await asyncio.to_thread(eventually, _listeners)
        await client.close()
        # Between two looks it is told by the next one.
        with pytest.raises((asyncio.CancelledError, RuntimeError)) as told:
            await waiting
        assert told.type is asyncio.CancelledError or str(told.value) == "this client is closed"
        with pytest.raises(RuntimeError, match="this client is closed"):
            await client.get("any")
        assert not _listeners()
        await client.close()

    run(story)


def test_closing_waits_for_no_call_and_blocks_no_loop() -> None:
    """A server hangs, every thread waits for it, and further calls queue: each is cancelled, and the loop goes on."""

    async def story() -> None:
        with RedisServer() as server:
            client = AsyncClient(server.url, threads=2)
            waiting = asyncio.create_task((await client.start(workflow(gate()))).wait())
            await asyncio.to_thread(eventually, _listeners)
            server.freeze()
            calls = [asyncio.create_task(client.list()) for _ in range(5)]
            for _ in range(5):
                await asyncio.sleep(0)
            beats: list[float] = []
            beating = asyncio.create_task(_beat(beats))
            began = time.monotonic()
            await client.close()
            took = time.monotonic() - began
            server.thaw()
            beating.cancel()
            ended = await asyncio.gather(*calls, waiting, return_exceptions=True)
            assert {type(one) for one in ended} == {asyncio.CancelledError}
            assert took < 4.5
            assert max(after - before for before, after in pairwise(beats)) < 1

    run(story)


async def _beat(beats: list[float]) -> None:
    while True:
        beats.append(time.monotonic())
        await asyncio.sleep(0.01)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_client_that_was_used_before_a_fork_works_in_the_child(redis_url: str) -> None:
    """Its threads are those of the parent only; both go on, and waiting works in both."""
    client = AsyncClient(redis_url)

    async def cancelled() -> str:
        handle = await client.start(workflow(gate()))
        waiting = asyncio.create_task(handle.wait(20))
        await asyncio.to_thread(eventually, _listeners)
        await handle.cancel("enough")
        return (await waiting).status.name

    assert asyncio.run(cancelled()) == "CANCELED"
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(20)
            code = 0 if asyncio.run(cancelled()) == "CANCELED" else 2
            asyncio.run(client.close())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asyncio.run(cancelled()) == "CANCELED"
    asyncio.run(client.close())


def test_a_restart_of_redis_is_survived() -> None:
    """Redis dies and comes back while somebody waits: the wait goes on and sees the end."""

    async def story() -> None:
        with RedisServer(append_only=True) as server:
            async with AsyncClient(server.url) as client:
                handle = await client.start(workflow(gate()))
                waiting = asyncio.create_task(handle.wait(60))
                server.kill()
                with pytest.raises(UnreachableError):
                    await handle.status()
                server.start()
                await handle.cancel("enough")
                assert (await waiting).status is WorkflowStatus.CANCELED

    run(story)


@pytest.mark.parametrize("workflow_id", ["", "a b", "\ud800", "nobody"])
def test_an_id_that_no_workflow_has_or_can_have_is_not_found(workflow_id: str) -> None:
    """Looking, acting, waiting and following say the same; what is no text is a mistake of the program."""
    world = World()

    async def story() -> None:
        async with AsyncClient(settings=world.fleet.settings, store=world.fleet.store, publisher=world.fleet) as client:
            handle = client.handle(workflow_id)
            for ask in (handle.status, handle.get, handle.why, handle.wait, handle.cancel, partial(drained, handle)):
                with pytest.raises(WorkflowNotFoundError, match="there is no workflow"):
                    await ask()
            with pytest.raises(TypeError, match="must be text, not None"):
                await client.get(None)  # type: ignore[arg-type]

    run(story)


async def drained(handle: AsyncWorkflowHandle) -> None:
    async for _ in handle.events():
        pass
