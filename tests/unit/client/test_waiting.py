"""Waiting for the end of a workflow."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from stabilize_celery.client import Client
from stabilize_celery.client.events import WorkflowEvent
from stabilize_celery.client.following import LookAt, NextEvents, Pause, Seen, follow, wait
from stabilize_celery.errors import UnreachableError, WorkflowNotFoundError
from stabilize_celery.models.status import WorkflowStatus
from tests.servers import RedisServer
from tests.unit.client.world import World, gate, stage, workflow


def test_an_ended_workflow_is_returned_at_once(world: World):
    handle = world.start(stage("a"))

    assert handle.wait(timeout_s=0).status is WorkflowStatus.SUCCEEDED


def test_time_that_runs_out_is_a_timeout_error(redis_url: str):
    """The text names the workflow and what to ask next."""
    with Client(redis_url) as client:
        handle = client.start(workflow(gate()))
        with pytest.raises(TimeoutError, match=f"{handle.id}.*why"):
            handle.wait(timeout_s=0.05)


def test_in_a_simulation_time_that_would_run_out_is_a_timeout_error_at_once(world: World):
    """Nobody else will ever come: the text says what it waits for."""
    handle = world.start(gate())
    with pytest.raises(TimeoutError, match=f"(?s){handle.id}.*signal 'approve'"):
        handle.wait(timeout_s=3_600)


def test_a_time_that_is_no_number_is_refused_and_not_waited_for(world: World):
    with pytest.raises(ValueError, match="timeout_s is NaN"):
        world.start(gate()).wait(timeout_s=float("nan"))


def test_an_unknown_workflow_is_not_waited_for(world: World):
    with pytest.raises(WorkflowNotFoundError):
        world.client.handle("nobody").wait(timeout_s=5)


def test_waiting_reads_no_payloads(redis_url: str):
    """Only the end is looked for; the whole is read once it is there."""
    with Client(redis_url) as client, Redis.from_url(redis_url) as redis:
        handle = client.start(workflow(gate(), stage("b"), context={"large": "x" * 200_000}))
        before = redis.info("stats")["total_net_output_bytes"]
        with pytest.raises(TimeoutError):
            handle.wait(timeout_s=0.05)

        assert redis.info("stats")["total_net_output_bytes"] - before < 100_000


def test_the_end_wakes_who_waits(redis_url: str):
    """Who waits blocks on the stream and returns when somebody else ends the workflow."""
    with Client(redis_url) as client, Client(redis_url) as other, ThreadPoolExecutor() as pool:
        handle = client.start(workflow(gate()))
        waiting = pool.submit(handle.wait, 30)
        assert not waiting.done()
        other.handle(handle.id).cancel("enough")

        assert waiting.result(timeout=30).status is WorkflowStatus.CANCELED


def test_who_waits_long_does_not_wake_at_each_event(monkeypatch: pytest.MonkeyPatch):
    """An event a millisecond for ten seconds: some hundred looks; each comes late by a small share of the wait."""
    now_s = 0.0
    monkeypatch.setattr("stabilize_celery.client.following.time.monotonic", lambda: now_s)
    steps = wait("w", None)
    looks, step = 0, next(steps)
    step = steps.send(Seen(is_over=False, is_clear=False, now_ms=0))
    while now_s < 10:
        assert isinstance(step, NextEvents)
        looks, now_s = looks + 1, now_s + 0.001
        pause = steps.send([WorkflowEvent(f"{looks}-0", "task.started", "", looks, {})])
        assert isinstance(pause, Pause)
        assert pause.pause_s <= min(0.02, now_s / 64)
        now_s += pause.pause_s
        step = next(steps)

    assert looks < 1_200


def test_the_end_is_seen_without_a_pause():
    steps = wait("w", None)
    next(steps)
    assert isinstance(steps.send(Seen(is_over=False, is_clear=False, now_ms=0)), NextEvents)
    assert isinstance(steps.send([WorkflowEvent("1-0", "workflow.succeeded", "", 1, {})]), LookAt)


def test_a_restart_of_redis_is_survived():
    """Redis dies and comes back while somebody waits: the wait goes on and sees the end."""
    with RedisServer(append_only=True) as server, Client(server.url) as client, ThreadPoolExecutor() as pool:
        handle = client.start(workflow(gate()))
        waiting = pool.submit(handle.wait, 60)
        server.kill()
        server.start()
        handle.cancel("enough")

        assert waiting.result(timeout=60).status is WorkflowStatus.CANCELED


def test_a_server_that_stays_away_is_a_timeout_at_the_deadline():
    with RedisServer() as server, Client(server.url) as client:
        handle = client.start(workflow(gate()))
        server.kill()
        with pytest.raises(TimeoutError):
            handle.wait(timeout_s=0.5)


def test_who_follows_outlives_a_server_that_is_away_for_a_while(monkeypatch: pytest.MonkeyPatch):
    """What was told is not told again; a server that stays away is an error, and at the first look at once."""
    away = UnreachableError("the state server (Redis)", "redis://h", "start it")
    first, second = (WorkflowEvent(f"{n}-0", "workflow.started", "", n, {}) for n in (1, 2))
    steps = follow("0")
    assert isinstance(next(steps), LookAt)
    assert steps.send(Seen(is_over=False, is_clear=False, now_ms=0)).after == "0"
    assert steps.send([first]).events == [first]
    assert next(steps).after == "1-0"

    assert isinstance(steps.throw(away), Pause)
    assert next(steps).after == "1-0"
    assert steps.send([second]).events == [second]

    next(steps)
    assert isinstance(steps.throw(away), Pause)
    next(steps)
    now = time.monotonic()
    monkeypatch.setattr("stabilize_celery.client.following.time.monotonic", lambda: now + 61)
    with pytest.raises(UnreachableError):
        steps.throw(away)
    again = follow("0")
    next(again)
    with pytest.raises(UnreachableError):
        again.throw(away)
