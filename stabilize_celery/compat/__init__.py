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
from stabilize_celery.compat.former import PostgresQueue, PostgresWorkflowStore, SqliteQueue, SqliteWorkflowStore
from stabilize_celery.compat.handlers import (
    AddMultiInstanceHandler,
    CancelRegionHandler,
    CancelStageHandler,
    CancelWorkflowHandler,
    CompleteStageHandler,
    CompleteTaskHandler,
    CompleteWorkflowHandler,
    ContinueParentStageHandler,
    JumpToStageHandler,
    PauseTaskHandler,
    RestartStageHandler,
    ResumeStageHandler,
    RunTaskHandler,
    SignalStageHandler,
    SkipStageHandler,
    StabilizeHandler,
    StartStageHandler,
    StartTaskHandler,
    StartWaitingWorkflowsHandler,
    StartWorkflowHandler,
)
from stabilize_celery.compat.highway import HighwayTask
from stabilize_celery.compat.history import (
    PostgresEventStore,
    RedisEventStore,
    SqliteEventStore,
    configure_event_sourcing,
)
from stabilize_celery.compat.launcher import WorkflowLauncher, create_simple_pipeline, create_stage_config
from stabilize_celery.compat.lifecycle import (
    LifecycleManager,
    get_lifecycle_manager,
    install_shutdown_handlers,
    set_lifecycle_manager,
)
from stabilize_celery.compat.loggers import (
    bind_context,
    clear_context,
    configure_logging,
    get_logger,
    stage_logger,
    task_logger,
    unbind_context,
    workflow_logger,
)
from stabilize_celery.compat.orchestrator import Orchestrator, approve, reject, send_signal
from stabilize_celery.compat.processor import QueueProcessor, QueueProcessorConfig, register_all_handlers
from stabilize_celery.compat.queue import CeleryQueue
from stabilize_celery.compat.recovery import RecoveryResult, WorkflowRecovery, recover_on_startup
from stabilize_celery.compat.schemas import (
    SchemaValidator,
    ValidationError,
    is_valid,
    validate_context,
    validate_outputs,
)
from stabilize_celery.compat.stage_builders import (
    LoopBuilder,
    MultiInstanceBuilder,
    get_builder,
    get_default_factory,
    register_builder,
)
from stabilize_celery.compat.store import RedisWorkflowStore, create_store
from stabilize_celery.compat.streams import StreamItem, WorkflowStream
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
from stabilize_celery.compat.verifiers import get_verifier, register_verifier, verifier
from stabilize_celery.tasks.progress import emit_progress
from stabilize_celery.tasks.registry import TaskRegistry

Queue = CeleryQueue
WorkflowStore = RedisWorkflowStore

__all__ = [
    "AddMultiInstance",
    "AddMultiInstanceHandler",
    "CancelRegion",
    "CancelRegionHandler",
    "CancelStage",
    "CancelStageHandler",
    "CancelWorkflow",
    "CancelWorkflowHandler",
    "CeleryQueue",
    "CompleteStageHandler",
    "CompleteTaskHandler",
    "CompleteWorkflowHandler",
    "Condition",
    "ConditionReason",
    "ConditionSet",
    "ConditionType",
    "ContinueParentStageHandler",
    "ControlMessage",
    "HighwayTask",
    "JumpToStageHandler",
    "LifecycleManager",
    "LoopBuilder",
    "MultiInstanceBuilder",
    "Orchestrator",
    "PauseTaskHandler",
    "PostgresEventStore",
    "PostgresQueue",
    "PostgresWorkflowStore",
    "Queue",
    "QueueProcessor",
    "QueueProcessorConfig",
    "RecoveryResult",
    "RedisEventStore",
    "RedisWorkflowStore",
    "RestartStage",
    "RestartStageHandler",
    "ResumeStage",
    "ResumeStageHandler",
    "RunTaskHandler",
    "SchemaValidator",
    "SignalStage",
    "SignalStageHandler",
    "SkipStage",
    "SkipStageHandler",
    "SqliteEventStore",
    "SqliteQueue",
    "SqliteWorkflowStore",
    "StabilizeHandler",
    "StartStageHandler",
    "StartTaskHandler",
    "StartWaitingWorkflowsHandler",
    "StartWorkflow",
    "StartWorkflowHandler",
    "StreamItem",
    "TaskRegistry",
    "ValidationError",
    "WorkflowLauncher",
    "WorkflowRecovery",
    "WorkflowStore",
    "WorkflowStream",
    "add_event",
    "approve",
    "bind_context",
    "clear_context",
    "configure_event_sourcing",
    "configure_logging",
    "configure_tracing",
    "create_simple_pipeline",
    "create_stage_config",
    "create_store",
    "emit_progress",
    "get_builder",
    "get_default_factory",
    "get_lifecycle_manager",
    "get_logger",
    "get_tracer",
    "get_verifier",
    "install_shutdown_handlers",
    "is_valid",
    "recover_on_startup",
    "register_all_handlers",
    "register_builder",
    "register_verifier",
    "reject",
    "send_signal",
    "set_attribute",
    "set_lifecycle_manager",
    "stage_logger",
    "task_logger",
    "trace_message_processing",
    "trace_operation",
    "trace_stage",
    "trace_task",
    "trace_workflow",
    "unbind_context",
    "validate_context",
    "validate_outputs",
    "verifier",
    "workflow_logger",
]
