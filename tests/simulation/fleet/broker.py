"""A simulated broker: it drops, doubles, delays and reorders, is away, and is flushed.

Each queue has lanes, as on Redis: a message that waits in a more urgent one is given out first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stabilize_celery.errors import QueueError
from stabilize_celery.runtime.lanes import queue_and_step
from stabilize_celery.runtime.ports import Outgoing
from stabilize_celery.runtime.probes import PROBE
from stabilize_celery.store.contract import Post
from tests.simulation.fleet.actors import Loop
from tests.simulation.fleet.troubles import Troubles

__all__ = ["SimulatedBroker"]


@dataclass(slots=True)
class SimulatedBroker:
    """All queues of one broker.

    Args:
        take: Gives a message to a worker; False: none has room for it now.

    """

    loop: Loop
    troubles: Troubles
    take: Callable[[Outgoing], bool]
    log: Callable[[str], None]
    away_until_us: int = 0
    generation: int = 0
    waiting: list[Outgoing] = field(default_factory=list)
    """Messages for which no worker has room."""
    under_way: int = 0
    text_of: Callable[[Outgoing], str] | None = None
    """Broker and state are one server: commits send messages themselves, in this form."""

    def riding(self, batch: Sequence[Outgoing]) -> Sequence[Post] | None:
        """Return what a commit writes to send a batch; None: the broker is a server of its own."""
        if self.text_of is None:
            return None
        return [Post(message.queue, [self.text_of(message)]) for message in batch]

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Take messages: they come later, in any order, perhaps twice, perhaps never.

        Raises:
            QueueError: it is away.

        """
        self.loop.check()
        if self.loop.now_us < self.away_until_us:
            raise QueueError("the broker is away")
        for message in batch:
            for _ in range(self._copies(message)):
                self.send(message)

    def _copies(self, message: Outgoing) -> int:
        if self.loop.random.random() < self.troubles.lose:
            if message.kind != PROBE:
                self.log(f"the broker loses {message.task_id}")
            return 0
        return 2 if self.loop.random.random() < self.troubles.duplicate else 1

    def post(self, batch: Sequence[Outgoing]) -> None:
        """Take messages that a commit sends: they are there at once, and go to workers after a while."""
        for message in batch:
            self.waiting += [message] * self._copies(message)
        self._offer_soon()

    def put_back(self, message: Outgoing) -> None:
        """Make a message the next one."""
        self.waiting.insert(0, message)
        self._offer_soon()

    def pop(self, lanes: Sequence[str]) -> Outgoing | None:
        """Give out the next message of the first lane that has one, to who asks itself."""
        there = {message.queue for message in self.waiting}
        lane = next((lane for lane in lanes if lane in there), None)
        if lane is None:
            return None
        found = [at for at, message in enumerate(self.waiting) if message.queue == lane]
        return self.waiting.pop(self.loop.random.choice(found) if self.troubles.reorders else found[0])

    def _offer_soon(self) -> None:
        delay_us = self.loop.random.randint(0, self.troubles.max_delay_ms * 1000)
        self.loop.spawn("broker: gives out", self.offer, after_us=delay_us)

    def send(self, message: Outgoing) -> None:
        """Let a message come after a while."""
        generation = self.generation

        def arrive() -> None:
            self.under_way -= 1
            if generation != self.generation:
                return
            # Behind what waits already: who has room takes the most urgent of all.
            self.waiting.append(message)
            self.offer()

        self.under_way += 1
        delay_us = self.loop.random.randint(0, self.troubles.max_delay_ms * 1000)
        self.loop.spawn(f"broker: {message.task_id}", arrive, after_us=delay_us)

    def offer(self) -> None:
        """Give out what waits, the most urgent lanes first, each in its order: a worker has room again."""
        while self.waiting:
            message = self.waiting[at := self._next()]
            if not self.take(message):
                return
            del self.waiting[at]

    def _next(self) -> int:
        """Return the position of what comes next. Where the broker has troubles, a lane may be out of order."""
        steps = [queue_and_step(message.queue)[1] for message in self.waiting]
        first = [at for at, step in enumerate(steps) if step == min(steps)]
        return self.loop.random.choice(first) if self.troubles.reorders else first[0]

    def flush(self) -> None:
        """Forget everything."""
        self.generation += 1
        self.waiting.clear()
