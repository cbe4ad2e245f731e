"""AsyncClient: the client for programs with an event loop; the same names, awaited."""

import asyncio
import contextvars
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeAlias, TypeVar

from stabilize_celery.client.client import Client
from stabilize_celery.client.ending import result_or_failure
from stabilize_celery.client.events import WorkflowEvent, event_of
from stabilize_celery.client.following import (
    MAX_BATCH,
    Following,
    LookAt,
    NextEvents,
    Pause,
    Tell,
    history,
    look_at,
)
from stabilize_celery.client.following import follow as follow_steps
from stabilize_celery.client.following import wait as wait_steps
from stabilize_celery.client.handle import WorkflowHandle
from stabilize_celery.client.listening import Listener, cancel_in_its_loop
from stabilize_celery.client.outcomes import Outcome
from stabilize_celery.client.pages import Page
from stabilize_celery.client.schedules import Schedules
from stabilize_celery.client.why import Reason
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.schedule import Schedule
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.ports import Publisher
from stabilize_celery.runtime.schedule_book import KeptSchedule
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Store

__all__ = ["AsyncClient", "AsyncSchedules", "AsyncWorkflowHandle"]

P = ParamSpec("P")
R = TypeVar("R")

_CLOSING_S = 3.0
"""How long closing waits for a server that does not answer."""


