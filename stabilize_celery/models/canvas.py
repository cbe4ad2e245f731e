"""Values of a Celery canvas: which stages' results, in which order, one is made of. JSON, kept in the definition."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from stabilize_celery.models.workflow import Workflow

__all__ = ["TRIGGER", "Value", "output_name", "refs_in", "result_of", "value_from"]

TRIGGER = "canvas"
"""The trigger's type of a workflow that was a canvas; its payload has the value of the whole as `result`."""

Value: TypeAlias = str | list["Value"]
"""A stage's ref_id: what its task returned; a list: what each of them returned, in order."""


def output_name(ref_id: str) -> str:
    """Return the name of the output that holds what a stage's task returned."""
    return f"result of {ref_id}"


def refs_in(value: Value) -> Iterator[str]:
    """Yield the stages that a value is made of."""
    if isinstance(value, str):
        yield value
    else:
        for one in value:
            yield from refs_in(one)


def value_from(value: Value, outputs: Mapping[str, Any]) -> Any:
    """Return the value itself. Raises KeyError for a stage that has no result."""
    if isinstance(value, str):
        return outputs[output_name(value)]
    return [value_from(one, outputs) for one in value]


def result_of(workflow: Workflow) -> Any:
    """Return what a canvas that has succeeded returned, as Celery would; of any other workflow, all its outputs."""
    if workflow.trigger.type != TRIGGER:
        return workflow.get_context()
    outputs = {name: value for stage in workflow.stages for name, value in stage.outputs.items()}
    return value_from(workflow.trigger.payload["result"], outputs)
