"""Runs a task's body on its own copy of the stage, and says how it ended. No store, no broker."""

import inspect
import random
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.handlers.run_task import ClaimedTask
from stabilize_celery.engine.results import TaskReturned
from stabilize_celery.errors import TaskTimeoutError, truncate_error
from stabilize_celery.models.json_values import copy_json
from stabilize_celery.models.limits import MAX_PAUSE_MS, MAX_TIME_MS
from stabilize_celery.models.problems import Problem
from stabilize_celery.models.redaction import KnownSecrets, Redaction
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.verifying import held_answer, verified
from stabilize_celery.settings import SECRET_KEYS
from stabilize_celery.tasks.call import SubWorkflowOutcome, TaskCall, bind_call
from stabilize_celery.tasks.cancellation import CancellationToken, bind_token
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.outcome import backoff_ms, classify_exception
from stabilize_celery.tasks.task import Task, wait_of
from stabilize_celery.tasks.verification import VerifierRegistry

__all__ = ["TaskExecutor", "call_of"]

POLL_BASE_MS = 500
POLL_CAP_MS = 15_000
MAX_TOLD_BYTES = 4_000
"""How much of a task's own error text is kept beside its context (bytes)."""


_REDACTION = Redaction(SECRET_KEYS)


@dataclass(frozen=True, slots=True)
class TaskExecutor:
    """Executes claimed tasks. `jitter`: a number in [0, 1) per call; `redaction`: what no error tells.

    `ends_worker`: whether an exit out of a body is how its process ends, and no answer of the task; default: never.
    """

    max_output_bytes: int
    jitter: Callable[[], float] = random.random
    redaction: Redaction = _REDACTION
    ends_worker: Callable[[SystemExit], bool] = lambda _: False

    def execute(
        self,
        claimed: ClaimedTask,
        task: Task,
        options: TaskOptions,
        stage: StageExecution,
        token: CancellationToken,
        verifiers: VerifierRegistry | None = None,
    ) -> TaskReturned:
        """Run the body once and return how it ended; whatever user code raises is an answer, never an exception.

        Instead of the body, its `on_timeout` if the task's time is over, or only the check of what it has brought.
        """
        with bind_call(call_of(claimed, options)), bind_token(token):
            returned = self._executed(claimed, task, options, stage, verifiers)
        if returned.error:
            # Only now: a context may have to be fetched.
            returned = _without(self.redaction.known_to(stage.context), returned)
        return msgspec.structs.replace(returned, is_time_out=True) if claimed.time_over else returned

    def too_long(self, claimed: ClaimedTask, options: TaskOptions, limit_s: float) -> TaskReturned:
        """Return what an execution means that takes longer than its limit (s), if its task has no `on_timeout`."""
        returned = _failed(claimed, TaskTimeoutError.__name__, f"one execution took longer than {limit_s:g} s")
        tries = claimed.state.retries + 1
        if not issubclass(TaskTimeoutError, options.retry_on) or tries >= options.max_attempts:
            return returned
        pause = backoff_ms(tries, options.backoff_s, options.backoff_max_s, self.jitter())
        return msgspec.structs.replace(returned, status="RETRY", again_after_ms=_bounded_ms(pause))

    def raised(
        self, claimed: ClaimedTask, options: TaskOptions, error: BaseException, context: Mapping[str, Any]
    ) -> TaskReturned:
        """Return what an exception of the task's code means; `context`: whose secrets it does not tell."""
        try:
            return _storable(claimed, self._raised(claimed, options, error, self.redaction.known_to(context)))
        except Exception as second:  # noqa: BLE001 - an exception's own methods are user code, too
            told = f"{type(error).__name__}, which can't be told: {type(second).__name__}"
            return _failed(claimed, type(error).__name__, told)

    def _executed(
        self,
        claimed: ClaimedTask,
        task: Task,
        options: TaskOptions,
        stage: StageExecution,
        verifiers: VerifierRegistry | None,
    ) -> TaskReturned:
        try:
            if claimed.time_over:
                return self._time_over(claimed, options, task, stage)
            returned = held_answer(claimed)
            if returned is None:
                returned = _storable(claimed, self._returned(claimed, task, stage, task.execute(stage)))
            return returned if verifiers is None else verified(returned, claimed, stage, verifiers)
        except BaseException as error:
            if isinstance(error, SystemExit):
                if self.ends_worker(error):
                    raise  # the task is lost with it, and comes back
                return _failed(claimed, type(error).__name__, _exit_told(error))
            if _is_no_answer(error):
                raise
            return self.raised(claimed, options, error, stage.context)

    def _time_over(self, claimed: ClaimedTask, options: TaskOptions, task: Task, stage: StageExecution) -> TaskReturned:
        told = claimed.time_over
        try:
            result = task.on_timeout(stage)
            if result is None:
                return _failed(claimed, TaskTimeoutError.__name__, told)
            returned = _storable(claimed, self._returned(claimed, task, stage, result))
        except Exception as error:  # noqa: BLE001 - whatever user code raises is its result
            failure = self.raised(claimed, replace(options, max_attempts=1), error, stage.context).error
            message = f"{told}; on_timeout: {failure['message']}"
            return TaskReturned(claimed.attempt, "TERMINAL", error={**failure, "message": message})
        if returned.status in ("RUNNING", "SUSPENDED"):
            return _failed(claimed, "ResultError", f"{told}; on_timeout answered {returned.status}, which is no end")
        return returned

    def _returned(self, claimed: ClaimedTask, task: Task, stage: StageExecution, result: Any) -> TaskReturned:
        if not isinstance(result, TaskResult):
            return _failed(claimed, "TypeError", _no_result(result))
        problems: list[Problem] = []
        context, outputs = (
            copy_json(result.context, "context", problems),
            copy_json(result.outputs, "outputs", problems),
        )
        if problems or (too_large := self._too_large(context, outputs)):
            told = "; ".join(map(str, problems[:10])) if problems else too_large
            return _failed(claimed, "OutputError", told)
        answer = TaskReturned(claimed.attempt, result.status.name, context, outputs)
        return self._completed(answer, claimed, task, stage, result)

    def _completed(
        self, answer: TaskReturned, claimed: ClaimedTask, task: Task, stage: StageExecution, result: TaskResult
    ) -> TaskReturned:
        changes: dict[str, Any] = {}
        if result.status is WorkflowStatus.RUNNING:
            changes["again_after_ms"] = self._poll_ms(claimed, task, stage)
        elif result.status is WorkflowStatus.SUSPENDED:
            changes |= _waits(task, stage)
        elif result.status is WorkflowStatus.REDIRECT:
            changes["target"] = result.target_stage_ref_id
            if not result.target_stage_ref_id:
                told = "the task redirects, but names no stage to jump to"
                return msgspec.structs.replace(_failed(claimed, "RedirectError", told), context=answer.context)
        elif result.status in (WorkflowStatus.TERMINAL, WorkflowStatus.STOPPED, WorkflowStatus.FAILED_CONTINUE):
            told = str(answer.context.get("error") or f"the task answered {result.status.name}")
            told = self.redaction.known_to(stage.context).text_without(told)
            changes["error"] = {"message": truncate_error(told, MAX_TOLD_BYTES)}
        elif result.status.name not in ("SUCCEEDED", "SKIPPED", "CANCELED"):
            return _failed(claimed, "ResultError", f"{result.status.name} is no result of a task")
        return msgspec.structs.replace(answer, **changes) if changes else answer

    def _poll_ms(self, claimed: ClaimedTask, task: Task, stage: StageExecution) -> int:
        asked = task.poll_after_ms(stage)
        if asked is not None:
            return _bounded_ms(asked)
        return backoff_ms(claimed.state.polls + 1, POLL_BASE_MS / 1000, POLL_CAP_MS / 1000, self.jitter())

    def _raised(
        self, claimed: ClaimedTask, options: TaskOptions, error: BaseException, secrets: KnownSecrets
    ) -> TaskReturned:
        failure = classify_exception(error, options, claimed.state.retries + 1, secrets)
        told = {"type": failure.exception_type, "message": failure.message, "traceback": failure.traceback}
        problems: list[Problem] = []
        context = copy_json(failure.context_update, "context_update", problems)
        if problems or not isinstance(context, dict) or self._too_large(context, {}):
            context = {}
        if not failure.is_transient:
            told["message"] = f"{failure.exception_type}: {failure.message}"
            return TaskReturned(claimed.attempt, "TERMINAL", context, error=told)
        pause = failure.retry_after_ms
        if pause is None:
            tries = claimed.state.retries + 1
            pause = backoff_ms(tries, options.backoff_s, options.backoff_max_s, self.jitter())
        return TaskReturned(claimed.attempt, "RETRY", context, error=told, again_after_ms=_bounded_ms(pause))

    def _too_large(self, context: Mapping[str, Any], outputs: Mapping[str, Any]) -> str:
        for kind, values in (("outputs", outputs), ("context", context)):
            size = len(pack(values)) if values else 0
            if size > self.max_output_bytes:
                largest = max(values, key=lambda name: len(pack(values[name])))
                most = self.max_output_bytes
                return f"{kind} take {size} bytes, at most {most} are stored; the largest is {kind}.{largest}"
        return ""


