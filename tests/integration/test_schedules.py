"""A fleet starts what is scheduled, with nothing but its workers; the page's samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stabilize_celery.models.schedule import Schedule
from stabilize_celery.runtime.schedule_book import ScheduleBook
from stabilize_celery.runtime.scheduler import scheduled_id
from stabilize_celery.store.contract import Filter
from tests.integration.fleet import Fleet, eventually
from tests.pages import blocks, execute
from tests.servers import RedisServer

pytestmark = pytest.mark.real


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with RedisServer() as server:
        fleet = Fleet(server, tmp_path)
        try:
            yield fleet
        finally:
            fleet.stop()


def test_two_workers_start_each_time_once(fleet: Fleet) -> None:
    """Both are keepers; one is killed on the way."""
    task = {"name": "work", "implementing_class": "work"}
    stage = {"ref_id": "tick", "type": "x", "name": "tick", "tasks": [task]}
    first = fleet.start_worker()
    fleet.start_worker()
    book = ScheduleBook(fleet.store)
    kept = book.add(
        Schedule(name="tick", definition={"application": "shop", "name": "t", "stages": [stage]}, every_s=1)
    )
    eventually(lambda: book.get("tick").started >= 2)
    first.kill_group()
    eventually(lambda: book.get("tick").started >= 6, 60)
    book.pause("tick")
    started = book.get("tick").started

    items = fleet.store.listing(Filter(), 100, None).items
    assert len(items) == started
    times = [kept.schedule.start_ms + n * 1_000 for n in range(1, 200)]
    assert {item.id for item in items} <= {scheduled_id("stabilize", "tick", at_ms) for at_ms in times}
    for item in items:
        assert fleet.ended(item.id).status.name == "SUCCEEDED"
    assert len(fleet.journal("end", "tick")) == started


def test_the_page_shows_what_works(redis_url: str) -> None:
    """Its blocks, with this server's URL in place of theirs."""
    shown = blocks("docs/scheduling.md")
    here = [
        replace(
            one,
            code=one.code.replace("redis://localhost:6379/1", redis_url).replace("redis://localhost:6379/0", redis_url),
        )
        for one in shown
    ]

    names = execute(here)

    assert names["client"].schedules.get("nightly").next_ms == names["kept"].next_ms
    later = names["client"].start(names["later"])
    assert (later.status().name, [reason.ref_id for reason in later.why()]) == ("RUNNING", ["report"])
    names["client"].close()
