"""What a decision takes in at once is what its messages, decided one after another, would have come to (decision 020).

Whenever a decision has taken something in, the same is decided the long way round on a copy of the draft, and compared.
"""

import copy
import re
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabilize_celery.engine.steps import Decision, SetFields
from stabilize_celery.models.messages import Message
from stabilize_celery.runtime.draft import Draft, UnfitError
from stabilize_celery.runtime.fusion import GoingOn, _Fused, _handling
from stabilize_celery.runtime.unit import Conflict
from stabilize_celery.settings import CONTINUATION, FUSED, Settings
from stabilize_celery.store.contract import Drop
from stabilize_celery.testing import Simulation
from stabilize_celery.testing.conformance.simulator_backend import run_simulated
from tests.conformance.test_scenarios import SCENARIOS
from tests.simulation.random_graphs import WILD, definitions
from tests.simulation.stories import ROUGH
from tests.simulation.test_random_graphs import EVENTS, Play, looking

_OWNER = re.compile(r"simulated/[0-9a-f]{12}")


class Twice:
    """Decides the long way round what was taken in at once; keeps what differs: a handler's errors are only counted."""

    def __init__(self) -> None:
        self.followed = Counter[str]()
        self.different: list[tuple[_Fused, str]] = []
        self._follow, self._commit = _Fused._follow, _Fused.commit
        self._stands_still = False

    def clock_us(self, simulation: Simulation) -> int:
        """Return the time, which may stand still."""
        simulation.now_us += not self._stands_still
        return simulation.now_us

    def follow(self, fused: _Fused, decision: Decision, message: Message, most: int, going_on: GoingOn | None) -> None:
        before = _copied(decision)
        self._follow(fused, decision, message, most, going_on)
        if before.owes == decision.owes:
            return
        store: Any = fused._unit.store
        with self._standing_still(store._running, fused.draft.now_us):
            seen = self._at_once(fused, _copied(decision), message, most)
            long = self._one_by_one(fused, before, message, most, going_on)
        if seen != long:
            self.different.append((fused, f"{message.name}: {_told(seen, long)}"))
        self.followed["with a claim" if fused._claim is not None else "without"] += 1

    @contextmanager
    def _standing_still(self, simulation: Simulation, now_us: int) -> Iterator[None]:
        """Let nothing happen, and no time pass, while two ways to decide are compared."""
        before = simulation.now_us, simulation._is_calm
        simulation.now_us, simulation._is_calm, self._stands_still = now_us, True, True
        try:
            yield
        finally:
            simulation.now_us, simulation._is_calm = before
            self._stands_still = False

    def commit(self, fused: _Fused, *given: Any, **named: Any) -> Any:
        """Commit; where others were faster, it was decided on what is not so, and comes to nothing."""
        try:
            return self._commit(fused, *given, **named)
        except Conflict:
            self.different = [one for one in self.different if one[0] is not fused]
            raise

    def _at_once(self, fused: _Fused, decision: Decision, message: Message, most: int) -> dict[str, str]:
        shadow = _shadow(fused)
        _go_on(shadow, decision, message, most)
        return _effects(shadow)

    def _one_by_one(
        self, fused: _Fused, decision: Decision, message: Message, most: int, going_on: GoingOn | None
    ) -> dict[str, str]:
        shadow = _shadow(fused)
        _go_on(shadow, decision, message, most)
        if fused._claim is not None and going_on is not None:
            owner = going_on._owner  # type: ignore[attr-defined]
            task = shadow._kept(going_on)
            if task is None or shadow._claimed(going_on, task) is None:
                return {}
            shadow._tasks.remove(task)
            going_on._owner = owner  # type: ignore[attr-defined]
        return _effects(shadow)


def _told(at_once: dict[str, str], one_by_one: dict[str, str]) -> str:
    lines = [f"{name}\n  at once    {at_once[name]}\n  one by one {one_by_one.get(name)}" for name in at_once]
    return "\n".join(line for line, name in zip(lines, at_once, strict=True) if at_once[name] != one_by_one.get(name))


def _copied(decision: Decision) -> Decision:
    copied = msgspec.structs.replace(decision)
    for name in ("changes", "forgets", "owes", "nudges", "parks", "events"):
        setattr(copied, name, list(getattr(decision, name)))
    copied.defers = dict(decision.defers)
    for at, change in enumerate(copied.changes):
        if type(change) is SetFields:
            copied.changes[at] = SetFields(change.key, copy.copy(change.fields))
    return copied


