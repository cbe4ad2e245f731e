"""Branches that end at the same time reach their join without getting in each other's way (PROTOCOL: WATCH is per key)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from stabilize_celery.engine.steps import Query, Slot, Snapshot
from stabilize_celery.models.messages import MESSAGE_TYPES
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import JoinType, SplitType, StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Session, Transaction
from stabilize_celery.store.redis_store import RedisStore
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.transport.incoming import message_of

BRANCHES = 40


class CrowdedStore(RedisStore):
    """A store on which nobody commits before everybody else has read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.partitions()
        self.crowd: deque[Outgoing] = deque()
        self.conflicts = 0
        self.runtime: Runtime | None = None

    def handle(self, message: Outgoing) -> None:
        assert self.runtime is not None
        self.runtime.handle(message_of(MESSAGE_TYPES[message.kind], message.task_id, message.kwargs))

    def session(self, slot: Slot) -> AbstractContextManager[Session]:
        return self._crowded(slot)

    @contextmanager
    def _crowded(self, slot: Slot) -> Iterator[Session]:
        with super().session(slot) as session:
            yield CrowdedSession(self, session)


class CrowdedSession:
    """A session whose commit lets the next of the crowd go first."""

    def __init__(self, store: CrowdedStore, inner: Session) -> None:
        self._store, self._inner = store, inner

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> Snapshot:
        return self._inner.read(queries, watch)

    def commit(self, transaction: Transaction) -> list[int | None] | None:
        self._let_others_go_first()
        results = self._inner.commit(transaction)
        self._store.conflicts += results is None
        return results

    def commit_and_read(
        self, transaction: Transaction, queries: Sequence[Query], watch: Sequence[str] = ()
    ) -> tuple[list[int | None], Snapshot] | None:
        self._let_others_go_first()
        answer = self._inner.commit_and_read(transaction, queries, watch)
        self._store.conflicts += answer is None
        return answer

    def _let_others_go_first(self) -> None:
        if self._store.crowd:
            self._store.handle(self._store.crowd.popleft())


class Sent(deque[Outgoing]):
    """The broker: messages in the order of their publication."""

    def publish(self, batch: Sequence[Outgoing]) -> None:
        self.extend(batch)

    def take(self, kind: str, stages: Sequence[str]) -> list[Outgoing]:
        """Take out the messages of a kind for these stages."""
        found = [message for message in self if message.kind == kind and message.kwargs.get("ref_id") in stages]
        for message in found:
            self.remove(message)
        return found


def work(ref_id: str, *after: str, **more: Any) -> StageExecution:
    tasks = [TaskExecution.create("work", "work")]
    return StageExecution(ref_id=ref_id, requisite_stage_ref_ids=set(after), tasks=tasks, **more)


@pytest.mark.parametrize(
    ("join", "threshold"),
    [("AND", 0), ("OR", 0), ("DISCRIMINATOR", 0), ("N_OF_M", 7), ("N_OF_M", BRANCHES), ("MULTI_MERGE", 0)],
)
@pytest.mark.parametrize("kind", ["StartStage", "RunTask", "CompleteStage"])
def test_branches_that_act_at_once_do_not_conflict(redis_url: str, join: str, threshold: int, kind: str) -> None:
    """Each of the branches reads before any of them commits; all of them commit at the first try."""
    registry, sent, store = TaskRegistry(), Sent(), CrowdedStore(redis_url)
    registry.task("work")(lambda stage: TaskResult.success(outputs={stage.ref_id: 1}))
    store.runtime = Runtime(store, registry, sent, Settings(), "crowded")
    branches = [f"b{at}" for at in range(BRANCHES)]
    joined = work("z", *branches, join_type=JoinType[join], join_threshold=threshold)
    stages = [work("a", split_type=SplitType.AND), *(work(branch, "a") for branch in branches), joined]
    workflow_id = store.runtime.submit(Workflow.create("wide", "wide", stages))
    met = 0
    while sent:
        crowd = sent.take(kind, branches)
        if len(crowd) == BRANCHES:
            met += 1
            store.crowd.extend(crowd)
        else:
            sent.extendleft(reversed(crowd))
        if store.crowd:
            store.handle(store.crowd.popleft())
            assert store.conflicts == 0
        else:
            wanted = next((m for m in sent if m.kind != kind or m.kwargs.get("ref_id") not in branches), sent[0])
            sent.remove(wanted)
            store.handle(wanted)

    workflow = store.runtime.read(workflow_id)
    assert met == 1
    assert workflow.status.name == "SUCCEEDED"
    assert {stage.status.name for stage in workflow.stages} == {"SUCCEEDED"}
    store.close()
