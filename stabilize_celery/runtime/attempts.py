"""Attempts of tasks: claim, execute, record; and the hooks that task code is owed (PROTOCOL 4.1 to 4.3)."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, frame_with, stage_fields
from stabilize_celery.engine.handlers import cancel_task
from stabilize_celery.engine.handlers.run_task import ClaimedTask, ClaimTerms
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.moves import Frame, task_list
from stabilize_celery.engine.results import TaskReturned, TooLate, position_of
from stabilize_celery.engine.state import ENTRY, RUN, WORKFLOW_RECORD
from stabilize_celery.engine.steps import Event, Hash, Query, Snapshot, workflow_slot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.evaluation import EvaluationError
from stabilize_celery.models.messages import CancelTask, Message, RunTask
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.attached import AttachedWorkflow
from stabilize_celery.runtime.claiming import Claimer
from stabilize_celery.runtime.executor import TaskExecutor
from stabilize_celery.runtime.fusion import Fusion, Kept, Seed, Taken, Unsure
from stabilize_celery.runtime.hydrate import context_queries, stage_of, visible_context
from stabilize_celery.runtime.lanes import queue_and_step
from stabilize_celery.runtime.next_message import nothing_waits
from stabilize_celery.runtime.ports import Claim, TaskRunner, queue_of
from stabilize_celery.runtime.prepared import Publishing, event_fields
from stabilize_celery.runtime.rates import RATE_LIMIT
from stabilize_celery.runtime.recording import Recorder
from stabilize_celery.runtime.running import RunningBody, call_on_cancel
from stabilize_celery.runtime.sessions import Sessions
from stabilize_celery.runtime.unit import UnitOfWork
from stabilize_celery.settings import CONTINUATION, Settings
from stabilize_celery.store.contract import Transaction
from stabilize_celery.tasks.cancellation import CANCELLED, CLAIM_LOST, CancellationToken, bind_token
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.progress import PROGRESS, bind_teller
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.tasks.task import Task
from stabilize_celery.tasks.variants import RetryableTask

__all__ = ["MOST_IN_TURN", "AttemptFailedError", "Attempts"]

logger = logging.getLogger("stabilize_celery")

MOST_IN_TURN = 100
"""Tasks that one process executes without the broker at most, before others get their turn."""


class AttemptFailedError(Exception):
    """What a body returned can't be recorded, by a fault of ours: its claim is still held, and nobody executes it."""

    def __init__(self, message: RunTask, owner: str) -> None:
        super().__init__(f"{message.name} of workflow {message.workflow_id}: its result can't be recorded")
        self.message = message
        self.owner = owner


class _Turn(msgspec.Struct):
    """How far one delivery goes: until a time, and for so many tasks."""

    ends_us: int
    left: int

    def goes_on(self, now_us: int) -> bool:
        """Whether another task may follow; counts it."""
        self.left -= 1
        return self.left > 0 and now_us < self.ends_us


