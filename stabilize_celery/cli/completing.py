"""What a shell offers after Tab: ids, stages, dead letters, schedules, statuses, formats; else nothing."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import typer

from stabilize_celery.cli.durations import duration_text
from stabilize_celery.cli.graph import FORMATS
from stabilize_celery.cli.session import Session, Shared
from stabilize_celery.client import Client
from stabilize_celery.client.dead_letters import dead_letters
from stabilize_celery.errors import StabilizeError
from stabilize_celery.models.status import WorkflowStatus

__all__ = ["formats", "letter_ids", "ref_ids", "schedule_names", "statuses", "workflow_ids"]

_NEWEST = 200
"""So many workflows are looked at."""
_SHOWN = 40

Offer = tuple[str, str]
"""What is put in, and what is told about it."""


def workflow_ids(context: typer.Context, incomplete: str) -> list[Offer]:
    """Return the newest workflows whose id begins so."""

    def find(client: Client) -> Iterator[Offer]:
        for one in client.list(limit=_NEWEST).items:
            yield one.id, f"{one.application} {one.name} {one.status.name}"

    return _offered(context, incomplete, find)


def ref_ids(context: typer.Context, incomplete: str) -> list[Offer]:
    """Return the stages of the workflow that the line names."""
    workflow_id = context.params.get("workflow_id")

    def find(client: Client) -> Iterator[Offer]:
        for stage in client.get(str(workflow_id)).stages:
            yield stage.ref_id, stage.status.name

    return _offered(context, incomplete, find) if workflow_id else []


def letter_ids(context: typer.Context, incomplete: str) -> list[Offer]:
    """Return the dead letters whose id begins so."""
    return _offered(context, incomplete, lambda client: ((one.id, one.kind) for one in dead_letters(client.store)))


def schedule_names(context: typer.Context, incomplete: str) -> list[Offer]:
    """Return the schedules whose name begins so."""

    def find(client: Client) -> Iterator[Offer]:
        for kept in client.schedules.all():
            yield kept.schedule.name, kept.schedule.cron or f"every {duration_text(kept.schedule.every_s or 0)}"

    return _offered(context, incomplete, find)


def statuses(incomplete: str) -> list[str]:
    """Return the statuses that begin so."""
    return [one.name for one in WorkflowStatus if one.name.startswith(incomplete)]


def formats(incomplete: str) -> list[str]:
    """Return the formats of a graph that begin so."""
    return [one for one in FORMATS if one.startswith(incomplete)]


def _offered(context: typer.Context, incomplete: str, find: Callable[[Client], Iterator[Offer]]) -> list[Offer]:
    session = Session(_shared(context.params).over(_shared(context.find_root().params)))
    try:
        if session.is_embedded:
            # Nobody wants a server to be started by a Tab.
            return []
        with session.stack:
            fitting = (one for one in find(session.client()) if one[0].startswith(incomplete))
            return list(islice(fitting, _SHOWN))
    except StabilizeError:
        return []


def _shared(given: Mapping[str, Any]) -> Shared:
    return Shared(given.get("redis_url"), given.get("broker_url"), given.get("namespace"), given.get("home"))
