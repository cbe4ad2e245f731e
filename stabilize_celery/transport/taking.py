"""Messages that a process takes off the broker's lists itself, beside the one that Celery has handed to it.

What Celery spends on a message in a worker's main process, on the way to a child and in the child is several times
what the message itself costs us. So a delivery is the beginning of a turn: for a while its process takes the next
message from where Celery would, one at a time; a child of a prefork pool waits for it, too. Where broker and state are
one server, the commit that ends a message takes the next one in the same EXEC (decision 015). Only off queues that are
ours: what is lost with a process the ledger sends again; a queue in which a message of others was seen is left to
Celery. Main process and Flower learn of a message that was taken in the same way as of a task that is gone on with
(`Turns`, `Surroundings`).
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from stabilize_celery.engine.steps import Read
from stabilize_celery.errors import EngineError, UnreachableError
from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.lanes import STEPS, lane_of, queue_and_step
from stabilize_celery.runtime.next_message import HeadStart, Lookout, NextMessage, taking_next
from stabilize_celery.runtime.ports import Outcome
from stabilize_celery.store.contract import Peek, Take
from stabilize_celery.store.lists import Lists
from stabilize_celery.transport.incoming import ForeignMessageError, is_of_others, ledger_message
from stabilize_celery.transport.turns import Delivered
from stabilize_celery.transport.waiting import SLICE_S, Turn, Waits

__all__ = ["Begun", "Handles", "Taking"]

logger = logging.getLogger(__name__)

_LEAST_URGENT_FIRST = 17
"""One message in so many is looked for where it is least urgent first (count)."""


class Handles(Protocol):
    """What a message is handed to."""

    def handle(self, message: Message) -> str:
        """Handle one delivery; return a short note."""
        ...

    def opening(self, message: Message) -> Read | None:
        """Return what the handling of a message reads first of its workflow; None: it is not to be read before."""
        ...


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn whose delivery was handled; without a turn: there is none."""

    note: str = ""
    turn: Turn | None = None
    held: NextMessage | None = None
    """What the delivery's commit took."""


