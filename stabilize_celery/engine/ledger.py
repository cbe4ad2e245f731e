"""Messages as ledger entries, and back."""

from typing import Any

import msgspec

from stabilize_celery.engine.codec import pack, unpack
from stabilize_celery.engine.state import Entry
from stabilize_celery.models.messages import MESSAGE_TYPES, Message

__all__ = ["arguments_of", "message_of"]


def arguments_of(message: Message) -> bytes:
    """Return the field `a` of a message's entry: all its fields but the workflow's id."""
    fields = {name: getattr(message, name) for name in message.__struct_fields__ if name != "workflow_id"}
    return pack({name: value for name, value in fields.items() if value is not None})


def message_of(entry: Entry, workflow_id: str) -> Message | None:
    """Return the message that an entry owes; None if there is no entry, or this version does not know its type."""
    if entry.t not in MESSAGE_TYPES:
        return None
    fields: dict[str, Any] = {**unpack(entry.a), "workflow_id": workflow_id}
    return msgspec.convert(fields, MESSAGE_TYPES[entry.t])
