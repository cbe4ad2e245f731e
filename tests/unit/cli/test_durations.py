"""Durations on the command line: what is read, what is refused, and that what is printed is read again."""

import pytest

from stabilize_celery.cli.durations import duration_text, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5_400),
        ("1h 30m", 5_400),
        ("1d", 86_400),
        ("2w", 1_209_600),
        ("1.5h", 5_400),
        ("250ms", 0.25),
        ("1m1ms", 60.001),
        (" 7 ", 7),
        ("30", 30),
        (".5", 0.5),
        ("1e3", 1_000),
        ("0", 0),
        ("36500d", 36_500 * 86_400),
    ],
)
def test_what_people_write_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "soon",
        "-1",
        "-5s",
        "1x",
        "s",
        "30m1h",
        "5m5m",
        "1 2",
        "nan",
        "inf",
        "1_000",
        "\u0665",
        "5M",
        "1h30",
        ".",
    ],
)
def test_what_is_no_duration_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration: give 30s, 5m, 1h30m or 1d"):
        seconds_of(text)


@pytest.mark.parametrize("text", ["36501d", "1e300", "9" * 400, "9" * 400 + "d"])
def test_what_no_clock_reaches_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is too long"):
        seconds_of(text)


@pytest.mark.parametrize(("seconds", "text"), [(30, "30s"), (5_400, "1h30m"), (90_061.5, "1d1h1m1s500ms"), (0, "0s")])
def test_what_is_printed_is_read_again(seconds: float, text: str) -> None:
    assert (duration_text(seconds), seconds_of(text)) == (text, seconds)
