"""Deadlocks as `why` tells them: every party by name, what it holds and wants, and what would break it."""

from functools import partial
from typing import Any

import pytest

from stabilize_celery.client import Reason, WorkflowHandle
from stabilize_celery.client.why import deadlocks, facts, waits
from stabilize_celery.client.why.deadlocks import find_deadlocks, workflow_node
from stabilize_celery.client.why.explain import explain
from stabilize_celery.models import validation
from stabilize_celery.models.checks import part_rules
from stabilize_celery.models.stage.stage import StageExecution
from tests.simulation.nesting import AFTER, calling, gated, joining, mutex, nested
from tests.unit.client.world import World, gate, stage


def deadlock_of(handle: WorkflowHandle) -> Reason:
    """The deadlock that a workflow is told of, which is the first of its reasons."""
    (reason,) = [reason for reason in handle.why() if reason.kind == "deadlock"]
    assert handle.why()[0] == reason
    return reason


def circle(world: World, *keys: str) -> list[WorkflowHandle]:
    """Workflows that each hold a key and want the next one's."""
    handles = [
        world.start(*gated(key, wanted), name=f"tour{at}")
        for at, (key, wanted) in enumerate(zip(keys, [*keys[1:], keys[0]], strict=True))
    ]
    for handle in handles:
        handle.signal("gate", "go")
    world.settle(5)
    return handles


def links(reason: Reason) -> list[tuple[str, str, str, str, str]]:
    """Who holds what and wants what, by name."""
    assert reason.deadlock is not None
    return [(one.holder.ref_id, one.holds, one.relation, one.waiter.ref_id, one.wants) for one in reason.deadlock.links]


def test_two_workflows_that_want_each_others_keys(world: World):
    """Both are told of both, in words, with commands; their stages keep the reasons that they always have."""
    first, second = circle(world, "dock", "gate")

    for handle in (first, second):
        reason = deadlock_of(handle)
        assert reason.ref_id == ""
        assert reason.text == "deadlock: each of these 2 waits for another one to end"
        for one, held, wanted in ((first, "dock", "gate"), (second, "gate", "dock")):
            assert f"…{one.id[-6:]} / load holds '{held}' for " in reason.detail
            assert f"`stabilize-celery cancel-stage {one.id} load`" in reason.advice
            assert f"`stabilize-celery cancel {one.id}`" in reason.advice
            assert f" for '{wanted}'" in reason.detail
        (mutex_reason,) = [other for other in handle.why() if other.ref_id == "check"]
        assert (mutex_reason.kind, mutex_reason.text.endswith(": a deadlock")) == ("mutex", True)
        assert "will not continue by itself" in mutex_reason.advice


@pytest.mark.parametrize("length", [2, 3, 7])
def test_a_circle_of_any_length(world: World, length: int):
    """Each party once, each holding what the one before it wants."""
    keys = [f"k{at}" for at in range(length)]
    handles = circle(world, *keys)

    for handle in handles:
        found = deadlock_of(handle).deadlock
        assert found is not None
        assert found.workflow_ids == {one.id for one in handles}
        following = [*found.links[1:], found.links[0]]
        assert [one.wants for one in found.links] == [one.holds for one in following]


def test_who_waits_behind_a_deadlock_is_told_so(world: World):
    circle(world, "dock", "gate")
    behind = world.start(stage("late", mutex_key="dock"))

    reason = deadlock_of(behind)

    assert reason.text == "waits behind a deadlock: each of these 2 waits for another one to end"
    assert behind.id not in reason.detail
    assert behind.why()[1].text.endswith(": a deadlock")


@pytest.mark.parametrize(
    ("stages", "relation", "waiter", "told"),
    [
        (nested("k", "k"), "before stage", "check", "its before stage check has waited"),
        (nested("k", "k", AFTER), "after stage", "check", "its after stage check has waited"),
        (calling("k", "k"), "inner workflow", "inside", "its inner workflow inner …"),
        (joining("k", "k"), "join", "outside", "stage outside, which a join in it needs, has waited"),
    ],
)
def test_a_workflow_that_waits_for_itself(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    stages: list[StageExecution],
    relation: str,
    waiter: str,
    told: str,
):
    """An inner workflow or a section's join needs the key that is held around it, or a stage that was once accepted."""
    monkeypatch.setattr(validation, "RULES", [rule for rule in validation.RULES if rule is not part_rules.locks])
    handle = world.start(*stages)

    reason = deadlock_of(handle)

    assert reason.text == "deadlock: it waits for a mutex that it holds itself"
    ((_, held, how, asking, wanted),) = links(reason)
    assert (held, how, asking, wanted) == ("GLOBAL:k", relation, waiter, "GLOBAL:k")
    assert told in reason.detail


def test_an_inner_workflow_is_told_of_its_caller(world: World):
    """The inner workflow's own `why` names who called it."""
    handle = world.start(*calling("k", "k"))
    inner = next(reason for reason in handle.why() if reason.kind == "sub_workflow").advice.rsplit(" ", 1)[1]

    assert f"…{handle.id[-6:]} / call holds 'k'" in deadlock_of(world.client.handle(inner)).detail


