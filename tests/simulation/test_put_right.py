"""Any definition: a restart of what is put right comes to what would have been; a time-out ends whatever hangs."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from stabilize_celery.engine.restart import restart
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.testing import Faults
from tests.simulation.random_graphs import TAME, WILD, definitions
from tests.simulation.stories import ROUGH
from tests.simulation.test_random_graphs import STORMY, Play, looking

BROKEN = {"name": "broken", "implementing_class": "broken"}


class BrokenPlay(Play):
    """One in which the tasks of the type `broken` fail until somebody puts them right."""

    def __init__(self, definition: dict[str, Any], seed: int, faults: Faults, *, is_right: bool = False) -> None:
        super().__init__(definition, seed, faults)
        self.is_right = is_right
        self.simulation.registry.register("broken", self.broken)

    def broken(self, _found: StageExecution) -> TaskResult:
        return TaskResult.success() if self.is_right else TaskResult.terminal(error="not right yet")

    @property
    def ended(self) -> dict[str, Any]:
        outputs = {each.ref_id: each.outputs for each in self.simulation.read(self.id).stages}
        return {"statuses": self.statuses, "outputs": outputs}

    def has_run(self, ref_id: str) -> bool:
        found = self.simulation.read(self.id).stage_by_ref_id(ref_id)
        return found is not None and found.start_time is not None


def with_a_broken_stage(definition: dict[str, Any], at: int) -> tuple[dict[str, Any], str]:
    """Return the definition with one stage that begins with a broken task, and which that is."""
    found = deepcopy(definition)
    tops = [one for one in found["stages"] if "parent_stage_id" not in one]
    stage = tops[at % len(tops)]
    stage["tasks"] = [BROKEN, *stage.get("tasks", [])]
    return found, stage["ref_id"]


@looking(30)
@given(definitions(replace(TAME, threads=[1])), st.integers(0, 2**32), st.integers(0, 7))
def test_a_restart_of_what_is_put_right_comes_to_what_would_have_been(
    definition: dict[str, Any], seed: int, at: int
) -> None:
    """Statuses and outputs, under any schedule, of a stage whose failure left the others alone."""
    definition, ref_id = with_a_broken_stage(definition, at)
    wanted = BrokenPlay(definition, seed, ROUGH, is_right=True).run().ended
    play = BrokenPlay(definition, seed, ROUGH).run()
    assume(play.has_run(ref_id))

    play.is_right = True
    play.ask(restart, ref_id)

    assert play.run().ended == wanted


HANGS = replace(WILD, does=[*WILD.does, "hang", "endless"], around=[*WILD.around, "hang"])


@looking(30)
@given(definitions(HANGS), st.integers(0, 2**32), st.integers(1, 20_000))
def test_a_time_out_ends_whatever_hangs(definition: dict[str, Any], seed: int, timeout_ms: int) -> None:
    """Waits for signals that nobody sends, polls without end, locks that they hold: nothing lives, nothing is owed."""
    play = Play({**definition, "timeout_ms": timeout_ms}, seed, STORMY).run()

    play.laws.require_no_trace(play.id)
