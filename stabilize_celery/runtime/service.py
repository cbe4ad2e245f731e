"""Runtime: handles any message of the ledger, executes task bodies, takes submissions and outside events."""

import logging
import os
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar

from stabilize_celery.engine import places
from stabilize_celery.engine.answers import Answer, Hindrance
from stabilize_celery.engine.handler import Rules
from stabilize_celery.engine.registry import HANDLERS
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import (
    Change,
    DeleteFields,
    Handling,
    Hash,
    Plan,
    Read,
    SetFields,
    workflow_slot,
)
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.messages import CancelTask, FinalizeStage, Message, RunTask
from stabilize_celery.models.redaction import Redaction
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.attempts import AttemptFailedError, Attempts
from stabilize_celery.runtime.claiming import Claimer
from stabilize_celery.runtime.executor import TaskExecutor
from stabilize_celery.runtime.finalizing import finalize
from stabilize_celery.runtime.fusion import Fusion
from stabilize_celery.runtime.observing import Observer
from stabilize_celery.runtime.planning import plan_stage
from stabilize_celery.runtime.ports import Body, Claim, Outcome, Publisher, TaskRunner
from stabilize_celery.runtime.reading import read_workflow
from stabilize_celery.runtime.recording import Recorder
from stabilize_celery.runtime.submission import Submissions
from stabilize_celery.runtime.unit import UnitOfWork
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Bury, Due, Session, Store, Transaction
from stabilize_celery.tasks.builders import NoOpStageBuilder, WaitStageBuilder
from stabilize_celery.tasks.registry import TaskRegistry

__all__ = ["Runtime"]

logger = logging.getLogger("stabilize_celery")

_READY_MADE = (NoOpStageBuilder, WaitStageBuilder)


class _NoRunner:
    """Nobody extends leases: for tests, and for bodies shorter than a lease."""

    is_stopping: ClassVar[bool] = True
    """Nobody extends a lease: a result that can't be recorded at once is not waited with."""

    def began(self, claim: Claim, body: Body) -> None:
        """Ignore."""

    def ended(self, claim: Claim) -> None:
        """Ignore."""

    def going_on(self, message: RunTask) -> AbstractContextManager[Outcome]:  # noqa: ARG002 - nobody is told
        """Ignore."""
        return nullcontext(Outcome())


