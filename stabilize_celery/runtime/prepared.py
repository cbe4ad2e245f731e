"""A decision as a transaction: what is written, what is owed and where it goes, what is sent after it. Pure."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.ledger import arguments_of
from stabilize_celery.engine.state import ENTRY, Entry, WorkflowRecord
from stabilize_celery.engine.steps import Change, Decision, Event, Owed, SetFields, Value, always
from stabilize_celery.models.messages import LEDGER_VERSION, CompleteStage, Message, RunTask, StartStage
from stabilize_celery.runtime.lanes import Urgency
from stabilize_celery.runtime.ports import Outgoing, outgoing, queue_of
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Drop, Due, LedgerChange, Put, Transaction, Undue

__all__ = ["Handled", "Prepared", "Publishing", "event_fields", "outgoing_of", "prepare"]

Results = Sequence[int | None]

_OWED_ONCE = (StartStage, RunTask, CompleteStage)
"""What is owed under a name that nothing was owed under before, or nothing is any more: it is no dead letter."""


class Handled(msgspec.Struct, frozen=True):
    """The message that is decided about, as far as was read: its workflow's record and its entry."""

    record: WorkflowRecord = WorkflowRecord()
    entry: Entry = Entry()


class Publishing(msgspec.Struct, frozen=True):
    """A message that a decision owes now; `wanted` tells from the results of its changes whether to send it."""

    message: Message
    queue: str
    wanted: Callable[[Results], bool]


class Prepared(msgspec.Struct, frozen=True):
    """A decision as a transaction, what to publish after it, and what the transaction itself sends, in order."""

    transaction: Transaction
    publishes: Sequence[Publishing]
    riding: Sequence[Message] = ()

    def due(self, results: Results) -> list[Publishing]:
        """Return the messages that the results ask for."""
        return [one for one in self.publishes if one.wanted(results)]

    def to_publish(self, results: Results) -> list[Outgoing]:
        """Return the same as they are published."""
        return outgoing_of(self.due(results))


def prepare(decision: Decision, now_ms: int, own: str | None, handled: Handled, settings: Settings) -> Prepared:
    """Return the transaction that a decision means.

    Args:
        decision: What a handler has decided.
        now_ms: The time of the server that it is written to.
        own: The ledger name of the handled message, which is forgotten unless the decision keeps its entry; None: there
            is none.
        handled: What was read of that message: what follows goes into its lane.
        settings: Queues, and when somebody looks after what is sent.

    """
    urgency = Urgency.of(handled.record, handled.entry)
    if decision.priority is not None:
        urgency = Urgency(decision.priority)
    # What has failed so often that it was set aside says so.
    is_well = handled.entry.exists and not handled.entry.error
    ledger: list[LedgerChange] = [Drop(name) for name in decision.forgets if name != own]
    if own is not None and (own in decision.forgets or not decision.keeps_entry):
        ledger.append(Drop(own, is_well))
    changes: list[Change] = list(decision.changes)
    publishes: list[Publishing] = []
    defers = decision.defers
    for owed in decision.owes:
        queue = owed.queue or urgency.lane(queue_of(owed.message, settings), owed.message, len(publishes))
        looked_at_ms = defers.get(owed.message.name)
        ledger.append(_entry(owed, queue, now_ms, looked_at_ms, settings.republish_ms))
        if owed.not_before_ms <= now_ms and looked_at_ms is None:
            publishes.append(Publishing(owed.message, queue, owed.publish))
    for message in decision.nudges:
        queue = urgency.lane(queue_of(message, settings), message, len(publishes))
        changes.append(SetFields(places.ledger(message.name), ENTRY.encode(pub=now_ms, nb=0, q=queue)))
        ledger.append(Due(message.name, now_ms + settings.republish_ms))
        publishes.append(Publishing(message, queue, always))
    if defers:
        placed = {message.name for message in (*decision.nudges, *(owed.message for owed in decision.owes))}
        ledger += [
            Due(name, at_ms, is_well=is_well and name == own) for name, at_ms in defers.items() if name not in placed
        ]
    ledger += [Undue(name) for name in decision.parks]
    events = [event_fields(event, now_ms) for event in decision.events]
    return Prepared(Transaction(changes, ledger, events), publishes)


def _entry(owed: Owed, queue: str, now_ms: int, looked_at_ms: int | None, republish_ms: int) -> Put:
    """Return the entry of an owed message; `looked_at_ms`: its lease, if who owes it has claimed it at once."""
    is_later = owed.not_before_ms > now_ms
    fields: dict[str, Value] = {
        "t": type(owed.message).__name__,
        "v": LEDGER_VERSION,
        "a": arguments_of(owed.message),
        "nb": owed.not_before_ms if is_later else 0,
        "pub": now_ms if owed.publish is always and not is_later else 0,
        "q": queue,
        **owed.fields,
    }
    due_ms = looked_at_ms or (owed.not_before_ms if is_later else now_ms + republish_ms)
    message = owed.message
    return Put(message.name, fields, due_ms, keep_earlier=message.is_merge, is_well=isinstance(message, _OWED_ONCE))


def event_fields(event: Event, now_ms: int) -> dict[str, Value]:
    """Return the stream fields of an event: kind, stage, time, data (msgpack)."""
    return {"kind": event.kind, "ref": event.ref_id, "at": now_ms, "data": pack(event.data)}


def outgoing_of(publishings: Iterable[Publishing]) -> list[Outgoing]:
    """Return messages as they are published."""
    return [outgoing(one.message, one.queue) for one in publishings]
