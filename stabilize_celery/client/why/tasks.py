"""What a stage waits for that is at one of its tasks."""

from dataclasses import replace

from stabilize_celery.client.why.facts import Facts
from stabilize_celery.client.why.owed import message_reason, queue_reason
from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.words import clock_time, duration, ordinal, plural
from stabilize_celery.engine.handler import unknown_in
from stabilize_celery.engine.hooks import TIMEOUT_ANSWER_MS
from stabilize_celery.engine.moves import (
    task_list,
)
from stabilize_celery.engine.plan import StagePlan, TaskPlan
from stabilize_celery.engine.state import Entry, Run, TaskState
from stabilize_celery.models.messages import run_name, timer_name
from stabilize_celery.runtime.fleet import worker_of
from stabilize_celery.runtime.rates import RATE_LIMIT
from stabilize_celery.settings import Settings

__all__ = ["task_reason"]


def task_reason(facts: Facts, ref_id: str, plan: StagePlan, thread: str, run: Run, settings: Settings) -> Reason:
    """Return what a run at work waits for."""
    name = run_name(thread, None, run.task_index)
    tasks = task_list(plan, run.planned)
    task = tasks[run.task_index] if run.task_index < len(tasks) else TaskPlan("", "?", "")
    entry = facts.entry(name)
    state = run.tasks[run.task_index] if run.task_index < len(run.tasks) else TaskState()
    what = _what(task.name, entry, run)
    if entry is None or facts.is_dead(name) or name in facts.view.parked or unknown_in(entry):
        return message_reason(facts, ref_id, name, what)
    if entry.own:
        return _claimed(facts, ref_id, thread, run, entry, state, what)
    if entry.nb > facts.now_ms and not entry.parked:
        return _later(facts, ref_id, run, entry, state, task.name)
    if entry.parked or (facts.fleet.live and not facts.fleet.knows(task.type)):
        return _over(facts, thread, run, entry, _unknown(facts, ref_id, entry, task.type, settings))
    if entry.lost:
        told = f"{what}: its worker was lost ({ordinal(entry.lost)} time in a row)"
        reason = Reason(ref_id, "lost", told, f"{queue_reason(facts, ref_id, entry, 'It').text}")
        return _over(facts, thread, run, entry, reason)
    return _over(facts, thread, run, entry, message_reason(facts, ref_id, name, what))


def _what(label: str, entry: Entry | None, run: Run) -> str:
    """Return what a task's message is for: its body, what it says of its time-out, or the check of its outputs."""
    if entry is not None and entry.to:
        return f"the on_timeout of task {label}"
    return f"the verification of task {label}" if run.held else f"task {label}"


def _claimed(facts: Facts, ref_id: str, thread: str, run: Run, entry: Entry, state: TaskState, what: str) -> Reason:
    name = run_name(thread, None, run.task_index)
    worker_id = worker_of(entry.own)
    worker, node = facts.fleet.find(worker_id), worker_id.partition("#")[0]
    if worker is None or not worker.answers:
        silent = f"has not answered for {duration(worker.silent_ms)}" if worker else "does not answer"
        left = max(0, facts.due.get(name, facts.now_ms) - facts.now_ms)
        told = f"{what} was claimed by worker {node}, which {silent}"
        reason = Reason(ref_id, "lost", told, f"Unless it comes back, {_again(entry, run)} in about {duration(left)}")
        return _over(facts, thread, run, entry, reason)
    if entry.to and entry.pub < _asked_ms(facts, thread, run):
        told = f"{what} is asked when the task's code on {node} has returned: it runs under a mutex"
        return _over(facts, thread, run, entry, Reason(ref_id, "time_over", told))
    if entry.to or run.held:
        return _over(facts, thread, run, entry, Reason(ref_id, "running", f"{what} runs on {node}"))
    return Reason(ref_id, "running", f"{what} runs on {node}{_since(state, facts.now_ms)}{_was(state)}")


def _since(state: TaskState, now_ms: int) -> str:
    """Return for how long a task has run: when it began is kept, when a later attempt did is not."""
    attempt = f", attempt {state.attempts}" if state.attempts > 1 else ""
    if not state.started_ms:
        return attempt
    took = duration(now_ms - state.started_ms)
    return f"{attempt}, {took} since its first attempt began" if attempt else f" for {took}"


def _again(entry: Entry, run: Run) -> str:
    if entry.to:
        return "it is asked again"
    return "the outputs are checked again" if run.held else "the task runs again"


def _asked_ms(facts: Facts, thread: str, run: Run) -> int:
    """Return when a task's `on_timeout` was owed, as its last deadline tells (epoch ms)."""
    timer = facts.entry(timer_name("task", thread, None, run.task_index))
    return timer.nb - TIMEOUT_ANSWER_MS if timer is not None else 0


def _over(facts: Facts, thread: str, run: Run, entry: Entry, reason: Reason) -> Reason:
    """Return a reason with what else is known of a task whose time is over, or whose outputs are being checked."""
    if entry.to:
        timer = facts.entry(timer_name("task", thread, None, run.task_index))
        until = f"; without an answer by {clock_time(timer.nb, facts.now_ms)} it fails" if timer else ""
        return replace(reason, detail=_joined(f"Its time is over: {entry.to}{until}", reason.detail))
    if run.held:
        checks = int(run.held.get("checks", 0))
        told = f"The task itself has succeeded; its outputs did not pass {plural(checks, 'check')} so far"
        return replace(reason, detail=_joined(told, reason.detail))
    return reason


def _joined(first: str, second: str) -> str:
    return f"{first}. {second}" if second else first


def _later(facts: Facts, ref_id: str, run: Run, entry: Entry, state: TaskState, label: str) -> Reason:
    at = f"at {clock_time(entry.nb, facts.now_ms)} (in {duration(entry.nb - facts.now_ms)})"
    if run.held:
        checks = plural(int(run.held.get("checks", 0)), "check")
        told = f"task {label} has succeeded; its outputs did not pass {checks} so far, and are checked again {at}"
        return Reason(ref_id, "verification", told)
    if state.retries:
        told = f"task {label} is tried again {at} after {_error(state)}"
        return Reason(ref_id, "retry", told, f"Attempt {state.retries} failed")
    told = f"task {label} is not done yet and is asked again {at}"
    return Reason(ref_id, "poll", told, f"Asked {plural(state.polls, 'time')}" if state.polls else "")


def _unknown(facts: Facts, ref_id: str, entry: Entry, task_type: str, settings: Settings) -> Reason:
    if entry.parked.startswith(RATE_LIMIT):
        at = f"in {duration(max(0, entry.nb - facts.now_ms))}"
        return Reason(ref_id, "rate_limit", f"waits for its turn, {at}: {entry.parked}")
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
