"""Schedules and results as the API gives them. Times in epoch ms; null: there is none."""

from typing import Any

import msgspec

from stabilize_celery.client import Client
from stabilize_celery.client.schedules import no_such_schedule
from stabilize_celery.errors import WorkflowFailedError
from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.models.redaction import Redaction
from stabilize_celery.runtime.schedule_book import KeptSchedule
from stabilize_celery.transport.canvas_values import plain
from stabilize_celery.web.answers import NotFoundError
from stabilize_celery.web.bodies import Outcome, Started

__all__ = ["Result", "ScheduleLine", "Schedules", "list_schedules", "pause", "result_of", "resume", "start_now"]


class ScheduleLine(msgspec.Struct):
    """A schedule: what it starts, when, and what it started."""

    name: str
    application: str
    workflow_name: str
    cron: str
    every_s: float | None
    """In place of `cron`."""
    timezone: str
    missed: str
    overlap: str
    priority: int
    is_paused: bool
    next_ms: int | None
    last_ms: int | None
    last_id: str
    """The workflow that was started then."""
    started: int
    skipped: int
    error: str
    """Why the last start failed; empty: it did not."""


class Schedules(msgspec.Struct):
    """All schedules, by name."""

    items: list[ScheduleLine]
    now_ms: int


class Result(msgspec.Struct):
    """What a workflow came to, once it has ended: `value` if it succeeded, else `failure` says why."""

    status: str
    has_ended: bool
    value: Any = None
    failure: str = ""


def list_schedules(client: Client) -> Schedules:
    """Return all schedules."""
    return Schedules([_line(kept) for kept in client.schedules.all()], client.store.time_ms())


def _line(kept: KeptSchedule) -> ScheduleLine:
    schedule = kept.schedule
    definition = schedule.to_dict()["definition"]
    return ScheduleLine(
        name=schedule.name,
        application=str(definition.get("application", "")),
        workflow_name=str(definition.get("name", "")),
        cron=schedule.cron,
        every_s=schedule.every_s,
        timezone=schedule.timezone,
        missed=schedule.missed,
        overlap=schedule.overlap,
        priority=definition.get("priority", DEFAULT_PRIORITY),
        is_paused=kept.is_paused,
        next_ms=kept.next_ms,
        last_ms=kept.last_ms,
        last_id=kept.last_id,
        started=kept.started,
        skipped=kept.skipped,
        error=kept.error,
    )


def pause(client: Client, name: str) -> Outcome:
    """Let nothing start until it is resumed. Raises NotFoundError."""
    return _told(client, name, client.schedules.pause(name), f"schedule {name} is paused")


def resume(client: Client, name: str) -> Outcome:
    """Go on with the next time from now, if it is paused. Raises NotFoundError."""
    kept = client.schedules.get(name)
    if kept is not None and not kept.is_paused:
        return Outcome(False, f"schedule {name} is not paused")
    return _told(client, name, client.schedules.resume(name), f"schedule {name} goes on")


def start_now(client: Client, name: str) -> Started:
    """Start what it starts, beside its times. Raises NotFoundError."""
    handle = client.schedules.start(name)
    if handle is None:
        raise _unknown(client, name)
    return Started(handle.id)


def _told(client: Client, name: str, is_done: bool, told: str) -> Outcome:
    if not is_done:
        raise _unknown(client, name)
    return Outcome(True, told)


def _unknown(client: Client, name: str) -> NotFoundError:
    return NotFoundError(no_such_schedule(client.schedules, name))


def result_of(client: Client, workflow_id: str) -> Result:
    """Return what a workflow came to, without the values of secrets. Raises WorkflowNotFoundError."""
    handle = client.handle(workflow_id)
    status = handle.status()
    if not status.is_complete:
        return Result(status.name, has_ended=False)
    try:
        value = Redaction(client.settings.redact_keys).shown(plain(handle.result(0)))
    except WorkflowFailedError as error:
        return Result(status.name, has_ended=True, failure=str(error))
    return Result(status.name, has_ended=True, value=value)
