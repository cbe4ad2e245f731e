"""Lanes of a queue: what waits in one goes before what waits in those behind it (decision 013).

A lane bears the name of the list that kombu keeps for a priority on Redis: the queue's for the most urgent, else the
queue's with a separator and the number of its step. A ledger entry says which lane its message is in, so each lane has
probes of its own. Brokers other than Redis have one lane per queue.
"""

from functools import lru_cache

import msgspec

from stabilize_celery.engine.state import Entry, WorkflowRecord
from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.models.messages import MESSAGE_TYPES, Message

__all__ = ["BURST", "STEPS", "Urgency", "lane_of", "lanes", "queue_and_step", "shown"]

STEPS = (0, 3, 6, 9)
"""Where lanes begin, as kombu has them: priorities 0 to 2 share the first."""
BURST = 64
"""So many messages of one decision go into its own lane (count); what it owes beyond goes into the next one."""
_STEP_OF = [max(step for step in STEPS if step <= priority) for priority in range(10)]
_SEPARATOR, _STEP = "\x06\x16", 3


@lru_cache(maxsize=1024)
def lane_of(queue: str, priority: int) -> str:
    """Return the lane of a queue for a priority: 0 is the most urgent, 9 the least."""
    step = _STEP_OF[min(max(priority, 0), 9)]
    return f"{queue}{_SEPARATOR}{step}" if step else queue


@lru_cache(maxsize=1024)
def queue_and_step(lane: str) -> tuple[str, int]:
    """Return the queue that a lane belongs to, and the priority that it begins with."""
    queue, _, step = lane.partition(_SEPARATOR)
    return queue, int(step) if step.isdecimal() else 0


def lanes(queue: str) -> list[str]:
    """Return all lanes of a queue, the most urgent first."""
    return [lane_of(queue, step) for step in STEPS]


def shown(lane: str) -> str:
    """Return a lane as people read it: `queue`, or `queue@6`; its own name has control characters."""
    queue, step = queue_and_step(lane)
    return f"{queue}@{step}" if step else queue


class Urgency(msgspec.Struct, frozen=True):
    """How urgent is what a decision owes: priorities, 0 to 9.

    A branch of many stays in the lane that it was put into, until it meets others at a join: what many owe together
    (merge messages) goes into the lane of the workflow. What ends work goes one lane before what begins it, unless the
    workflow is in the first lane: there is no more of it than was begun, so it holds up nobody for long.
    """

    workflow: int = DEFAULT_PRIORITY
    handled: int = 0
    """Of the message that is decided about, and of what would begin work beside it."""

    @classmethod
    def of(cls, record: WorkflowRecord, entry: Entry) -> "Urgency":
        """Return that of what follows from a message; a workflow or an entry that was not read is an empty one."""
        return _urgency(record.priority, entry.q, entry.t)

    def lane(self, queue: str, message: Message, before: int) -> str:
        """Return the lane of a message that is owed; `before`: how many the same decision has owed before it."""
        priority = self.workflow if message.is_merge else max(self.workflow, self.handled)
        if message.ends_work and self.workflow >= _STEP:
            priority -= _STEP
        # One step down, and not to the end: an urgent workflow's burst is no less urgent than others' usual work.
        return lane_of(queue, priority if before < BURST else priority + _STEP)


@lru_cache(maxsize=1024)
def _urgency(priority: int, lane: str, kind: str) -> Urgency:
    step, handled = queue_and_step(lane)[1], MESSAGE_TYPES.get(kind)
    is_before = handled is not None and handled.ends_work and priority >= _STEP
    return Urgency(priority, step + _STEP if is_before else step)
