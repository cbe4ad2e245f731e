"""Tasks, and what their code and its checks use."""

from stabilize_celery.compat.conditions import (
    Condition,
    ConditionReason,
    ConditionSet,
    ConditionType,
)
from stabilize_celery.compat.finalizers import (
    FinalizerRegistry,
    FinalizerResult,
    get_finalizer_registry,
    reset_finalizer_registry,
    set_finalizer_registry,
)
from stabilize_celery.compat.former_expressions import (
    ExpressionError,
    evaluate_expression,
)
from stabilize_celery.compat.former_tasks import DockerTask, HTTPTask, PythonTask, ShellTask, SSHTask
from stabilize_celery.compat.former_tokens import (
    bind_current_token,
    cancel_task,
    get_token,
    register_token,
    reset_cancellation_state,
    reset_current_token,
    unregister_token,
)
from stabilize_celery.compat.highway import (
    HighwayTask,
)
from stabilize_celery.compat.registry import (
    TaskRegistry,
)
from stabilize_celery.compat.schemas import (
    BASE_STAGE_SCHEMA,
    SHELL_TASK_SCHEMA,
    WAIT_TASK_SCHEMA,
    SchemaValidator,
    ValidationError,
    is_valid,
    validate_context,
    validate_outputs,
)
from stabilize_celery.compat.sub_workflow import (
    SubWorkflowTask,
)
from stabilize_celery.compat.verifiers import (
    get_verifier,
    register_verifier,
    verifier,
)
from stabilize_celery.tasks.approval import (
    ApprovalTask,
)
from stabilize_celery.tasks.assertions import (
    assert_config,
    assert_context,
    assert_context_in,
    assert_context_type,
    assert_no_upstream_failures,
    assert_non_empty,
    assert_not_none,
    assert_output,
    assert_output_type,
    assert_stage_ready,
    assert_true,
    assert_verified,
)
from stabilize_celery.tasks.call import (
    get_signal,
)
from stabilize_celery.tasks.cancellation import (
    CancellationToken,
    TaskCancelledError,
    current_cancellation_token,
    is_cancellation_requested,
    raise_if_cancellation_requested,
)
from stabilize_celery.tasks.interface import (
    CallableTask,
    NoOpTask,
    OverridableTimeoutRetryableTask,
    RetryableTask,
    SkippableTask,
    Task,
)
from stabilize_celery.tasks.verification import (
    CallableVerifier,
    OutputVerifier,
    Verifier,
    VerifyResult,
    VerifyStatus,
)
from stabilize_celery.tasks.wait import (
    WaitTask,
)

__all__ = [
    "BASE_STAGE_SCHEMA",
    "SHELL_TASK_SCHEMA",
    "WAIT_TASK_SCHEMA",
    "ApprovalTask",
    "CallableTask",
    "CallableVerifier",
    "CancellationToken",
    "Condition",
    "ConditionReason",
    "ConditionSet",
    "ConditionType",
    "DockerTask",
    "ExpressionError",
    "FinalizerRegistry",
    "FinalizerResult",
    "HTTPTask",
    "HighwayTask",
    "NoOpTask",
    "OutputVerifier",
    "OverridableTimeoutRetryableTask",
    "PythonTask",
    "RetryableTask",
    "SSHTask",
    "SchemaValidator",
    "ShellTask",
    "SkippableTask",
    "SubWorkflowTask",
    "Task",
    "TaskCancelledError",
    "TaskRegistry",
    "ValidationError",
    "Verifier",
    "VerifyResult",
    "VerifyStatus",
    "WaitTask",
    "assert_config",
    "assert_context",
    "assert_context_in",
    "assert_context_type",
    "assert_no_upstream_failures",
    "assert_non_empty",
    "assert_not_none",
    "assert_output",
    "assert_output_type",
    "assert_stage_ready",
    "assert_true",
    "assert_verified",
    "bind_current_token",
    "cancel_task",
    "current_cancellation_token",
    "evaluate_expression",
    "get_finalizer_registry",
    "get_signal",
    "get_token",
    "get_verifier",
    "is_cancellation_requested",
    "is_valid",
    "raise_if_cancellation_requested",
    "register_token",
    "register_verifier",
    "reset_cancellation_state",
    "reset_current_token",
    "reset_finalizer_registry",
    "set_finalizer_registry",
    "unregister_token",
    "validate_context",
    "validate_outputs",
    "verifier",
]