@dataclass(frozen=True, slots=True)
class Attempts:
    """Executes task code in this process.

    Args:
        claimer: Claims what is to be executed.
        runner: Returns who watches over bodies while they run.
        read: Reads a whole workflow, for code that looks beyond its stage.
        clock_us: A clock that only grows.
        recorder: Records what bodies returned.
        serves: Returns the queues that this process gets messages from now; None: that is not known.

    """

    unit: UnitOfWork
    registry: TaskRegistry
    executor: TaskExecutor
    settings: Settings
    rules: Rules
    claimer: Claimer
    runner: Callable[[], TaskRunner]
    read: Callable[[str], Workflow]
    clock_us: Callable[[], int]
    recorder: Recorder
    serves: Callable[[], Collection[str] | None]
    fusion: Fusion | None = None

    def run(self, message: RunTask) -> str:
        """Handle a delivery of a RunTask: claim it, execute its body, record the result. Returns a note for the log.

        In fused modes it goes on with the next task of the workflow, for as long as a turn lasts.
        """
        return self._go_on(message, self._turn(), "")

    def follow(self, message: Message) -> str:
        """Handle a control message in a fused mode; go on with a task if it would come to a queue that is served."""
        assert self.fusion is not None  # noqa: S101 - asked only then
        if not self.serves():
            return self.fusion.handle(message)[0]
        turn = self._turn()
        going_on = _GoingOn(self) if turn.goes_on(self.fusion.clock_us()) else None
        with ExitStack() as stack:
            sessions = self.unit.sessions(stack)
            note, kept = self.fusion.handle(message, Seed(sessions), going_on)
            following = going_on.following(kept) if going_on is not None else None
            _, following = self._follow_up("", following, sessions, turn)
        return self._go_on(following, turn, note)

    def _go_on(self, following: RunTask | Unsure | None, turn: _Turn, note: str) -> str:
        while following is not None:
            message, terms = (
                (following.message, following.terms) if isinstance(following, Unsure) else (following, None)
            )
            following = None
            if not note:
                told, following = self._attempt(message, turn)
                note = told or "applied"
                continue
            try:
                with self.runner().going_on(message) as outcome:
                    told, following = self._attempt(message, turn, terms)
                    outcome.note = told or "applied"
            except UnreachableError:
                raise
            except Exception:
                # Not the fault of what was delivered: it comes back by itself, and is counted then.
                logger.exception("%s of workflow %s failed", message.name, message.workflow_id)
        return note

    def _turn(self) -> _Turn:
        if self.fusion is None:
            return _Turn(0, 0)
        is_continued = self.settings.mode == CONTINUATION
        lasts_ms = self.settings.continuation_ms if is_continued else self.settings.fused_slice_ms
        return _Turn(self.fusion.clock_us() + lasts_ms * 1000, MOST_IN_TURN)

    def _attempt(
        self, message: RunTask, turn: _Turn, terms: ClaimTerms | None = None
    ) -> tuple[str, RunTask | Unsure | None]:
        """Do one attempt of a task, and of those claimed with its result. Returns a note, and a task to go on with.

        `terms`: on which it may be claimed already.
        """
        if not self.registry.has(message.task_type):
            return self.claimer.park(message), None
        if rest_ms := self.claimer.too_early_ms(message):
            return self.claimer.rest(message, f"{RATE_LIMIT} of the task type {message.task_type!r}", rest_ms), None
        terms, slot = terms or self.claimer.terms(message.task_type), workflow_slot(message.workflow_id)
        with ExitStack() as stack:
            sessions = self.unit.sessions(stack)
            claimed = self.claimer.claim(message, terms, slot, sessions)
            if isinstance(claimed, str):
                return claimed, None
            claim = Claim(message.workflow_id, message.name, terms.owner)
            note, following = self._executed(message, claimed, claim, sessions, turn)
            return self._follow_up(note, following, sessions, turn)

    def _follow_up(
        self, note: str, following: "RunTask | Unsure | _Following | None", sessions: Sessions, turn: _Turn
    ) -> tuple[str, RunTask | Unsure | None]:
        """Execute tasks that were claimed in the commit before; return the note, and a task that is to be claimed."""
        while isinstance(following, _Following):
            message = following.taken.claimed.message
            with self.runner().going_on(message) as outcome:
                outcome.note, following = self._executed(message, following.taken, following.claim, sessions, turn)
        return note, following

    def _executed(
        self, message: RunTask, taken: Taken, claim: Claim, sessions: Sessions, turn: _Turn
    ) -> tuple[str, "RunTask | Unsure | _Following | None"]:
        try:
            return self._execute(message, taken, claim, sessions, turn)
        except UnreachableError:
            raise
        except Exception as error:
            raise AttemptFailedError(message, claim.owner) from error

    def tell(self, message: CancelTask) -> str:
        """Handle a delivery of a CancelTask: call the task's `on_cancel`. Returns a note for the log."""
        if not self.registry.has(message.task_type):
            return self.claimer.park(message)
        self._call_on_cancel(message)
        slot = workflow_slot(message.workflow_id)
        done = self.unit.run(slot, lambda attempt: cancel_task.handle(message, self.rules, attempt), message.name)
        return done.decision.note or "applied"

    def time_limit(self, frame: Frame) -> dict[str, Any]:
        """Answer `Plan`, phase `timeout`: how long the task that is about to be executed may take, or its error."""
        task_type = task_list(frame.plan, frame.run.planned)[frame.run.task_index].type
        try:
            stage = self._stage(frame, self._look(frame.workflow_id, context_queries(frame)))
        except EvaluationError as error:
            return {"error": {"type": type(error).__name__, "message": str(error)}}
        try:
            limit: timedelta = self.registry.get(task_type).get_dynamic_timeout(stage)  # type: ignore[attr-defined]
            return {"timeout_ms": int(limit.total_seconds() * 1000)}
        except UnreachableError:
            raise
        except Exception as error:  # noqa: BLE001 - user code: its error is the task's
            return {"error": {"type": type(error).__name__, "message": f"its time limit: {error}"}}

    # -- executing -----------------------------------------------------------------------------------------------------

    def _execute(
        self, message: RunTask, taken: Taken, claim: Claim, sessions: Sessions, turn: _Turn
    ) -> tuple[str, "RunTask | Unsure | _Following | None"]:
        began_us = self.clock_us()
        body = self._body(message, taken.claimed, taken.snapshot)
        returned = body if isinstance(body, TaskReturned) else self._watched(claim, body)
        now_us = self.clock_us()
        took_us = now_us - began_us
        overdue = body if isinstance(body, RunningBody) and _is_overdue(body, took_us) else None
        seed = Seed(sessions, taken.snapshot.later(took_us), taken.watched)
        going_on = None
        if self.fusion is not None and (turn.goes_on(now_us) or self._is_free(now_us)):
            going_on = _GoingOn(self, queue_of(message, self.settings))
        decision, kept = self.recorder.record(message, returned, seed, going_on, overdue)
        if isinstance(decision.call, TooLate) and isinstance(body, RunningBody):
            body.came_too_late()
        return decision.note or returned.status, going_on.following(kept) if going_on is not None else None

    def _is_free(self, now_us: int) -> bool:
        """Whether this process would wait for a message, once it has recorded its result (decision 021)."""
        return nothing_waits(now_us)

    def _watched(self, claim: Claim, body: RunningBody) -> TaskReturned:
        runner = self.runner()

        def execute() -> TaskReturned:
            runner.began(claim, body)
            try:
                return body.execute()
            finally:
                # Inside of what observers see: of a process that is told to end, a body's result is none.
                runner.ended(claim)

        with bind_token(body.token), bind_teller(partial(self._tell, body.claimed.message)):
            observer = self.unit.observer
            returned = observer.around_body(body.claimed, execute) if observer else execute()
        if (body.token.reason or "").startswith(CLAIM_LOST):
            return msgspec.structs.replace(returned, is_disowned=True)
        return returned

    def _tell(self, message: RunTask, progress: Mapping[str, Any]) -> None:
        """Add to the workflow's events how far a body is."""
        with self.unit.store.session(workflow_slot(message.workflow_id)) as session:
            event = Event(PROGRESS, message.ref_id, progress)
            session.commit(Transaction(events=[event_fields(event, session.read(()).now_ms)]))

    def _body(self, message: RunTask, claimed: ClaimedTask, snapshot: Snapshot) -> RunningBody | TaskReturned:
        """Return the body, or the failure to make it: it is the task's own code that fails."""
        options = self.registry.options(message.task_type)
        try:
            stage = self._stage(claimed.frame, snapshot)
        except EvaluationError as error:
            return self.executor.raised(claimed, options, error, claimed.frame.context)
        try:
            task = self.registry.get(message.task_type)
            limit_s = None if claimed.time_over else _limit_s(task, options, stage)
        except UnreachableError:
            raise
        except Exception as error:  # noqa: BLE001 - user code: its error is the task's
            returned = self.executor.raised(claimed, options, error, stage.context)
            return msgspec.structs.replace(returned, is_time_out=bool(claimed.time_over))
        verifiers = self.registry.verifiers
        return RunningBody(self.unit, self.rules, self.executor, verifiers, claimed, task, options, stage, limit_s)

    def _stage(self, frame: Frame, snapshot: Snapshot) -> StageExecution:
        workflow_id, plan = frame.workflow_id, frame.plan
        workflow = AttachedWorkflow(workflow_id, plan.application, plan.workflow_name, lambda: self.read(workflow_id))
        context = visible_context(frame, snapshot, lambda queries: self._look(workflow_id, queries))
        return stage_of(frame, context, workflow)

    def _look(self, workflow_id: str, queries: Sequence[Query]) -> Snapshot:
        return self.unit.store.look(workflow_slot(workflow_id), queries)

    # -- telling of a cancellation -------------------------------------------------------------------------------------

    def _call_on_cancel(self, message: CancelTask) -> None:
        claimed = self._cancelled(message)
        if claimed is None:
            return
        frame = claimed.frame
        stage = self._stage(frame, self._look(message.workflow_id, context_queries(frame)))
        stage.status, stage.end_time = WorkflowStatus[frame.run.status], frame.run.ended_ms
        token = CancellationToken()
        token.cancel(f"{CANCELLED}: {frame.run.reason or frame.run.status}")
        try:
            task = self.registry.get(message.task_type)
        except Exception:
            logger.exception("task type %r can't be made; its on_cancel is not called", message.task_type)
            return
        call_on_cancel(claimed, task, self.registry.options(message.task_type), stage, token)

    def _cancelled(self, message: CancelTask) -> ClaimedTask | None:
        """Return the cancelled task as if it were claimed; None: its hook is not owed (yet, or any more)."""
        task = RunTask(
            workflow_id=message.workflow_id,
            ref_id=message.ref_id,
            thread=message.thread,
            task_index=message.task_index,
            task_type=message.task_type,
        )
        entry_key, run_key = Hash(places.ledger(message.name)), Hash(places.run(message.thread))
        record_key, fields, position = Hash(places.WORKFLOW), stage_fields(message.ref_id), position_of(task)
        found = self._look(message.workflow_id, (entry_key, record_key, run_key, fields, position))
        entry, run = ENTRY.decode(found[entry_key]), RUN.decode(found[run_key])
        is_owed = message_of(entry, message.workflow_id) == message and entry.nb <= found.now_ms
        if not is_owed or not found[fields] or message.task_index >= len(run.tasks):
            return None
        record = WORKFLOW_RECORD.decode(found[record_key])
        workflow_id, ref_id, thread = message.workflow_id, message.ref_id, message.thread
        frame = frame_with(workflow_id, found.now_us, record, found[fields], ref_id, thread, run)
        name = task_list(frame.plan, run.planned)[message.task_index].name
        return ClaimedTask(task, frame, entry.att, 0, (found[position] or 0) + 1, run.tasks[message.task_index], name)


