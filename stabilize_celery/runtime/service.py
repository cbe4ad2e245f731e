"""Runtime: handles any message of the ledger, executes task bodies, takes submissions and outside events."""

import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar
from uuid import uuid4

from stabilize_celery.engine import places
from stabilize_celery.engine.creation import Creation, create_workflow
from stabilize_celery.engine.handler import Rules
from stabilize_celery.engine.handlers import run_task
from stabilize_celery.engine.handlers.run_task import ClaimedTask, ClaimTerms, TaskReturned
from stabilize_celery.engine.ids import keyed_workflow_id
from stabilize_celery.engine.outside import Answer
from stabilize_celery.engine.registry import HANDLERS
from stabilize_celery.engine.state import ENTRY, WORKFLOW_RECORD
from stabilize_celery.engine.steps import (
    Decision,
    Handling,
    Hash,
    Plan,
    Query,
    Read,
    SetFields,
    Slot,
    Snapshot,
    workflow_slot,
)
from stabilize_celery.errors import IdempotencyConflictError, UnreachableError
from stabilize_celery.models.json_values import copy_json
from stabilize_celery.models.limits import MAX_IDEMPOTENCY_KEY_LENGTH
from stabilize_celery.models.messages import FinalizeStage, Message, RunTask
from stabilize_celery.models.problems import Problem, refusal, shown
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.attached import AttachedWorkflow
from stabilize_celery.runtime.executor import TaskExecutor
from stabilize_celery.runtime.finalizing import finalize
from stabilize_celery.runtime.hydrate import context_queries, stage_of, visible_context
from stabilize_celery.runtime.planning import plan_stage
from stabilize_celery.runtime.ports import Claim, Publisher, TaskRunner
from stabilize_celery.runtime.reading import read_workflow
from stabilize_celery.runtime.unit import Conflict, Sessions, UnitOfWork
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Bury, Store, Transaction
from stabilize_celery.tasks.cancellation import CancellationToken, bind_token
from stabilize_celery.tasks.registry import TaskRegistry

__all__ = ["Runtime"]

logger = logging.getLogger("stabilize_celery")

UNKNOWN_HERE_MS = 500
"""How soon a task is tried again whose type another live worker knows: the broker may hand it to that one."""


class _NoRunner:
    """Nobody extends leases: for tests, and for bodies shorter than a lease."""

    def began(self, claim: Claim) -> None:
        """Ignore."""

    def ended(self, claim: Claim) -> None:
        """Ignore."""


