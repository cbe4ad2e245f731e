"""A lock's slot by hand: who holds, who waits, who is next (PROTOCOL 8)."""

from typing import Any

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.locks import Owner, give_back, look_ms, request
from stabilize_celery.engine.steps import (
    Decision,
    DeleteFields,
    Expire,
    Rank,
    SetFields,
    Unrank,
    lock_slot,
    workflow_slot,
)
from stabilize_celery.models.messages import AcquireLock
from tests.unit.engine.driving import W, World, as_stored

LOCK = "GLOBAL:k"
SLOT = lock_slot(LOCK)
ME = Owner(W, "me", 1)


def lock(*, holders: dict[str, int] | None = None, line: list[str] | None = None, **meta: int) -> World:
    world = World().workflow().workflow(workflow_id="w2")
    world.put("h", as_stored(holders or {}), SLOT)
    world.put("q", [(owner, 1000 + at) for at, owner in enumerate(line or [])], SLOT)
    return world.put("meta", as_stored(meta), SLOT)


def holder(world: World, owner: Owner, state: str = "held") -> World:
    return world.run(owner.thread, owner.workflow_id, lock=state, request=owner.request, status="RUNNING")


def granted(decision: Decision) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for change in decision.changes:
        if isinstance(change, SetFields) and change.key == "h":
            found |= change.fields
    return found


def test_a_free_lock_is_taken_at_once() -> None:
    """The token is the time, or more than the last one: it grows over a fail-over, too."""
    world = lock()
    token = world.decide(request(LOCK, ME, 1))

    ((slot, decision),) = world.commits
    assert slot == SLOT
    assert granted(decision) == {str(ME): token}
    assert token == world.now_ms * 1000
    assert not any(isinstance(change, Rank) for change in decision.changes)

    late = lock(last=2**60)
    assert late.decide(request(LOCK, ME, 1)) == 2**60 + 1


def test_who_holds_it_gets_the_same_token_again() -> None:
    """A request that is delivered twice writes nothing."""
    world = lock(holders={str(ME): 7})

    assert world.decide(request(LOCK, ME, 1)) == 7
    assert world.commits == []


def test_who_comes_later_waits_in_line() -> None:
    """Also behind those who wait already; being in line twice keeps the first place (NX)."""
    other = Owner("w2", "t", 1)
    world = holder(lock(holders={str(other): 5}, line=["w2/u#1"], limit=1, last=5), other)

    assert world.decide(request(LOCK, ME, 1)) is None
    ((_, decision),) = world.commits
    (rank,) = [change for change in decision.changes if isinstance(change, Rank)]
    assert (rank.member, rank.if_absent) == (str(ME), True)
    assert granted(decision) == {}


def test_a_newcomer_does_not_pass_who_waits() -> None:
    """Room for one: the first in line moves up, and is told; the newcomer waits."""
    first = Owner("w2", "t", 3)
    world = lock(line=[str(first)])
    ask = AcquireLock(workflow_id="w2", ref_id="a", thread="t", request=3)
    holder(world, first, "requested").owed(ask)

    assert world.decide(request(LOCK, ME, 1)) is None
    (_, decision), (told_slot, told) = world.commits[:2]
    assert set(granted(decision)) == {str(first)}
    assert any(isinstance(change, Unrank) and change.member == str(first) for change in decision.changes)
    assert told_slot.name == "w2"
    assert [message.name for message in told.nudges] == ["Lock:t#3"]


def test_a_higher_limit_moves_up_several_with_growing_tokens() -> None:
    """The newest definition's limit rules."""
    line = ["w2/t#1", "w2/u#1"]
    world = lock(line=line)

    token = world.decide(request(LOCK, ME, 3))

    tokens = granted(world.commits[0][1])
    assert list(tokens) == [*line, str(ME)]
    assert list(tokens.values()) == [token - 2, token - 1, token]


