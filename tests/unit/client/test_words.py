"""Times and numbers as people read them."""

import pytest

from stabilize_celery.client.words import ago, clock_time, duration, listed, ordinal, plural, short_id


@pytest.mark.parametrize(
    ("ms", "told"),
    [
        (-5, "0 ms"),
        (40, "40 ms"),
        (1234, "1.2 s"),
        (59_400, "59 s"),
        (90_000, "1:30 min"),
        (3_723_000, "1:02 h"),
        (2 * 86_400_000 + 3 * 3_600_000, "2 d 3 h"),
    ],
)
def test_durations(ms, told):
    assert duration(ms) == told


def test_a_time_of_another_day_has_its_date():
    day_ms = 86_400_000
    assert len(clock_time(10 * day_ms, 10 * day_ms + 1)) == 8
    assert len(clock_time(10 * day_ms, 20 * day_ms)) == 19
    assert ago(0, 40_000).endswith("(40 s)")


@pytest.mark.parametrize(
    ("number", "told"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd")]
)
def test_ordinals(number, told):
    assert ordinal(number) == told


def test_numbers_and_names():
    assert (plural(1, "try", "tries"), plural(2, "try", "tries"), plural(1200, "stage")) == (
        "1 try",
        "2 tries",
        "1,200 stages",
    )
    assert listed([*"abc"]) == "a, b, c"
    assert listed([*"abcdefgh"]) == "a, b, c, d, e and 3 more"
    assert (short_id("short"), short_id("01JDXF0Q4T7M3R9V6B5N2C8K2F")) == ("short", "…2C8K2F")
