"""The table of the API: each row a method, a path, what it takes and gives, and the function that answers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Generic, TypeAlias, TypeVar

import msgspec

from stabilize_celery.client import Outcome
from stabilize_celery.web import bodies, schedules
from stabilize_celery.web.answers import BadRequestError
from stabilize_celery.web.queries import EventsQuery, ListQuery, NoQuery
from stabilize_celery.web.searching import list_workflows
from stabilize_celery.web.service import Service

__all__ = ["ENDPOINTS", "Ask", "Endpoint"]

B = TypeVar("B", bound=msgspec.Struct)
Q = TypeVar("Q", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Ask(Generic[Q, B]):
    """One request, read and checked. `path`: the values of the path's parts in braces."""

    service: Service
    path: Mapping[str, str]
    query: Q
    body: B
    user: str

    @property
    def id(self) -> str:
        """The workflow's id."""
        return self.path["id"]

    @property
    def ref(self) -> str:
        """The stage's ref_id."""
        return self.path["ref"]


Answer: TypeAlias = Callable[[Ask[NoQuery, bodies.Nothing]], msgspec.Struct]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A row of the table. `path` is without the API's start; a last part `:path` may have slashes in it."""

    method: str
    path: str
    summary: str
    answer: Callable[..., msgspec.Struct]
    gives: type[msgspec.Struct]
    takes: type[msgspec.Struct] = bodies.Nothing
    query: type[msgspec.Struct] = NoQuery
    status: HTTPStatus = HTTPStatus.OK


def _start(ask: Ask[NoQuery, bodies.Start]) -> bodies.Started:
    return bodies.Started(ask.service.start(ask.body))


def _signal(ask: Ask[NoQuery, bodies.Signal]) -> bodies.Outcome:
    body, handle = ask.body, ask.service.client.handle(ask.id)
    with _told_who_asked():
        return _told(handle.signal(ask.ref, body.name, body.payload, body.transient, instance=body.instance))


def _add_instances(ask: Ask[NoQuery, bodies.AddInstances]) -> bodies.Outcome:
    body, handle = ask.body, ask.service.client.handle(ask.id)
    with _told_who_asked():
        return _told(handle.add_instances(ask.ref, body.number, body.context))


@contextmanager
def _told_who_asked() -> Iterator[None]:
    """Answer 400 to what a handle takes for its caller's mistake."""
    try:
        yield
    except ValueError as error:
        raise BadRequestError(str(error)) from error


def _cancel_region(ask: Ask[NoQuery, bodies.CancelRegion]) -> bodies.Outcome:
    return _told(ask.service.client.handle(ask.id).cancel_region(ask.body.region))


def _cancel(ask: Ask[NoQuery, bodies.Cancel]) -> bodies.Outcome:
    return _told(ask.service.cancel(ask.id, ask.body.reason, ask.user))


def _letter_id(ask: Ask[NoQuery, bodies.Nothing]) -> str:
    return f"{ask.id}/{ask.path['name']}"


def _told(outcome: Outcome) -> bodies.Outcome:
    return bodies.Outcome(outcome.took_effect, outcome.told)


def _on_stage(verb: str, summary: str, method: str) -> Endpoint:
    """Return an action on a stage that takes nothing else: a method of the handle."""

    def answer(ask: Ask[NoQuery, bodies.Nothing]) -> bodies.Outcome:
        return _told(getattr(ask.service.client.handle(ask.id), method)(ask.ref))

    return Endpoint("POST", f"/workflows/{{id}}/stages/{{ref:path}}/{verb}", summary, answer, bodies.Outcome)


def _get(path: str, summary: str, answer: Answer, gives: type[msgspec.Struct]) -> Endpoint:
    return Endpoint("GET", path, summary, answer, gives)


