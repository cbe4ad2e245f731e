"""The outside's part in a scenario execution: which of its events are due, and what delivering one means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from stabilize_celery.engine.outside import Answer
from stabilize_celery.engine.steps import Handling
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.testing.conformance.asking import NotInThisVersionError, outside_event
from stabilize_celery.testing.conformance.definitions import Definitions
from stabilize_celery.testing.conformance.scenario import Effect, EventScript, Scenario, Trigger, WorkflowScript
from stabilize_celery.testing.conformance.triggers import holds, is_only_time
from stabilize_celery.testing.conformance.world import World

__all__ = ["BUSY", "Due", "Engine", "Play"]

BUSY = "too busy"
"""What an answer says if others changed the workflow each time it was asked: ask again."""


class Engine(Protocol):
    """What a backend lets the outside do."""

    def submit(self, definition: Mapping[str, object]) -> str:
        """Start a workflow; return its id. Raises InvalidWorkflowError."""
        ...

    def ask(self, workflow_id: str, event: Callable[[], Handling]) -> Answer:
        """Apply an outside event."""
        ...


@dataclass(slots=True)
class Due:
    """Something that the outside does once: an event of the scenario, or the start of a workflow."""

    number: int
    what: EventScript | WorkflowScript
    has_held: bool = False

    @property
    def triggers(self) -> list[Trigger]:
        """What must hold, all at the same moment."""
        return self.what.triggers


class Play:
    """One execution of a scenario. `problem`: why it cannot go on, if it cannot."""

    def __init__(self, scenario: Scenario, definitions: Definitions, world: World, engine: Engine) -> None:
        self.scenario = scenario
        self.world = world
        self.problem = ""
        self._definitions = definitions
        self._engine = engine
        starts = [workflow for workflow in scenario.workflows if not workflow.is_called]
        happenings: list[EventScript | WorkflowScript] = [*starts, *scenario.events]
        self._pending = [Due(number, what) for number, what in enumerate(happenings)]

    def ticks(self) -> set[int]:
        """Return the ticks at which something may become due."""
        return {trigger.tick for one in self._pending for trigger in one.triggers if trigger.tick is not None}

    def due(self) -> list[Due]:
        """Return what has become due since the last call; the caller delivers each, now or later."""
        with self.world.one_moment():
            fresh = [one for one in self._pending if not one.has_held and self._holds(one.triggers)]
        for one in fresh:
            one.has_held = True
        return fresh

    def awaits_nothing(self) -> bool:
        """Whether all that the outside does is done, but for what only a workflow could set off."""
        return not any(one.has_held or is_only_time(one.triggers, self.scenario, self.world) for one in self._pending)

    def waits_for_time(self) -> bool:
        """Whether something will be due when enough ticks have passed."""
        return any(not one.has_held and is_only_time(one.triggers, self.scenario, self.world) for one in self._pending)

    def is_over(self) -> bool:
        """Whether all executions have ended and the outside has nothing left to do."""
        ids = self.world.all_ids()
        return bool(self.problem) or (bool(ids) and all(map(self.world.is_over, ids)) and self.awaits_nothing())

    def deliver(self, due: Due) -> bool:
        """Do it; False: its workflow does not exist yet, or is too busy: try again."""
        try:
            done = self._start(due.what) if isinstance(due.what, WorkflowScript) else self._deliver(due, due.what)
        except (InvalidWorkflowError, NotInThisVersionError) as error:
            self.problem = f"{type(error).__name__}: {error}"
            done = True
        if done:
            self._pending.remove(due)
        return done

    def _holds(self, triggers: list[Trigger]) -> bool:
        return all(holds(trigger, self.scenario, self.world) for trigger in triggers)

    def _start(self, workflow: WorkflowScript) -> bool:
        workflow_id = self._engine.submit(self._definitions.of(workflow.name))
        self.world.found(workflow.name, workflow_id)
        return True

    def _deliver(self, due: Due, event: EventScript) -> bool:
        effect = event.do
        workflow, ref_id = self._target(effect)
        ids = self._addressed(effect, workflow, ref_id)
        for workflow_id in ids:
            asked = outside_event(effect, workflow_id, f"conformance-{due.number}", ref_id)
            if BUSY in self._engine.ask(workflow_id, asked).told:
                return False
        if ids and event.id:
            self.world.delivered.add(event.id)
        return bool(ids)

    def _target(self, effect: Effect) -> tuple[str, str]:
        if effect.verb == "cancel_workflow":
            return effect.cancel_workflow or "", ""
        if effect.verb == "cancel_region":
            return effect.workflow or self.scenario.main.name, ""
        return self.scenario.resolve(effect.target or "")

    def _addressed(self, effect: Effect, workflow: str, ref_id: str) -> list[str]:
        """Return the executions that an event is for: of several, those where it can have an effect."""
        ids = self.world.ids(workflow)
        if len(ids) < 2 or effect.verb in ("cancel_workflow", "cancel_region"):  # noqa: PLR2004 - several
            return ids
        live = [workflow_id for workflow_id in ids if self.world.is_live(workflow_id)] or ids
        match effect.verb:
            case "signal":
                return [*self.world.waiting(workflow, ref_id), *live][:1]
            case "choose":
                return [*self.world.held(workflow, ref_id, is_offered=True), *live][:1]
            case _:
                return live
