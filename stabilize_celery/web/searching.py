"""Listing with a search: indexes tell application, name and status; text is looked for line by line, up to a bound."""

from collections.abc import Sequence

from stabilize_celery.client import Client
from stabilize_celery.client.pages import WorkflowSummary, names_by_workflow, status_named
from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.places import WORKFLOW
from stabilize_celery.engine.state import WorkflowRecord
from stabilize_celery.engine.steps import Hash, workflow_slot
from stabilize_celery.store.errors import StoreError
from stabilize_celery.web.answers import BadRequestError
from stabilize_celery.web.bodies import WorkflowLine, WorkflowPage
from stabilize_celery.web.queries import ListQuery
from stabilize_celery.web.shapes import workflow_line

__all__ = ["find_workflow", "lines_of", "list_workflows"]

_LOOKED_AT = 5_000
"""So many workflows are looked through for one page of a search (count)."""
_STEP = 500
_RECORD = Hash(WORKFLOW)


def list_workflows(client: Client, wanted: ListQuery) -> WorkflowPage:
    """Return a page of workflows, newest first.

    Raises:
        BadRequestError: there is no such status, or the cursor is not one of ours.

    """
    now_ms = client.store.time_ms()
    try:
        if wanted.q and wanted.cursor is None and (exact := find_workflow(client, wanted.q.strip())) is not None:
            return WorkflowPage([exact] if _is_listed(exact, wanted) else [], None, 1, now_ms)
        items, cursor, looked_at = _search(client, wanted)
    except (StoreError, ValueError) as error:
        raise BadRequestError(str(error)) from error
    return WorkflowPage([workflow_line(item) for item in items], cursor, looked_at, now_ms)


def _search(client: Client, wanted: ListQuery) -> tuple[list[WorkflowSummary], str | None, int]:
    status = None if wanted.status is None else status_named(wanted.status)
    cursor = wanted.cursor
    if cursor is None and wanted.until_ms is not None:
        # A page begins strictly below its cursor, and no id is below this one.
        cursor = f"{wanted.until_ms}-!"
    is_searching = bool(wanted.q)
    items: list[WorkflowSummary] = []
    looked_at = 0
    while True:
        limit = _STEP if is_searching else wanted.limit
        page = client.list(application=wanted.application, name=wanted.name, status=status, limit=limit, cursor=cursor)
        for item in page.items:
            looked_at += 1
            if wanted.since_ms is not None and item.started_ms < wanted.since_ms:
                return items, None, looked_at
            if _matches(item, wanted.q):
                items.append(item)
                if len(items) == wanted.limit:
                    is_last = item is page.items[-1] and page.cursor is None
                    return items, None if is_last else f"{item.started_ms}-{item.id}", looked_at
        cursor = page.cursor
        if cursor is None or looked_at >= _LOOKED_AT or not is_searching:
            return items, cursor, looked_at


def _is_listed(line: WorkflowLine, wanted: ListQuery) -> bool:
    """Whether a workflow that was found by its id is one of those that are listed."""
    return (
        wanted.application in (None, line.application)
        and wanted.name in (None, line.name)
        and (wanted.status is None or status_named(wanted.status) == line.status)
        and (wanted.since_ms or 0) <= line.started_ms
        and (wanted.until_ms is None or line.started_ms < wanted.until_ms)
    )


def _matches(item: WorkflowSummary, text: str | None) -> bool:
    if not text:
        return True
    wanted = text.strip().casefold()
    return any(wanted in part.casefold() for part in (item.id, item.name, item.application))


def find_workflow(client: Client, workflow_id: str) -> WorkflowLine | None:
    """Return the line of a workflow by its whole id; None: there is none."""
    return next(iter(lines_of(client, [workflow_id])), None)


def lines_of(client: Client, ids: list[str]) -> list[WorkflowLine]:
    """Return the lines of the workflows of these ids, in two round trips; those that are gone are left out."""
    try:
        slots = [workflow_slot(one) for one in ids]
        found = client.store.look_many([(slot, (_RECORD,)) for slot in slots]) if slots else []
    except StoreError:
        # One of them can't be an id.
        return []
    records = [(one, workflow_of(snapshot)) for one, snapshot in zip(ids, found, strict=True)]
    letters = names_by_workflow(client.store.dead_letters()) if records else {}
    return [_line(one, record, letters.get(one, ())) for one, record in records if record.exists]


def _line(workflow_id: str, record: WorkflowRecord, letters: Sequence[str]) -> WorkflowLine:
    return WorkflowLine(
        workflow_id,
        record.application,
        record.name,
        record.status,
        record.started_ms,
        record.ended_ms or None,
        record.priority,
        list(letters),
    )
