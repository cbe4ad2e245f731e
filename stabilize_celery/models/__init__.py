"""The model: what users write and read. Passive: no I/O, no clock but for default ids."""

from stabilize_celery.models.context import StageContext, create_merged_context
from stabilize_celery.models.definition import definition_digest, from_definition, to_definition, workflow_schema
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.problems import (
    CircularDependencyError,
    InvalidStageGraphError,
    InvalidWorkflowError,
    Problem,
)
from stabilize_celery.models.reducers import apply_output_reducers, get_reducer, register_reducer
from stabilize_celery.models.result import TaskResult, TaskResultBuilder
from stabilize_celery.models.stage import (
    JoinMode,
    JoinType,
    MutexScope,
    SplitType,
    StageExecution,
    SyntheticStageOwner,
)
from stabilize_celery.models.status import InvalidStateTransitionError, WorkflowStatus
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.trigger import Trigger
from stabilize_celery.models.validation import check, find_problems
from stabilize_celery.models.workflow import PausedDetails, Workflow, WorkflowCriteria, WorkflowType

__all__ = [
    "CircularDependencyError",
    "InvalidStageGraphError",
    "InvalidStateTransitionError",
    "InvalidWorkflowError",
    "JoinMode",
    "JoinType",
    "MultiInstanceConfig",
    "MutexScope",
    "PausedDetails",
    "Problem",
    "SplitType",
    "StageContext",
    "StageExecution",
    "SyntheticStageOwner",
    "TaskExecution",
    "TaskResult",
    "TaskResultBuilder",
    "Trigger",
    "Workflow",
    "WorkflowCriteria",
    "WorkflowStatus",
    "WorkflowType",
    "apply_output_reducers",
    "check",
    "create_merged_context",
    "definition_digest",
    "find_problems",
    "from_definition",
    "get_reducer",
    "register_reducer",
    "to_definition",
    "workflow_schema",
]
