"""When a schedule's workflows start: times, clock changes, what was missed, and what is refused."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.models.schedule import Schedule, check_schedule

STAGE = {"ref_id": "a", "type": "x", "name": "a", "tasks": [{"name": "t", "implementing_class": "t"}]}
DEFINITION = {"application": "shop", "name": "w", "stages": [STAGE]}
MINUTE, HOUR = 60_000, 3_600_000


def schedule(**fields: Any) -> Schedule:
    return Schedule(**{"name": "s", "definition": DEFINITION, **fields})


def at(text: str, zone: str = "UTC") -> int:
    return round(dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def test_cron_is_read_in_its_time_zone() -> None:
    nightly = schedule(cron="0 3 * * 1-5", timezone="Europe/Berlin")

    assert nightly.next_after(at("2026-07-03T03:00", "Europe/Berlin")) == at("2026-07-06T03:00", "Europe/Berlin")


@pytest.mark.parametrize(
    ("day", "hours"),
    [("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)],
    ids=["an hour less", "an hour more", "a usual day"],
)
def test_a_day_has_one_time_whatever_the_clock_does(day: str, hours: int) -> None:
    """Also at a time that the clock leaves out, or shows twice."""
    daily = schedule(cron="30 2 * * *", timezone="Europe/Berlin")
    start = at(f"{day}T00:00", "Europe/Berlin")

    assert len(daily.newest(start, start + hours * HOUR - 1, 10)) == 1


@pytest.mark.parametrize("cron", ["30 2 * * *", "15 2,3 * * *", "*/30 * * * *", "0 * * * *"])
def test_whenever_it_is_asked_the_times_are_the_same(cron: str) -> None:
    """Also in the hour that comes a second time: no time is told that is past, or is no longer known."""
    found = schedule(cron=cron, timezone="Europe/Berlin")
    first, last = at("2026-10-24T12:00"), at("2026-10-25T12:00")
    times = found.newest(first, last, 1_000)

    for asked in range(first, last, 7 * MINUTE):
        assert found.newest(first, asked, 1_000) == [one for one in times if one <= asked]
        assert found.next_after(asked) == next((one for one in times if one > asked), found.next_after(last))


def test_intervals_count_from_their_start() -> None:
    often = schedule(every_s=90, start_ms=1_000)

    assert often.next_after(0) == 1_000
    assert often.next_after(1_000) == 91_000
    assert often.newest(0, 200_000, 10) == [1_000, 91_000, 181_000]
    assert often.newest(1_000, 200_000, 1) == [181_000]


@pytest.mark.parametrize(
    ("missed", "most", "started"),
    [("skip", 9, []), ("once", 9, [10]), ("all", 9, [8, 9, 10]), ("all", 2, [9, 10])],
)
def test_what_was_missed_is_made_up_for_as_was_asked(missed: str, most: int, started: list[int]) -> None:
    """Hours 8 to 10 were missed, and half past ten is not one of its times."""
    hourly = schedule(cron="0 * * * *", missed=missed, max_missed=most)
    midnight = at("2026-07-01T00:00")

    due = hourly.due(midnight + 8 * HOUR - 1, midnight + 10 * HOUR + HOUR // 2)

    assert [(at_ms - midnight) // HOUR for at_ms in due] == started


@pytest.mark.parametrize("missed", ["skip", "once", "all"])
def test_what_is_only_late_is_started_whatever_was_asked(missed: str) -> None:
    hourly = schedule(cron="0 * * * *", missed=missed)
    noon = at("2026-07-01T12:00")

    assert hourly.due(noon - 1, noon + MINUTE) == [noon]


def test_years_of_seconds_cost_no_more_than_their_limit() -> None:
    """Nobody counts through what nobody will start."""
    fast = schedule(every_s=1, missed="all", max_missed=5, start_ms=1)

    assert len(fast.due(0, 2**41)) == 5


def test_a_workflow_sees_what_it_is_started_for() -> None:
    nightly = schedule(cron="0 3 * * *", timezone="Europe/Berlin")
    workflow = nightly.workflow_at(at("2026-07-01T03:00", "Europe/Berlin"))

    assert workflow.context["scheduled_for"] == "2026-07-01T03:00:00+02:00"
    assert (workflow.trigger.type, workflow.trigger.parameters) == ("schedule", {"schedule": "s"})


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"cron": "0 3 * *"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({}, "cron"),
        ({"cron": "* * * * *", "every_s": 1}, "cron"),
        ({"every_s": 0.5}, "every_s"),
        ({"every_s": float("nan")}, "every_s"),
        ({"every_s": 5, "timezone": "Mars/North"}, "timezone"),
        ({"every_s": 5, "timezone": "../etc"}, "timezone"),
        ({"every_s": 5, "timezone": "localtime"}, "timezone"),
        ({"every_s": 5, "timezone": "posixrules"}, "timezone"),
        ({"every_s": 5, "missed": "some"}, "missed"),
        ({"every_s": 5, "overlap": "kill"}, "overlap"),
        ({"every_s": 5, "max_missed": 0}, "max_missed"),
        ({"every_s": 5, "start_ms": -1}, "start_ms"),
        ({"every_s": 5, "name": ""}, "name"),
        ({"every_s": 5, "name": ".."}, "name"),
        ({"every_s": 5, "name": "a\nb"}, "name"),
        ({"every_s": 5, "name": "a\u2028b"}, "name"),
        ({"every_s": 5, "name": "a\x1b[2Jb"}, "name"),
        ({"every_s": 5, "name": "a\ud800b"}, "name"),
        ({"every_s": 5, "definition": {**DEFINITION, "stages": []}}, "definition.stages"),
        ({"every_s": 5, "definition": {**DEFINITION, "colour": 1}}, "definition"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidWorkflowError) as refused:
        check_schedule(schedule(**fields))

    assert refused.value.problems[0].path.startswith(path)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": 5}, "name: expected text, got 5"),
        ({"cron": 5}, "cron: expected text, got 5"),
        ({"cron": "", "every_s": "30"}, "every_s: expected a number of seconds, got '30'"),
        ({"definition": None}, "definition: expected a Workflow, or an object, got None"),
        ({"definition": [1]}, "definition: expected a Workflow, or an object"),
        ({"timezone": None}, "timezone: expected text, got None"),
        ({"max_missed": "5", "start_ms": None}, r"2 problems:\n +max_missed: .*\n +start_ms: expected a whole number"),
    ],
    ids=str,
)
def test_what_is_not_of_its_kind_is_told_by_its_name(wrong: dict[str, Any], told: str) -> None:
    """As any other problem of a schedule."""
    with pytest.raises(InvalidWorkflowError, match=told):
        check_schedule(schedule(**{"cron": "0 3 * * *", **wrong}))


@pytest.mark.parametrize("wrong", [{"name": "s", "definition": DEFINITION, "every_s": 5}, None, "s"], ids=str)
def test_what_is_no_schedule_is_told(wrong: Any) -> None:
    """An object as JSON has it is none, though its definition may be one."""
    with pytest.raises(TypeError, match=r"expected a Schedule, .*got"):
        check_schedule(wrong)
