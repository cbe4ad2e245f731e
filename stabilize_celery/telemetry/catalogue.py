"""Every metric that there is: name, kind, labels, and what it says. Dashboards and alerts are held to this list."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["CATALOGUE", "Kind", "Metric"]

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_BODY_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Counters are shown with `_total` behind their name; `buckets` are upper bounds of a histogram (s)."""

    name: str
    kind: Kind
    told: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """The names of its series as Prometheus has them."""
        if self.kind == "counter":
            return (f"{self.name}_total",)
        if self.kind == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_count", f"{self.name}_sum")
        return (self.name,)


_ALL = (
    # -- of one worker: what its processes did since it started --------------------------------------------------------
    Metric(
        "stabilize_messages",
        "counter",
        "Deliveries by message type and outcome: applied; nothing (a duplicate, or too early); conflict (others won "
        "every commit); failed (a handler raised); unreachable (Redis is away).",
        ("type", "outcome"),
    ),
    Metric(
        "stabilize_start_latency_seconds",
        "histogram",
        "From when a message was due until a process started with it.",
        ("type",),
        _LATENCY_S,
    ),
    Metric("stabilize_handling_seconds", "histogram", "Handling of one delivery.", ("type",), _LATENCY_S),
    Metric("stabilize_commit_conflicts", "counter", "Commits that lost to concurrent ones; each was decided again."),
    Metric("stabilize_task_seconds", "histogram", "Execution of a task's body.", ("task_type",), _BODY_S),
    Metric("stabilize_tasks", "counter", "Executions of task bodies by how they ended.", ("task_type", "result")),
    Metric("stabilize_task_retries", "counter", "Executions that failed and are tried again.", ("task_type",)),
    Metric("stabilize_stages_ended", "counter", "Stages that ended, by how.", ("outcome",)),
    Metric("stabilize_workflows_ended", "counter", "Workflows that ended, by status.", ("status",)),
    Metric("stabilize_mutex_grants", "counter", "Mutexes given to a stage."),
    # -- of one worker: its keeper -------------------------------------------------------------------------------------
    Metric("stabilize_keeper_published", "counter", "Messages that the keeper sent: due, or lost before.", ("why",)),
    Metric("stabilize_lease_losses", "counter", "Claims of tasks that ended with their worker or its process."),
    Metric("stabilize_repairs", "counter", "Inconsistencies that were repaired. Normally none."),
    Metric("stabilize_set_aside", "counter", "Corrupt entries made dead letters. Normally none."),
    Metric("stabilize_keeper_conflicts", "counter", "Transactions of the keeper that lost to concurrent ones."),
    Metric("stabilize_unpublished", "counter", "Messages that the broker did not take from the keeper."),
    Metric("stabilize_partitions_held", "gauge", "Partitions that this worker's keeper looks after."),
    Metric("stabilize_tasks_running", "gauge", "Task bodies that this worker executes now."),
    # -- of the namespace: the same wherever it is read ----------------------------------------------------------------
    Metric("stabilize_up", "gauge", "1 if the state could be read for this scrape, else 0."),
    Metric("stabilize_workflows", "gauge", "Workflows that are kept, by status.", ("status",)),
    Metric("stabilize_dead_letters", "gauge", "Messages that could not be handled."),
    Metric("stabilize_workers", "gauge", "Workers that were heard of within 15 s."),
    Metric("stabilize_consumers", "gauge", "Workers that listen on a queue.", ("queue",)),
    Metric("stabilize_queue_length", "gauge", "Messages in a queue that no worker has fetched.", ("queue",)),
    Metric("stabilize_overdue_seconds", "gauge", "How long the keepers are behind with what they are to look at."),
    Metric(
        "stabilize_oldest_owed_seconds",
        "gauge",
        "How long the oldest message that nobody has begun with has been due (of a sample per partition).",
    ),
    Metric("stabilize_mutex_waiters", "gauge", "Stages and workflows that wait for a mutex."),
    Metric("stabilize_mutex_longest_wait_seconds", "gauge", "How long the first of them has waited."),
)

CATALOGUE: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
"""Metrics by name."""