class Runtime:
    """One process's engine. Thread-safe: sessions are checked out per unit of work."""

    no_runner: ClassVar[TaskRunner] = _NoRunner()

    def __init__(
        self,
        store: Store,
        registry: TaskRegistry,
        publisher: Publisher,
        settings: Settings,
        worker_id: str,
        *,
        executor: TaskExecutor | None = None,
        pause_ms: Callable[[float], None] = lambda ms: time.sleep(ms / 1000),
        new_nonce: Callable[[], str] = lambda: uuid4().hex[:12],
    ) -> None:
        self.store = store
        self.registry = registry
        self.settings = settings
        self.worker_id = worker_id
        self.runner: TaskRunner = self.no_runner
        self._new_nonce = new_nonce
        self.unit = UnitOfWork(store, publisher, settings, self._plan, pause_ms)
        self.executor = executor or TaskExecutor(settings.max_output_bytes)
        self._rules = Rules(
            lease_ms=settings.lease_ms,
            max_lost=settings.max_lost,
            lock_look_ms=settings.lock_look_ms,
            republish_ms=settings.republish_ms,
        )

    # -- messages ------------------------------------------------------------------------------------------------------

    def handle(self, message: Message) -> str:
        """Handle one delivery; returns a note for the log. A handler's bug is counted, then a dead letter.

        Raises:
            UnreachableError: the state server is away; the message stays owed.

        """
        try:
            note = self._handled(message)
        except UnreachableError:
            raise
        except Exception as error:
            logger.exception("%s of workflow %s failed", message.name, message.workflow_id)
            return self._count_failure(message, error)
        logger.debug("%s %s: %s", message.workflow_id, message.name, note)
        return note

    def _handled(self, message: Message) -> str:
        if isinstance(message, RunTask):
            return self._run_task(message)
        if isinstance(message, FinalizeStage):
            finalize(self.store, self.registry, message)
        handler = HANDLERS[type(message)]
        done = self.unit.run(
            workflow_slot(message.workflow_id), lambda attempt: handler(message, self._rules, attempt), message.name
        )
        return done.decision.note or "applied"

    def _plan(self, step: Plan) -> dict[str, Any]:
        return plan_stage(self.registry, step, self.read)

    def _count_failure(self, message: Message, error: Exception) -> str:
        told = "".join(traceback.format_exception(error))[-4000:]
        slot = workflow_slot(message.workflow_id)
        with self.store.session(slot) as session:
            key = Hash(places.ledger(message.name))
            snapshot = session.read([key], [key.key])
            entry = ENTRY.decode(snapshot[key])
            if not entry.exists:
                return "failed, but nothing is owed any more"
            tries = entry.tries + 1
            fields = ENTRY.encode(tries=tries, error=told, pub=0)
            if tries >= self.settings.max_handler_tries:
                session.commit(Transaction([SetFields(key.key, fields)], [Bury(message.name, snapshot.now_ms)]))
                return f"dead letter after {tries} tries"
            again = Decision(keeps_entry=True, defers={message.name: snapshot.now_ms + 1000 * 2**tries})
            again.change(SetFields(key.key, {**fields, "nb": again.defers[message.name]}))
            session.commit(self.unit.prepare(again, snapshot.now_ms, None).transaction)
        return f"failed, try {tries}"

    # -- task bodies ---------------------------------------------------------------------------------------------------

    def _run_task(self, message: RunTask) -> str:
        slot = workflow_slot(message.workflow_id)
        if not self.registry.has(message.task_type):
            reason, rest_ms = self._unknown(message.task_type)
            done = self.unit.run(slot, lambda _: run_task.park(message, reason, rest_ms), message.name)
            return done.decision.note
        options = self.registry.options(message.task_type)
        terms = ClaimTerms(
            f"{self.worker_id}/{self._new_nonce()}",
            options.max_lost or self.settings.max_lost,
            self._task_timeout_ms(message),
        )
        with ExitStack() as stack:
            sessions = Sessions(self.store, stack)
            claimed = self._claim(message, terms, slot, sessions)
            if isinstance(claimed, str):
                return claimed
            claim = Claim(message.workflow_id, message.name, terms.owner)
            return self._execute(message, claimed[0], claimed[1], claim, sessions)

    def _claim(
        self, message: RunTask, terms: ClaimTerms, slot: Slot, sessions: Sessions
    ) -> tuple[ClaimedTask, Snapshot] | str:
        for attempt in range(self.settings.commit_tries):
            try:
                decision = self.unit.drive(run_task.handle(message, self._rules, attempt, terms), slot, sessions)
                if not isinstance(decision.call, ClaimedTask):
                    self.unit.commit(decision, slot, sessions, message.name)
                    return decision.note or "applied"
                queries, watch = _reads_of_result(message, decision.call)
                if decision.is_empty:
                    return decision.call, sessions.read(slot, queries, watch)
                prepared = self.unit.prepare(decision, sessions.now_ms(slot), message.name)
                answer = sessions.of(slot).commit_and_read(prepared.transaction, queries, watch)
            except Conflict:
                continue
            if answer is not None:
                self.unit.publish(prepared.to_publish(answer[0]))
                sessions.saw(slot, answer[1])
                return decision.call, answer[1]
        return "lost every claim to other workers"

    def _execute(
        self, message: RunTask, claimed: ClaimedTask, snapshot: Snapshot, claim: Claim, sessions: Sessions
    ) -> str:
        slot = workflow_slot(message.workflow_id)
        with bind_token(CancellationToken()) as token:
            self.runner.began(claim)
            try:
                returned = self._body(message, claimed, snapshot, token)
            finally:
                self.runner.ended(claim)
        try:
            decision = _fed(run_task.record(message, returned), snapshot)
            if isinstance(decision, Decision):
                self.unit.commit(decision, slot, sessions, message.name)
                return decision.note or returned.status
        except Conflict:
            logger.debug("%s: something changed while it ran; reading again", message.name)
        done = self.unit.run(slot, lambda _: run_task.record(message, returned), message.name)
        return done.decision.note or returned.status

    def _body(
        self, message: RunTask, claimed: ClaimedTask, snapshot: Snapshot, token: CancellationToken
    ) -> TaskReturned:
        frame = claimed.frame
        workflow = AttachedWorkflow(
            message.workflow_id,
            frame.plan.application,
            frame.plan.workflow_name,
            lambda: self.read(message.workflow_id),
        )
        context = visible_context(frame, snapshot, lambda queries: self._look(message.workflow_id, queries))
        stage = stage_of(frame, context, workflow)
        task = self.registry.get(message.task_type)
        options = self.registry.options(message.task_type)
        return self.executor.execute(claimed, task, options, stage, token)

    def _task_timeout_ms(self, message: RunTask) -> int | None:
        task = self.registry.get(message.task_type)
        limit = getattr(task, "get_timeout", None)
        return int(limit().total_seconds() * 1000) if limit is not None else None

    def _unknown(self, task_type: str) -> tuple[str, int]:
        others = [line for line in self.store.fleet().values() if task_type in _names(line.get("types", b""))]
        if others:
            return f"this worker does not know the task type {task_type!r}; another one does", UNKNOWN_HERE_MS
        return f"no live worker knows the task type {task_type!r}", self.settings.unknown_task_ms

    # -- workflows -----------------------------------------------------------------------------------------------------

    def submit(
        self,
        definition: Mapping[str, Any] | Workflow,
        idempotency_key: str | None = None,
        *,
        workflow_id: str | None = None,
    ) -> str:
        """Start a workflow, once per id or key; return its id.

        Raises:
            InvalidWorkflowError: names every problem; nothing was written.
            IdempotencyConflictError: the key, or the id, stands for another definition.

        """
        if idempotency_key is not None:
            if problem := _key_problem(idempotency_key):
                raise refusal([Problem("idempotency_key", problem)])
            workflow_id = keyed_workflow_id(self.settings.namespace, idempotency_key)
        elif isinstance(definition, Workflow):
            workflow_id = workflow_id or definition.id
        chosen = workflow_id or Workflow().id
        creation = Creation.of(chosen, definition, retention_ms=self.settings.retention_ms, key=idempotency_key or "")
        slot = workflow_slot(chosen)
        done = self.unit.run(slot, lambda _: _creating(creation))
        if not done.is_applied:
            done = self.unit.run(slot, lambda _: _creating(creation))
        if done.decision.call != creation.digest:
            told = f"idempotency key {idempotency_key!r}" if idempotency_key else f"workflow id {chosen!r}"
            raise IdempotencyConflictError(
                f"{told} stands for another definition already; nothing was started. "
                "Use another key, or the same definition"
            )
        return chosen

    def ask(self, workflow_id: str, event: Callable[[], Handling]) -> Answer:
        """Apply an outside event (engine/outside.py); a conflict that lasts is asked again by the caller."""
        done = self.unit.run(workflow_slot(workflow_id), lambda _: event())
        if isinstance(done.decision.call, Answer):
            return done.decision.call
        return Answer(False, "the workflow is too busy right now: try again")

    def read(self, workflow_id: str) -> Workflow:
        """Return a workflow as users know it. Raises WorkflowNotFoundError."""
        return read_workflow(self.store, workflow_id)

    def _look(self, workflow_id: str, queries: Sequence[Query]) -> Snapshot:
        return self.store.look(workflow_slot(workflow_id), queries)


