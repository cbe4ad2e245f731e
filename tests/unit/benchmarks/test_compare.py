"""In which order peers are measured, with stand-ins for them: no process is started, and no time passes but theirs."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from benchmarks import compare
from benchmarks.compare import Comparison
from benchmarks.peers import PEERS, Entry
from benchmarks.peers.process import TooLongError
from benchmarks.plan import JUDGED, QUICK

JUDGES = {entry.name for entry in PEERS if entry.is_judged}


class StandIn:
    """A peer that takes as long as it is told; None: it ends instead of answering."""

    lacks = ""
    versions: dict[str, str] = {}

    def __init__(self, entry: Entry, clock: "Clock", seconds: float | None) -> None:
        self.entry, self._clock, self._seconds = entry, clock, seconds

    def start(self) -> None:
        """Nothing starts."""

    def ask(self, shape: dict, limit_s: float) -> dict:
        if self._seconds is None:
            raise TooLongError("it ended: a bug of its own")
        self._clock.now_s += min(self._seconds, limit_s)
        self._clock.asked.append((self.entry.name, f"{shape['kind']}_{'x'.join(map(str, shape['sizes']))}"))
        if self._seconds > limit_s:
            raise TooLongError(f"not within {limit_s:g} s")
        return {"seconds": self._seconds}


class Clock:
    """What time it is, and who was asked for what until then."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.asked: list[tuple[str, str]] = []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Entry], float | None]], tuple[Comparison, Clock]]:
    """Make a quick run in which each peer takes so long for whatever it is asked."""
    clock = Clock()
    monkeypatch.setattr(compare, "time", SimpleNamespace(monotonic=lambda: clock.now_s))

    def made(seconds: Callable[[Entry], float | None]) -> tuple[Comparison, Clock]:
        run = Comparison(QUICK, PEERS, lambda _: None)
        run.processes = {entry.name: StandIn(entry, clock, seconds(entry)) for entry in PEERS}  # type: ignore[misc]
        return run, clock

    return made


def test_what_is_judged_has_all_repetitions_however_slow_the_others_are(quick) -> None:
    """The others share what is left of the time, and say so where there is none; the run ends in time."""
    run, clock = quick(lambda entry: 2.0 if entry.is_judged else 60.0)

    run.run()

    assert all(len(run.cells[shape][name].seconds) >= 5 for shape in JUDGED for name in JUDGES)
    others = [cell for shape in JUDGED for name, cell in run.cells[shape].items() if name not in JUDGES]
    assert len(others) > len(PEERS)
    assert all(cell.seconds or cell.skipped for cell in others)
    assert any("no time left" in cell.skipped for cell in others)
    assert clock.now_s < QUICK.budget_s + 130


def test_judged_peers_take_turns_and_everybody_begins_once(quick) -> None:
    """Who begins moves on with each repetition; all of them take part in each."""
    run, clock = quick(lambda _: 0.01)

    run.run()

    first = [name for name, shape in clock.asked if shape == "chain_50"][: 5 * len(JUDGES)]
    turns = [first[at : at + len(JUDGES)] for at in range(0, len(first), len(JUDGES))]
    assert all(set(turn) == JUDGES for turn in turns)
    assert {turn[0] for turn in turns} == JUDGES


def test_others_are_measured_beside_those_that_are_judged(quick) -> None:
    """A ratio is of two runs of one repetition: the others have repetitions that the judged take part in."""
    run, _ = quick(lambda _: 0.01)

    run.run()

    for shape in JUDGED:
        common = set(run.cells[shape]["upstream_file"].seconds) & set(run.cells[shape]["fused"].seconds)
        assert common == {QUICK.repetitions}


def test_a_peer_that_ends_is_told_and_the_others_are_measured(quick) -> None:
    run, _ = quick(lambda entry: None if entry.name == "celery_no_acks" else 0.01)

    run.run()

    assert "a bug of its own" in run.cells["chain_50"]["celery_no_acks"].skipped
    assert all(len(run.cells[shape]["fused"].seconds) >= 5 for shape in JUDGED)


def test_without_others_nothing_is_repeated_for_them(quick) -> None:
    run, _ = quick(lambda _: 0.01)
    run.processes = {name: process for name, process in run.processes.items() if name in JUDGES}

    run.run()

    assert {len(cell.seconds) for cell in run.cells["chain_50"].values()} == {QUICK.repetitions}
