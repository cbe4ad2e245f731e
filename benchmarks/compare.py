"""Peers side by side in one run: interleaved, several repetitions, each ratio made of two runs of one repetition.

Within a repetition the peers take turns, and who begins moves on by one: a machine that becomes busier in between
moves all of them. Those that are judged come first, with all of their repetitions; the others have repetitions of their
own after that, in which the judged take part, too. What a peer cannot do, would take too long for, or fails at, is told
in its place, and loses nothing that the others were measured at.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

from benchmarks.arithmetic import growth
from benchmarks.peers import Entry
from benchmarks.peers.process import PeerProcess, TooLongError
from benchmarks.plan import JUDGED, MODES, Plan, Shape

__all__ = ["Cell", "Comparison", "Growth"]

_SLOW_S, _SLOW_REPETITIONS = 20.0, 3
_VERY_SLOW_S, _VERY_SLOW_REPETITIONS = 60.0, 1
_UNLIMITED = 1_000
_JUDGED_LIMITS = 3
"""On a machine that others fill, what is judged may take so many times what others may take."""
_ANSWER_S = 900.0


@dataclass(slots=True)
class Cell:
    """What one peer was measured at in one shape, by repetition."""

    seconds: dict[int, float] = field(default_factory=dict)
    delays_ms: dict[int, list[float]] = field(default_factory=dict)
    extras: list[dict[str, float]] = field(default_factory=list)
    skipped: str = ""

    def take(self, repetition: int, answer: dict[str, object]) -> None:
        """Keep an answer."""
        told = dict(answer)
        if "cannot" in told:
            self.skipped = str(told["cannot"])
            return
        if isinstance(seconds := told.pop("seconds", None), float):
            self.seconds[repetition] = seconds
        if isinstance(delays := told.pop("delays_ms", None), list):
            self.delays_ms[repetition] = delays
        if numbers := {name: value for name, value in told.items() if isinstance(value, int | float)}:
            self.extras.append(numbers)


@dataclass(frozen=True, slots=True)
class Growth:
    """Cost per stage of a large workflow over that of a small one, per repetition."""

    mode: str
    kind: str
    small: int
    large: int
    ratios: list[float]
    skipped: str = ""


class Comparison:
    """One run of a plan; a context: all peers are stopped at its end.

    Args:
        peers: Those that take part.
        say: Told what is being measured.

    Attributes:
        cells: What was measured: shape name, peer name.
        growths: How the cost of a stage grows, if the plan asks.

    """

    def __init__(self, plan: Plan, peers: Iterable[Entry], say: Callable[[str], None]) -> None:
        self.plan = plan
        self.cells: dict[str, dict[str, Cell]] = {}
        self.growths: list[Growth] = []
        self._tell = say
        self._began = time.monotonic()
        self._cost_s: dict[str, float] = {}
        self._stack = ExitStack()
        self.processes = {entry.name: self._stack.enter_context(PeerProcess(entry)) for entry in peers}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> None:
        """Measure all shapes of the plan. Peers that are judged are up before; the others start when they are asked."""
        self._began = time.monotonic()
        for process in self.processes.values():
            if process.entry.is_judged:
                self._say(f"{process.entry.name} starts")
                process.start()
        for entries, shapes, repetitions in self.rounds():
            self._measure(entries, shapes, repetitions)
        if self.plan.growth:
            self.growths = list(self._growths(*self.plan.growth))

    def rounds(self) -> Iterator[tuple[list[Entry], list[Shape], range]]:
        """Yield who is measured at what in which repetitions, the most important first.

        Repetitions in which the others take part have numbers of their own: a ratio is of two runs that were made
        side by side.
        """
        plan = self.plan
        everybody = [process.entry for process in self.processes.values()]
        judged = [entry for entry in everybody if entry.is_judged]
        walls = [shape for shape in plan.shapes if not shape.is_latency]
        aims = [shape for shape in walls if shape.name in JUDGED]
        rest = [shape for shape in walls if shape.name not in JUDGED]
        delays = [shape for shape in plan.shapes if shape.is_latency]
        beside = range(plan.repetitions, plan.repetitions + plan.others) if len(everybody) > len(judged) else range(0)
        yield judged, aims, range(plan.repetitions)
        yield everybody, delays, range(plan.others)
        for shape in [*aims, *rest]:
            if shape in rest:
                yield judged, [shape], range(plan.repetitions)
            yield everybody, [shape], beside

    def lacking(self) -> dict[str, str]:
        """Return the peers that cannot be measured here at all, with the reason."""
        return {name: process.lacks for name, process in self.processes.items() if process.lacks}

    def versions(self) -> dict[str, dict[str, str]]:
        """Return the versions of what each peer uses."""
        return {name: dict(process.versions) for name, process in self.processes.items() if process.versions}

    def _measure(self, entries: list[Entry], shapes: list[Shape], repetitions: range) -> None:
        """Measure shapes by turns: each repetition has all of them."""
        for repetition in repetitions:
            began = time.monotonic()
            for shape in shapes:
                self._say(f"{shape.name}, repetition {repetition + 1}")
                for entry in _turns(entries, repetition):
                    if not entry.shapes or shape.kind in entry.shapes:
                        self._once(entry, shape, repetition)
            now = time.monotonic()
            if now - self._began + (now - began) > self.plan.budget_s and repetition + 1 < repetitions.stop:
                self._say("no time for another repetition")
                return

    def _is_late(self) -> bool:
        return time.monotonic() - self._began > self.plan.budget_s

    def _say(self, text: str) -> None:
        self._tell(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def _once(self, entry: Entry, shape: Shape, repetition: int) -> None:
        cell = self.cells.setdefault(shape.name, {}).setdefault(entry.name, Cell())
        if self._is_late() and not (entry.is_judged and repetition < self.plan.repetitions):
            if not cell.seconds:
                cell.skipped = cell.skipped or "no time left in this run"
            return
        expected_s = 0.0 if shape.is_latency else self._cost_s.get(entry.name, 0.0) * shape.stages
        if cell.skipped or len(cell.seconds) >= _repetitions_within(expected_s, entry, shape):
            return
        if expected_s > self.plan.limit_s and not entry.is_judged:
            cell.skipped = f"about {expected_s:,.0f} s: above this run's limit of {self.plan.limit_s:g} s"
            return
        try:
            limit_s = self.plan.limit_s * (_JUDGED_LIMITS if entry.is_judged else 1)
            answer = self.processes[entry.name].ask(shape.as_json(), limit_s)
        except TooLongError as error:
            cell.skipped = str(error)
            if not shape.is_latency:
                self._cost_s[entry.name] = max(self.plan.limit_s / shape.stages, self._cost_s.get(entry.name, 0.0))
            return
        cell.take(repetition, answer)
        if repetition in cell.seconds and shape.kind != "mutex":
            cost_s = cell.seconds[repetition] / shape.stages
            self._cost_s[entry.name] = cost_s

    def _growths(self, small: int, large: int) -> Iterator[Growth]:
        modes = [name for name in MODES if name in self.processes and not self.processes[name].lacks]
        for kind in ("chain", "fan"):
            ratios: dict[str, list[float]] = {mode: [] for mode in modes}
            skipped = dict.fromkeys(modes, "")
            for repetition in range(self.plan.growth_repetitions):
                for mode in modes:
                    self._say(f"{mode}: {kind} of {large} against {small}, repetition {repetition + 1}")
                    try:
                        ratios[mode].append(self._growth(mode, kind, small, large))
                    except TooLongError as error:
                        skipped[mode] = str(error)
            for mode in modes:
                yield Growth(mode, kind, small, large, ratios[mode], skipped[mode])

    def _growth(self, mode: str, kind: str, small: int, large: int) -> float:
        def seconds(size: int) -> float:
            answer = self.processes[mode].ask({"kind": kind, "sizes": [size]}, _ANSWER_S)
            return float(answer["seconds"])

        before, large_s, after = seconds(small), seconds(large), seconds(small)
        return growth([before, after], large_s, small, large)


def _turns(entries: list[Entry], repetition: int) -> list[Entry]:
    at = repetition % max(len(entries), 1)
    return entries[at:] + entries[:at]


def _repetitions_within(expected_s: float, entry: Entry, shape: Shape) -> int:
    if entry.is_judged and shape.name in JUDGED:
        return _UNLIMITED
    if expected_s > _VERY_SLOW_S and not entry.is_judged:
        return _VERY_SLOW_REPETITIONS
    return _SLOW_REPETITIONS if expected_s > _SLOW_S else _UNLIMITED