class _Following(msgspec.Struct, frozen=True):
    """The next task of a turn, claimed already."""

    taken: Taken
    claim: Claim


class _GoingOn:
    """Goes on with a task that would have come to a queue that is served at that moment, if its type is known here.

    `own`: only to this one, where something else than a control message came from it.
    """

    def __init__(self, attempts: Attempts, own: str | None = None) -> None:
        self._attempts = attempts
        self._own = own
        self._owner = ""

    def wants(self, one: Publishing) -> bool:
        message = one.message
        if not isinstance(message, RunTask) or not self._is_served(queue_and_step(one.queue)[0]):
            return False
        registry = self._attempts.registry
        return registry.has(message.task_type) and registry.options(message.task_type).rate_per_s is None

    def _is_served(self, queue: str) -> bool:
        served = self._attempts.serves()
        return self._own in (None, queue) and (served is None or queue in served)

    def terms(self, message: RunTask) -> ClaimTerms:
        terms = self._attempts.claimer.terms(message.task_type)
        self._owner = terms.owner
        return terms

    def reads(self, claimed: ClaimedTask) -> tuple[list[Query], list[str]]:
        return self._attempts.claimer.reads_of_result(claimed)

    def following(self, kept: Kept | None) -> RunTask | Unsure | _Following | None:
        if isinstance(kept, Unsure):
            return kept
        if isinstance(kept, Taken):
            message = kept.claimed.message
            return _Following(kept, Claim(message.workflow_id, message.name, self._owner))
        return kept.message if kept is not None and isinstance(kept.message, RunTask) else None


def _limit_s(task: Task, options: TaskOptions, stage: StageExecution) -> float | None:
    """Return how long one execution may take (s). By default a retryable task's is its limit in all, owed anyway."""
    limits = [] if options.timeout_s is None else [options.timeout_s]
    if isinstance(task, RetryableTask) and type(task).get_execution_timeout is not RetryableTask.get_execution_timeout:
        limits.append(task.get_execution_timeout(stage).total_seconds())
    return min(limits, default=None)


def _is_overdue(body: RunningBody, took_us: int) -> bool:
    """Return whether an execution has taken longer than it may."""
    return body.limit_s is not None and took_us > body.limit_s * 1_000_000