def test_each_request_is_bound_by_its_own_limit_and_by_those_of_who_holds_it() -> None:
    """Neither a newcomer with a high limit nor one with a low one makes anybody hold it beside more than he allows."""
    other = Owner("w2", "t", 1)
    cases = ((1, 3, False), (3, 1, False), (3, 3, True), (2, 3, True))
    for theirs, mine, is_let_in in cases:
        world = holder(lock(holders={str(other): 5}, common=theirs, limit=theirs, last=5), other)

        assert (world.decide(request(LOCK, ME, mine)) is not None) is is_let_in


def test_a_repeated_request_keeps_its_place_in_line() -> None:
    """It looks again: it moves nobody up whom the first request did not."""
    other = Owner("w2", "t", 1)
    world = holder(lock(holders={str(other): 5}, line=[str(ME)], common=1, limit=1, last=5), other)

    assert world.decide(request(LOCK, ME, 1)) is None
    assert granted(world.commits[0][1]) == {}


def test_a_lower_limit_takes_nothing_from_anybody() -> None:
    """Three hold; the newest request allows one: nobody moves up before all three have given back."""
    holders = {f"w2/h{at}#1": at for at in (1, 2, 3)}
    world = lock(holders=holders, line=["w2/t#1"], limit=1, last=3)
    for name in holders:
        holder(world, Owner.parse(name))

    world.decide(_deciding(give_back(LOCK, Owner("w2", "h1", 1))))

    assert granted(world.commits[0][1]) == {}


def test_one_that_nobody_wakes_any_more_is_passed_over() -> None:
    """It got in line again after its run had ended: it is dropped as its turn comes, and the next is told."""
    ghost, waiting = Owner("w2", "ghost", 1), Owner("w2", "t", 1)
    world = lock(holders={str(ME): 5}, line=[str(ghost), str(waiting)], limit=1, last=5)
    world.run("ghost", "w2", lock="done", request=1)

    world.decide(_deciding(give_back(LOCK, ME)))

    handed, dropped = (decision for _, decision in world.commits)
    assert set(granted(handed)) == {str(ghost)}
    assert DeleteFields("h", (str(ghost),)) in dropped.changes


def test_releasing_hands_over_in_the_same_commit() -> None:
    """Nobody can barge in between; the next one is told in its own slot."""
    waiting = Owner("w2", "t", 1)
    world = lock(holders={str(ME): 5}, line=[str(waiting)], limit=1, last=5)
    ask = AcquireLock(workflow_id="w2", ref_id="a", thread="t", request=1)
    holder(world, waiting, "requested").owed(ask)

    world.decide(_deciding(give_back(LOCK, ME)))

    (_, decision), (_, told) = world.commits
    assert DeleteFields("h", (str(ME),)) in decision.changes
    assert set(granted(decision)) == {str(waiting)}
    assert granted(decision)[str(waiting)] > 5
    assert [message.name for message in told.nudges] == ["Lock:t#1"]


def test_releasing_again_tells_the_holders_again() -> None:
    """The first try may have died between the hand-over and telling it."""
    now = Owner("w2", "t", 1)
    ask = AcquireLock(workflow_id="w2", ref_id="a", thread="t", request=1)
    world = lock(holders={str(now): 9}, limit=1, last=9).owed(ask)

    world.decide(_deciding(give_back(LOCK, ME)))

    assert [message.name for _, told in world.commits for message in told.nudges] == ["Lock:t#1"]


@pytest.mark.parametrize("mixed", [0, 1])
def test_the_limit_of_one_that_has_left_is_forgotten(mixed: int) -> None:
    """A lock that is never idle would collect them; where all have the same there is none to forget."""
    waiting = Owner("w2", "t", 1)
    world = holder(lock(holders={str(ME): 5}, line=[str(waiting)], common=1, last=5, mixed=mixed), waiting, "requested")
    world.put("n", as_stored({str(ME): 3}), SLOT)
    world.decide(_deciding(give_back(LOCK, ME)))

    assert (DeleteFields("n", (str(ME),)) in world.commits[0][1].changes) is bool(mixed)


