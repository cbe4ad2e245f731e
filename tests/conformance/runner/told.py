"""Short ways to tell what happened, as the engine's events would."""

from collections.abc import Mapping
from typing import Any

import msgspec

from stabilize_celery.testing.conformance.expectations import find_differences
from stabilize_celery.testing.conformance.history import History
from stabilize_celery.testing.conformance.journal import Visit
from stabilize_celery.testing.conformance.outcome import Execution, Outcome
from stabilize_celery.testing.conformance.scenario import Scenario


def scenario(expect: Mapping[str, Any], *refs: str, **more: Any) -> Scenario:
    """A scenario whose main workflow has these stages, each with one task, and M with instances."""
    stages = [{"ref_id": ref, "tasks": [{"name": "t", "does": ["succeed"]}]} for ref in refs]
    for stage in stages:
        if stage["ref_id"] == "M":
            stage |= {"mi_config": {"count": 2}}
    raw = {"id": "s", "pattern": 1, "title": "t", "workflows": [{"name": "main", "stages": stages}], "expect": expect}
    return msgspec.convert(raw | more, Scenario)


def outcome(happenings: str, **more: Any) -> Outcome:
    """What became of the main workflow: `A+ A- B+1 B-1 M@0+ B!`: starts, ends, runs by thread, instances, failures."""
    history, visits = History(), set()
    threads: dict[str, list[str]] = {}
    for at, word in enumerate(happenings.split(), 1):
        place, mark, thread = word.partition(next(letter for letter in word if letter in "+-!~"))
        ref, _, instance = place.partition("@")
        kind = {"+": "started", "-": "completed", "!": "failed", "~": "canceled"}[mark]
        data: dict[str, Any] = {"thread": f"{ref}{thread}"}
        if instance:
            data["instance"] = int(instance)
        elif mark == "+":
            threads.setdefault(ref, []).append(thread)
        if mark == "+":
            number = threads.get(ref, [""]).index(thread) + 1
            visits.add(Visit("w", ref, number, int(instance) if instance else None))
        history.tell("w", f"{'instance' if instance else 'stage'}.{kind}", ref, data, at)
    values: dict[str, Any] = {"status": "SUCCEEDED", "reason": "", "stages": {}, "outputs": {}, "records": {}}
    values |= {"visits": visits} | more
    return Outcome({"main": [Execution("w", **values)]}, history)


def differences(expect: Mapping[str, Any], happenings: str, **more: Any) -> list[str]:
    """What differs from the expectation."""
    refs = dict.fromkeys(word.rstrip("0123456789")[:1] for word in happenings.split())
    return find_differences(scenario(expect, *refs, "X"), outcome(happenings, **more))