class Taking:
    """Takes messages of some queues for as long as a turn lasts.

    Args:
        lists: The broker's.
        queues: Those that are ours, whether this worker consumes them or not.
        runtime: Handles what is taken.
        going_on: Makes a message known that no broker has delivered; its outcome is set inside.
        turn_ms: How long a turn lasts that does not wait, from the begin of its delivery; what was taken is always
            finished.
        waits: Lets a turn wait for messages, if this process may: see `Waits`. What waits in other queues that the
            worker consumes ends a turn.
        databases: Number of the broker's database, and of the state's, if one server has both: then commits of a
            child take the next message.
        clock_s: A clock that only grows.

    """

    def __init__(
        self,
        lists: Lists,
        queues: Sequence[str],
        runtime: Handles,
        going_on: Callable[[Message], AbstractContextManager[Outcome]],
        turn_ms: int,
        *,
        waits: Waits | None = None,
        databases: tuple[int, int] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lists = lists
        self._ours = frozenset(queues)
        self._foreign: frozenset[str] = frozenset()
        """Queues of ours in which messages of others were seen: the ledger does not send those again."""
        self._may_take = False
        """Whether the server was seen to let us: a commit must not be refused for that."""
        self._unreturned: list[tuple[str, bytes]] = []
        """What could not be put back so far."""
        self._consumed: tuple[str, ...] | None = None
        self._consume(queues, ())
        self._seen: Peek | None = None
        """The last look at the others' lists."""
        self._runtime = runtime
        self._going_on = going_on
        self._turn_s = turn_ms / 1000
        self._waiting = waits.waiting if waits is not None else None
        self._waits = waits if waits is not None and waits.waiting.is_here else None
        self._databases = databases if self._waits is not None else None
        """Only where one message is handled at a time."""
        self._comes_next: dict[type[Message], bool] = {}
        """By kind: whether what a commit had sent was what it took, the last time. Then it is likely to be again."""
        self._lookout = Lookout(self._peek) if waits is not None and waits.looks else None
        self._clock_s = clock_s
        self._is_refused = False
        self._taken_so_far = 0

    def begin(self, message: Message) -> Begun:
        """Handle a delivery, with which a turn begins: its commit may take the next message already."""
        turn = self._new_turn()
        note, held = self._handle(message, turn, None)
        return Begun(note, turn, held)

    def go_on(self, begun: Begun | None = None, delivered: Delivered | None = None) -> int:
        """Handle what waits, one after another, until the turn is over; return how many there were.

        Args:
            begun: The turn; default: one that begins now.
            delivered: What it began with: told at once where the turn may last.

        """
        turn = begun.turn if begun is not None and begun.turn is not None else self._new_turn()
        held = begun.held if begun is not None else None
        if self._waits is not None and delivered is not None:
            self._waits.waiting.tell(delivered)
        handled = 0
        try:
            while (held is not None or not self._is_over(turn)) and (message := self._next(turn, held)) is not None:
                head_start = held.head_start(message) if held is not None else None
                with self._going_on(message) as outcome:
                    outcome.note, held = self._handle(message, turn, head_start)
                handled += 1
        except UnreachableError as error:
            # What was taken is owed, unless it is others'. What stands on the lists is for Celery, once it is back.
            logger.warning("taking messages: %s What is of the ledger comes back.", error)
        finally:
            if held is not None:
                held.give_up()
        return handled

    def _handle(self, message: Message, turn: Turn, head_start: HeadStart | None) -> tuple[str, NextMessage | None]:
        """Handle a message, for which something may be read already; return a note, and what its commit took."""
        following = NextMessage(
            lambda: self._wanted(turn), head_start, self._opening, self._lookout, lambda: self._may_go_on(turn)
        )
        try:
            with taking_next(following):
                note = self._runtime.handle(message)
        except BaseException:
            if following.taken is not None:
                self._return(*following.taken)
            following.give_up()
            raise
        finally:
            following.is_handled()
        if following.taken is None:
            following.give_up()
            return note, None
        return note, following

    def _wanted(self, turn: Turn) -> Take | None:
        if self._databases is None or not self._may_go_on(turn):
            return None
        return Take(self._in_order(), self._databases, self._look_at_others())

    def _peek(self) -> Peek | None:
        if self._databases is None or not (self._may_take and self._queues):
            return None
        return Peek([*self._urgent_first[0], *self._other_lists], self._databases)

    def _look_at_others(self) -> Peek | None:
        if self._other_lists:
            self._seen = Peek(self._other_lists, self._databases or (0, 0))
        return self._seen

    def _may_go_on(self, turn: Turn) -> bool:
        return self._may_take and bool(self._queues) and not self._is_over(turn)

    def _is_over(self, turn: Turn) -> bool:
        return turn.is_over() or bool(self._seen is not None and self._seen.waiting)

    def _new_turn(self) -> Turn:
        self._seen = None
        turn = Turn(self._clock_s, self._turn_s, self._waits)
        for lane, text in self._unreturned[:]:
            self._unreturned.remove((lane, text))
            self._return(lane, text)
        if self._waiting is not None:
            consumed = self._waiting.queues()
            if consumed != self._consumed:
                self._divide(consumed)
        return turn

    def _divide(self, consumed: Sequence[str]) -> None:
        """Take from what is ours alone of all that is consumed, and look at the rest."""
        takes = self._ours - self._foreign
        self._consumed = tuple(consumed)
        self._consume([name for name in consumed if name in takes], [name for name in consumed if name not in takes])

    def _next(self, turn: Turn, held: NextMessage | None) -> Message | None:
        """Take the next message, or what is `held`; None: nothing came, it is for Celery to deliver, or we may not."""
        try:
            message = self._taken(turn, held.taken if held is not None else None)
        except UnreachableError:
            raise
        except EngineError as error:
            if not self._is_refused:
                logger.warning(
                    "this process can't take messages itself: %s. They come through Celery, which costs more. Let "
                    "the worker's user BRPOP, RPUSH and EXISTS, or set STABILIZE_TAKE_MS=0",
                    error,
                )
            self._is_refused = True
            return None
        self._is_refused = False
        self._may_take = True
        if held is not None and held.sent is not None:
            self._comes_next[type(held.sent)] = held.sent == message
        return message

    def _opening(self, sent: Message) -> Read | None:
        return self._runtime.opening(sent) if self._comes_next.get(type(sent), False) else None

    def _taken(self, turn: Turn, held: tuple[str, bytes] | None) -> Message | None:
        while (taken := held or self._item(turn)) is not None:
            held = None
            self._taken_so_far += 1
            lane, text = taken
            try:
                message = ledger_message(text)
            except ForeignMessageError as error:
                logger.error("refused, nothing was done: %.1000s", error)  # noqa: TRY400 -- the sender's mistake: its text, not our traceback
                continue
            if message is None and is_of_others(text):
                self._leave(queue_and_step(lane)[0])
            if message is None or turn.was_called_back():
                self._return(lane, text)
                return None
            return message
        return None

    def _leave(self, queue: str) -> None:
        """Leave a queue to Celery from now on: what is lost before it is put back nobody sends again."""
        if queue not in self._foreign:
            self._foreign |= {queue}
            self._divide(self._consumed if self._consumed is not None else tuple(self._queues))

    def _return(self, lane: str, text: bytes) -> None:
        """Put a message back where it was; one that can't be is tried again at the next turn."""
        try:
            self._lists.put_back(lane, text)
        except EngineError as error:
            logger.error("a message of %s can't be put back, and is kept in this process so far: %s", lane, error)  # noqa: TRY400 -- its text says all
            self._unreturned.append((lane, text))

    def _item(self, turn: Turn) -> tuple[str, bytes] | None:
        """Return what was taken from which lane; None: nothing came for as long as this turn waits."""
        if not self._queues:
            return None
        if self._other_lists or (wait_s := turn.wait_s()) == 0:
            return self._lists.take(self._in_order(), others=self._look_at_others() or self._first_look())
        if (first := self._first_look()) is not None and (taken := self._lists.take(self._in_order(), others=first)):
            return taken
        ends_s = self._clock_s() + wait_s
        while (taken := self._lists.take(self._in_order(), min(SLICE_S, wait_s))) is None:
            if turn.is_over() or turn.wait_s() == 0 or self._clock_s() >= ends_s:
                return None
        return taken

    def _in_order(self) -> list[str]:
        """Return all lanes, the most urgent of all queues first; in each, every queue comes first by turns.

        Now and then the other way round: who is always overtaken comes on all the same.
        """
        rounds, rest = divmod(self._taken_so_far + 1, _LEAST_URGENT_FIRST)
        # Each kind of look goes round by itself, or some queues would never be the first.
        orders, at = (self._urgent_first, self._taken_so_far - rounds) if rest else (self._urgent_last, rounds - 1)
        return orders[at % len(orders)]

    def _first_look(self) -> Peek | None:
        """Return where to look, if it is not known yet whether we may: commits look, too."""
        return None if self._may_take else Peek(self._urgent_first[0], self._databases or (0, 0))

    def _consume(self, queues: Sequence[str], others: Sequence[str]) -> None:
        """Take from these queues: what is looked at, in which order, is the same for many thousand looks."""
        self._may_take = False
        self._queues = list(queues)
        self._other_lists = [lane_of(queue, step) for queue in others for step in STEPS]
        turned = [self._queues[at:] + self._queues[:at] for at in range(len(queues))]
        self._urgent_first = [[lane_of(queue, step) for step in STEPS for queue in names] for names in turned]
        self._urgent_last = [[lane_of(queue, step) for step in STEPS[::-1] for queue in names] for names in turned]
