"""What can still arrive, and what a join does about it: pure judgement on a snapshot of a region (wcp 1.5, 1.6).

A region is one component, or at a standstill the whole graph. Judging a join never goes through the join itself.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from stabilize_celery.engine.plan import StagePlan

__all__ = ["Firing", "Place", "Region", "joins_that_held"]


@dataclass(frozen=True, slots=True)
class Firing:
    """A join fired: the arrivals (edge, thread) whose data its run sees, and the number of the firing."""

    ref: str
    number: int
    arrivals: tuple[tuple[int, str], ...]


@dataclass(slots=True)
class Place:
    """A stage of the region: its live runs, its arrivals, what its join has consumed, which edges are closed."""

    plan: StagePlan
    runs: int = 0
    waiting: dict[int, list[str]] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    counted: dict[int, str] = field(default_factory=dict)
    """DISCRIMINATOR, N_OF_M: edges counted in this cycle, with the thread that counted; none: it has no part in it."""
    has_fired: bool = False
    """In this cycle."""
    fired: int = 0
    closed: frozenset[str] = frozenset()
    consumed: int = 0
    """Arrivals taken from the edges by this judgement."""
    emptied: int = 0
    """Edges that may bring something anew (`places.waiting`)."""
    is_changed: bool = False
    found: int = field(init=False)
    """Threads that were there when it was read (count)."""

    def __post_init__(self) -> None:
        self.found = self.threads

    @property
    def threads(self) -> int:
        """How many threads are there: arrivals that wait, and edges counted in an unfinished cycle."""
        return sum(map(len, self.waiting.values())) + (0 if self.has_fired else len(self.counted))

    @property
    def edges(self) -> range:
        """Positions of the incoming edges."""
        return range(len(self.plan.requisites))

    @property
    def holds(self) -> bool:
        """Whether something is there that could be taken away."""
        return self.threads > 0

    @property
    def may_leave_out(self) -> bool:
        """Whether its cycle may fire now, and then does without the edges that are dead (`leave_out`)."""
        plan, filled = self.plan, {edge for edge, waiting in self.waiting.items() if waiting}
        counted = set() if self.has_fired else self.counted.keys()
        is_partial = plan.join in ("DISCRIMINATOR", "N_OF_M") and plan.join_mode != "CANCELLING"
        return is_partial and bool(filled) and len(filled | counted) >= plan.need

    def take(self, edge: int, *, is_counted: bool = False) -> str:
        """Consume the first arrival of an edge; one that `is_counted` stands for its edge until the cycle is over."""
        self.used[edge] = self.used.get(edge, 0) + 1
        self.consumed += 1
        self.emptied += not is_counted and str(edge) not in self.closed
        self.is_changed = True
        return self.waiting[edge].pop(0)

    def drop_all(self) -> None:
        """Give up what waits."""
        for edge in list(self.waiting):
            while self.waiting[edge]:
                self.take(edge)

    def absorb(self) -> None:
        """Let the cycle, which has fired, take what belongs to it."""
        for edge in self.edges:
            if self.waiting.get(edge) and edge not in self.counted:
                self.counted[edge] = self.take(edge, is_counted=True)

    def leave_out(self, is_open: Collection[int]) -> None:
        """Let the cycle that fires do without the edges that are dead now.

        What the join's own run may bring over them, in a loop, belongs to the next cycle.
        """
        out = (e for e in self.edges if e not in self.counted and not self.waiting.get(e) and e not in is_open)
        self.counted |= dict.fromkeys((edge for edge in out if str(edge) not in self.closed), "")

    def new_cycle(self) -> None:
        """Count anew (wcp 1.6, cycle and reset)."""
        self.emptied += sum(bool(thread) and str(edge) not in self.closed for edge, thread in self.counted.items())
        self.counted, self.has_fired, self.is_changed = {}, False, True


@dataclass(slots=True)
class Region:
    """Places by ref, in topological order where it matters."""

    places: Mapping[str, Place]

    def judge(self, ref: str) -> list[Firing]:
        """Let one join absorb, fire, reset and give up until nothing more can be done; return its firings."""
        place = self.places[ref]
        firings: list[Firing] = []
        while True:
            is_open = self._open_edges(ref)
            before = (place.consumed, place.has_fired, len(place.counted), len(firings))
            _RULES[_kind(place.plan)](place, is_open, firings)
            if before == (place.consumed, place.has_fired, len(place.counted), len(firings)):
                return firings

    def force(self, ref: str) -> list[Firing]:
        """Fire an OR-join that waits for others that wait for it (wcp 1.6, the knot)."""
        place = self.places[ref]
        firings: list[Firing] = []
        filled = [edge for edge in place.edges if place.waiting.get(edge)]
        _fire(place, firings, [(edge, place.take(edge)) for edge in filled])
        return firings

    def ways_in(self) -> Iterator[tuple[Place, str, str]]:
        """Yield how a thread may get in from outside, as far as it is known: the place, the way's name, its source."""
        for place in self.places.values():
            ways = [(str(edge), source) for edge, source in enumerate(place.plan.requisites)]
            ways += [(f"j:{source}", source) for source in place.plan.jumped_from]
            for way, source in ways:
                if source not in self.places and way not in place.closed:
                    yield place, way, source

    def reachable(self, without: str | None = None) -> set[str]:
        """Return the stages that may still have a run that passes its thread on; each edge is looked at once.

        No thread gets in at the stage `without`; those in it already may still come out.
        """
        hopeful = {ref: self._hopeful_edges(place) for ref, place in self.places.items() if ref != without}
        found = {ref for ref, place in self.places.items() if place.runs}
        found |= {ref for ref, edges in hopeful.items() if self._may_begin(ref, edges)}
        work = list(found)
        while work:
            plan = self.places[work.pop()].plan
            for edge in (*plan.edges, *plan.jumps):
                target = edge.target
                if target in found or target not in hopeful:
                    continue
                if edge.position >= 0:
                    hopeful[target].add(edge.position)
                if edge.position < 0 or self._may_begin(target, hopeful[target]):
                    found.add(target)
                    work.append(target)
        return found

    def _hopeful_edges(self, place: Place) -> set[int]:
        """Return the edges that hold an arrival, or that a thread from outside the region may still come over."""
        return {edge for edge in place.edges if place.waiting.get(edge) or self._may_fill(place, edge, ())}

    def _may_begin(self, ref: str, hopeful: set[int]) -> bool:
        place = self.places[ref]
        outside = (source for source in place.plan.jumped_from if source not in self.places)
        if any(f"j:{source}" not in place.closed for source in outside):
            return True
        counted = 0 if place.has_fired else sum(edge not in hopeful for edge in place.counted)
        return bool(hopeful) and len(hopeful) + counted >= _needed(place.plan)

    def _may_fill(self, place: Place, edge: int, found: Collection[str]) -> bool:
        source = place.plan.requisites[edge]
        return source in found if source in self.places else str(edge) not in place.closed

    def _open_edges(self, ref: str) -> set[int]:
        """Return the edges of a join over which a live thread may still come."""
        place = self.places[ref]
        found = self.reachable(without=ref) if len(self.places) > 1 else set()
        return {edge for edge in place.edges if self._may_fill(place, edge, found)}


