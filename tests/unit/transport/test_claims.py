"""Bodies learn that their claim is gone or their time is over, in whatever process they run."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from stabilize_celery.errors import UnreachableError
from stabilize_celery.runtime.ports import Claim
from stabilize_celery.transport.claims import LONGEST_LOOK_S, LocalClaims
from tests.integration.fleet import eventually
from tests.unit.runtime.world import World

W, RUN, MINE = "01HWORKFLOW", "Run:t..0", "w0@host#1:7/nonce"
CLAIM = Claim(W, RUN, MINE)


class Body:
    """Writes down what it is told."""

    def __init__(self, limit_s: float | None = None, *, fences: bool = True) -> None:
        self.limit_s = limit_s
        self.told: list[str] = []
        self.fences = fences
        self.was_told = threading.Event()

    def stop(self) -> None:
        self.told.append("stop")
        self.was_told.set()

    def take_too_long(self) -> bool:
        self.told.append("too long")
        self.was_told.set()
        return self.fences


def begun(world: World, body: Body | None = None) -> tuple[LocalClaims, Body]:
    world.owe(W, RUN, own=MINE, att=1)
    claims = LocalClaims(world.store, 3600.0, is_ending=lambda: False)
    body = body or Body()
    claims.began(CLAIM, body)
    return claims, body


def test_a_claim_that_stands_is_left_alone() -> None:
    """Nothing happens to its body."""
    claims, body = begun(World())

    assert claims.look() == []
    assert body.told == []


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {"own": "w1@host#2:9/other"},
        {"own": ""},
        {"own": MINE, "cx": 1},
    ],
    ids=["forgotten", "given to another", "taken back", "cancelled with a lock"],
)
def test_a_body_whose_claim_is_gone_is_told_once(entry: dict[str, Any] | None) -> None:
    """Also a cancelled one that keeps its claim for the sake of its lock."""
    world = World()
    claims, body = begun(world)
    if entry is None:
        world.forget(W, RUN)
    else:
        world.owe(W, RUN, **entry)

    assert claims.look() == [CLAIM]
    assert claims.look() == []
    assert body.told == ["stop"]


@pytest.mark.parametrize(
    ("status", "stopped"), [("RUNNING", []), ("PAUSED", []), ("CANCELED", [CLAIM]), ("TERMINAL", [CLAIM])]
)
def test_a_body_of_a_workflow_that_has_ended_is_told_before_that_is_cleared(status: str, stopped: list[Claim]) -> None:
    """Its claim stands until then, and the message that clears it may wait behind this very body."""
    world = World()
    claims, body = begun(world)
    world.begin(W, status)

    assert claims.look() == stopped
    assert body.told == ["stop"] * len(stopped)


def test_one_that_keeps_its_claim_though_its_time_is_over_is_looked_after() -> None:
    """It holds a lock; it may still be cancelled."""
    world = World()
    claims, body = begun(world)
    world.owe(W, RUN, own=MINE, to="the task timed out")

    assert claims.look() == claims.look() == [CLAIM]
    world.forget(W, RUN)
    assert claims.look() == [CLAIM]
    assert claims.look() == []
    assert body.told == ["stop"] * 3


def test_a_body_that_ends_soon_costs_nothing() -> None:
    """Only bodies that run for longer than the interval are looked after."""
    world = World()
    claims, _ = begun(world)
    before = world.store.round_trips

    assert claims.look(older_than_s=60) == []
    claims.ended(CLAIM)
    assert claims.look() == []
    assert world.store.round_trips == before


@pytest.mark.parametrize("fences", [True, False])
def test_a_body_that_takes_too_long_is_told_so(fences: bool) -> None:
    """Once; but again, later, if others' commits won."""
    claims, body = begun(World(), Body(0.0, fences=fences))

    claims.look()
    claims.look()
    (watched,) = claims._bodies.values()

    # A thread of theirs may be the one that tells, and notes it right after.
    eventually(lambda: (watched.ends_s is None) is fences, 10)
    assert body.told == ["too long"]


def test_a_state_server_that_is_away_takes_nobody_off_the_list() -> None:
    """The next look finds what this one could not."""
    world = World()
    claims, body = begun(world)
    world.forget(W, RUN)

    def away(_requests: Any) -> Any:
        raise UnreachableError("redis", "redis://nowhere", "start it")

    real, world.store.look_many = world.store.look_many, away  # type: ignore[method-assign]
    with pytest.raises(UnreachableError):
        claims.look()
    world.store.look_many = real  # type: ignore[method-assign]

    assert claims.look() == [CLAIM]
    assert body.told == ["stop"]


@pytest.mark.parametrize("away", ["the first node", "the second node"])
def test_a_node_that_is_away_holds_up_nobody_elsewhere(away: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a cluster: bodies that were cancelled, or take too long, on other nodes are told at once; the error comes after."""
    world = World()
    names = sorted((f"W{number}" for number in range(40)), key=world.store.partition_of)
    here, there = (names[-1], names[0]) if away == "the first node" else (names[0], names[-1])
    gone = world.store.partition_of(there)
    claims = LocalClaims(world.store, 3600.0, is_ending=lambda: False)
    bodies = [_Elsewhere(0.0), Body(0.0), Body(), Body()]
    for name, run, body in zip((there, here, there, here), ("Run:a..0", "Run:b..0", RUN, RUN), bodies, strict=True):
        world.owe(name, run, own=MINE, att=1)
        claims.began(Claim(name, run, MINE), body)
    for name in (here, there):
        world.forget(name, RUN)
    real = world.store.look_many

    def partly_away(requests: Any) -> Any:
        if any(world.store.partition_of(slot.name) == gone for slot, _ in requests):
            raise UnreachableError("redis", "redis://nowhere", "start it")
        return real(requests)

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "look_many", partly_away)
        with pytest.raises(UnreachableError):
            claims.look()
    # A thread of theirs may be the one that tells of the time.
    eventually(lambda: [body.told for body in bodies] == [[], ["too long"], [], ["stop"]])

    assert claims.look() == [Claim(there, RUN, MINE)]


class _Elsewhere(Body):
    """Lies on a node that is away."""

    def take_too_long(self) -> bool:
        raise UnreachableError("redis", "redis://nowhere", "start it")


@pytest.mark.parametrize("limit_s", [None, 0.01])
def test_it_watches_by_itself(limit_s: float | None) -> None:
    """The first claim starts a thread, which looks at the interval, and when a limit passes; later claims wake it."""
    world = World()
    world.owe(W, RUN, own="w1@host#2:9/other" if limit_s is None else MINE)
    claims = LocalClaims(world.store, 0.01 if limit_s is None else 60.0, is_ending=lambda: False)

    for number in range(3):
        body = Body(limit_s)
        claim = Claim(W, RUN, f"{MINE}{number}" if limit_s is None else MINE)
        claims.began(claim, body)
        assert body.was_told.wait(10)
        claims.ended(claim)


def test_a_long_lease_does_not_make_cancelling_slow() -> None:
    """Within seconds, whatever the lease."""
    assert LocalClaims(World().store, 60.0)._look_every_s == LONGEST_LOOK_S


def test_the_result_of_a_process_that_is_told_to_end_does_not_count() -> None:
    """The body was interrupted, and its task handed back: the process just ends."""
    claims = LocalClaims(World().store, 3600.0, is_ending=lambda: True)
    with pytest.raises(SystemExit):
        claims.ended(CLAIM)
