"""Rooms: what a lock covers (wcp 1.7; PROTOCOL 8).

A lock belongs to a run or a section, and covers all that is part of it, however deep: its code, its instances, its
before and after stages. Each of those counts inside from coming to live until it has ended *and* its code has
returned. So code that a cancel could not stop keeps the lock of whoever it worked for.

Every function adds to a `Decision`; none reads.
"""

from collections.abc import Iterable, Mapping, Sequence

from stabilize_celery.engine import places
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.state import Room, Run, WorkflowRecord
from stabilize_celery.engine.steps import Decision, Increment, Owed
from stabilize_celery.models.messages import LeaveLock

__all__ = [
    "arrive_in",
    "count_kept",
    "enter",
    "inside",
    "leave",
    "owe_leaving",
    "owe_look_at_slot",
    "room_of_section",
    "rooms_in",
    "section_thread",
]


def section_thread(section: str) -> str:
    """Return the name under which a section asks for its lock."""
    return thread_id("section", section)


def room_of_section(section: str, ref_id: str) -> list[Room]:
    """Return the room that stage `ref_id` is in as a member of `section`; none if that is empty."""
    return [Room(section_thread(section), ref_id)] if section else []


def rooms_in(thread: str, run: Run) -> list[Room]:
    """Return the rooms of what is part of this run: its own, if it holds a lock, and those that it is in itself."""
    own = [Room(thread, run.ref)] if run.lock == "held" else []
    return [*own, *run.rooms]


def enter(decision: Decision, rooms: Iterable[Room]) -> None:
    """Count one more inside."""
    for room in rooms:
        decision.change(Increment(places.room(room.thread), "inside", 1))


def arrive_in(decision: Decision, workflow_id: str, section: str, ref_id: str, arrivals: int) -> None:
    """Count arrivals at a join of a section's member: as long as its workflow goes on they are inside, too.

    Those that a partial join has counted are, until it fires with them or gives them up (wcp 1.7, 1.8).
    """
    for room in room_of_section(section, ref_id) if arrivals else ():
        decision.change(Increment(places.room(room.thread), "inside", arrivals))
        decision.change(Increment(places.room(room.thread), "waiting", arrivals))
        if arrivals < 0:
            _owe_if_empty(decision, workflow_id, room)


def leave(decision: Decision, workflow_id: str, rooms: Iterable[Room]) -> None:
    """Count one less inside; the last one owes that the lock is given back."""
    for room in rooms:
        decision.change(Increment(places.room(room.thread), "inside", -1))
        _owe_if_empty(decision, workflow_id, room)


def owe_leaving(decision: Decision, workflow_id: str, room: Room) -> None:
    """Owe a look whether anybody is inside."""
    decision.owes.append(Owed(LeaveLock(workflow_id=workflow_id, ref_id=room.ref, thread=room.thread)))


def inside(counts: Mapping[str, bytes], record: WorkflowRecord) -> int:
    """Return how many a lock covers, by what `places.room` holds (count)."""
    waiting = 0 if record.is_live else int(counts.get("waiting", b"0"))
    return int(counts.get("inside", b"0")) - waiting


def count_kept(decision: Decision, by: int) -> None:
    """Count what the workflow's end does not end: its keys must not expire before."""
    decision.change(Increment(places.COUNTERS, "kept", by))


def owe_look_at_slot(decision: Decision, workflow_id: str, record: WorkflowRecord) -> None:
    """Owe a look whether an ended workflow may give its slot of its pipeline back, where it has kept it."""
    if not record.is_live and record.lock_state == "held":
        decision.owes.append(Owed(LeaveLock(workflow_id=workflow_id, ref_id="", thread="")))


def _owe_if_empty(decision: Decision, workflow_id: str, room: Room) -> None:
    message, key = LeaveLock(workflow_id=workflow_id, ref_id=room.ref, thread=room.thread), places.room(room.thread)
    if any(owed.message.name == message.name for owed in reversed(decision.owes)):
        return

    def is_empty(results: Sequence[int | None]) -> bool:
        # The last count tells: whoever leaves may hand on to who enters in the same commit.
        changes = zip(decision.changes, results, strict=False)
        inside = [result for change, result in changes if isinstance(change, Increment) and _is_inside(change, key)]
        return not inside[-1]

    decision.owes.append(Owed(message, publish=is_empty))


def _is_inside(change: Increment, key: str) -> bool:
    return (change.key, change.field) == (key, "inside")
