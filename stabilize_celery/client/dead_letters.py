"""Messages that nobody handles any more: those whose handler kept failing, and those that need a newer worker."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from stabilize_celery.client.outcomes import Outcome, no_such_workflow
from stabilize_celery.engine import places
from stabilize_celery.engine.answers import Answer, Hindrance, refuse
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.endings import (
    finish_workflow,
)
from stabilize_celery.engine.handler import unknown_in, workflow_of
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.state import ENTRY, Entry, WorkflowRecord
from stabilize_celery.engine.steps import Decision, Event, Handling, Hash, Look, Read, SetFields, workflow_slot
from stabilize_celery.runtime.flaws import UNREADABLE, Flawed, read_entry
from stabilize_celery.runtime.fleet import worker_of
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.store.contract import DueEntry, Store

__all__ = ["DeadLetter", "dead_letters", "drop", "read_letter", "replay"]

_LOOKED_AT = 2_000
"""How many due entries per partition are looked through for those that need a newer worker (count)."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that is owed and not handled. `at_ms`: when it was set aside, or is looked at next (epoch ms).

    `is_unknown`: only a newer worker knows its type, or its version.
    """

    workflow_id: str
    name: str
    kind: str
    ref_id: str
    tries: int
    error: str
    at_ms: int
    is_unknown: bool = False
    owner: str = ""

    @property
    def id(self) -> str:
        """How it is named: `<workflow id>/<ledger name>`."""
        return f"{self.workflow_id}/{self.name}"


def dead_letters(store: Store) -> list[DeadLetter]:
    """Return all dead letters, then the messages that this version does not know."""
    return [*_letters(store, store.dead_letters()), *_unknown(store)]


def read_letter(store: Store, letter_id: str) -> DeadLetter | None:
    """Return the message that is owed under an id, dead or not; None if nothing is owed."""
    workflow_id, _, name = letter_id.partition("/")
    return next(_letters(store, [DueEntry(workflow_id, name, 0)]), None)


def _unknown(store: Store) -> Iterator[DeadLetter]:
    _, found = store.first_due(range(store.partitions()), _LOOKED_AT)
    due = [entry for entries in found.values() for entry in entries]
    yield from (letter for letter in _letters(store, due) if letter.is_unknown)


def _letters(store: Store, found: Sequence[DueEntry]) -> Iterator[DeadLetter]:
    keys = [Hash(places.ledger(entry.name)) for entry in found]
    asked = [(workflow_slot(entry.workflow_id), (key,)) for entry, key in zip(found, keys, strict=True)]
    for place, key, snapshot in zip(found, keys, store.look_many(asked) if asked else (), strict=True):
        entry, flawed = read_entry(place.workflow_id, place.name, snapshot[key])
        if flawed:
            # As the keeper is about to set it aside: one that can't be read must not hide the others.
            kind = str(flawed.instead.get("t", entry.t))
            yield _letter(place, msgspec.structs.replace(entry, t=kind, error=flawed.told))
        elif entry.exists:
            yield _letter(place, entry)


def _letter(place: DueEntry, entry: Entry) -> DeadLetter:
    unknown = unknown_in(entry)
    told = entry.error or entry.parked or unknown
    owner = worker_of(entry.own) if entry.own else ""
    return DeadLetter(
        place.workflow_id, place.name, entry.t, _ref_id(entry), entry.tries, told, place.due_ms, bool(unknown), owner
    )


def _ref_id(entry: Entry) -> str:
    try:
        arguments = unpack(entry.a) if entry.a else {}
    except (msgspec.MsgspecError, ValueError):
        return ""
    return str(arguments.get("ref_id", "")) if isinstance(arguments, Mapping) else ""


def replay(runtime: Runtime, letter_id: str) -> Outcome:
    """Let a dead letter be handled again, as if it had never failed. Raises WorkflowNotFoundError."""
    workflow_id, name = _parsed(letter_id)
    return _asked(runtime, workflow_id, lambda: _replaying(workflow_id, name))


def drop(runtime: Runtime, letter_id: str) -> Outcome:
    """Give a dead letter, or a message that fails or rests, up: its workflow ends TERMINAL, since nothing else would.

    A message that is being handled as it should is refused. Raises WorkflowNotFoundError.
    """
    workflow_id, name = _parsed(letter_id)
    return _asked(runtime, workflow_id, lambda: _dropping(workflow_id, name))


def _parsed(letter_id: str) -> tuple[str, str]:
    workflow_id, _, name = letter_id.partition("/")
    return workflow_id, name


def _asked(runtime: Runtime, workflow_id: str, event: Callable[[], Handling]) -> Outcome:
    answer = runtime.ask(workflow_id, event)
    if answer.hindrance is Hindrance.NO_WORKFLOW:
        raise no_such_workflow(workflow_id)
    return Outcome.of(answer)


def _replaying(workflow_id: str, name: str) -> Handling:
    key, record, look = Hash(places.ledger(name)), Hash(places.WORKFLOW), Look((name,))
    snapshot = yield Read((key, record, look), (key.key,))
    entry, flawed = read_entry(workflow_id, name, snapshot[key])
    if (refused := _refusal(workflow_of(snapshot).exists, entry, flawed, name)) is not None:
        return refused
    if name in snapshot[look]:
        return refuse(f"{name} is not a dead letter: it is being handled")
    if flawed or entry.t == UNREADABLE:
        # Tried again, it would only lose the reason that stands in it.
        return refuse(f"{name} can't be read, so it can't be handled: drop it")
    decision = Decision(events=[Event("message.replayed", "", {"message": name})])
    decision.change(SetFields(key.key, ENTRY.encode(tries=0, error="", pub=0)))
    message = message_of(entry, workflow_id)
    if message is not None and entry.nb <= snapshot.now_ms:
        decision.nudges.append(message)
    else:
        decision.defers[name] = max(entry.nb, snapshot.now_ms)
    return _done(decision, f"{name} is handled again")


def _dropping(workflow_id: str, name: str) -> Handling:
    key, record, look = Hash(places.ledger(name)), Hash(places.WORKFLOW), Look((name,))
    snapshot = yield Read((key, record, look), (key.key, places.WORKFLOW))
    workflow = workflow_of(snapshot)
    entry, flawed = read_entry(workflow_id, name, snapshot[key])
    if (refused := _refusal(workflow.exists, entry, flawed, name)) is not None:
        return refused
    is_in_trouble = flawed or entry.error or entry.parked or unknown_in(entry)
    if name in snapshot[look] and not is_in_trouble:
        return refuse(f"{name} is not a dead letter: it is being handled")
    decision = Decision()
    if workflow.is_live:
        told = flawed.told if flawed else entry.error
        last = told.strip().splitlines()[-1] if told else "it was never handled"
        reason = f"the message {name} was given up: {last}"
        finish_workflow(decision, workflow_id, workflow, "TERMINAL", snapshot.now_ms, reason=reason)
    decision.forgets.append(name)
    return _done(decision, f"{name} is dropped; the workflow is {_after(workflow)}")


def _after(workflow: WorkflowRecord) -> str:
    return "TERMINAL now" if workflow.is_live else workflow.status


def _refusal(has_workflow: bool, entry: Entry, flawed: Flawed | None, name: str) -> Decision | None:
    if not has_workflow:
        return refuse("there is no such workflow", Hindrance.NO_WORKFLOW)
    if not entry.exists and not flawed:
        return refuse(f"there is no message {name!r}")
    return None


def _done(decision: Decision, told: str) -> Decision:
    decision.keeps_entry = True
    decision.call = Answer(True, told)
    return decision