class AsyncClient:
    """Starts workflows and gives handles to them, without ever blocking the event loop.

    Calls are carried out by a few threads. Waiting is not: any number of `wait` and `events(follow=True)` share one
    connection per partition. Connects at its first use; close it at the end, or use it as `async with`.

    Args:
        redis_url: Where workflows are kept. Default: `STABILIZE_REDIS_URL`.
        broker_url: Where workers take their messages from. Default: `STABILIZE_BROKER_URL`, else `redis_url`.
        namespace: Start of all keys in Redis, as the workers have it. Default: `STABILIZE_NAMESPACE`, else `stabilize`.
        threads: How many calls may be under way at once (count); more of them queue.
        settings: All settings, in place of the environment's; the arguments above win.
        store: A store instead of the one that the URL names, for tests.
        publisher: A publisher instead of the one that the URL names, for tests.

    Raises:
        ConfigurationError: nobody said where Redis is.

    """

    def __init__(
        self,
        redis_url: str | None = None,
        broker_url: str | None = None,
        namespace: str | None = None,
        *,
        threads: int = 16,
        settings: Settings | None = None,
        store: Store | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        self._client = Client(redis_url, broker_url, namespace, settings=settings, store=store, publisher=publisher)
        self._line = _Line(self._client, threads)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def settings(self) -> Settings:
        """All settings."""
        return self._client.settings

    async def close(self) -> None:
        """Cancel what waits, calls among it, and close all connections, for good. Again: nothing."""
        await self._line.close()

    async def start(
        self, workflow: Workflow | Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> "AsyncWorkflowHandle":
        """Start a workflow, or find the one that was started under the same key (or the same id).

        Args:
            workflow: A `Workflow`, or its definition as JSON has it.
            idempotency_key: The same key starts one workflow however often it is used.

        Raises:
            InvalidWorkflowError: the definition is wrong; the text lists every problem. Nothing was started.
            IdempotencyConflictError: the key (or the id) was used for another definition.
            UnreachableError: the state server can't be reached. With a key it is safe to try again.

        """
        started = await self._line.call(self._client.start, workflow, idempotency_key=idempotency_key)
        return AsyncWorkflowHandle(started, self._line)

    async def replace(
        self, workflow: Workflow | Mapping[str, Any], key: str, *, delay_s: float = 0.0
    ) -> "AsyncWorkflowHandle":
        """Start a workflow in place of those of the same application and key that wait or run: they are cancelled.

        This one begins when the other one has ended and its code, which is told to stop, has returned; what that
        returns is not kept. With `delay_s` it begins that much later, and another call in that time replaces it: of
        a burst of calls, the last one counts. Called again with the same `Workflow`, it changes nothing.

        Args:
            workflow: A `Workflow`, or its definition as JSON has it; its limit of concurrent executions is set by this.
            key: Names the one workflow that may run at a time, such as `user-17`.
            delay_s: How long to wait for another call (s).

        Raises:
            InvalidWorkflowError: the definition, the key or the delay is wrong; the text lists every problem. Nothing
                was changed.
            IdempotencyConflictError: the `Workflow` was started with another definition or key. Nothing was changed.
            UnreachableError: the state server can't be reached. Calling it again with the same `Workflow` is safe.

        """
        started = await self._line.call(self._client.replace, workflow, key, delay_s=delay_s)
        return AsyncWorkflowHandle(started, self._line)

    async def start_many(
        self,
        workflows: Iterable[Workflow | Mapping[str, Any]],
        *,
        idempotency_keys: Iterable[str | None] | None = None,
    ) -> "Handles":
        """Start several workflows, each for itself; their messages go to the broker in one batch at the end.

        Args:
            workflows: Each a `Workflow`, or its definition as JSON has it.
            idempotency_keys: One for each workflow, or None for those that have none. Given these, all workflows are
                taken in before the first is started.

        Raises:
            TypeError: `workflows` is not several of them, or `idempotency_keys` is not several keys.
            ValueError: there are more of one than of the other. Nothing was started.
            InvalidWorkflowError: one is wrong. Those before it are started.
            IdempotencyConflictError: an id was used for another definition. Those before it are started.

        """
        started = await self._line.call(self._client.start_many, workflows, idempotency_keys=idempotency_keys)
        return [AsyncWorkflowHandle(one, self._line) for one in started]

    @property
    def schedules(self) -> "AsyncSchedules":
        """The schedules of this namespace: add, list, pause, resume and remove them."""
        return AsyncSchedules(self._client.schedules, self._line)

    def handle(self, workflow_id: str) -> "AsyncWorkflowHandle":
        """Return the handle of a workflow, without any I/O. Raises TypeError: the id is not a text."""
        return AsyncWorkflowHandle(self._client.handle(workflow_id), self._line)

    async def get(self, workflow_id: str) -> Workflow:
        """Return a whole workflow as it is now. Raises WorkflowNotFoundError; TypeError: the id is not a text."""
        return await self._line.call(self._client.get, workflow_id)

    async def list(
        self,
        *,
        application: str | None = None,
        name: str | None = None,
        status: WorkflowStatus | str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of workflows, newest first.

        Args:
            application: Only those of this application.
            name: Only those of this name.
            status: Only those in this status, given as such or by its name.
            limit: At most this many (count, 1 to 100,000).
            cursor: The cursor of the previous page.

        Raises:
            TypeError: something is not of its type.
            ValueError: there is no such status, no page of that size, or no such cursor.

        """
        return await self._line.call(
            self._client.list, application=application, name=name, status=status, limit=limit, cursor=cursor
        )


class AsyncSchedules:
    """The schedules of a namespace; the names of `Client.schedules`, awaited."""

    def __init__(self, book: Schedules, line: "_Line") -> None:
        self._book = book
        self._line = line

    async def add(self, schedule: Schedule) -> KeptSchedule:
        """Add a schedule; one of the same name is replaced, and keeps its history and its pause.

        With the same times (cron or interval, time zone, start) it goes on with them: what is due stays due.

        Raises:
            TypeError: it is no `Schedule`.
            InvalidWorkflowError: the text lists every problem with its path.

        """
        return await self._line.call(self._book.add, schedule)

    async def get(self, name: str) -> KeptSchedule | None:
        """Return a schedule; None: there is none of that name."""
        return await self._line.call(self._book.get, name)

    async def all(self) -> "list[KeptSchedule]":
        """Return all schedules, by name."""
        return await self._line.call(self._book.all)

    async def start(self, name: str) -> "AsyncWorkflowHandle | None":
        """Start a schedule's workflow now, beside its times, which go on as they are; None: there is no such schedule.

        Raises:
            InvalidWorkflowError: its definition is not sound for this version.

        """
        started = await self._line.call(self._book.start, name)
        return None if started is None else AsyncWorkflowHandle(started, self._line)

    async def pause(self, name: str) -> bool:
        """Let nothing start until `resume`; False: there is no such schedule."""
        return await self._line.call(self._book.pause, name)

    async def resume(self, name: str) -> bool:
        """Go on with the next time from now, if it is paused; False: there is no such schedule."""
        return await self._line.call(self._book.resume, name)

    async def remove(self, name: str) -> bool:
        """Forget a schedule; workflows that it has started go on. False: there is no such schedule."""
        return await self._line.call(self._book.remove, name)


class AsyncWorkflowHandle:
    """A workflow by its id. Making one does no I/O; every method may raise `UnreachableError`.

    What acts on the workflow returns an `Outcome`: truthy if it had an effect, with the reason in words if not.
    """

    def __init__(self, handle: WorkflowHandle, line: "_Line") -> None:
        self._handle = handle
        self._line = line
        self.id = handle.id

    def __repr__(self) -> str:
        return f"AsyncWorkflowHandle({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncWorkflowHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # -- looking -------------------------------------------------------------------------------------------------------

    async def status(self) -> WorkflowStatus:
        """Return the workflow's status, in one read. Raises WorkflowNotFoundError."""
        return await self._line.call(self._handle.status)

    async def get(self) -> Workflow:
        """Return the whole workflow as it is now. Raises WorkflowNotFoundError."""
        return await self._line.call(self._handle.get)

    async def wait(self, timeout_s: float | None = None) -> Workflow:
        """Wait until the workflow has ended and return it; a short outage of Redis is tolerated.

        Raises:
            TimeoutError: it has not ended within `timeout_s`.
            WorkflowNotFoundError: there is no such workflow (any more).

        """
        async for _ in self._line.walk(wait_steps(self.id, timeout_s), self.id):
            pass
        return await self.get()

    async def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the end; return what a canvas returned, as Celery's `get()` would; else the outputs of all stages.

        Raises:
            WorkflowFailedError: it did not succeed; the text says why.
            TimeoutError: it has not ended within `timeout_s`.
            WorkflowNotFoundError: there is no such workflow (any more).

        """
        workflow = await self.wait(timeout_s)
        return await self._line.call(result_or_failure, workflow, lambda: list(map(str, self._handle.why())))

    def events(self, from_id: str = "0", follow: bool = False) -> AsyncIterator[WorkflowEvent]:
        """Yield what happened after the event `from_id`, oldest first; with `follow`, also what happens from now on.

        Following ends with the workflow. Raises WorkflowNotFoundError.
        """
        return self._line.walk(follow_steps(from_id) if follow else history(from_id), self.id)

    async def why(self) -> list[Reason]:
        """Return what each unfinished stage waits for; once the workflow has ended, why it failed, by stage."""
        return await self._line.call(self._handle.why)

    # -- acting --------------------------------------------------------------------------------------------------------

    async def cancel(self, reason: str = "", *, user: str | None = None) -> Outcome:
        """Cancel the workflow: nothing new starts, and running code is asked to stop.

        `user`: who is named for it; default: whoever runs this process.
        """
        return await self._line.call(self._handle.cancel, reason, user=user)

    async def pause(self, *, user: str | None = None) -> Outcome:
        """Pause the workflow: what runs ends, nothing new starts. `user`: as for `cancel`."""
        return await self._line.call(self._handle.pause, user=user)

    async def resume(self) -> Outcome:
        """Resume after a pause."""
        return await self._line.call(self._handle.resume)

    async def restart(self, ref_id: str) -> Outcome:
        """Run a stage of an ended workflow, and what follows it, again; the rest keeps its results."""
        return await self._line.call(self._handle.restart, ref_id)

    async def signal(
        self, ref_id: str, name: str, payload: Any = None, transient: bool = False, *, instance: int | None = None
    ) -> Outcome:
        """Wake a task of the stage that waits for this signal; if none does yet, it is kept unless `transient`.

        `instance`: only that instance of a multi-instance stage takes it (index from 0).

        Raises:
            ValueError: the payload is not JSON, or larger than outputs may be; or the name is empty or too long.

        """
        return await self._line.call(self._handle.signal, ref_id, name, payload, transient, instance=instance)

    async def skip_stage(self, ref_id: str) -> Outcome:
        """Skip the rest of a stage's work; its branch continues."""
        return await self._line.call(self._handle.skip_stage, ref_id)

    async def cancel_stage(self, ref_id: str) -> Outcome:
        """Cancel a stage: its branch ends, the others continue."""
        return await self._line.call(self._handle.cancel_stage, ref_id)

    async def choose(self, ref_id: str) -> Outcome:
        """Choose an offered stage of a deferred choice (WCP-16); the others of its group are withdrawn."""
        return await self._line.call(self._handle.choose, ref_id)

    async def cancel_region(self, name: str) -> Outcome:
        """Cancel the work in the stages of a region (WCP-25)."""
        return await self._line.call(self._handle.cancel_region, name)

    async def complete_instances(self, ref_id: str) -> Outcome:
        """End a multi-instance stage early: open instances are withdrawn, its branch continues (WCP-27)."""
        return await self._line.call(self._handle.complete_instances, ref_id)

    async def add_instances(
        self, ref_id: str, n: int, context: Mapping[str, Any] | None = None, *, run: int | None = None
    ) -> Outcome:
        """Add `n` instances to a stage that allows it; `context`: values that they see (WCP-15).

        `run`: the number of the run to add to; default: the first one that accepts more.
        """
        return await self._line.call(self._handle.add_instances, ref_id, n, context, run=run)


Handles: TypeAlias = list[AsyncWorkflowHandle]


class _Own:
    """What belongs to this process: threads don't survive a fork."""

    def __init__(self, store: Store, threads: int) -> None:
        self.pid = os.getpid()
        self.pool = ThreadPoolExecutor(threads, "stabilize-client")
        self.listener = Listener(store)
        self.calls: set[asyncio.Future[Any]] = set()
        """Those that are under way."""


class _Line:
    """What carries a client's calls and its waiting out, beside the event loop."""

    def __init__(self, client: Client, threads: int) -> None:
        self._client = client
        self._store = client.store
        self._threads = threads
        self._known = _Own(client.store, threads)
        self._is_closed = False

    @property
    def _own(self) -> _Own:
        if self._known.pid != os.getpid():
            self._known = _Own(self._store, self._threads)
        return self._known

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        own = self._own
        own.pool.shutdown(wait=False, cancel_futures=True)
        for future in tuple(own.calls):
            cancel_in_its_loop(future)

        def close_connections() -> None:
            own.listener.close()
            self._client.close()

        # A thread of its own: the others may all wait for a server that does not answer.
        closing = ThreadPoolExecutor(1, "stabilize-closing")
        closed = asyncio.get_running_loop().run_in_executor(closing, close_connections)
        closing.shutdown(wait=False)
        for done in (await asyncio.wait([closed], timeout=_CLOSING_S))[0]:
            done.result()

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Carry a call out in a thread, in the caller's context. RuntimeError: the client is closed."""
        if self._is_closed:
            raise RuntimeError("this client is closed")
        own, context = self._own, contextvars.copy_context()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(own.pool, partial(context.run, function, *args, **kwargs))
        own.calls.add(future)
        future.add_done_callback(own.calls.discard)
        return await future

    async def walk(self, steps: Following, workflow_id: str) -> AsyncIterator[WorkflowEvent]:
        """Carry steps out in the event loop; yield what they tell."""
        answer: Any = None
        lost: UnreachableError | None = None
        while True:
            try:
                step = steps.send(answer) if lost is None else steps.throw(lost)
            except StopIteration:
                return
            answer, lost = None, None
            try:
                match step:
                    case Tell():
                        for event in step.events:
                            yield event
                    case LookAt():
                        answer = await self.call(look_at, self._store, workflow_id)
                    case NextEvents():
                        answer = await self._next_events(workflow_id, step)
                    case Pause():
                        await asyncio.sleep(step.pause_s)
            except UnreachableError as error:
                lost = error

    async def _next_events(self, workflow_id: str, step: NextEvents) -> list[WorkflowEvent]:
        if not step.block_s:
            stored = await self.call(self._store.events, workflow_id, step.after, None, MAX_BATCH)
            return [event_of(one) for one in stored]
        future = await self.call(self._own.listener.want, workflow_id, step.after, asyncio.get_running_loop())
        try:
            return [event_of(one) for one in await asyncio.wait_for(future, step.block_s)]
        except TimeoutError:
            return []