def test_an_idle_lock_goes_away_by_itself() -> None:
    """Its last token is kept for a week, then the time alone makes tokens grow."""
    world = lock(holders={str(ME): 5}, limit=1, last=5)
    world.decide(_deciding(give_back(LOCK, ME)))

    assert Expire("meta", 7 * 24 * 3600 * 1000) in world.commits[0][1].changes

    asked = lock(limit=1, last=5)
    asked.decide(request(LOCK, ME, 1))
    assert Expire("meta", 0) in asked.commits[0][1].changes, "it stays while somebody holds it or waits"


def test_a_waiter_drops_a_holder_whose_run_has_ended() -> None:
    """A ghost: granted after its run had given the lock back. The waiter then asks again."""
    ghost = Owner("w2", "ghost", 1)
    for state, number in (("done", 1), ("held", 2), ("", 0)):
        world = lock(holders={str(ghost): 5}, limit=1, last=5)
        world.run("ghost", "w2", lock=state, request=number)

        world.decide(request(LOCK, ME, 1))

        dropped = [change for _, decision in world.commits for change in decision.changes]
        assert DeleteFields("h", (str(ghost),)) in dropped


def test_who_moves_up_when_a_ghost_is_dropped_is_told() -> None:
    """It is not the one that found the ghost: nobody else would wake it before it looks by itself."""
    ghost, first = Owner("w2", "ghost", 1), Owner("w2", "t", 1)
    world = lock(holders={str(ghost): 5}, line=[str(first)], common=1, last=5)
    world.run("ghost", "w2", lock="done", request=1)
    ask = AcquireLock(workflow_id="w2", ref_id="a", thread="t", request=1)
    holder(world, first, "requested").owed(ask)

    assert world.decide(request(LOCK, ME, 1)) is None

    assert str(first) in granted(world.commits[1][1])
    assert [message.name for _, told in world.commits for message in told.nudges] == ["Lock:t#1"]


@pytest.mark.parametrize("status", ["GONE", None])
def test_a_waiter_drops_a_holder_whose_workflow_is_gone(status: str | None) -> None:
    """Also while its run is there: nobody will ever end that, and give the lock back."""
    lost = Owner("w2", "lost", 1)
    world = holder(lock(holders={str(lost): 5}, limit=1, last=5), lost)
    if status is None:
        del world.slots[workflow_slot("w2")][places.WORKFLOW]
    else:
        world.workflow(status, "w2")

    world.decide(request(LOCK, ME, 1))

    assert any(DeleteFields("h", (str(lost),)) in each.changes for _, each in world.commits)


def test_a_waiter_lets_a_granted_run_be_that_has_not_started_yet() -> None:
    """`requested` may be on its way: acting on it would let two in."""
    slow = Owner("w2", "slow", 1)
    for state in ("requested", "held"):
        world = holder(lock(holders={str(slow): 5}, limit=1, last=5), slow, state)
        world.decide(request(LOCK, ME, 1))

        assert len(world.commits) == 1


def test_a_pipeline_slot_is_held_by_the_workflow_itself() -> None:
    """An owner without a thread: what became of it stands in the workflow's record."""
    other = Owner("w2", "", 0)
    for state, is_dropped in (("held", False), ("requested", False), ("done", True)):
        world = lock(holders={str(other): 5}, limit=1, last=5)
        world.workflow(workflow_id="w2", lock_state=state)
        world.decide(request(LOCK, ME, 1))

        assert any(DeleteFields("h", (str(other),)) in each.changes for _, each in world.commits) is is_dropped
    assert other.message_name == "Begin"


def test_owners_are_text_and_back() -> None:
    """Workflow, thread and the number of the request; an owner is used once."""
    for owner in (ME, Owner(W, "", 0), Owner("a.b-c_d", "t.3", 12)):
        assert Owner.parse(str(owner)) == owner


def test_waiters_do_not_all_look_at_once() -> None:
    """Spread over a fifth of the time, by name, so that deciding twice rests as long."""
    rests = {look_ms(Owner(W, f"t{at}", 1), 300_000) for at in range(200)}

    assert min(rests) >= 270_000
    assert max(rests) <= 330_000
    assert len(rests) > 20


def _deciding(steps: Any) -> Any:
    yield from steps
    return Decision()


def _is_meta(change: Any) -> bool:
    return isinstance(change, SetFields) and change.key == "meta"
