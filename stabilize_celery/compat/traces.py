"""Spans of a program's own, by OpenTelemetry where it is installed; else they cost nothing and go nowhere.

Workers write spans of workflows, stages and tasks by themselves: `STABILIZE_TRACES`.
"""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

__all__ = [
    "NoOpSpan",
    "add_event",
    "configure_tracing",
    "get_tracer",
    "set_attribute",
    "trace_message_processing",
    "trace_operation",
    "trace_stage",
    "trace_task",
    "trace_workflow",
]

_NAME = "stabilize"


class NoOpSpan:
    """A span where OpenTelemetry is not installed."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Do nothing."""

    def set_status(self, status: Any) -> None:
        """Do nothing."""

    def record_exception(self, exception: BaseException) -> None:
        """Do nothing."""

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Do nothing."""


def configure_tracing(
    service_name: str = _NAME, service_version: str | None = None, environment: str | None = None
) -> None:
    """Make a tracer provider for this process, to which exporters can be added; nothing without OpenTelemetry's SDK."""
    if importlib.util.find_spec("opentelemetry") is None:
        return
    trace = importlib.import_module("opentelemetry.trace")
    sdk = importlib.import_module("opentelemetry.sdk.trace")
    resources = importlib.import_module("opentelemetry.sdk.resources")
    known = {
        "service.name": service_name,
        "service.version": service_version,
        "deployment.environment": environment,
    }
    told = {name: value for name, value in known.items() if value}
    trace.set_tracer_provider(sdk.TracerProvider(resource=resources.Resource.create(told)))


def get_tracer() -> Any:
    """Return OpenTelemetry's tracer, or None where it is not installed."""
    trace = _api()
    return None if trace is None else trace.get_tracer(_NAME)


@contextmanager
def trace_operation(name: str, **attributes: Any) -> Iterator[Any]:
    """Run a block in a span; attributes that are None are left out. An exception is recorded and goes on."""
    tracer = get_tracer()
    if tracer is None:
        yield NoOpSpan()
        return
    told = {key: str(value) for key, value in attributes.items() if value is not None}
    with tracer.start_as_current_span(name, attributes=told) as span:
        yield span


def trace_workflow(workflow_id: str, workflow_name: str) -> AbstractContextManager[Any]:
    """Return a span around work on a workflow."""
    return trace_operation("workflow.execute", workflow_id=workflow_id, workflow_name=workflow_name)


def trace_stage(workflow_id: str, stage_id: str, stage_name: str) -> AbstractContextManager[Any]:
    """Return a span around work on a stage."""
    return trace_operation("stage.execute", workflow_id=workflow_id, stage_id=stage_id, stage_name=stage_name)


def trace_task(
    workflow_id: str, stage_id: str, task_id: str, task_name: str, task_type: str
) -> AbstractContextManager[Any]:
    """Return a span around work on a task."""
    ids = {"workflow_id": workflow_id, "stage_id": stage_id, "task_id": task_id}
    return trace_operation("task.execute", **ids, task_name=task_name, task_type=task_type)


def trace_message_processing(
    message_type: str, execution_id: str | None = None, stage_id: str | None = None
) -> AbstractContextManager[Any]:
    """Return a span around the handling of a message."""
    return trace_operation("message.process", message_type=message_type, execution_id=execution_id, stage_id=stage_id)


def add_event(name: str, attributes: Mapping[str, Any] | None = None) -> None:
    """Add an event to the current span, if there is one."""
    if (trace := _api()) is not None:
        trace.get_current_span().add_event(name, attributes=dict(attributes or {}))


def set_attribute(key: str, value: Any) -> None:
    """Set an attribute of the current span, if there is one."""
    if (trace := _api()) is not None and value is not None:
        trace.get_current_span().set_attribute(key, str(value))


def _api() -> Any:
    """Return OpenTelemetry's API, or None where it is not installed."""
    if importlib.util.find_spec("opentelemetry") is None:
        return None
    return importlib.import_module("opentelemetry.trace")
