"""What a stage waits for that is at one of its tasks."""

from stabilize_celery.client.why.facts import Facts
from stabilize_celery.client.why.fleet import worker_of
from stabilize_celery.client.why.owed import message_reason, queue_reason
from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.words import clock_time, duration, ordinal, plural
from stabilize_celery.engine.handler import unknown_in
from stabilize_celery.engine.moves import (
    task_list,
)
from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.state import Entry, Run, TaskState
from stabilize_celery.models.messages import run_name
from stabilize_celery.settings import Settings

__all__ = ["task_reason"]


def task_reason(facts: Facts, ref_id: str, plan: StagePlan, thread: str, run: Run, settings: Settings) -> Reason:
    """Return what a run at work waits for."""
    name = run_name(thread, None, run.task_index)
    tasks = task_list(plan, run.planned)
    _, label, task_type = tasks[run.task_index] if run.task_index < len(tasks) else ("", "?", "")
    what = f"task {label}"
    entry = facts.entry(name)
    state = run.tasks[run.task_index] if run.task_index < len(run.tasks) else TaskState()
    if entry is None or facts.is_dead(name) or name in facts.view.parked or unknown_in(entry):
        return message_reason(facts, ref_id, name, what)
    if entry.own:
        return _claimed(facts, ref_id, name, entry, state, what)
    if entry.nb > facts.now_ms and not entry.parked:
        return _later(facts, ref_id, entry, state, what)
    if entry.parked or (facts.fleet.live and not facts.fleet.knows(task_type)):
        return _unknown(facts, ref_id, entry, task_type, settings)
    if entry.lost:
        told = f"{what}: its worker was lost ({ordinal(entry.lost)} time in a row)"
        return Reason(ref_id, "lost", told, f"{queue_reason(facts, ref_id, entry, 'It').text}")
    return message_reason(facts, ref_id, name, what)


def _claimed(facts: Facts, ref_id: str, name: str, entry: Entry, state: TaskState, what: str) -> Reason:
    worker_id = worker_of(entry.own)
    worker, node = facts.fleet.find(worker_id), worker_id.partition("#")[0]
    if worker is None or not worker.answers:
        silent = f"has not answered for {duration(worker.silent_ms)}" if worker else "does not answer"
        left = max(0, facts.due.get(name, facts.now_ms) - facts.now_ms)
        told = f"{what} was claimed by worker {node}, which {silent}"
        return Reason(ref_id, "lost", told, f"Unless it comes back, the task runs again in about {duration(left)}")
    since = f" for {duration(facts.now_ms - state.started_ms)}" if state.started_ms else ""
    attempts = f", attempt {state.attempts}" if state.attempts > 1 else ""
    return Reason(ref_id, "running", f"{what} runs on {node}{since}{attempts}{_was(state)}")


def _later(facts: Facts, ref_id: str, entry: Entry, state: TaskState, what: str) -> Reason:
    at = f"at {clock_time(entry.nb, facts.now_ms)} (in {duration(entry.nb - facts.now_ms)})"
    if state.retries:
        told = f"{what} is tried again {at} after {_error(state)}"
        return Reason(ref_id, "retry", told, f"Attempt {state.retries} failed")
    return Reason(
        ref_id, "poll", f"{what} is not done yet and is asked again {at}", f"Asked {plural(state.polls, 'time')}"
    )


def _unknown(facts: Facts, ref_id: str, entry: Entry, task_type: str, settings: Settings) -> Reason:
    if not facts.fleet.live:
        return Reason(
            ref_id, "unattended", f"waits for a worker that knows the task type {task_type!r}: none is running"
        )
    if facts.fleet.knows(task_type):
        return Reason(ref_id, "queued", f"waits for a worker that knows the task type {task_type!r}", entry.parked)
    told = f"no running worker knows the task type {task_type!r} ({plural(len(facts.fleet.live), 'worker')} asked)"
    detail = f"It starts within {duration(settings.unknown_task_ms + settings.announce_ms)} once one does"
    return Reason(ref_id, "unknown_task", told, detail)


def _was(state: TaskState) -> str:
    return f" (was: {_error(state)})" if state.error else ""


def _error(state: TaskState) -> str:
    kind = str(state.error.get("type", "")).rpartition(".")[2]
    message = str(state.error.get("message", "")).splitlines()
    shown = message[0] if message else ""
    return f"{kind}: {shown}" if kind and not shown.startswith(kind) else shown or "an error"
