"""A program runs when the package's name in its imports is replaced and nothing else is."""

from __future__ import annotations

from importlib import import_module
from unittest.mock import patch

import pytest

from stabilize_celery import compat
from stabilize_celery.compat.former_paths import FORMER_PATHS
from stabilize_celery.compat.gone import GONE, GONE_MODULES

PROGRAM = """
from stabilize_celery.compat import QueueProcessor, SqliteQueue, SqliteWorkflowStore, TaskRegistry
from stabilize_celery.compat.dag.topological import topological_sort
from stabilize_celery.compat.hitl import approve
from stabilize_celery.compat.models.stage import JoinType, StageExecution
from stabilize_celery.compat.models.stage.enums import SplitType
from stabilize_celery.compat.models.status import WorkflowStatus
from stabilize_celery.compat.models.task import TaskExecution
from stabilize_celery.compat.models.workflow import Workflow
from stabilize_celery.compat.orchestrator import Orchestrator
from stabilize_celery.compat.persistence.sqlite import SqliteWorkflowStore as Again
from stabilize_celery.compat.queue.messages import SignalStage
from stabilize_celery.compat.queue.processor.config import QueueProcessorConfig
from stabilize_celery.compat.recovery import recover_on_startup
from stabilize_celery.compat.tasks.interface import Task
from stabilize_celery.compat.tasks.result import TaskResult
import stabilize_celery.compat.errors as errors

class Hello(Task):
    def execute(self, stage):
        return TaskResult.success(outputs={"hello": stage.context["name"]})

store, queue, registry = SqliteWorkflowStore("sqlite:///:memory:", create_tables=True), SqliteQueue("x"), TaskRegistry()
registry.register("hello", Hello)
processor = QueueProcessor(queue, config=QueueProcessorConfig(), store=store, task_registry=registry)
stage = StageExecution(ref_id="1", context={"name": "you"}, tasks=[TaskExecution.create("hello", "hello")])
workflow = Workflow.create("app", "w", [stage])
assert topological_sort([stage]) == [stage]
store.store(workflow)
Orchestrator(queue).start(workflow)
processor.process_all(timeout=10)
ended = store.retrieve(workflow.id)
assert ended.status is WorkflowStatus.SUCCEEDED, ended.status
assert issubclass(errors.TransientError, Exception) and Again is SqliteWorkflowStore
"""


def test_a_program_runs_with_another_package_name() -> None:
    """Deep imports, too."""
    exec(compile(PROGRAM, "program.py", "exec"), {})


@pytest.mark.parametrize("path", FORMER_PATHS)
def test_each_path_has_the_names_of_compat(path: str) -> None:
    """And no others, with the error that any module has."""
    module = import_module(f"stabilize_celery.compat.{path}")

    assert module.Workflow is compat.Workflow
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = module.Nothing


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("handlers", "register_all_handlers"),
        ("handlers.jump_to_stage.handler", "DEFAULT_MAX_JUMPS"),
        ("hitl", "APPROVE_SIGNAL"),
        ("events.projections.metrics", "TaskMetrics"),
        ("models.stage.navigation", "StageNavigationMixin"),
        ("models.stage.engine_keys", "caller_context"),
        ("persistence.factory", "detect_backend"),
        ("logging", "STRUCTLOG_AVAILABLE"),
        ("queue.messages", "MessageContractError"),
    ],
)
def test_what_upstream_has_in_a_module_is_imported_from_there(path: str, name: str) -> None:
    assert getattr(import_module(f"stabilize_celery.compat.{path}"), name) is getattr(compat, name)


def test_a_url_is_of_one_of_upstreams_databases() -> None:
    assert [compat.detect_backend(url) for url in ("sqlite:///a.db", "postgresql://host/db")] == [
        "sqlite",
        "postgresql",
    ]


def test_a_module_is_an_attribute_of_the_one_above() -> None:
    """`import stabilize.queue.messages as m`, `stabilize.queue.messages.StartWorkflow`, and patches by a path."""
    assert compat.queue.messages.StartWorkflow is compat.StartWorkflow
    with patch("stabilize_celery.compat.tasks.shell.ShellTask", "patched"):
        assert compat.tasks.shell.ShellTask == "patched"
    assert compat.tasks.shell.ShellTask is compat.ShellTask


@pytest.mark.parametrize(
    ("path", "name", "instead"),
    [
        ("", "TaskBulkheadManager", "rate_per_s"),
        ("queue.dedup", "get_deduplicator", "is always on"),
        ("persistence.sqlite.transaction", "AtomicTransaction", "with store.transaction"),
        ("resilience.executor", "anything", "rate_per_s"),
        ("tasks.loop", "LoopBackTask", "LoopBuilder"),
        ("queue.processor", "MessageHandler", "one whole"),
        ("handlers", "MessageHandler", "one whole"),
        ("tasks.http.utils", "mask_secrets", "reads answers by itself"),
        ("events.store", "AppendResult", "with its sequence number"),
    ],
)
def test_what_is_not_here_says_what_serves_in_its_place(path: str, name: str, instead: str) -> None:
    """As an ImportError with a text of its own, not as a name that could not be found."""
    module = f"stabilize_celery.compat.{path}".rstrip(".")

    with pytest.raises(ImportError, match=instead):
        exec(f"from {module} import {name}", {})


def test_no_name_is_both_here_and_not() -> None:
    """The tables of what is gone name nothing that there is."""
    assert [name for name in GONE if name in compat.__all__] == []
    assert set(GONE_MODULES) & set(FORMER_PATHS) == set()
