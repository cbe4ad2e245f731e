"""Stand-ins under the names of `stabilize`: a program written for it runs here with changed imports.

They are thin: `RedisWorkflowStore` and `Orchestrator` are a `Client`, `CeleryQueue` publishes to the broker that your
Celery workers serve, and `QueueProcessor` is a worker inside this process, for tests and small programs.
See docs/migrating.md for what changes and what does not.
"""

from stabilize_celery.compat.conditions import Condition, ConditionReason, ConditionSet, ConditionType
from stabilize_celery.compat.control import (
    AddMultiInstance,
    CancelRegion,
    CancelStage,
    CancelWorkflow,
    ControlMessage,
    RestartStage,
    ResumeStage,
    SignalStage,
    SkipStage,
    StartWorkflow,
)
from stabilize_celery.compat.history import RedisEventStore, configure_event_sourcing
from stabilize_celery.compat.orchestrator import Orchestrator, approve, reject, send_signal
from stabilize_celery.compat.processor import QueueProcessor, QueueProcessorConfig
from stabilize_celery.compat.queue import CeleryQueue
from stabilize_celery.compat.recovery import RecoveryResult, WorkflowRecovery, recover_on_startup
from stabilize_celery.compat.schemas import (
    SchemaValidator,
    ValidationError,
    is_valid,
    validate_context,
    validate_outputs,
)
from stabilize_celery.compat.store import RedisWorkflowStore, create_store
from stabilize_celery.compat.verifiers import get_verifier, register_verifier, verifier
from stabilize_celery.tasks.registry import TaskRegistry

Queue = CeleryQueue
WorkflowStore = RedisWorkflowStore

__all__ = [
    "AddMultiInstance",
    "CancelRegion",
    "CancelStage",
    "CancelWorkflow",
    "CeleryQueue",
    "Condition",
    "ConditionReason",
    "ConditionSet",
    "ConditionType",
    "ControlMessage",
    "Orchestrator",
    "Queue",
    "QueueProcessor",
    "QueueProcessorConfig",
    "RecoveryResult",
    "RedisEventStore",
    "RedisWorkflowStore",
    "RestartStage",
    "ResumeStage",
    "SchemaValidator",
    "SignalStage",
    "SkipStage",
    "StartWorkflow",
    "TaskRegistry",
    "ValidationError",
    "WorkflowRecovery",
    "WorkflowStore",
    "approve",
    "configure_event_sourcing",
    "create_store",
    "get_verifier",
    "is_valid",
    "recover_on_startup",
    "register_verifier",
    "reject",
    "send_signal",
    "validate_context",
    "validate_outputs",
    "verifier",
]
