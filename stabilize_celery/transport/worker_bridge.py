"""What the main process of a Celery worker needs of a `Stabilize`."""

from collections.abc import Sequence
from typing import Protocol

from celery import Celery

from stabilize_celery.runtime.ports import Publisher
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Store
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.telemetry.telemetry import Telemetry
from stabilize_celery.transport.consumed_queues import ConsumedQueues
from stabilize_celery.transport.reports import Reports
from stabilize_celery.transport.stopping import Stopping
from stabilize_celery.transport.surroundings import Surroundings
from stabilize_celery.transport.turns import Turns
from stabilize_celery.transport.waiting import Waiting

__all__ = ["WorkerBridge"]


class WorkerBridge(Protocol):
    """What a worker's main process needs of a `Stabilize`."""

    app: Celery
    settings: Settings
    registry: TaskRegistry
    reports: Reports
    worker_id: str
    turns: Turns | None
    surroundings: Surroundings | None
    consumed: ConsumedQueues | None
    waiting: Waiting | None
    stopping: Stopping | None
    telemetry: Telemetry | None

    @property
    def store(self) -> Store:
        """The store of this process."""
        ...

    @property
    def publisher(self) -> Publisher:
        """The publisher of this process."""
        ...

    @property
    def children_wait(self) -> bool:
        """Whether processes wait for messages themselves, longer than a turn lasts."""
        ...

    def queues(self) -> Sequence[str]:
        """Return the names of all our queues."""
        ...

    def name_worker(self, node: str) -> None:
        """Give this worker, and the processes it will fork, an id of their own."""
        ...

    @property
    def state_url(self) -> str:
        """Where workflows are kept."""
        ...

    def watch_work(self) -> None:
        """Prepare for the metrics and traces that the settings ask for."""
        ...

    def watch_turns(
        self, node: str, queues: Sequence[str], *, has_children: bool, may_take: bool, may_wait: bool
    ) -> None:
        """Prepare for processes that go on with tasks by themselves."""
        ...