def test_an_inner_workflow_that_waits_for_its_callers_slot(world: World):
    """A pipeline of one execution at a time that calls itself."""
    limits = {"pipeline_config_id": "nightly", "is_limit_concurrent": True, "keep_waiting_pipelines": True}
    inner: dict[str, Any] = {"application": "tests", "name": "inner", "stages": [], "max_concurrent_executions": 1}
    task = {"name": "work", "implementing_class": "work"}
    inner |= {**limits, "stages": [{"ref_id": "i", "type": "x", "name": "i", "tasks": [task]}]}
    handle = world.start(
        stage("call", does="sub_workflow", context={"workflow": inner}), max_concurrent_executions=1, **limits
    )

    reason = deadlock_of(handle)

    assert links(reason) == [("", "PIPELINE:tests:nightly", "inner workflow", "", "PIPELINE:tests:nightly")]
    assert reason.advice == f"end it: `stabilize-celery cancel {handle.id}`"


def test_a_semaphore_is_stuck_only_with_all_its_holders(world: World):
    """One holder of two that can go on is enough."""
    free = world.start(gate("free", **mutex("crane")))
    first = world.start(*gated("crane", "dock"))
    second = world.start(*gated("dock", "crane"))
    for handle in (first, second):
        handle.signal("gate", "go")
    world.settle(5)
    assert [reason.kind for reason in second.why() if reason.kind == "deadlock"] == []

    free.signal("free", "approve")
    world.settle(5)
    assert second.status().name == "SUCCEEDED"


def test_all_holders_of_a_semaphore_are_named(world: World):
    holders = [world.start(*gated("crane", "dock")) for _ in range(2)]
    last = world.start(*gated("dock", "crane"))
    for handle in (*holders, last):
        handle.signal("gate", "go")
    world.settle(5)

    found = deadlock_of(last).deadlock

    assert found is not None
    assert found.workflow_ids == {one.id for one in (*holders, last)}
    assert sorted(one.holds for one in found.links) == ["GLOBAL:crane", "GLOBAL:crane", "GLOBAL:dock"]


def test_waiting_is_not_a_deadlock(world: World):
    """The holder waits for a person, or wants a lock that is free in a moment."""
    world.start(gate("load", mutex_key="dock"))
    nested_one = world.start(*nested("gate", "dock"))

    assert [reason.kind for reason in nested_one.why()] == ["synthetic", "mutex"]


def test_nothing_is_said_of_a_deadlock_that_is_over_when_looked_at_again(world: World, monkeypatch: pytest.MonkeyPatch):
    """The first reading finds it; before the second one party is cancelled."""
    first, second = circle(world, "dock", "gate")
    readings = []
    explore = waits.explore

    def looked(*args: Any, **more: Any) -> Any:
        if readings:
            second.cancel()
            world.settle(5)
        readings.append(args)
        return explore(*args, **more)

    monkeypatch.setattr(deadlocks, "explore", looked)

    assert find_deadlocks(world.client.store, [workflow_node(first.id)]).found == []
    assert len(readings) == 2


def test_only_so_much_is_followed_and_that_is_said(world: World, monkeypatch: pytest.MonkeyPatch):
    """A chain longer than what one question may read."""
    handles = circle(world, *(f"k{at}" for at in range(6)))
    store = world.client.store

    assert find_deadlocks(store, [workflow_node(handles[0].id)], most=3).is_cut
    assert not find_deadlocks(store, [workflow_node(handles[0].id)], most=6).is_cut
    monkeypatch.setattr(facts, "find_deadlocks", partial(find_deadlocks, most=3))
    cut = [reason for reason in handles[0].why() if reason.kind == "mutex"]
    assert "there may be more" in cut[0].detail


def test_reading_costs_round_trips_by_the_length_of_the_circle(world: World):
    """Not by how many other workflows there are, or wait."""
    first, *_ = circle(world, "a", "b", "c")
    wire = world.fleet.store._wire

    def trips() -> int:
        before = wire.round_trips
        explain(world.client.store, first.id, world.client.settings)
        return int(wire.round_trips - before)

    few = trips()
    for _ in range(30):
        world.start(stage("late", mutex_key="a"))
        world.start(gate("other", mutex_key="elsewhere"))

    assert trips() <= few + 1
    assert few <= 8 + 2 * 5 * 3


def test_json_has_every_party(world: World):
    """For programs: ids, locks by full name, times in ms, commands."""
    first, second = circle(world, "dock", "gate")
    found = deadlock_of(first).deadlock
    assert found is not None

    told = found.as_objects()

    assert {one["holder"]["workflow_id"] for one in told} == {first.id, second.id}
    assert {(one["holds"], one["wants"]) for one in told} == {
        ("GLOBAL:dock", "GLOBAL:gate"),
        ("GLOBAL:gate", "GLOBAL:dock"),
    }
    assert all(one["relation"] == "before stage" and one["held_since_ms"] < one["waiting_since_ms"] for one in told)
    assert all(one["commands"][-1].startswith("stabilize-celery cancel ") for one in told)


def test_many_parties_are_not_all_told_in_words(world: World):
    """A line for each of the first ones; JSON has all."""
    reason = deadlock_of(circle(world, *(f"k{at:02}" for at in range(13)))[0])
    assert reason.deadlock is not None

    assert len(reason.detail.splitlines()) == 11
    assert reason.detail.endswith("and 3 more")
    assert len(reason.deadlock.as_objects()) == 13


def test_ending_a_party_as_advised_frees_the_others(world: World):
    """By the gentlest command: the stage that holds a key."""
    first, second = circle(world, "dock", "gate")

    assert second.cancel_stage("load")
    world.settle(5)

    assert (first.status().name, second.status().name) == ("SUCCEEDED", "SUCCEEDED")
    assert world.fleet.store.locks() == []