def _no_result(result: object) -> str:
    told = f"the task returned {type(result).__name__}, not a TaskResult"
    if not inspect.iscoroutine(result):
        return told
    result.close()  # else Python warns, much later, that nobody has awaited it
    return f"{told}: tasks are plain functions. Let one call asyncio.run() itself"


def _exit_told(error: SystemExit) -> str:
    if type(error) is SystemExit:
        return f"the task called sys.exit({error.code!r})"
    name = type(error).__name__
    return f"the task raised {name}, which ends no worker: it fails. `celery control shutdown` stops workers"


def _is_no_answer(error: BaseException) -> bool:
    """Return whether this is no answer of user code, but how its process, or its greenlet, is told to end.

    Others that are no `Exception` are answers: asyncio's CancelledError, gevent's Timeout, a GeneratorExit. So is a
    KeyboardInterrupt where nobody can have pressed Ctrl-C: in a worker, which handles that signal itself.
    """
    if isinstance(error, KeyboardInterrupt):
        handler = signal.getsignal(signal.SIGINT)
        return handler is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    return type(error).__name__ == "GreenletExit"


def _without(secrets: KnownSecrets, returned: TaskReturned) -> TaskReturned:
    """Return a failure that does not tell secrets: its error is shown wherever people look."""
    context = dict(returned.context)
    if "error" in context:
        context["error"] = secrets.hidden_in(context["error"])
    return msgspec.structs.replace(returned, error=secrets.hidden_in(returned.error), context=context)


