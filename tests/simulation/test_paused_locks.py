"""Keys beside a pause: nothing begins in a workflow that is paused, and it keeps no key that it waits for."""

from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.testing import Faults
from tests.simulation.laws import Laws
from tests.simulation.stories import CALM, ROUGH, Story, stage, workflow
from tests.simulation.tuning import seeds

KEY: dict[str, Any] = {"mutex_key": "k"}
SECTION: dict[str, Any] = {"mutex_key": "k", "mutex_section": "section"}


class Line:
    """Workflows that want key `k`; the first has it until it gets its signal."""

    def __init__(self, seed: int, faults: Faults, *first: StageExecution) -> None:
        self.story = Story(seed, faults)
        self.laws = Laws(self.story.simulation)
        self.ids: list[str] = []
        self.join(stage("gate", does="approval", context={"signal": "s"}, **KEY))
        self.join(*first)

    def join(self, *stages: StageExecution) -> None:
        self.ids.append(self.story.simulation.start(workflow(*stages)))
        self.pass_time(30_000)

    def pass_time(self, ms: int) -> None:
        self.story.simulation.pass_time(ms)

    def ask(self, number: int, event: Any, *arguments: Any) -> None:
        self.story.id = self.ids[number]
        assert self.story.ask(event, *arguments).took_effect

    def statuses(self, number: int) -> dict[str, str]:
        self.story.id = self.ids[number]
        return self.story.statuses

    def locks(self) -> int:
        return len(self.story.simulation.store.locks())


@pytest.mark.parametrize("seed", seeds(8))
@pytest.mark.parametrize("key", [KEY, SECTION], ids=["run", "section"])
def test_who_is_paused_passes_its_turn_on(seed: int, key: dict[str, Any]) -> None:
    """The key is free while it is paused, for whoever comes; after the pause it waits for it like anybody else."""
    line = Line(seed, ROUGH, stage("a", **key), stage("b", "a", **key))
    line.ask(1, outside.pause, "ops")
    line.ask(0, outside.signal, "gate", "s", None)
    line.pass_time(900_000)
    assert line.statuses(1) == {"a": "BUFFERED", "b": "NOT_STARTED"}
    line.join(stage("next", **KEY))
    line.pass_time(60_000)
    assert line.statuses(2) == {"next": "SUCCEEDED"}

    line.ask(1, outside.resume)
    line.pass_time(60_000)

    assert line.statuses(1) == {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    assert (line.locks(), line.laws.broken) == (0, [])


def test_a_pause_that_ends_before_its_turn_costs_no_place_in_the_line() -> None:
    """Who came later starts later, though it was never paused."""
    line = Line(0, CALM, stage("first", **KEY))
    line.join(stage("second", **KEY))
    line.ask(1, outside.pause, "ops")
    line.pass_time(900_000)
    line.ask(1, outside.resume)
    line.pass_time(60_000)

    line.ask(0, outside.signal, "gate", "s", None)
    line.pass_time(60_000)

    assert line.story.order == ["first", "second"]


@pytest.mark.parametrize("seed", seeds(8))
@pytest.mark.parametrize("end", [(outside.cancel, "enough", "ops"), (outside.cancel_stage, "a")])
def test_who_is_taken_away_while_it_is_paused_leaves_the_line(seed: int, end: tuple[Any, ...]) -> None:
    """Whether its turn has come or not."""
    line = Line(seed, ROUGH, stage("a", **KEY))
    line.ask(1, outside.pause, "ops")
    line.ask(0, outside.signal, "gate", "s", None)
    line.pass_time(60_000 if seed % 2 else 0)
    line.ask(1, *end)
    line.join(stage("next", **KEY))
    line.pass_time(60_000)

    assert (line.statuses(1), line.statuses(2)) == ({"a": "CANCELED"}, {"next": "SUCCEEDED"})
    assert (line.locks(), line.laws.broken) == (0, [])
