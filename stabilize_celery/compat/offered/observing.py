"""Logs and traces."""

from stabilize_celery.compat.loggers import (
    STRUCTLOG_AVAILABLE,
    bind_context,
    clear_context,
    configure_logging,
    get_logger,
    stage_logger,
    task_logger,
    unbind_context,
    workflow_logger,
)
from stabilize_celery.compat.traces import (
    add_event,
    configure_tracing,
    get_tracer,
    set_attribute,
    trace_message_processing,
    trace_operation,
    trace_stage,
    trace_task,
    trace_workflow,
)

__all__ = [
    "STRUCTLOG_AVAILABLE",
    "add_event",
    "bind_context",
    "clear_context",
    "configure_logging",
    "configure_tracing",
    "get_logger",
    "get_tracer",
    "set_attribute",
    "stage_logger",
    "task_logger",
    "trace_message_processing",
    "trace_operation",
    "trace_stage",
    "trace_task",
    "trace_workflow",
    "unbind_context",
    "workflow_logger",
]
