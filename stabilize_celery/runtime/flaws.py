"""What is wrong with a ledger entry as it is stored: fields that nobody can read, arguments that make no message.

Lost writes, a bug, or a hand in Redis. Such an entry is set aside with the reason, for people to see, so that it can't
hold up the others (PROTOCOL 11). Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_type_hints

import msgspec

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.handler import unknown_in
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.state import ENTRY, Entry

__all__ = ["MAX_NUMBER", "UNREADABLE", "Flawed", "read_entry"]

UNREADABLE = "Unreadable"
"""Type that stands in an entry whose own can't be read: no version knows it, so people see it as such."""
MAX_NUMBER = 2**53
"""Numbers of an entry lie below: they are times (ms), scores of a sorted set, and counters."""

_NUMBERS = {"again", *(name for name, kind in get_type_hints(Entry).items() if kind in (int, int | None))}
_NOTHING = pack({})


@dataclass(frozen=True, slots=True)
class Flawed:
    """What is wrong with an entry, and which of its fields are. `told` is one sentence."""

    told: str
    fields: tuple[str, ...] = ()

    @property
    def instead(self) -> dict[str, str | bytes]:
        """What is written in place of bad fields that can't be absent: without arguments, the type is none either."""
        if "a" in self.fields:
            return {"t": UNREADABLE, "a": _NOTHING}
        return {"t": UNREADABLE} if "t" in self.fields else {}


def read_entry(workflow_id: str, name: str, fields: Mapping[str, bytes]) -> tuple[Entry, Flawed | None]:
    """Return an entry without its bad fields, and what is wrong with it, or None."""
    bad = {field: data for field, data in fields.items() if not _is_readable(field, data)}
    entry: Entry = ENTRY.decode({field: data for field, data in fields.items() if field not in bad})
    told = [
        f"{field} is {data[:60]!r}, {'no whole number' if field in _NUMBERS else 'no text'}"
        for field, data in bad.items()
    ]
    names = list(bad)
    if fields and not entry.exists and "t" not in bad:
        told.append("its type t is missing")
        names.append("t")
    if not told and entry.exists and (problem := _problem_of_message(workflow_id, name, entry)):
        told.append(problem)
        names.append("a")
    if not told:
        return entry, None
    return entry, Flawed(
        f"the ledger entry {name} of workflow {workflow_id} is corrupt: {'; '.join(told)}", tuple(names)
    )


def _is_readable(field: str, data: bytes) -> bool:
    if field in _NUMBERS:
        # As Redis itself writes numbers: HINCRBY takes no other form, and would fail inside EXEC.
        return data.isdigit() and int(data) < MAX_NUMBER and data == b"%d" % int(data)
    try:
        ENTRY.decode({field: data})
    except (ValueError, msgspec.MsgspecError):
        return False
    return True


def _problem_of_message(workflow_id: str, name: str, entry: Entry) -> str:
    """Return why a message of this version can't be made of an entry; nothing is known of those of others."""
    if unknown_in(entry):
        return ""
    try:
        message = message_of(entry, workflow_id)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        return f"its arguments a make no {entry.t} ({error})"
    if message is not None and message.name != name:
        return f"its arguments a are those of {message.name}"
    return ""
