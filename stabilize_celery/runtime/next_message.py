"""The next message: the last commit of a delivery may take it off the broker's lists in its own EXEC (decision 015).

Where that is likely to be what the commit itself has sent, the same round trip reads what its handling begins with
(decision 017): a head start.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

import msgspec

from stabilize_celery.engine.steps import Query, Read, Slot, Snapshot, workflow_slot
from stabilize_celery.models.messages import Message
from stabilize_celery.store.contract import Peek, Session, Take, Transaction

__all__ = [
    "HeadStart",
    "Lookout",
    "NextMessage",
    "current_next",
    "has_next",
    "head_start_on",
    "nothing_waits",
    "taking_next",
    "with_peek",
]

LOOKS_AGAIN_US, LOOK_COUNTS_US = 5_000, 10_000
"""How old a look at the broker's lists may be that is not made again, and that still counts (us)."""
Opening = Callable[[Message], Read | None]
"""Returns what the handling of a message reads first; None: it is not to be read ahead."""
Opened = AbstractContextManager[Session]


class HeadStart:
    """A session on which the first read of a message was answered when the message was taken.

    All that it read is WATCHed like what the handling reads itself: if anything has moved since, its commit fails.

    Args:
        message: Whose first read it was.
        session: Where it was read, on the slot of the message's workflow.
        opened: What the session belongs to, entered: whoever takes it over leaves it.
        asked: What was asked for.
        snapshot: What was answered.

    """

    def __init__(self, message: Message, session: Session, opened: Opened, asked: Read, snapshot: Snapshot) -> None:
        self.message = message
        self.session = session
        self.opened = opened
        self._asked = asked
        self._snapshot: Snapshot | None = snapshot

    def close(self) -> None:
        """Give the session up."""
        self.opened.__exit__(None, None, None)

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> Snapshot:
        """As a session does; the first time without asking, if it is what was read."""
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None and self._asked == Read(tuple(queries), tuple(watch)):
            return snapshot
        return self.session.read(queries, watch)

    def commit(self, transaction: Transaction) -> list[int | None] | None:
        """As a session does."""
        return self.session.commit(transaction)

    def commit_and_read(
        self, transaction: Transaction, queries: Sequence[Query], watch: Sequence[str] = ()
    ) -> tuple[list[int | None], Snapshot] | None:
        """As a session does."""
        return self.session.commit_and_read(transaction, queries, watch)


class Lookout:
    """What a process has last seen of the lists that it takes from.

    Args:
        peeks: Says where to look; None: nothing is taken yet.

    """

    def __init__(self, peeks: Callable[[], Peek | None]) -> None:
        self._peeks = peeks
        self._peek: Peek | None = None
        self._looked_us = 0

    def peek(self, now_us: int) -> Peek | None:
        """Return where to look now; None: the last look was just now."""
        if self._peek is not None and now_us - self._looked_us < LOOKS_AGAIN_US:
            return None
        self._peek, self._looked_us = self._peeks(), now_us
        return self._peek

    def saw_nothing(self, now_us: int) -> bool:
        """Whether nothing waited at the last look, and that was just now."""
        return self._peek is not None and self._peek.nothing_waits and now_us - self._looked_us < LOOK_COUNTS_US


