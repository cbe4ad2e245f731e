"""History in few lines."""

from stabilize_celery.cli.folding import TOLD_ONE_BY_ONE, folded_events
from stabilize_celery.client.events import WorkflowEvent

AT_MS = 1_767_225_600_000


def event(kind: str, ref_id: str = "many", at_ms: int = 0, **data: object) -> WorkflowEvent:
    return WorkflowEvent("1-0", kind, ref_id, AT_MS + at_ms, data)


def began(number: int, ref_id: str = "many") -> list[WorkflowEvent]:
    return [event("instance.started", ref_id, instance=index) for index in range(number)]


def test_without_instances_every_event_is_a_line() -> None:
    """Ten stages that do the same are ten stages."""
    events = [event("task.started", "one", task="t") for _ in range(10)]

    assert list(folded_events(events)) == [str(one) for one in events]


def test_the_first_instances_are_told_and_the_rest_is_counted() -> None:
    """How many more there were is said when something else happens, and at the end."""
    events = [*began(200), event("stage.completed", "other"), *(event("instance.completed") for _ in range(200))]

    lines = list(folded_events(events))

    assert lines[:TOLD_ONE_BY_ONE] == [str(one) for one in events[:TOLD_ONE_BY_ONE]]
    assert lines[TOLD_ONE_BY_ONE].endswith("many              +197 instances started")
    assert lines[TOLD_ONE_BY_ONE + 1] == str(events[200])
    assert lines[-1].endswith("+197 instances SUCCEEDED")
    assert len(lines) == 2 * TOLD_ONE_BY_ONE + 3


def test_what_takes_long_is_told_now_and_then() -> None:
    """A line for some seconds of instances that end; together they are all."""
    events = [*began(100), *(event("instance.completed", at_ms=1_000 * at) for at in range(100))]

    lines = list(folded_events(events))

    assert 5 < sum("SUCCEEDED" in line and "+" in line for line in lines) < 20
    assert len(lines) < 30


def test_stages_are_counted_apart() -> None:
    """Instances of two stages at once are a line each."""
    lines = list(folded_events([*began(50, "one"), *began(60, "two")]))

    assert [line.split()[1:] for line in lines[-2:]] == [
        ["one", "+47", "instances", "started"],
        ["two", "+57", "instances", "started"],
    ]


def test_what_happens_once_is_never_held_back() -> None:
    """A mutex, a time-out, the end: also of a stage that has instances."""
    events = [*began(50), event("stage.timed_out", reason="too long"), event("stage.failed", reason="x")]

    lines = list(folded_events(events))

    assert lines[-2:] == [str(one) for one in events[-2:]]
