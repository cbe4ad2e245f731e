"""Where a message is that a stage waits for: in a queue, held back, buried, or nowhere."""

from stabilize_celery.client.why.facts import Facts
from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.words import clock_time, command_line, duration, plural
from stabilize_celery.engine.handler import unknown_in
from stabilize_celery.engine.state import Entry
from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.runtime.lanes import queue_and_step

__all__ = ["message_reason", "queue_reason"]

_START_ONE = "start one: `stabilize-celery worker -A APP`"


def message_reason(facts: Facts, ref_id: str, name: str, what: str) -> Reason:
    """Return the reason of a stage whose next step is the message of this ledger name; `what` begins the sentence."""
    entry = facts.entry(name)
    if entry is None:
        told = f"{what}: nothing is owed and nothing runs, this should not happen"
        return Reason(ref_id, "stuck", told, "Redis may have lost writes", "stabilize-celery doctor")
    if name in facts.view.parked:
        return Reason(ref_id, "paused", f"{what} is held back: the workflow is paused")
    if facts.is_dead(name):
        return _dead(facts, ref_id, name, entry, what)
    if unknown_in(entry):
        return Reason(ref_id, "unknown_message", f"{what} rests: {unknown_in(entry)}", _again(facts, name))
    if entry.parked:
        return Reason(ref_id, "parked", f"{what} rests: {entry.parked}", _again(facts, name))
    if entry.error and entry.tries:
        last = entry.error.strip().splitlines()[-1]
        told = f"{what} failed {plural(entry.tries, 'time')}: {last}"
        return Reason(ref_id, "failing", told, _again(facts, name), traceback=entry.error)
    return queue_reason(facts, ref_id, entry, what)


def queue_reason(facts: Facts, ref_id: str, entry: Entry, what: str) -> Reason:
    """Return the reason of a message that was, or is about to be, published."""
    queue, step = queue_and_step(entry.q)
    where = f"queue {queue!r}"
    if not facts.fleet.live:
        return Reason(ref_id, "unattended", f"{what} is in {where}, and no worker is running", "", _START_ONE)
    listening = facts.fleet.listening(queue)
    if not listening:
        told = f"{what} is in {where}, and no worker listens on it"
        there = f"{plural(len(facts.fleet.live), 'worker')} on other queues"
        return Reason(ref_id, "unattended", told, there, f"start one with -Q {queue}")
    if not entry.pub:
        return Reason(ref_id, "queued", f"{what} is about to go into {where}")
    behind = f", behind what is more urgent than priority {step}" if step > DEFAULT_PRIORITY else ""
    told = f"{what} is in {where} for {duration(facts.now_ms - entry.pub)}{behind}"
    return Reason(ref_id, "queued", told, f"{plural(len(listening), 'worker')} on that queue")


def _dead(facts: Facts, ref_id: str, name: str, entry: Entry, what: str) -> Reason:
    last = entry.error.strip().splitlines()[-1] if entry.error else "no error was recorded"
    told = f"{what} is a dead letter after {plural(entry.tries, 'try', 'tries')}: {last}"
    advice = command_line("dead replay", f"{facts.view.id}/{name}")
    return Reason(ref_id, "dead_letter", told, advice=advice, traceback=entry.error)


def _again(facts: Facts, name: str) -> str:
    at_ms = facts.due.get(name)
    return f"It is tried again at {clock_time(at_ms, facts.now_ms)}" if at_ms else ""