def _bounded_ms(pause_ms: float) -> int:
    return min(max(0, int(pause_ms)), MAX_PAUSE_MS)


def _storable(claimed: ClaimedTask, returned: TaskReturned) -> TaskReturned:
    """Return the answer, or the failure that it can't be stored: found here, it is the task's; later, nobody's."""
    try:
        _check_deadline(returned.deadline_ms)
        pack((returned.target or "", returned.signal, returned.deadline_ms, returned.sub_workflow, returned.error))
    except (TypeError, ValueError, OverflowError) as error:
        return _failed(claimed, "ResultError", f"the task's answer can't be stored: {type(error).__name__}: {error}")
    return returned


def _check_deadline(deadline_ms: int | None) -> None:
    # NaN is not at most anything.
    if deadline_ms is not None and not deadline_ms <= MAX_TIME_MS:
        raise ValueError(f"it waits for {deadline_ms} ms, and at most {MAX_TIME_MS} ms are possible")


def _failed(claimed: ClaimedTask, kind: str, message: str) -> TaskReturned:
    return TaskReturned(claimed.attempt, "TERMINAL", error={"type": kind, "message": message})


def _waits(task: Task, stage: StageExecution) -> Mapping[str, Any]:
    called = task.calls_workflow(stage)
    if called is not None:
        call = {"name": called.name, "definition": called.definition, "context": dict(called.context or {})}
        return {"sub_workflow": call}
    wait = wait_of(task, stage)
    return {"signal": wait.signal, "deadline_ms": wait.deadline_ms}


def call_of(claimed: ClaimedTask, options: TaskOptions) -> TaskCall:
    """Return what the task's code can know of its execution."""
    run, message, state = claimed.frame.run, claimed.message, claimed.state
    sub = run.sub
    return TaskCall(
        workflow_id=message.workflow_id,
        stage_ref_id=message.ref_id,
        run_number=claimed.run_number,
        instance_index=run.instance,
        task_name=claimed.task_name,
        attempt=state.retries + claimed.lost + 1,
        polls=state.polls,
        started_ms=state.started_ms,
        now_ms=claimed.frame.now_ms,
        idempotency_key=f"{message.workflow_id}/{message.ref_id}/{message.thread}/{message.task_index}",
        fencing_token=run.token or None,
        deadline_ms=state.started_ms + int(options.timeout_s * 1000) if options.timeout_s else None,
        signal=run.signal,
        signal_payload=run.payload,
        sub_workflow=SubWorkflowOutcome(sub.workflow_id, sub.status, sub.outputs, sub.reason) if sub else None,
    )
