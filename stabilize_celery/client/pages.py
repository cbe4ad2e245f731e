"""Listings of workflows."""

from collections.abc import Iterable
from dataclasses import dataclass

from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.models.problems import Suggester, shown
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.store import contract

__all__ = ["Page", "WorkflowSummary", "names_by_workflow", "page_of", "status_named"]


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """A line of a listing. Times in epoch ms; `ended_ms` None: it has not ended."""

    id: str
    application: str
    name: str
    status: WorkflowStatus
    started_ms: int
    ended_ms: int | None
    dead_letters: tuple[str, ...] = ()
    """Names of its messages that nobody handles any more (`dead list` has more): it waits for somebody to look."""
    priority: int = DEFAULT_PRIORITY
    """0 is the most urgent, 9 the least."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, newest first; give `cursor` to `list` for the next one. None: this is the last."""

    items: list[WorkflowSummary]
    cursor: str | None


def names_by_workflow(dead: Iterable[contract.DueEntry]) -> dict[str, tuple[str, ...]]:
    """Return the names of dead letters by the workflow that they belong to."""
    letters: dict[str, tuple[str, ...]] = {}
    for letter in dead:
        letters[letter.workflow_id] = (*letters.get(letter.workflow_id, ()), letter.name)
    return letters


def page_of(page: contract.Page, dead: Iterable[contract.DueEntry] = ()) -> Page:
    """Return a store's page as clients see it; `dead` are all dead letters."""
    letters = names_by_workflow(dead)
    items = [
        WorkflowSummary(
            line.id,
            line.application,
            line.name,
            WorkflowStatus.stored(line.status),
            line.started_ms,
            line.ended_ms,
            letters.get(line.id, ()),
            line.priority,
        )
        for line in page.items
    ]
    return Page(items, page.cursor)


def status_named(status: WorkflowStatus | str) -> str:
    """Return the name of a status, given as such or by its name in any case.

    Raises:
        TypeError: it is neither.
        ValueError: there is no such status.

    """
    if isinstance(status, WorkflowStatus):
        return status.name
    if not isinstance(status, str):  # users' code is not checked
        raise TypeError(f"a status must be a WorkflowStatus or its name, not {shown(status)}")
    if status.upper() in WorkflowStatus.__members__:
        return status.upper()
    known = list(WorkflowStatus.__members__)
    hint = Suggester(known).suggest(status.upper())
    raise ValueError(f"there is no status {status!r}{hint or '.'} Known: {', '.join(known)}")
