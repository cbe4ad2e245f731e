"""A body that this process executes: it is asked to stop, and told when it was cancelled (PROTOCOL 4.3)."""

import logging
import threading
from dataclasses import dataclass

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules
from stabilize_celery.engine.handlers import cancel_task, clear_workflow
from stabilize_celery.engine.handlers.run_task import ClaimedTask
from stabilize_celery.engine.hooks import ON_CANCEL, task_at_work
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.results import TaskReturned, expire
from stabilize_celery.engine.state import ENTRY, RUN, WORKFLOW_RECORD, Entry, Run, WorkflowRecord
from stabilize_celery.engine.steps import Fields, Hash, workflow_slot
from stabilize_celery.errors import TaskTimeoutError, UnreachableError
from stabilize_celery.models.messages import CancelTask, ClearWorkflow
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.runtime.executor import TaskExecutor, call_of
from stabilize_celery.runtime.unit import UnitOfWork
from stabilize_celery.tasks.call import bind_call
from stabilize_celery.tasks.cancellation import CANCELLED, CLAIM_LOST, TIMED_OUT, CancellationToken, bind_token
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.task import Task
from stabilize_celery.tasks.verification import VerifierRegistry

__all__ = ["RunningBody", "call_on_cancel"]

logger = logging.getLogger("stabilize_celery")

_FACTS = ("status", "reason", "outcome", "task_index", "tasks")
_CLEARINGS = 20
"""How many batches of a workflow that has ended are cleared from here at most, to get to the own run."""


@dataclass(frozen=True, slots=True)
class _Facts:
    record: WorkflowRecord
    run: Run
    entry: Entry
    is_hook_owed: bool

    @property
    def is_to_clear(self) -> bool:
        """Whether the workflow has ended, and nobody has taken the run away yet."""
        return self.record.exists and not self.record.is_live and not self.run.is_ended


class RunningBody(msgspec.Struct):
    """One execution: the claim, the task's object, its own copy of the stage. `limit_s`: how long it may take (s)."""

    unit: UnitOfWork
    rules: Rules
    executor: TaskExecutor
    verifiers: VerifierRegistry
    claimed: ClaimedTask
    task: Task
    options: TaskOptions
    stage: StageExecution
    limit_s: float | None = None
    token: CancellationToken = msgspec.field(default_factory=CancellationToken)
    _told: threading.Lock = msgspec.field(default_factory=threading.Lock)

    def execute(self) -> TaskReturned:
        """Run the body; see `TaskExecutor.execute`."""
        return self.executor.execute(
            self.claimed, self.task, self.options, self.stage, self.token, verifiers=self.verifiers
        )

    def stop(self) -> None:
        """Learn why its claim is gone and ask it to stop; if it was cancelled, call its `on_cancel` beside it.

        Raises:
            UnreachableError: Redis is away; the body was asked to stop.

        """
        if self._was_cancelled():
            # A thread of its own: user code must not hold up the watch over other bodies.
            threading.Thread(target=self._tell, name="stabilize-on-cancel", daemon=True).start()

    def came_too_late(self) -> None:
        """Call its `on_cancel`, unless it was called: the body returned before anybody saw that it was cancelled.

        Raises:
            UnreachableError: Redis is away; the hook stays owed.

        """
        if ON_CANCEL in self.claimed.state.hooks and self._was_cancelled():
            self._tell()

    def take_too_long(self) -> bool:
        """Fence what the body will return and ask it to stop; False: others' commits won.

        Raises:
            UnreachableError: Redis is away; nothing was done.

        """
        message = self.claimed.message
        returned = self.executor.too_long(self.claimed, self.options, self.limit_s or 0.0)
        slot = workflow_slot(message.workflow_id)
        if not self.unit.run(slot, lambda _: expire(message, returned), message.name).is_applied:
            return False
        self._ask_to_stop(f"{TIMED_OUT}: {returned.error['message']}")
        return True

    def _was_cancelled(self) -> bool:
        """Ask the body to stop, and say why; return whether its `on_cancel` is owed and was not called here."""
        try:
            facts = self._facts()
            for _ in range(_CLEARINGS):
                if not facts.is_to_clear:
                    break
                # The message that does this may wait in a queue behind the very body that is to end.
                self._clear()
                facts = self._facts()
        except UnreachableError:
            self._ask_to_stop(f"{CLAIM_LOST}: its claim is gone")
            raise
        self._ask_to_stop(_why(facts, self.claimed.message.task_index))
        return facts.is_hook_owed and self._told.acquire(blocking=False)

    def _facts(self) -> _Facts:
        message, hook = self.claimed.message, self._cancel_message()
        run, record = Fields(places.run(message.thread), _FACTS), Hash(places.WORKFLOW)
        entry, owed = Hash(places.ledger(message.name)), Hash(places.ledger(hook.name))
        found = self.unit.store.look(workflow_slot(message.workflow_id), (run, record, entry, owed))
        return _Facts(
            WORKFLOW_RECORD.decode(found[record]),
            RUN.decode(found[run]),
            ENTRY.decode(found[entry]),
            message_of(ENTRY.decode(found[owed]), message.workflow_id) == hook,
        )

    def _clear(self) -> None:
        message = ClearWorkflow(workflow_id=self.claimed.message.workflow_id)
        slot = workflow_slot(message.workflow_id)
        self.unit.run(slot, lambda attempt: clear_workflow.handle(message, self.rules, attempt), message.name)

    def _ask_to_stop(self, reason: str) -> None:
        if not self.token.is_cancelled:
            message = self.claimed.message
            logger.warning("%s/%s: stop: %s", message.workflow_id, message.name, reason)
            self.token.cancel(reason)

    def _cancel_message(self) -> CancelTask:
        message = self.claimed.message
        return CancelTask(
            workflow_id=message.workflow_id,
            ref_id=message.ref_id,
            thread=message.thread,
            task_index=message.task_index,
            task_type=message.task_type,
        )

    def _tell(self) -> None:
        message = self._cancel_message()
        call_on_cancel(self.claimed, self.task, self.options, self.stage, self.token)
        try:
            self.unit.run(workflow_slot(message.workflow_id), lambda _: cancel_task.settle(message), message.name)
        except UnreachableError as error:
            logger.warning("%s/%s: %s on_cancel will be called again.", message.workflow_id, message.name, error)


def call_on_cancel(
    claimed: ClaimedTask, task: Task, options: TaskOptions, stage: StageExecution, token: CancellationToken
) -> None:
    """Call a task's `on_cancel` with the call bound; what it raises is logged."""
    with bind_call(call_of(claimed, options)), bind_token(token):
        try:
            task.on_cancel(stage)
        except Exception:
            logger.exception("on_cancel of task %r of stage %r failed", claimed.message.task_type, stage.ref_id)


def _why(facts: _Facts, task_index: int) -> str:
    """Return the reason for asking a body of task number `task_index` to stop."""
    run = facts.run
    if facts.is_to_clear:
        return f"{CANCELLED}: {facts.record.reason or facts.record.status}"
    if facts.entry.to and not run.is_ended:
        return f"{TIMED_OUT}: {facts.entry.to}"
    state = run.tasks[task_index] if task_index < len(run.tasks) else None
    if state is not None and state.error.get("type") == TaskTimeoutError.__name__ and run.outcome:
        return f"{TIMED_OUT}: {run.reason}"
    if not run.status:
        return f"{CANCELLED}: the workflow is gone"
    if run.is_ended and run.task_index == task_index and task_at_work(run) is not None:
        return f"{CANCELLED}: {run.reason or run.status}"
    return f"{CLAIM_LOST}: the task was given to another worker"
