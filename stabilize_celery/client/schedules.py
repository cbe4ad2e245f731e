"""The schedules that a client sees: kept, looked after by the workers, and started beside their times."""

from collections.abc import Callable

from stabilize_celery.client.handle import WorkflowHandle
from stabilize_celery.errors import PayloadError
from stabilize_celery.models.problems import Suggester
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.schedule_book import ScheduleBook
from stabilize_celery.store.contract import Store

__all__ = ["Schedules", "no_such_schedule"]


class Schedules(ScheduleBook):
    """The schedules of a namespace.

    Args:
        store: Where they are kept.
        start: What starts a workflow.

    """

    def __init__(self, store: Store, start: Callable[[Workflow], WorkflowHandle]) -> None:
        super().__init__(store)
        self._kept_in, self._start = store, start

    def start(self, name: str) -> WorkflowHandle | None:
        """Start a schedule's workflow now, as if this were one of its times; None: there is no such schedule.

        What is kept of the schedule (next and last time, starts) stays as it is; neither a pause nor `overlap` counts.

        Raises:
            InvalidWorkflowError: its definition is not sound for this version.
            PayloadError: it can't be read here.

        """
        kept = self.get(name)
        if kept is not None and kept.unreadable:
            raise PayloadError(kept.unreadable)
        return None if kept is None else self._start(kept.schedule.workflow_at(self._kept_in.time_ms()))


def no_such_schedule(schedules: ScheduleBook, name: str) -> str:
    """Return the sentence about a name that no schedule has: with one that is like it, if there is any."""
    known = [kept.schedule.name for kept in schedules.all()]
    return f"there is no schedule {name!r}{Suggester(known).suggest(name)}"
