"""Many actors in one thread and in virtual time: each runs until it waits, and a seed decides who goes on next."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import NoReturn

from greenlet import getcurrent, greenlet

__all__ = ["Actor", "Group", "Loop", "WorkerDiedError"]

START_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z: a plausible day, the same in every run."""


class WorkerDiedError(SystemExit):
    """The simulated death of a process, which no handler may catch: a kind of SystemExit, as in Celery."""


@dataclass(slots=True, eq=False)
class Group:
    """Actors that freeze and die together: the processes and threads of one worker."""

    name: str
    frozen_until_us: int = 0
    actors: dict["Actor", None] = field(default_factory=dict)


class Actor:
    """Something that happens over a time: a handler at work, a keeper's thread, a client.

    Args:
        name: For the story.
        act: What it does.
        group: Its worker; None: it belongs to nobody.
        is_mortal: It may die or stand still by itself.

    """

    __slots__ = ("act", "group", "is_alive", "is_mortal", "name", "thread")

    def __init__(self, name: str, act: Callable[[], object], group: Group | None, is_mortal: bool) -> None:
        self.name = name
        self.act = act
        self.group = group
        self.is_mortal = is_mortal
        self.is_alive = True
        self.thread: greenlet | None = None

    @property
    def is_busy(self) -> bool:
        """Whether it is more than a thread that looks after things."""
        return self.is_mortal or self.group is None


class Loop:
    """The scheduler. `now_us` is the true time; no server and no worker need to agree with it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now_us = START_US
        self.steps = 0
        self.at_work = 0
        """How many are there that do not only wait for others: messages under way, handlers, clients."""
        self.failures: list[BaseException] = []
        """What actors raised: nothing may."""
        self._heap: list[tuple[int, int, Actor]] = []
        self._order = count()
        self._current: Actor | None = None
        self._hub = getcurrent()

    @property
    def current(self) -> Actor | None:
        """Who acts now; None: the test itself."""
        return self._current

    def spawn(
        self,
        name: str,
        act: Callable[[], object],
        *,
        group: Group | None = None,
        after_us: int = 0,
        is_mortal: bool = False,
    ) -> Actor:
        """Begin something, now or later; return it."""
        actor = Actor(name, act, group, is_mortal)
        if group is not None:
            group.actors[actor] = None
        self.at_work += actor.is_busy
        self._schedule(actor, after_us)
        return actor

    def _schedule(self, actor: Actor, after_us: int) -> None:
        heapq.heappush(self._heap, (self.now_us + after_us, next(self._order), actor))

    def sleep(self, us: int) -> None:
        """Let the others act while this one waits. The test itself never waits."""
        actor = self._current
        if actor is None:
            return
        self._die_if_dead(actor)
        self._schedule(actor, us)
        self._hub.switch()
        self._die_if_dead(actor)

    def check(self) -> None:
        """Raise the death of who acts now, if it has died: the dead do nothing more."""
        if self._current is not None:
            self._die_if_dead(self._current)

    @staticmethod
    def _die_if_dead(actor: Actor) -> None:
        if not actor.is_alive:
            raise WorkerDiedError

    def die(self) -> NoReturn:
        """End who acts now."""
        if self._current is not None:
            self._end(self._current)
        raise WorkerDiedError

    def _end(self, actor: Actor) -> None:
        self.at_work -= actor.is_alive and actor.is_busy
        actor.is_alive = False

    def kill(self, actor: Actor) -> None:
        """End an actor wherever it stands."""
        if not actor.is_alive:
            return
        self._end(actor)
        if actor is not self._current and actor.thread is not None:
            self._enter(actor)

    def step(self) -> bool:
        """Let the next one act until it waits; False: nobody wants to."""
        while self._heap:
            at_us, order, actor = heapq.heappop(self._heap)
            if not actor.is_alive:
                continue
            frozen_until_us = actor.group.frozen_until_us if actor.group else 0
            if frozen_until_us > max(at_us, self.now_us):
                heapq.heappush(self._heap, (frozen_until_us, order, actor))
                continue
            self.now_us = max(self.now_us, at_us)
            self.steps += 1
            self._enter(actor)
            return True
        return False

    @property
    def next_us(self) -> int | None:
        """When somebody acts next, at the earliest."""
        return self._heap[0][0] if self._heap else None

    def _enter(self, actor: Actor) -> None:
        before, self._current = self._current, actor
        hub, self._hub = self._hub, getcurrent()
        try:
            if actor.thread is None:
                actor.thread = greenlet(lambda: self._live(actor))
            # Whoever lets it act, or kills it, goes on when it has ended.
            actor.thread.parent = self._hub
            actor.thread.switch()
        finally:
            self._current, self._hub = before, hub

    def _live(self, actor: Actor) -> None:
        try:
            actor.act()
        except WorkerDiedError:
            pass
        except Exception as error:
            self.failures.append(error)
        self._end(actor)
        if actor.group is not None:
            actor.group.actors.pop(actor, None)

    def end(self) -> None:
        """End whoever still waits."""
        for _, _, actor in self._heap:
            self.kill(actor)
        self._heap.clear()
