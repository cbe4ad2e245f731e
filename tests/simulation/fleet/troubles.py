"""What goes wrong in a run of the fleet: how often, and what at which moment. A seed draws both."""

from dataclasses import dataclass, field, fields, replace
from random import Random

__all__ = ["INCIDENTS", "Incident", "Troubles", "draw_troubles"]


@dataclass(frozen=True, slots=True, order=True)
class Incident:
    """Something that happens once.

    Attributes:
        at_ms: When, from the start of the run.
        kind: One of `INCIDENTS`.
        for_ms: How long it lasts, or how much is lost; 0 where that means nothing.

    """

    at_ms: int
    kind: str
    for_ms: int = 0


INCIDENTS: dict[str, tuple[int, int]] = {
    "a worker's machine is lost": (0, 0),
    "a process of a worker is lost": (0, 0),
    "a worker freezes": (1_000, 40_000),
    "a worker is shut down": (0, 0),
    "a new worker comes": (0, 0),
    "Redis is away": (50, 20_000),
    "Redis is slow": (1_000, 15_000),
    "Redis loses its last writes": (10, 2_000),
    "Redis' clock jumps ahead": (10, 20_000),
    "Redis' clock falls back": (10, 5_000),
    "the broker is away": (100, 20_000),
    "the broker's queues are flushed": (0, 0),
    "a keeper's leases are given to another": (0, 0),
}
"""Kind to the least and the most of how long it lasts (ms)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubles:
    """How often things go wrong, as probabilities, and the incidents.

    Attributes:
        duplicate: A message is delivered twice.
        lose: A message is never delivered.
        max_delay_ms: How late a message may come; within that, in any order.
        lose_link: A connection breaks during one exchange: before, amid, or after the commands are carried out.
        tear: Between two commands of one packet the server serves others.
        die: A process dies before one exchange.
        stall: A process stands still before one exchange, for up to a minute, while its worker goes on.
        incidents: What happens once.

    """

    duplicate: float = 0.0
    lose: float = 0.0
    max_delay_ms: int = 40
    lose_link: float = 0.0
    tear: float = 0.0
    die: float = 0.0
    stall: float = 0.0
    incidents: tuple[Incident, ...] = field(default=())

    @property
    def loses_writes(self) -> bool:
        """Whether Redis forgets what it has acknowledged."""
        return any(one.kind == "Redis loses its last writes" for one in self.incidents)

    @property
    def reorders(self) -> bool:
        """Whether messages of one lane may come out of order also where they wait."""
        return self.max_delay_ms > Troubles().max_delay_ms

    @property
    def clock_falls_back(self) -> bool:
        """Whether Redis' clock is set back."""
        return any(one.kind == "Redis' clock falls back" for one in self.incidents)

    @property
    def parts(self) -> "list[Troubles]":
        """Return the same with one trouble less each, for those who look for the one that matters."""
        fewer = [
            replace(self, incidents=(*self.incidents[:at], *self.incidents[at + 1 :]))
            for at in range(len(self.incidents))
        ]
        rates = [one.name for one in fields(self) if one.type is float and getattr(self, one.name)]
        return [*fewer, *(replace(self, **{name: 0.0}) for name in rates)]


_RATES = {"duplicate": 0.3, "lose": 0.2, "lose_link": 0.04, "tear": 0.2, "die": 0.02, "stall": 0.02}
"""The most of each."""


def draw_troubles(random: Random) -> Troubles:
    """Draw which troubles a run has: some of the kinds, each more or less; sometimes none."""
    if random.random() < 0.03:
        return Troubles()
    rates = {name: most * random.random() ** 2 for name, most in _RATES.items() if random.random() < 0.5}
    delay_ms = random.choice((5, 40, 40, 500, 5_000))
    kinds = random.sample(sorted(INCIDENTS), random.randint(1, 5))
    incidents = [_incident(random, random.choice(kinds)) for _ in range(random.choice((0, 1, 1, 2, 3, 6)))]
    return Troubles(max_delay_ms=delay_ms, incidents=tuple(sorted(incidents)), **rates)


def _incident(random: Random, kind: str) -> Incident:
    least, most = INCIDENTS[kind]
    at_ms = int(10 ** random.uniform(0, 4.5))
    return Incident(at_ms, kind, int(least * (most / least) ** random.random()) if most else 0)