def joins_that_held(places: Mapping[str, Place]) -> set[str]:
    """Return the joins that held something before it was taken away; changes the places.

    What had come may not have been judged yet: what a join would have absorbed or given up was not there any more.
    """
    region, cut = Region(places), set[str]()
    is_changed = True
    while is_changed:
        is_changed = False
        for ref, place in places.items():
            if any(place.waiting.values()) or place.counted:
                before = place.consumed, place.has_fired, len(place.counted)
                cut |= {firing.ref for firing in region.judge(ref)}
                is_changed |= before != (place.consumed, place.has_fired, len(place.counted))
    return cut | {ref for ref, place in places.items() if place.holds}


def _kind(plan: StagePlan) -> str:
    return "MERGE" if plan.thread_merge else plan.join


def _needed(plan: StagePlan) -> int:
    """Edges that must be filled for the stage to be passed."""
    return 1 if plan.is_direct or plan.thread_merge else plan.need


def _judge_and(place: Place, is_open: set[int], firings: list[Firing]) -> None:
    filled = [edge for edge in place.edges if place.waiting.get(edge)]
    if len(filled) == len(place.edges):
        _fire(place, firings, [(edge, place.take(edge)) for edge in filled])
    elif filled and any(edge not in is_open and edge not in filled for edge in place.edges):
        place.drop_all()


def _judge_or(place: Place, is_open: set[int], firings: list[Firing]) -> None:
    filled = [edge for edge in place.edges if place.waiting.get(edge)]
    if filled and not is_open - set(filled):
        _fire(place, firings, [(edge, place.take(edge)) for edge in filled])


def _judge_partial(place: Place, is_open: set[int], firings: list[Firing]) -> None:
    for edge in place.edges:
        if place.waiting.get(edge) and edge not in place.counted:
            place.counted[edge] = place.take(edge, is_counted=True)
            if not place.has_fired and len(place.counted) >= place.plan.need:
                place.has_fired = True
                _fire(place, firings, list(place.counted.items()))
                if place.plan.join_mode == "CANCELLING":
                    place.drop_all()
                    place.new_cycle()
                    return
                place.leave_out(is_open)
    to_come = [e for e in place.edges if e not in place.counted and (place.waiting.get(e) or e in is_open)]
    is_doomed = not place.has_fired and len(place.counted) + len(to_come) < place.plan.need
    if place.counted and (is_doomed or (place.has_fired and not to_come)):
        place.new_cycle()


def _judge_merge(place: Place, is_open: set[int], firings: list[Firing]) -> None:
    group = place.plan.thread_merge or 1
    if len(place.waiting.get(0, ())) >= group:
        _fire(place, firings, [(0, place.take(0)) for _ in range(group)])
    elif place.waiting.get(0) and not is_open:
        place.drop_all()


def _judge_direct(_place: Place, _is_open: set[int], _firings: list[Firing]) -> None:
    """Fire for every arrival when it comes: nothing ever waits here."""


def _fire(place: Place, firings: list[Firing], arrivals: list[tuple[int, str]]) -> None:
    place.fired += 1
    place.is_changed = True
    place.runs += 1
    firings.append(Firing(place.plan.ref, place.fired, tuple(arrivals)))


_RULES = {
    "AND": _judge_and,
    "OR": _judge_or,
    "DISCRIMINATOR": _judge_partial,
    "N_OF_M": _judge_partial,
    "MERGE": _judge_merge,
    "MULTI_MERGE": _judge_direct,
}
