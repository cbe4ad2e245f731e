"""Short ways to write workflows, and to see what became of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stabilize_celery.engine import outside, places
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import Hash, workflow_slot
from stabilize_celery.models.messages import Message
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.testing import Faults, Simulation

CALM = Faults.none()
ROUGH = Faults()


def stage(ref_id: str, *after: str, does: str | Iterable[str] = "work", **more: Any) -> StageExecution:
    """A stage after the stages `after`; `does`: its task types in order."""
    names = [does] if isinstance(does, str) else list(does)
    return StageExecution(
        ref_id=ref_id,
        type="test",
        name=ref_id,
        requisite_stage_ref_ids=set(after),
        tasks=[TaskExecution.create(name, name) for name in names],
        **more,
    )


def workflow(*stages: StageExecution, **more: Any) -> Workflow:
    """A workflow of these stages."""
    return Workflow(application="tests", name="story", stages=list(stages), **more)


class Story:
    """A simulation that writes down which stages' bodies ran."""

    def __init__(self, seed: int = 0, faults: Faults = CALM, **tasks: Callable[[StageExecution], Any]) -> None:
        self.bodies: Counter[str] = Counter()
        self.order: list[str] = []

        def work(stage: StageExecution) -> TaskResult:
            self.bodies[stage.ref_id] += 1
            self.order.append(stage.ref_id)
            return TaskResult.success(outputs=stage.context.get("outputs", {stage.ref_id: 1}))

        def fail(stage: StageExecution) -> TaskResult:
            self.bodies[stage.ref_id] += 1
            return TaskResult.terminal(error="meant to fail")

        self.simulation = Simulation(seed, {"work": work, "fail": fail, **tasks}, faults=faults)
        self.id = ""
        self._events = 0

    def start(self, *stages: StageExecution, **more: Any) -> "Story":
        self.id = self.simulation.start(workflow(*stages, **more))
        return self

    def run(self) -> "Story":
        self.simulation.run(self.id)
        return self

    def ask(self, event: Callable[..., Any], *args: Any, **more: Any) -> outside.Answer:
        self._events += 1
        answer = self.simulation.ask(self.id, lambda: event(self.id, f"event-{self._events}", *args, **more))
        assert isinstance(answer, outside.Answer)
        return answer

    def handle(self, kind: str, ref_id: str) -> None:
        """Deliver what is owed of this kind (the start of its name) to a stage now, and only that."""
        store, slot = self.simulation.store, workflow_slot(self.id)

        def owed() -> Iterator[Message]:
            for workflow_id, name in store.owed():
                if workflow_id == self.id and name.startswith(kind):
                    entry = Hash(places.ledger(name))
                    message = message_of(ENTRY.decode(store.look(slot, (entry,))[entry]), self.id)
                    if message is not None and getattr(message, "ref_id", "") == ref_id:
                        yield message

        (message,) = store.calmly(lambda: list(owed()))
        self.simulation.runtime.handle(message)

    @property
    def workflow(self) -> Workflow:
        return self.simulation.read(self.id)

    @property
    def status(self) -> str:
        return self.workflow.status.name

    @property
    def statuses(self) -> dict[str, str]:
        return {stage.ref_id: stage.status.name for stage in self.workflow.stages}

    def outputs(self, ref_id: str) -> dict[str, Any]:
        found = self.workflow.stage_by_ref_id(ref_id)
        assert found is not None
        return found.outputs

    def events(self, kind: str) -> list[str]:
        """The stages that events of this kind are about."""
        stored = self.simulation.store.events(self.id, "0", None, 100_000)
        return [event.fields["ref"].decode() for event in stored if event.fields["kind"].decode() == kind]