def _shadow(fused: _Fused) -> _Fused:
    """Return the same EXEC in the making, which goes its own way from here, at the same time."""
    shadow = copy.copy(fused)
    draft: Draft = copy.copy(fused.draft)
    for name, value in vars(draft).items():
        if isinstance(value, (dict, set, list)):
            setattr(draft, name, copy.copy(value))
    draft._pending = copy.deepcopy(fused.draft._pending)
    now_us = fused.draft.now_us - draft._seen_us + draft._at_us
    draft._clock_us = lambda: now_us
    draft._ledger = {name: list(changes) for name, changes in fused.draft._ledger.items()}
    shadow.draft, shadow._agenda, shadow._tasks, shadow._maybe = draft, deque(), [], []
    shadow._claim = None
    return shadow


def _go_on(fused: _Fused, decision: Decision, message: Message, most: int) -> None:
    """Take a decision and what follows, without following at once."""
    fused._take(decision, message.name)
    for _ in range(1, most):
        if not fused._agenda:
            return
        following = fused._agenda[0].message
        try:
            fused._take(fused._drive(_handling(following, fused._rules, 0)), following.name)
        except UnfitError:
            return
        fused._agenda.popleft()


def _effects(fused: _Fused) -> dict[str, str]:
    """What is written, by key and name, and sent: in whatever order it stands, and by whomever it is claimed."""
    transaction = fused.draft.written()
    hashes: dict[str, dict[str, Any]] = {}
    others: list[Any] = []
    for change in transaction.changes:
        if type(change) is SetFields:
            hashes.setdefault(change.key, {}).update(change.fields)
        else:
            others.append(change)
    ledger: dict[str, list[Any]] = {}
    for change in transaction.ledger:
        # What is known of an entry that is dropped is only a command less.
        ledger.setdefault(change.name, []).append(Drop(change.name) if isinstance(change, Drop) else change)
    found = {
        "hashes": {key: fields for key, fields in hashes.items() if fields},
        "others": sorted(others, key=lambda change: repr(getattr(change, "key", ""))),
        "ledger": dict(sorted(ledger.items())),
        "events": transaction.events,
        "sent": [(one.message, one.queue) for one in (*fused._agenda, *fused._tasks)],
        "sent, perhaps": [(one.message, one.queue) for one, _ in fused._maybe],
    }
    return {name: _OWNER.sub("simulated/somebody", repr(value)) for name, value in found.items()}


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch) -> Twice:
    checked = Twice()

    def commit(fused: _Fused, *given: Any, **named: Any) -> Any:
        return checked.commit(fused, *given, **named)

    def follow(fused: _Fused, *given: Any) -> None:
        checked.follow(fused, *given)

    def clock_us(simulation: Simulation) -> int:
        return checked.clock_us(simulation)

    monkeypatch.setattr(_Fused, "_follow", follow)
    monkeypatch.setattr(_Fused, "commit", commit)
    monkeypatch.setattr(Simulation, "clock_us", clock_us)
    return checked


@pytest.mark.parametrize("mode", [FUSED, CONTINUATION])
def test_it_is_the_same_in_every_pattern(twice: Twice, mode: str) -> None:
    """Each scenario of the 43 patterns, under one schedule."""
    for scenario in SCENARIOS:
        run_simulated(scenario, 5, mode)
        assert not twice.different, scenario.id

    assert twice.followed["without"] > 1_000
    assert (twice.followed["with a claim"] > 100) is (mode == CONTINUATION)


@pytest.mark.parametrize("mode", [FUSED, CONTINUATION])
def test_it_is_the_same_in_whatever_is_defined(twice: Twice, mode: str) -> None:
    """Joins, splits, failures, retries, locks, jumps, threads, synthetic stages, pauses, on a rough fleet."""

    @looking(100)
    @given(definitions(WILD), st.integers(0, 2**32), st.lists(st.sampled_from(sorted(EVENTS)), max_size=3))
    def runs(definition: dict[str, Any], seed: int, events: list[str]) -> None:
        twice.different.clear()
        play = Play(definition, seed, ROUGH, Settings(mode=mode))
        play.simulation.runtime.serves = lambda: frozenset({play.simulation.settings.work_queue})
        for event in events:
            ref_id = play.random.choice(definition["stages"])["ref_id"]
            play.later(partial(play.ask, *EVENTS[event](ref_id)))
        play.run()
        assert not twice.different

    runs()
    assert twice.followed["with a claim"] > 10
    assert twice.followed["without"] > 50