class NextMessage:
    """What is taken while one message is handled.

    Args:
        wants: Says what may be taken at that moment; None: nothing.
        begun: What was read already for the message that is handled.
        opening: Says what to read of a message that is sent, if that is likely to be what is taken.
        lookout: Knows whether anything waits that could be taken; None: nobody knows.
        may_take: Whether anything may be taken at that moment.

    """

    def __init__(
        self,
        wants: Callable[[], Take | None],
        begun: HeadStart | None = None,
        opening: Opening = lambda _: None,
        lookout: "Lookout | None" = None,
        may_take: Callable[[], bool] = lambda: False,
    ) -> None:
        self._wants = wants
        self._begun = begun
        self._opening = opening
        self._lookout = lookout
        self._may_take = may_take
        self._take: Take | None = None
        self.sent: Message | None = None
        """The first message that the commit has sent which takes the next one."""
        self._head_start: HeadStart | None = None

    @property
    def taken(self) -> tuple[str, bytes] | None:
        """The list and the text of what was taken; None: nothing was."""
        return self._take.taken if self._take is not None else None

    def wanted(self) -> Take | None:
        """Return what to take now: one message at most."""
        if self.taken is not None:
            return None
        self._take = self._wants()
        return self._take

    def peek(self, now_us: int) -> Peek | None:
        """Return where to look now whether anything waits; None: that is known well enough, or nothing may be taken."""
        return self._lookout.peek(now_us) if self._lookout is not None and self.taken is None else None

    def nothing_waits(self, now_us: int) -> bool:
        """Whether something might be taken, and nothing waited just now."""
        if self._lookout is None or self.taken is not None:
            return False
        return self._lookout.saw_nothing(now_us) and self._may_take()

    def expected(self, slot: Slot, sent: Sequence[Message]) -> tuple[Message, Read] | None:
        """Return what will be taken if nothing else waits, and what to read for it on a slot; None: nothing.

        Args:
            slot: Where the commit is that takes.
            sent: What this commit sends, in order.

        """
        self.sent = sent[0] if sent else None
        if self.sent is None or workflow_slot(self.sent.workflow_id) != slot:
            return None
        read = self._opening(self.sent)
        return None if read is None else (self.sent, read)

    def begin(self, head_start: HeadStart) -> None:
        """Keep what was read for the message that is expected."""
        self.give_up()
        self._head_start = head_start

    def head_start(self, message: Message) -> HeadStart | None:
        """Give away what was read for a message; what was read for another one is given up."""
        kept, self._head_start = self._head_start, None
        if kept is not None and kept.message != message:
            kept.close()
            return None
        return kept

    def begun_on(self, slot: Slot) -> HeadStart | None:
        """Give away, once, what was read for the message that is handled, if it was read on this slot."""
        begun = self._begun
        if begun is None or workflow_slot(begun.message.workflow_id) != slot:
            return None
        self._begun = None
        return begun

    def is_handled(self) -> None:
        """Give up what was read for the message that is handled, if nobody has begun with it."""
        if self._begun is not None:
            self._begun.close()
            self._begun = None

    def give_up(self) -> None:
        """Give up what was read for the message that was taken."""
        if self._head_start is not None:
            self._head_start.close()
            self._head_start = None


_next: ContextVar[NextMessage | None] = ContextVar("stabilize_celery_next_message", default=None)


@contextmanager
def taking_next(message: NextMessage) -> Iterator[None]:
    """Let the last commit of what is handled inside, on this thread, take the next message.

    No code of users may run behind that commit before the delivery ends: the message would wait for it.
    """
    token = _next.set(message)
    try:
        yield
    finally:
        _next.reset(token)


def current_next() -> NextMessage | None:
    """Return what this thread takes while it handles a message, if it may take anything."""
    return _next.get()


def has_next() -> bool:
    """Whether the next message has been taken already."""
    message = _next.get()
    return message is not None and message.taken is not None


def with_peek(transaction: Transaction, now_us: int) -> Transaction:
    """Let a commit look whether anything waits that this thread could take, if it may take anything."""
    message = _next.get()
    peek = message.peek(now_us) if message is not None else None
    return transaction if peek is None else msgspec.structs.replace(transaction, peek=peek)


def nothing_waits(now_us: int) -> bool:
    """Whether this thread may take messages, and none waited just now."""
    message = _next.get()
    return message is not None and message.nothing_waits(now_us)


def head_start_on(slot: Slot) -> HeadStart | None:
    """Give away, once, what was read on a slot for the message that this thread handles."""
    message = _next.get()
    return message.begun_on(slot) if message is not None else None
