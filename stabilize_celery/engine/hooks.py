"""When a task's own `on_cancel` and `on_timeout` are owed (PROTOCOL 4.2, 4.3).

Every function adds to a `Decision`; none reads. Which hooks a task has stands in its state since it was claimed, so
nothing is owed to tasks without them.
"""

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.moves import Frame, set_run, task_list
from stabilize_celery.engine.state import ENTRY, Entry, Run, TaskState
from stabilize_celery.engine.steps import Decision, DeleteFields, Owed, SetFields
from stabilize_celery.models.messages import CancelTask, RunTask, TimeOut

__all__ = [
    "BESIDE_MS",
    "ON_CANCEL",
    "ON_TIMEOUT",
    "TIMEOUT_ANSWER_MS",
    "ask_on_timeout",
    "end_task",
    "owe_cancel",
    "owe_last_time_out",
    "task_at_work",
]

ON_CANCEL, ON_TIMEOUT = "on_cancel", "on_timeout"
BESIDE_MS = 30_000
"""How long a process has that executes a cancelled body to call `on_cancel` itself, before another one does (ms)."""
TIMEOUT_ANSWER_MS = 60_000
"""How long an `on_timeout` has to answer, before its task is TERMINAL all the same (ms)."""


def task_at_work(run: Run) -> TaskState | None:
    """Return the state of the task that was executed and has not ended, or None."""
    state = run.tasks[run.task_index] if run.task_index < len(run.tasks) else TaskState()
    return state if state.status in ("RUNNING", "SUSPENDED") else None


def owe_cancel(decision: Decision, frame: Frame, status: str, entry: Entry | None) -> None:
    """Owe the `on_cancel` of the task at work in a run that ends with `status`, if that is not its own doing.

    `entry`: the ledger entry of the task, where the caller has read it: a process that executes it is told first.
    """
    state = task_at_work(frame.run)
    if state is None or ON_CANCEL not in state.hooks or status not in ("CANCELED", "SKIPPED"):
        return
    index = frame.run.task_index
    tasks = task_list(frame.plan, frame.run.planned)
    if index >= len(tasks):
        # Its plan can't be read any more.
        return
    message = CancelTask(
        workflow_id=frame.workflow_id,
        ref_id=frame.plan.ref,
        thread=frame.thread,
        task_index=index,
        task_type=tasks[index].type,
    )
    at_ms = frame.now_ms + BESIDE_MS if entry is not None and entry.own else 0
    decision.owes.append(Owed(message, at_ms, queue=state.queue))


def ask_on_timeout(decision: Decision, message: RunTask, frame: Frame, entry: Entry, told: str) -> None:
    """Have whoever claims the task next ask its `on_timeout`; what is executed now is fenced.

    Under a lock that waits for the code to return: what `on_timeout` answers may let the run go on, and the lock is
    not for two bodies at once.
    """
    key = places.ledger(message.name)
    fields = ENTRY.encode(to=told, att=entry.att + 1, lost=0, nb=0, parked="")
    if not entry.exists:  # it waits for a signal
        fields = ENTRY.encode(to=told, att=frame.run.att)
        queue = "" if (state := task_at_work(frame.run)) is None else state.queue
        set_run(decision, frame.thread, status="RUNNING", waits="")
        decision.owes.append(Owed(message, fields=fields, queue=queue))
    elif entry.own and frame.is_guarded:
        decision.change(SetFields(key, ENTRY.encode(to=told)))
    else:
        decision.change(DeleteFields(key, ("own",)))
        decision.change(SetFields(key, fields))
        decision.nudges.append(message)


def owe_last_time_out(decision: Decision, message: RunTask, frame: Frame) -> None:
    """Owe the end of the task for the case that its `on_timeout` does not answer."""
    timer = TimeOut(
        workflow_id=message.workflow_id,
        scope="task",
        ref_id=message.ref_id,
        thread=message.thread,
        task_index=message.task_index,
    )
    fields = ENTRY.encode(paused_ms=frame.workflow.paused_ms)
    decision.owes.append(Owed(timer, frame.now_ms + TIMEOUT_ANSWER_MS, fields=fields))


def end_task(decision: Decision, frame: Frame, status: str, kind: str, told: str) -> None:
    """Write how the task at work has ended, if there is one; `kind` names the error."""
    state = task_at_work(frame.run)
    if state is None:
        return
    tasks = list(frame.run.tasks)
    error = {"type": kind, "message": told}
    tasks[frame.run.task_index] = msgspec.structs.replace(state, status=status, ended_ms=frame.now_ms, error=error)
    set_run(decision, frame.thread, tasks=tasks)