def _act(path: str, summary: str, answer: Answer) -> Endpoint:
    return Endpoint("POST", path, summary, answer, bodies.Outcome)


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "GET",
        "/workflows",
        "List workflows, newest first.",
        lambda ask: list_workflows(ask.service.client, ask.query),
        bodies.WorkflowPage,
        query=ListQuery,
    ),
    Endpoint(
        "POST",
        "/workflows",
        "Start a workflow from its definition.",
        _start,
        bodies.Started,
        bodies.Start,
        status=HTTPStatus.CREATED,
    ),
    _get(
        "/workflows/{id}",
        "A workflow with all its stages as they are now.",
        lambda ask: ask.service.workflow(ask.id),
        bodies.WorkflowState,
    ),
    _get(
        "/workflows/{id}/definition",
        "The definition that it was started with.",
        lambda ask: bodies.Definition(ask.service.definition(ask.id)),
        bodies.Definition,
    ),
    _get(
        "/workflows/{id}/result",
        "What it came to: the outputs of its stages or what a canvas returned, or why there is nothing.",
        lambda ask: schedules.result_of(ask.service.client, ask.id),
        schedules.Result,
    ),
    _get(
        "/workflows/{id}/why",
        "What each unfinished stage waits for, or why it failed.",
        lambda ask: ask.service.why(ask.id),
        bodies.Reasons,
    ),
    Endpoint(
        "GET",
        "/workflows/{id}/events",
        "What happened, oldest first.",
        lambda ask: ask.service.events(ask.id, ask.query.from_id, ask.query.ref),
        bodies.EventPage,
        query=EventsQuery,
    ),
    Endpoint(
        "POST",
        "/workflows/{id}/cancel",
        "Cancel a workflow; running code is asked to stop.",
        _cancel,
        bodies.Outcome,
        bodies.Cancel,
    ),
    _act(
        "/workflows/{id}/pause",
        "Pause a workflow: what runs ends, nothing new starts.",
        lambda ask: _told(ask.service.pause(ask.id, ask.user)),
    ),
    _act(
        "/workflows/{id}/resume",
        "Resume a paused workflow.",
        lambda ask: _told(ask.service.client.handle(ask.id).resume()),
    ),
    Endpoint(
        "POST",
        "/workflows/{id}/cancel-region",
        "Cancel the work in a region's stages.",
        _cancel_region,
        bodies.Outcome,
        bodies.CancelRegion,
    ),
    _on_stage("restart", "Run a stage of an ended workflow, and what follows it, again.", "restart"),
    _on_stage("skip", "Skip the rest of a stage's work; its branch continues.", "skip_stage"),
    _on_stage("cancel", "Cancel a stage: its branch ends, others continue.", "cancel_stage"),
    _on_stage("choose", "Choose an offered stage; the others of its group are withdrawn.", "choose"),
    _on_stage("complete-instances", "End a multi-instance stage early.", "complete_instances"),
    Endpoint(
        "POST",
        "/workflows/{id}/stages/{ref:path}/add-instances",
        "Add instances to a stage that allows it.",
        _add_instances,
        bodies.Outcome,
        bodies.AddInstances,
    ),
    Endpoint(
        "POST",
        "/workflows/{id}/stages/{ref:path}/signal",
        "Send a signal to a stage.",
        _signal,
        bodies.Outcome,
        bodies.Signal,
    ),
    _get(
        "/workflows/{id}/stages/{ref:path}",
        "A stage: its context, and its runs with outputs, tasks, errors, attempts.",
        lambda ask: ask.service.stage(ask.id, ask.ref),
        bodies.StageDetail,
    ),
    _get(
        "/locks",
        "Every mutex that is held or waited for: who holds it, who waits, in order.",
        lambda ask: ask.service.locks(),
        bodies.Locks,
    ),
    _get("/fleet", "Workers, queues, partitions, the server.", lambda ask: ask.service.fleet(), bodies.FleetState),
    _get(
        "/schedules",
        "What starts by itself: when it did, and when it will.",
        lambda ask: schedules.list_schedules(ask.service.client),
        schedules.Schedules,
    ),
    _act(
        "/schedules/{name:path}/pause",
        "Let a schedule start nothing until it is resumed.",
        lambda ask: schedules.pause(ask.service.client, ask.path["name"]),
    ),
    _act(
        "/schedules/{name:path}/resume",
        "Let a schedule go on with the next time from now.",
        lambda ask: schedules.resume(ask.service.client, ask.path["name"]),
    ),
    Endpoint(
        "POST",
        "/schedules/{name:path}/start",
        "Start what a schedule starts, beside its times.",
        lambda ask: schedules.start_now(ask.service.client, ask.path["name"]),
        bodies.Started,
        status=HTTPStatus.CREATED,
    ),
    _get("/dead", "Messages that could not be handled.", lambda ask: ask.service.dead(), bodies.DeadLetters),
    _act(
        "/dead/{id}/{name:path}/replay",
        "Handle a dead letter again.",
        lambda ask: _told(ask.service.replay(_letter_id(ask))),
    ),
    _act(
        "/dead/{id}/{name:path}/drop",
        "Give up a dead letter: its workflow ends TERMINAL.",
        lambda ask: _told(ask.service.drop(_letter_id(ask))),
    ),
    _get(
        "/dead/{id}/{name:path}",
        "One dead letter with its whole error.",
        lambda ask: ask.service.letter(_letter_id(ask)),
        bodies.DeadLetterLine,
    ),
)
"""The order counts: the first path that fits answers."""
