"""The command line of a Celery worker with the settings that suit this package."""

import sys
from collections.abc import Sequence

from stabilize_celery.settings import Settings

__all__ = ["DEFAULT_QUEUE", "worker_argv"]

DEFAULT_QUEUE = "celery"
"""Where `send_task("stabilize.SubmitWorkflow")` of other programs goes, unless they say otherwise."""

_SUITED = ("--prefetch-multiplier=1", "--without-gossip", "--without-mingle", "--loglevel=INFO")
_LIVES_ON = (
    # Celery gives up after 100 tries, within an hour; this is a year, at 30 s a try.
    "broker.connection_max_retries=1000000",
    "broker.connection_retry=true",
    "broker.connection_retry_on_startup=true",
)
"""Settings of the app that are set anew: the worker waits for a broker that is away."""


def worker_argv(
    app_name: str,
    settings: Settings,
    *,
    control: bool = False,
    tasks: bool = False,
    extra: Sequence[str] = (),
    default_queue: str = DEFAULT_QUEUE,
) -> list[str]:
    """Return the command that starts a worker of the app `app_name`, to be exec'd: gevent must be first in its process.

    With `control` it only moves workflows on, with `tasks` it only runs task bodies and what comes by the app's own
    `default_queue`; with neither or both it does everything. `extra` options for Celery win over ours.
    """
    queues: list[str] = []
    if control and not tasks:
        queues = [settings.control_queue]
    elif tasks and not control:
        queues = list(dict.fromkeys((settings.work_queue, *settings.task_queues.values(), default_queue)))
    chosen = [f"--queues={','.join(queues)}"] if queues else []
    return [sys.executable, "-m", "celery", "-A", app_name, "worker", *_SUITED, *chosen, *_LIVES_ON, *extra]