class Runtime:
    """One process's engine. Thread-safe: sessions are checked out per unit of work."""

    no_runner: ClassVar[TaskRunner] = _NoRunner()

    def __init__(  # noqa: PLR0913 - the world around it, all of it replaceable
        self,
        store: Store,
        registry: TaskRegistry,
        publisher: Publisher,
        settings: Settings,
        worker_id: str,
        *,
        executor: TaskExecutor | None = None,
        pause_ms: Callable[[float], None] = lambda ms: time.sleep(ms / 1000),
        new_nonce: Callable[[], str] = lambda: os.urandom(6).hex(),
        clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
        observer: Observer | None = None,
    ) -> None:
        self.store = store
        self.registry = registry
        self.settings = settings
        self.worker_id = worker_id
        self.runner: TaskRunner = self.no_runner
        self.serves: Callable[[], Collection[str] | None] = lambda: None
        """Returns the queues that this process gets messages from now; None: that is not known."""
        self.unit = UnitOfWork(store, publisher, settings, self._plan, pause_ms, observer)
        self.submissions = Submissions(self.unit, settings)
        self.executor = executor or TaskExecutor(settings.max_output_bytes, redaction=Redaction(settings.redact_keys))
        self._rules = Rules(
            lease_ms=settings.lease_ms,
            max_lost=settings.max_lost,
            lock_look_ms=settings.lock_look_ms,
            republish_ms=settings.republish_ms,
        )
        self._fusion = Fusion(self.unit, self._rules, settings, clock_us, self._is_code) if settings.is_fused else None
        self.attempts = Attempts(
            self.unit,
            registry,
            self.executor,
            settings,
            self._rules,
            claimer=Claimer(
                self.unit, registry, settings, self._rules, lambda: f"{self.worker_id}/{new_nonce()}", clock_us
            ),
            runner=lambda: self.runner,
            serves=lambda: self.serves(),  # noqa: PLW0108 - it is set later
            read=self.read,
            clock_us=clock_us,
            recorder=Recorder(self.unit, lambda: self.runner, self._fusion),
            fusion=self._fusion,
        )

    # -- messages ------------------------------------------------------------------------------------------------------

    def handle(self, message: Message) -> str:
        """Handle one delivery; returns a note for the log. A handler's bug is counted, then a dead letter.

        Raises:
            UnreachableError: the state server is away; the message stays owed.

        """
        observer = self.unit.observer
        if observer is None:
            return self._handle(message)
        return observer.around_delivery(message, partial(self._handle, message))

    def opening(self, message: Message) -> Read | None:
        """Return what the handling of a message reads first of its workflow; None: users' code comes before it."""
        if isinstance(message, (CancelTask, FinalizeStage)):
            return None
        handling = HANDLERS[type(message)](message, self._rules, 0)
        step = next(handling)
        handling.close()
        return step if isinstance(step, Read) and step.slot is None else None

    def _handle(self, message: Message) -> str:
        try:
            note = self._handled(message)
        except UnreachableError:
            raise
        except AttemptFailedError as failed:
            logger.exception("%s of workflow %s failed", failed.message.name, failed.message.workflow_id)
            return self._count_failure(failed.message, failed.__cause__ or failed, failed.owner)
        except Exception as error:
            logger.exception("%s of workflow %s failed", message.name, message.workflow_id)
            return self._count_failure(message, error)
        logger.debug("%s %s: %s", message.workflow_id, message.name, note)
        return note

    def _handled(self, message: Message) -> str:
        if isinstance(message, RunTask):
            return self.attempts.run(message)
        if isinstance(message, CancelTask):
            return self.attempts.tell(message)
        if isinstance(message, FinalizeStage):
            finalize(self.store, self.registry, message)
        if self._fusion is not None:
            return self.attempts.follow(message)
        handler = HANDLERS[type(message)]
        done = self.unit.run(
            workflow_slot(message.workflow_id),
            lambda attempt: handler(message, self._rules, attempt),
            message.name,
            is_last=True,
        )
        return done.decision.note or "applied"

    def _plan(self, step: Plan) -> dict[str, Any]:
        if step.phase == "timeout":
            return self.attempts.time_limit(step.frame)
        return plan_stage(self.registry, step, self.read)

    def _is_code(self, step: Plan) -> bool:
        """Whether a step is answered by users' code, which may look at the workflow; ready-made builders do not."""
        if step.phase == "timeout":
            return True
        builders, stage_type = self.registry.builders, step.frame.plan.type
        return builders.has(stage_type) and type(builders.get(stage_type)) not in _READY_MADE

    def _count_failure(self, message: Message, error: BaseException, owner: str = "") -> str:
        """Count a failure of ours. `owner`: of the claim that it leaves behind, which is no loss of a worker."""
        if self.unit.observer is not None:
            self.unit.observer.failed(message)
        told = "".join(traceback.format_exception(error))[-4000:]
        with self.store.session(workflow_slot(message.workflow_id)) as session:
            for _ in range(self.settings.commit_tries):
                note = self._counted_failure(session, message, told, owner)
                if note is not None:
                    return note
        # Its delivery comes back, and fails likewise.
        return "failed, and was changed by others meanwhile: not counted"

    def _counted_failure(self, session: Session, message: Message, told: str, owner: str) -> str | None:
        """Count a failure once; None: others have changed the entry meanwhile."""
        key = Hash(places.ledger(message.name))
        snapshot = session.read([key], [key.key])
        entry = ENTRY.decode(snapshot[key])
        if not entry.exists:
            return "failed, but nothing is owed any more"
        tries = entry.tries + 1
        fields = ENTRY.encode(tries=tries, error=told, pub=0)
        freed: list[Change] = [DeleteFields(key.key, ("own",))] if owner and entry.own == owner else []
        if tries >= self.settings.max_handler_tries:
            changes = [*freed, SetFields(key.key, fields)]
            done = session.commit(Transaction(changes, [Bury(message.name, snapshot.now_ms)]))
            return None if done is None else f"dead letter after {tries} tries"
        at_ms = snapshot.now_ms + 1000 * 2**tries
        changes = [*freed, SetFields(key.key, {**fields, "nb": at_ms})]
        done = session.commit(Transaction(changes, [Due(message.name, at_ms)]))
        return None if done is None else f"failed, try {tries}"

    # -- workflows -----------------------------------------------------------------------------------------------------

    def submit(
        self,
        definition: Mapping[str, Any] | Workflow,
        idempotency_key: str | None = None,
        *,
        workflow_id: str | None = None,
        trace: str = "",
        fails_closed: bool = False,
    ) -> str:
        """Start a workflow, once per id or key; return its id.

        Args:
            definition: What to run.
            idempotency_key: The same key stands for the same workflow.
            workflow_id: Its id, where it is not the definition's or that of the key.
            trace: The producer's span, as `traceparent` names it.
            fails_closed: Accept expressions that nobody can evaluate: their stages end TERMINAL.

        Raises:
            InvalidWorkflowError: names every problem; nothing was written.
            IdempotencyConflictError: the key, or the id, stands for another definition.
            CommitConflictError: others were first at every try; nothing was written.

        """
        return self.submissions.one(definition, idempotency_key, workflow_id, trace=trace, fails_closed=fails_closed)

    def ask(self, workflow_id: str, event: Callable[[], Handling]) -> Answer:
        """Apply an outside event (engine/outside.py); a conflict that lasts is asked again by the caller."""
        done = self.unit.run(workflow_slot(workflow_id), lambda _: event())
        if isinstance(done.decision.call, Answer):
            return done.decision.call
        return Answer(False, f"workflow {workflow_id} is too busy right now: try again", Hindrance.BUSY)

    def read(self, workflow_id: str) -> Workflow:
        """Return a workflow as users know it. Raises WorkflowNotFoundError."""
        return read_workflow(self.store, workflow_id)
