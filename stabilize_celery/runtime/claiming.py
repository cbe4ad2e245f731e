"""Claims of tasks: on which terms this process executes a body, and what its result is decided on (PROTOCOL 4.1)."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stabilize_celery.engine.handler import Rules, stage_fields
from stabilize_celery.engine.handlers import run_task, settle_workflow
from stabilize_celery.engine.handlers.run_task import ClaimedTask, ClaimTerms
from stabilize_celery.engine.hooks import ON_CANCEL, ON_TIMEOUT
from stabilize_celery.engine.results import reads_of_result
from stabilize_celery.engine.steps import Query, Read, Slot, workflow_slot
from stabilize_celery.models.messages import CancelTask, RunTask, SettleWorkflow
from stabilize_celery.runtime.fusion import Taken
from stabilize_celery.runtime.hydrate import context_queries
from stabilize_celery.runtime.next_message import with_peek
from stabilize_celery.runtime.prepared import prepare
from stabilize_celery.runtime.rates import wait_for_turn_ms
from stabilize_celery.runtime.sessions import Sessions
from stabilize_celery.runtime.unit import Conflict, UnitOfWork
from stabilize_celery.settings import Settings
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.tasks.task import Task
from stabilize_celery.tasks.variants import RetryableTask

__all__ = ["UNKNOWN_HERE_MS", "Claimer"]

logger = logging.getLogger("stabilize_celery")

UNKNOWN_HERE_MS = 500
"""How soon a task is tried again whose type another live worker knows: the broker may hand it to that one."""
_FEW = 4
"""Stages behind a task that are read with its claim at most (count)."""


@dataclass(frozen=True, slots=True)
class Claimer:
    """Claims tasks for this process, or lets those rest that it can't execute now.

    Args:
        new_owner: Returns a name for a claim that no other claim has.
        clock_us: A clock that only grows.

    """

    unit: UnitOfWork
    registry: TaskRegistry
    settings: Settings
    rules: Rules
    new_owner: Callable[[], str]
    clock_us: Callable[[], int]

    def terms(self, task_type: str) -> ClaimTerms:
        """Return the terms on which this process claims a task of a type, under an owner's name used once."""
        options = self.registry.options(task_type)
        said: dict[str, Any] = {}
        try:
            task = self.registry.get(task_type)
            said = {"hooks": _hooks(type(task)), **_total_limit(task)}
        except Exception:
            logger.exception("task type %r can't be made; its tasks will fail", task_type)
        return ClaimTerms(self.new_owner(), options.max_lost or self.settings.max_lost, **said)

    def reads_of_result(self, claimed: ClaimedTask) -> tuple[list[Query], list[str]]:
        """Return what the result will be decided on, read with the claim: while nothing changes, no more is."""
        first = reads_of_result(claimed.message)
        queries, watch = [*first.queries, *context_queries(claimed.frame)], list(first.watch)
        if self.settings.is_fused:
            ahead = _ahead(claimed)
            queries += [query for query in ahead.queries if query not in queries]
            watch += [key for key in ahead.watch if key not in watch]
        return queries, watch

    def park(self, message: RunTask | CancelTask) -> str:
        """Let a task rest whose type this process does not know; return a note for the log."""
        task_type, rest_ms = message.task_type, self.settings.unknown_task_ms
        reason = f"no live worker knows the task type {task_type!r}"
        if any(task_type in _names(line.get("types", b"")) for line in self.unit.store.fleet().values()):
            reason, rest_ms = (
                f"this worker does not know the task type {task_type!r}; another one does",
                UNKNOWN_HERE_MS,
            )
        return self.rest(message, reason, rest_ms)

    def rest(self, message: RunTask | CancelTask, reason: str, rest_ms: int) -> str:
        """Let a task rest for so long; return a note for the log."""
        slot = workflow_slot(message.workflow_id)
        return self.unit.run(slot, lambda _: run_task.park(message, reason, rest_ms), message.name).decision.note

    def too_early_ms(self, message: RunTask) -> int:
        """Return how long an execution has to wait for its turn, if its type has a limit (ms)."""
        per_s = self.registry.options(message.task_type).rate_per_s
        if per_s is None:
            return 0
        return wait_for_turn_ms(self.unit.store, message.task_type, per_s, f"{message.workflow_id}/{message.name}")

    def claim(self, message: RunTask, terms: ClaimTerms, slot: Slot, sessions: Sessions) -> Taken | str:
        """Claim a task, and read what its result will be decided on; return a note for the log if it can't be had."""
        for attempt in range(self.settings.commit_tries):
            try:
                decision = self.unit.drive(run_task.handle(message, self.rules, attempt, terms), slot, sessions)
                if not isinstance(decision.call, ClaimedTask):
                    self.unit.commit(decision, slot, sessions, message.name)
                    return decision.note or "applied"
                queries, watch = self.reads_of_result(decision.call)
                if decision.is_empty:
                    return Taken(decision.call, sessions.read(slot, queries, watch), watch)
                handled = sessions.handled(slot, message.name)
                prepared = prepare(decision, sessions.now_ms(slot), message.name, handled, self.unit.settings)
                transaction = with_peek(prepared.transaction, self.clock_us())
                answer = sessions.of(slot).commit_and_read(transaction, queries, watch)
            except Conflict:
                continue
            if answer is not None:
                self.unit.publish(prepared.to_publish(answer[0]))
                sessions.saw(slot, answer[1])
                return Taken(decision.call, answer[1], watch)
        return "lost every claim to other workers"


@lru_cache(maxsize=1024)
def _hooks(kind: type[Task]) -> tuple[str, ...]:
    """Return which of the hooks that are owed to tasks are more than the interface's empty ones."""
    return tuple(name for name in (ON_CANCEL, ON_TIMEOUT) if getattr(kind, name) is not getattr(Task, name))


def _total_limit(task: Task) -> dict[str, Any]:
    """Return what a claim says of how long a task may take over all its executions."""
    limit = getattr(task, "get_timeout", None)
    if limit is None:
        return {}
    if isinstance(task, RetryableTask) and type(task).get_dynamic_timeout is not RetryableTask.get_dynamic_timeout:
        return {"asks_timeout": True}
    return {"timeout_ms": int(limit().total_seconds() * 1000)}


def _ahead(claimed: ClaimedTask) -> Read:
    """Return what else the commit of the result is decided on in fused mode: stages that come next, if they are few.

    Behind the only end of a workflow comes the look at whether it has ended.
    """
    plan = claimed.frame.plan
    if plan.is_only_end:
        return settle_workflow.reads(SettleWorkflow(workflow_id=claimed.message.workflow_id))
    direct = [edge.target for edge in plan.edges if edge.is_direct]
    return Read(tuple(map(stage_fields, direct)) if len(direct) <= _FEW else ())


def _names(packed: bytes) -> Sequence[str]:
    return packed.decode().split("\n")
