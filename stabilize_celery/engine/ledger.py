"""Messages as ledger entries, and back."""

from functools import lru_cache
from typing import Any

import msgspec

from stabilize_celery.engine.codec import pack, unpack
from stabilize_celery.engine.state import Entry
from stabilize_celery.models.messages import MESSAGE_TYPES, Message

__all__ = ["arguments_of", "is_owed", "message_of"]


@lru_cache(maxsize=1024)
def arguments_of(message: Message) -> bytes:
    """Return the field `a` of a message's entry: all its fields but the workflow's id."""
    fields = msgspec.structs.asdict(message)
    del fields["workflow_id"]
    return pack({name: value for name, value in fields.items() if value is not None})


def is_owed(message: Message, entry: Entry) -> bool:
    """Return whether an entry owes this message."""
    is_the_same = entry.t == type(message).__name__ and entry.a == arguments_of(message)
    return is_the_same or message_of(entry, message.workflow_id) == message


def message_of(entry: Entry, workflow_id: str) -> Message | None:
    """Return the message that an entry owes; None if there is no entry, or this version does not know its type."""
    if entry.t not in MESSAGE_TYPES:
        return None
    fields: dict[str, Any] = {**unpack(entry.a), "workflow_id": workflow_id}
    return msgspec.convert(fields, MESSAGE_TYPES[entry.t])
