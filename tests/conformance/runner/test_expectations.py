"""Every key of an expectation holds where it should, and tells what it saw where it does not."""

from typing import Any

import pytest

from tests.conformance.runner.told import differences

HOLDS: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"status": "SUCCEEDED"}, "A+ A-", {}),
    ({"status": ["TERMINAL", "SUCCEEDED"]}, "A+ A-", {}),
    ({"stages": {"A": ["SKIPPED", "CANCELED"]}}, "A+ A-", {"stages": {"A": "CANCELED"}}),
    ({"runs": {"A": 2}}, "A+1 A-1 A+2 A-2", {}),
    ({"runs": {"A": {"min": 1, "max": 2}}}, "A+1 A-1 A+2 A-2", {}),
    ({"not_run": ["X"]}, "A+ A-", {}),
    ({"sum_runs": [{"stages": ["A", "B"], "runs": 2}]}, "A+ A- B+ B-", {}),
    ({"mi": {"M": {"started": 2, "completed": 1, "canceled": 1}}}, "M+ M@0+ M@1+ M@0- M@1~ M-", {}),
    ({"outputs": {"n": 2}}, "A+ A-", {"outputs": {"n": 2.0, "m": 1}}),
    ({"records": {"A": [1, 2]}}, "A+ A-", {"records": {"A": [2, 1]}}),
    ({"records": {"X": []}}, "A+ A-", {}),
    ({"records_in_order": {"A": [1, 2]}}, "A+ A-", {"records": {"A": [1, 2]}}),
    ({"order": [["A", "B"]]}, "A+ A- B+ B-", {}),
    ({"order": [["A", "B#2"]]}, "B+1 A+ A- B+2 B-1 B-2", {}),
    ({"order": [["M@0", "B"]]}, "M+ M@0+ M@1+ M@0- B+ M@1- M- B-", {}),
    ({"order": [["A", "B"]]}, "A+ A~ B+ B-", {}),
    ({"starts_before_end": [["A", "B"]]}, "B+ A+ B- A-", {}),
    ({"never_overlap": [["A", "B"]]}, "A+ A- B+ B- A+2 A-2", {}),
    ({"never_interleave": [[["A", "B"], ["C"]]]}, "A+ A- B+ B- C+ C-", {}),
    ({"max_concurrent": [{"stages": ["A", "B"], "max": 2}]}, "A+ B+ A- A+2 B- A-2", {}),
]

BROKEN: list[tuple[dict[str, Any], str, dict[str, Any], str]] = [
    ({"status": "SUCCEEDED"}, "A+ A-", {"status": "TERMINAL", "reason": "boom"}, "saw TERMINAL (boom)"),
    ({"stages": {"A": "CANCELED"}}, "A+ A-", {"stages": {"A": "SUCCEEDED"}}, "saw SUCCEEDED"),
    ({"runs": {"A": 1}}, "A+1 A-1 A+2 A-2", {}, "expected 1, saw 2"),
    ({"runs": {"A": {"min": 3}}}, "A+1 A-1", {}, "expected 3 to any, saw 1"),
    ({"not_run": ["A"]}, "A+ A-", {}, "expected 0, saw 1"),
    ({"sum_runs": [{"stages": ["A", "B"], "runs": 1}]}, "A+ A- B+ B-", {}, "expected 1, saw 2"),
    ({"mi": {"M": {"completed": 2}}}, "M+ M@0+ M@1+ M@0- M@1~ M-", {}, "completed: expected 2, saw 1"),
    ({"outputs": {"n": 1}}, "A+ A-", {"outputs": {"n": True}}, "expected 1, saw true"),
    ({"outputs": {"n": 1}}, "A+ A-", {}, "there is none"),
    ({"records": {"A": [1, 1]}}, "A+ A-", {"records": {"A": [1]}}, "saw [1]"),
    ({"records_in_order": {"A": [1, 2]}}, "A+ A-", {"records": {"A": [2, 1]}}, "saw [2, 1]"),
    ({"order": [["A", "B"]]}, "A+ B+ A- B-", {}, "every end of A before every start of B"),
    ({"order": [["A", "B"]]}, "A+ B+", {}, "every end of A before every start of B"),
    ({"order": [["A", "X"]]}, "A+ A-", {}, "expected X to run"),
    ({"order": [["B#2", "A"]]}, "B+1 A+ A- B+2 B-1 B-2", {}, "every end of B#2"),
    ({"order": [["M@1", "B"]]}, "M+ M@0+ M@1+ M@0- B+ M@1- M- B-", {}, "every end of M@1"),
    ({"starts_before_end": [["A", "B"]]}, "B+ B- A+ A-", {}, "expected A to start before B last ends"),
    ({"never_overlap": [["A", "B"]]}, "A+ B+ A- B-", {}, "no two runs"),
    ({"never_overlap": [["A"]]}, "A+1 A+2 A-1 A-2", {}, "no two runs"),
    ({"never_interleave": [[["A", "B"], ["C"]]]}, "A+ A- C+ C- B+ B-", {}, "not to interleave"),
    ({"max_concurrent": [{"stages": ["A", "B"], "max": 1}]}, "A+ B+ A- B-", {}, "at most 1"),
    ({}, "A+ A-", {"visits": ()}, "its code was never executed"),
]


@pytest.mark.parametrize(("expect", "happenings", "more"), HOLDS)
def test_what_is_as_expected_is_not_mentioned(expect: dict[str, Any], happenings: str, more: dict[str, Any]) -> None:
    """An expectation that holds yields nothing."""
    assert differences(expect, happenings, **more) == []


@pytest.mark.parametrize(("expect", "happenings", "more", "told"), BROKEN)
def test_what_differs_is_told(expect: dict[str, Any], happenings: str, more: dict[str, Any], told: str) -> None:
    """An expectation that does not hold yields one line with what was seen."""
    found = differences(expect, happenings, **more)

    assert len(found) == 1
    assert told in found[0]
