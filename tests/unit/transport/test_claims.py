"""Bodies learn that their claim is gone, in whatever process they run."""

from __future__ import annotations

import threading

import pytest

from stabilize_celery.runtime.ports import Claim
from stabilize_celery.tasks.cancellation import CancellationToken, bind_token
from stabilize_celery.transport.claims import LocalClaims
from tests.unit.runtime.world import World

W, RUN, MINE = "01HWORKFLOW", "Run:t..0", "w0@host#1:7/nonce"
CLAIM = Claim(W, RUN, MINE)


def begun(world: World, **options: object) -> tuple[LocalClaims, CancellationToken]:
    world.owe(W, RUN, own=MINE, att=1)
    claims = LocalClaims(world.store, 3600.0, is_ending=lambda: False, **options)  # type: ignore[arg-type]
    with bind_token(CancellationToken()) as token:
        claims.began(CLAIM)
    return claims, token


def test_a_claim_that_stands_is_left_alone() -> None:
    """Nothing happens to its body."""
    claims, token = begun(World())
    assert claims.look() == []
    assert not token.is_cancelled


@pytest.mark.parametrize("what", ["forgotten", "given to another", "taken back", "cancelled with a lock"])
def test_a_body_whose_claim_is_gone_is_asked_to_stop(what: str) -> None:
    """Once, with a reason; also a cancelled one that keeps its claim for the sake of its lock."""
    world = World()
    told: list[Claim] = []
    claims, token = begun(world, on_claim_lost=told.append)
    if what == "forgotten":
        world.forget(W, RUN)
    else:
        fields = {"given to another": {"own": "w1@host#2:9/other"}, "taken back": {"own": ""}}
        world.owe(W, RUN, **fields.get(what, {"cx": 1, "own": MINE}))

    assert claims.look() == [CLAIM]
    assert claims.look() == []

    assert token.is_cancelled
    assert "claim is gone" in str(token.reason)
    assert told == [CLAIM]


def test_a_body_that_ends_soon_costs_nothing() -> None:
    """Only bodies that run for longer than the interval are looked after."""
    world = World()
    claims, _ = begun(world)
    before = world.store.round_trips

    assert claims.look(older_than_s=60) == []
    claims.ended(CLAIM)
    assert claims.look() == []
    assert world.store.round_trips == before


def test_it_watches_by_itself() -> None:
    """The first claim starts a thread, which looks at the interval."""
    world, lost = World(), threading.Event()
    world.owe(W, RUN, own="w1@host#2:9/other")
    claims = LocalClaims(world.store, 0.01, lambda _: lost.set(), is_ending=lambda: False)

    claims.began(CLAIM)

    assert lost.wait(10)


def test_the_result_of_a_process_that_is_told_to_end_does_not_count() -> None:
    """The body was interrupted, and its task handed back: the process just ends."""
    claims = LocalClaims(World().store, 3600.0, is_ending=lambda: True)
    with pytest.raises(SystemExit):
        claims.ended(CLAIM)
