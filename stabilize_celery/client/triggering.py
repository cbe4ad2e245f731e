"""What a schedule starts, started now: beside its times, which go on as they are."""

from stabilize_celery.client.client import Client
from stabilize_celery.client.handle import WorkflowHandle

__all__ = ["trigger"]


def trigger(client: Client, name: str) -> WorkflowHandle | None:
    """Start the workflow of a schedule as if this were one of its times; None: there is no such schedule.

    What is kept of the schedule (next and last time, starts) stays as it is, and neither a pause nor `overlap` counts.

    Raises:
        InvalidWorkflowError: its definition is not sound for this version.

    """
    kept = client.schedules.get(name)
    return None if kept is None else client.start(kept.schedule.workflow_at(client.store.time_ms()))
