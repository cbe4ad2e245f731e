"""A scenario's workflows as definitions for the engine, under names of their own so that scenarios share a fleet."""

from typing import Any

import msgspec

from stabilize_celery.testing.conformance.actions import task_type
from stabilize_celery.testing.conformance.scenario import Scenario, StageScript, WorkflowScript

__all__ = ["Definitions"]


class Definitions:
    """The definitions of one scenario execution.

    Args:
        scenario: Whose.
        file: The number of its file.
        prefix: Begins the names of its workflows and the keys of its mutexes.
        choice_tick_ms: How long a tick of `choose_after` is.

    """

    def __init__(self, scenario: Scenario, file: int, prefix: str, choice_tick_ms: int) -> None:
        self._scenario = scenario
        self._file = file
        self._prefix = prefix
        self._choice_tick_ms = choice_tick_ms

    def engine_name(self, workflow: str) -> str:
        """Return what the engine calls a workflow of the scenario."""
        return f"{self._prefix}{workflow}"

    def of(self, name: str) -> dict[str, Any]:
        """Return the definition to submit, with all workflows that it may call."""
        definition = self._workflow(self._scenario.workflow(name))
        called = [other for other in self._called_from(name) if other != name]
        if called:
            inner = {self.engine_name(other): self._workflow(self._scenario.workflow(other)) for other in called}
            definition["sub_workflows"] = inner
        return definition

    def _called_from(self, name: str) -> list[str]:
        found, left = [name], [name]
        while left:
            for stage in self._scenario.workflow(left.pop()).stages:
                if stage.sub_workflow is not None and stage.sub_workflow not in found:
                    found.append(stage.sub_workflow)
                    left.append(stage.sub_workflow)
        return found

    def _workflow(self, workflow: WorkflowScript) -> dict[str, Any]:
        number = self._scenario.workflows.index(workflow)
        return {
            "application": "conformance",
            "name": self.engine_name(workflow.name),
            "context": workflow.context,
            "max_jumps": workflow.max_jumps,
            "max_depth": workflow.max_depth,
            "stages": [self._stage(number, index, stage) for index, stage in enumerate(workflow.stages)],
        }

    def _stage(self, workflow: int, number: int, stage: StageScript) -> dict[str, Any]:
        definition: dict[str, Any] = msgspec.to_builtins(stage)
        ticks = definition.pop("choose_after")
        if ticks is not None:
            definition["choose_after_ms"] = ticks * self._choice_tick_ms
        if stage.mutex_key is not None:
            definition["mutex_key"] = f"{self._prefix}{stage.mutex_key}"
        if stage.sub_workflow is not None:
            definition["sub_workflow"] = self.engine_name(stage.sub_workflow)
        definition["tasks"] = [
            {"name": task.name, "implementing_class": task_type(self._file, self._scenario.id, workflow, number, index)}
            for index, task in enumerate(stage.tasks)
        ]
        return definition
