"""What does not go on is told as a deadlock, what goes on is not, and the advice breaks it, under any schedule."""

from random import Random

import pytest

from stabilize_celery.client.why import Reason, explain
from stabilize_celery.engine import outside
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.testing import Faults, Simulation
from tests.simulation.nesting import any_stages, mutex
from tests.simulation.stories import stage, workflow
from tests.simulation.tuning import seeds

KEYS = ["dock", "gate", "crane"]
ROUGH = Faults(die=0)


class Yard:
    """Some workflows that may block each other, and what was said of deadlocks on the way."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.simulation = Simulation(seed, {"work": self.work}, faults=ROUGH)
        self.accused: set[str] = set()
        self.asked = 0
        number = self.random.randint(2, 5)
        self.ids = [self.simulation.start(workflow(*any_stages(self.random, KEYS))) for _ in range(number)]

    def work(self, _stage: StageExecution) -> TaskResult:
        self.simulation.meanwhile(self.random.randrange(200))
        self.accused |= {name for reason in self.said(self.random.choice(self.ids)) for name in parties(reason)}
        return TaskResult.success()

    def said(self, workflow_id: str) -> list[Reason]:
        """The deadlocks that a workflow is told of, in the middle of whatever is going on."""
        store = self.simulation.store
        reasons: list[Reason] = store.calmly(lambda: explain(store, workflow_id, self.simulation.settings))
        return [reason for reason in reasons if reason.kind == "deadlock"]

    def settle(self) -> list[str]:
        """Go on until nothing moves; return the workflows that have not ended."""
        self.simulation.drain(until_ms=self.simulation.now_us // 1000 + 400_000)
        return [name for name in self.ids if not self.simulation.read(name).status.is_complete]

    def obey(self, command: str) -> None:
        """Carry out a command line as a person would."""
        self.asked += 1
        _, act, workflow_id, *ref_id = command.split()
        event_id = f"c{self.asked}"
        if act == "cancel":
            self.simulation.ask(workflow_id, lambda: outside.cancel(workflow_id, event_id, "a deadlock", "test"))
        else:
            self.simulation.ask(workflow_id, lambda: outside.cancel_stage(workflow_id, event_id, ref_id[0]))


def parties(reason: Reason) -> set[str]:
    """The workflows of a deadlock; inner ones are told by their id, too."""
    assert reason.deadlock is not None
    return set(reason.deadlock.workflow_ids)


@pytest.mark.parametrize("seed", seeds(60))
def test_what_stands_still_is_a_deadlock_and_can_be_broken_as_advised(seed: int) -> None:
    """Nothing else makes these workflows wait: who has not ended is told why, and each advice lets some go on."""
    yard = Yard(seed)
    left = yard.settle()

    assert yard.accused & set(yard.ids) <= set(left)
    rounds = 0
    while left:
        said = {name: yard.said(name) for name in left}
        assert all(said.values()), said
        commands = said[left[0]][0].deadlock.commands  # type: ignore[union-attr]
        yard.obey(yard.random.choice(commands))
        left = yard.settle()
        rounds += 1
        assert rounds <= 12
    assert all(yard.said(name) == [] for name in yard.ids)
    yard.ids = [yard.simulation.start(workflow(stage("a", **mutex(key)))) for key in KEYS]
    assert yard.settle() == []