def _key_problem(key: object) -> str:
    """Return what is wrong with an idempotency key, which may have come over the wire."""
    if not isinstance(key, str):
        return f"expected text, got {shown(key)}"
    if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH:
        return f"text of {len(key)} characters; 1 to {MAX_IDEMPOTENCY_KEY_LENGTH} are allowed"
    problems: list[Problem] = []
    copy_json(key, "idempotency_key", problems)
    return problems[0].message if problems else ""


def _creating(creation: Creation) -> Handling:
    key = Hash(places.WORKFLOW)
    snapshot = yield Read((key,), (places.WORKFLOW,))
    record = WORKFLOW_RECORD.decode(snapshot[key])
    if record.status:
        return Decision(keeps_entry=True, call=record.digest)
    decision = Decision(call=creation.digest)
    create_workflow(decision, creation, snapshot.now_us)
    return decision


def _reads_of_result(message: RunTask, claimed: ClaimedTask) -> tuple[list[Query], list[str]]:
    """Return what the result will be decided on, read already with the claim: while nothing changes, no more is."""
    first = next(run_task.record(message, TaskReturned(claimed.attempt, "SUCCEEDED")))
    assert isinstance(first, Read)  # noqa: S101 - narrows for the type checker
    return [*first.queries, *context_queries(claimed.frame)], list(first.watch)


def _fed(handling: Handling, snapshot: Snapshot) -> Decision | None:
    """Return what a handler decides on a snapshot taken before; None if it wants to read more."""
    next(handling)
    try:
        handling.send(snapshot)
    except StopIteration as stop:
        decision: Decision = stop.value
        return decision
    handling.close()
    return None


def _names(packed: bytes) -> Sequence[str]:
    return packed.decode().split("\n")
