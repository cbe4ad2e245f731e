"""What must hold when all is over, whatever was broken meanwhile: read from the state, and from nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import redis

from stabilize_celery.client.events import WorkflowEvent
from stabilize_celery.runtime.survey import survey
from stabilize_celery.settings import Settings
from tests.chaos.fleet import ChaosFleet
from tests.integration.fleet import eventually

__all__ = ["check_history", "check_nothing_left", "check_nothing_owed", "check_nothing_repaired", "histories"]

_ENDS = {"completed", "failed_continue", "skipped", "stopped", "failed", "canceled"}
_WORKFLOW_ENDS = {"succeeded", "terminal", "canceled"}
_EXPIRE = "Expire"
_OF_NAMESPACE = ("partitions", "workers", "q:back", "}:lease")


def histories(fleet: ChaosFleet) -> dict[str, list[WorkflowEvent]]:
    """Return the events of every workflow that is kept."""
    ids: list[str] = []
    for rank in count(0, 500):
        found = fleet.store.indexed("ended", dict.fromkeys(range(fleet.store.partitions()), rank), 500)
        ids += [workflow_id for part in found.values() for workflow_id in part]
        if not any(found.values()):
            return {workflow_id: list(fleet.client.handle(workflow_id).events()) for workflow_id in ids}
    raise AssertionError


def check_history(events: Iterable[WorkflowEvent]) -> None:
    """Each transition once: no run, task or instance begins more than once, or ends more than once, or after the end."""
    seen = list(events)
    often = {step: times for step, times in Counter(_steps(seen)).items() if times > 1}
    assert not often, often
    assert not (more := _tasks_ended(seen) - _runs_started(seen)), more
    ends = [at for at, event in enumerate(seen) if _is_end(event)]
    assert len(ends) == 1, [event.kind for event in seen]
    late = [event.kind for event in seen[ends[0] + 1 :] if event.kind in ("stage.started", "join.fired")]
    assert not late, late


def _is_end(event: WorkflowEvent) -> bool:
    what, _, how = event.kind.partition(".")
    return what == "workflow" and how in _WORKFLOW_ENDS


def _steps(events: Iterable[WorkflowEvent]) -> Iterator[tuple[Any, ...]]:
    for event in events:
        what, _, how = event.kind.partition(".")
        about = (what, event.ref_id, event.data.get("thread"), event.data.get("instance"))
        if what in ("stage", "instance") and how in _ENDS:
            yield (*about, "ended")
        elif (what, how) in {("stage", "started"), ("instance", "started"), ("workflow", "started")}:
            yield (*about, how)


def _tasks_ended(events: Iterable[WorkflowEvent]) -> Counter[str]:
    """Return how many times tasks have ended, by stage; every stage of a crowd has one."""
    return Counter(event.ref_id for event in events if event.kind in {f"task.{how}" for how in _ENDS})


def _runs_started(events: Iterable[WorkflowEvent]) -> Counter[str]:
    """Return how many runs have started, by stage; of those with instances, how many instances."""
    seen = list(events)
    many = Counter(event.ref_id for event in seen if event.kind == "instance.started")
    return many | Counter(event.ref_id for event in seen if event.kind == "stage.started")


def check_nothing_owed(fleet: ChaosFleet) -> None:
    """Nothing is owed but retention, nobody holds or wants a lock, and there is nothing to repair."""
    eventually(lambda: all(name == _EXPIRE for _, name in fleet.store.owed()), 60)
    assert fleet.store.dead_letters() == []
    assert [lock for lock in fleet.store.locks() if lock.holders or lock.waiters] == []
    assert [one.told for one in survey(fleet.store, fleet.publisher, Settings(), mends=False)] == []


def check_nothing_repaired(fleet: ChaosFleet) -> None:
    """No worker has found anything that a commit had forgotten."""
    told = {name: int(line.get("repaired", b"0")) for name, line in fleet.store.fleet().items()}
    assert {name: number for name, number in told.items() if number} == {}


def check_nothing_left(fleet: ChaosFleet) -> None:
    """When retention is over, no key of any workflow is left: all that stays is the namespace's own, or ends by itself."""
    for server in fleet.state_servers:
        _end_retention(server)
    eventually(lambda: not list(fleet.store.owed()), 90)
    for server in fleet.state_servers:
        with redis.Redis.from_url(server, decode_responses=True) as client:
            kept = {key: client.ttl(key) for key in client.scan_iter("stabilize:*", count=10_000)}
        # Locks remember their last token, and an idempotency key answers, for as long as they live.
        assert [key for key, ttl_s in kept.items() if ttl_s < 0 and not key.endswith(_OF_NAMESPACE)] == []
        may_stay = (*_OF_NAMESPACE, ":w")
        assert [key for key in kept if not key.startswith("stabilize:{L:") and not key.endswith(may_stay)] == []


def _end_retention(url: str) -> None:
    """Let the retention of all workflows on a server end now."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        for key in list(client.scan_iter(f"stabilize:*:m:{_EXPIRE}", count=10_000)):
            partition, _, rest = key.partition("}:")
            client.hset(key, "nb", 0)
            client.zadd(f"{partition}}}:due", {f"{rest.partition(':')[0]}/{_EXPIRE}": 0})
