"""What stands behind the `?` of a request, as types."""

from typing import Annotated

import msgspec

from stabilize_celery.client.events import EVENT_ID

__all__ = ["BoardQuery", "EventsQuery", "FollowQuery", "ListQuery", "NoQuery"]

# Python's `$` would let a line break follow.
Id = Annotated[str, msgspec.Meta(pattern=rf"^{EVENT_ID}(?!\n)$")]


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing can be asked for."""


class ListQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which workflows, and from where on."""

    application: str | None = None
    """Only those of this application."""
    name: str | None = None
    """Only those of this name."""
    status: str | None = None
    """Only those in this status."""
    q: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    """Only those whose id, name or application has this text in it, in any case."""
    since_ms: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Only those that started then or later."""
    until_ms: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Only those that started before."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
    """At most so many."""
    cursor: Annotated[str, msgspec.Meta(max_length=300)] | None = None
    """That of the page before."""


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True, rename={"from_id": "from"}):
    """Which events."""

    from_id: Id = "0"
    """Only those after this one."""
    ref: Annotated[str, msgspec.Meta(max_length=500)] | None = None
    """Only those of this stage."""


class FollowQuery(msgspec.Struct, forbid_unknown_fields=True, rename={"from_id": "from"}):
    """From where on a workflow is followed: the `position` of its state, or the id of an event."""

    from_id: Id = "0"
    """What happened after this event comes first. A `Last-Event-ID` header wins."""


class BoardQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which part of the list is watched."""

    application: str | None = None
    name: str | None = None
    status: str | None = None
    q: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    since_ms: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Only those that started then or later."""
    ids: Annotated[str, msgspec.Meta(max_length=12_000)] = ""
    """Up to 200 workflow ids that are shown, with commas between them: their status is told, too."""
