"""The times of cron expressions, beside a walk through every moment of days at which a clock is changed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest

from stabilize_celery.models.cron import Cron, find_cron_flaw

CHANGES = [
    ("Australia/Lord_Howe", "2026-04-05"),  # back, by half an hour
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/Havana", "2026-03-08"),  # there is no midnight
    ("Antarctica/Troll", "2026-10-25"),  # back, by two hours
    ("Pacific/Apia", "2011-12-30"),  # there is no such day
]
MIDNIGHT = "0 0 * * *"
FIXED = ["30 2 * * *", "15,45 1,2,3 * * *", MIDNIGHT, "0 30 2 * * *"]
RHYTHMS = ["*/30 * * * *", "30 * * * *", "* 2 * * *", "0 */2 * * *", "20 */10 2 * * *"]
STEP_S = 10
"""What all expressions above are a multiple of."""


def shown_from(zone: ZoneInfo, day: str) -> list[tuple[int, dt.datetime]]:
    """Every moment of a day, as epoch ms, with what the clock shows then."""
    noon = round(dt.datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=zone).timestamp())
    moments = range(noon - 15 * 3600, noon + 15 * 3600, STEP_S)
    return [(one * 1000, dt.datetime.fromtimestamp(one, zone).replace(tzinfo=None, fold=0)) for one in moments]


def meant(cron: str, first: dt.datetime, last: dt.datetime) -> set[dt.datetime]:
    """What clocks show when it is time: where none is changed, nobody disputes it."""
    times = takewhile(lambda one: one <= epoch_ms(last), Cron(cron, "UTC").after(epoch_ms(first)))
    return {dt.datetime.fromtimestamp(one / 1000, dt.UTC).replace(tzinfo=None) for one in times}


def epoch_ms(shown: dt.datetime) -> int:
    return round(shown.replace(tzinfo=dt.UTC).timestamp() * 1000)


def check_whenever_asked(cron: Cron, moments: Sequence[int], times: Sequence[int]) -> None:
    """Whoever asks, at any time, is told the same times."""
    for asked in moments[:: 17 * 60 // STEP_S]:
        later = [one for one in times if one > asked][:3]
        assert [*islice(cron.after(asked), len(later))] == later
        past = [one for one in times if one <= asked][-3:]
        assert [*islice(cron.until(asked), len(past))][::-1] == past


@pytest.mark.parametrize(("zone", "day"), CHANGES)
@pytest.mark.parametrize("cron", RHYTHMS)
def test_a_rhythm_goes_by_what_the_clock_shows(zone: str, day: str, cron: str) -> None:
    """Each time that it shows it, whatever the change of the clock takes or gives."""
    moments = shown_from(ZoneInfo(zone), day)
    wanted = meant(cron, moments[0][1], moments[-1][1])
    times = [at_ms for at_ms, shown in moments if shown in wanted]

    assert times
    check_whenever_asked(Cron(cron, zone), [at_ms for at_ms, _ in moments], times)


@pytest.mark.parametrize(("zone", "day"), CHANGES)
@pytest.mark.parametrize("cron", FIXED)
def test_a_fixed_time_comes_once(zone: str, day: str, cron: str) -> None:
    """The first time that the clock shows it; where it never does, at the first moment after that."""
    moments = shown_from(ZoneInfo(zone), day)
    wanted = meant(cron, moments[0][1], moments[-1][1])
    times, newest = [], moments[0][1]
    for at_ms, shown in moments:
        if any(newest < one <= shown for one in wanted):
            times.append(at_ms)
        newest = max(newest, shown)

    assert times
    check_whenever_asked(Cron(cron, zone), [at_ms for at_ms, _ in moments], times)


def test_leap_days_come_every_four_years() -> None:
    found = islice(Cron("0 12 29 2 *", "UTC").after(epoch_ms(dt.datetime(2026, 1, 1))), 3)

    assert [dt.datetime.fromtimestamp(one / 1000, dt.UTC).year for one in found] == [2028, 2032, 2036]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("@hourly", "0 * * * *"),
        ("@Daily ", MIDNIGHT),
        ("@midnight", MIDNIGHT),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ],
)
def test_a_name_stands_for_its_fields(name: str, fields: str) -> None:
    begin = epoch_ms(dt.datetime(2026, 1, 1))

    assert find_cron_flaw(name) == ""
    assert [*islice(Cron(name, "UTC").after(begin), 3)] == [*islice(Cron(fields, "UTC").after(begin), 3)]


@pytest.mark.parametrize(
    "cron", ["@reboot", "", "* * * *", "60 * * * *", "0 0 30 2 *", f"{'9' * 5_000} * * * *", "٣ * * * *"]
)
def test_what_is_no_expression_is_said(cron: str) -> None:
    assert f"{cron!r} is not a cron expression" in find_cron_flaw(cron)
