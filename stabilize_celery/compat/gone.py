"""Names and modules of upstream that have no counterpart, and what serves in their place. Asking for one says so."""

from collections.abc import Mapping
from typing import NoReturn

__all__ = ["GONE", "GONE_MODULES", "NO_SQL", "advice", "refuse"]

NO_SQL = "there is no SQL here: state is in Redis, read it by store.retrieve(id) or a Client"
_ALWAYS_ON = "is always on here, and has no switches"
_LIMITS = "limit a task type by rate_per_s, or its stages by mutex_key with mutex_limit (docs/policies.md)"
_ENGINE = "the engine's decisions are one whole: change what tasks do, or follow the events"
_OWN_HTTP = "an `http` task reads answers by itself: its settings and outputs are upstream's"
_TRANSACTION = "`with store.transaction(queue) as txn` is for stages of workflows that are not started, and messages"
_RECORDER = "the engine records every event itself; emit_progress(stage, …) adds one of your own"

GONE: Mapping[str, str] = {
    "AtomicTransaction": _TRANSACTION,
    "NoOpTransaction": _TRANSACTION,
    "PostgresTransaction": _TRANSACTION,
    "TransactionHelper": _TRANSACTION,
    "BloomDeduplicator": f"de-duplication {_ALWAYS_ON}",
    "get_deduplicator": f"de-duplication {_ALWAYS_ON}",
    "TaskLeaseManager": f"a lease on each running task {_ALWAYS_ON}",
    "TaskBulkheadManager": _LIMITS,
    "WorkflowCircuitFactory": "raise TransientError(…, retry_after=seconds) in the task: the pause is honoured",
    "ProcessIsolatedTaskExecutor": "Celery's prefork workers run each task in a process; time limits end it",
    "execute_with_resilience": _LIMITS,
    "EventRecorder": _RECORDER,
    "configure_event_recorder": _RECORDER,
    "get_event_recorder": _RECORDER,
    "SnapshotStore": "a workflow's state is kept beside its history: store.retrieve(id) needs no replay",
    "SnapshotPolicy": "a workflow's state is kept beside its history: store.retrieve(id) needs no replay",
    "Snapshot": "a workflow's state is kept beside its history: store.retrieve(id) needs no replay",
    "DurableSubscription": "handle.events(from_id=…, follow=True) goes on behind the last event that you have seen",
    "SubscriptionManager": "handle.events(from_id=…, follow=True) goes on behind the last event that you have seen",
    "set_event_context": _RECORDER,
    "get_event_metadata": _RECORDER,
    "AppendResult": "append and append_batch return the events, each with its sequence number",
    "MessageHandler": _ENGINE,
    "ReplayResult": "EventReplayer's methods return the states as dictionaries",
    "QueueFullError": "queues have no limit here",
    **dict.fromkeys(("LoopConditionTask", "LoopBackTask", "LoopEntryTask"), "LoopBuilder makes loops by `jump` tasks"),
    "SqliteConfig": NO_SQL,
    "SqliteOptimizationTier": NO_SQL,
    "get_sqlite_config": NO_SQL,
    "reset_sqlite_config": NO_SQL,
    "PROMPT_TEXT": "docs/ is the reference; its pages are plain Markdown",
    "mg_up": "there are no tables and no migrations here",
    "load_config": "settings are read from STABILIZE_* variables (docs/operations.md)",
}
"""What is not here, and what to do in its place."""

GONE_MODULES: Mapping[str, str] = {
    "cli": "the command line is `stabilize-celery`",
    "cli.commands": "the command line is `stabilize-celery`",
    "cli.config": GONE["load_config"],
    "cli.main": "the command line is `stabilize-celery`",
    "cli.migrations": GONE["mg_up"],
    "cli.prompt_text": GONE["PROMPT_TEXT"],
    "events.recorder": _RECORDER,
    "events.snapshots": GONE["SnapshotStore"],
    "events.subscriptions": GONE["SubscriptionManager"],
    "events.txn_scope": "an event is part of the commit that it tells of",
    "metrics": "workers write metrics by themselves (docs/monitoring.md)",
    "migrations": GONE["mg_up"],
    "monitor": "`stabilize-celery watch ID`, or the page of `stabilize-celery web`",
    "persistence.sqlite.migrations": GONE["mg_up"],
    "persistence.sqlite.operations": NO_SQL,
    "persistence.sqlite.schema": GONE["mg_up"],
    "persistence.sqlite.transaction": GONE["AtomicTransaction"],
    "persistence.sqlite_config": NO_SQL,
    "persistence.postgres.operations": NO_SQL,
    "persistence.postgres.transaction": GONE["AtomicTransaction"],
    "persistence.task_lease": GONE["TaskLeaseManager"],
    "persistence.transaction": GONE["AtomicTransaction"],
    "queue.dedup": GONE["BloomDeduplicator"],
    "queue.dlq": "`stabilize-celery dead list|show|replay|drop`",
    "resilience.bulkheads": _LIMITS,
    "resilience.circuits": GONE["WorkflowCircuitFactory"],
    "resilience.executor": _LIMITS,
    "resilience.process_executor": GONE["ProcessIsolatedTaskExecutor"],
    "tasks.http.response": _OWN_HTTP,
    "tasks.http.utils": _OWN_HTTP,
    "resilience.timeouts": "a task's get_timeout() and stageTimeoutMs are honoured",
    "handlers.jump_to_stage.reset": _ENGINE,
    "handlers.jump_to_stage.traversal": _ENGINE,
    "handlers.complete_stage.planner": _ENGINE,
    "handlers.complete_stage.split_logic": _ENGINE,
    "handlers.start_stage.conditions": _ENGINE,
    "handlers.start_stage.orchestration": _ENGINE,
    "handlers.start_stage.planner": _ENGINE,
}
"""Paths behind `stabilize.` of which no name is here, unless `compat` has it, and what to do in their place."""


def advice(name: str, path: str = "") -> str | None:
    """Return what to do in place of a name of a module of upstream; None: nothing is known of it."""
    return GONE.get(name) or GONE_MODULES.get(path)


def refuse(name: str, path: str, package: str) -> NoReturn:
    """Say that a name is not here.

    Raises:
        ImportError: it is one of upstream's; the text says what serves in its place.
        AttributeError: it is none.

    """
    module = f"{package}.{path}" if path else package
    if (todo := advice(name, path)) is not None:
        raise ImportError(f"{module} has no {name!r}: {todo}")
    raise AttributeError(f"module {module!r} has no attribute {name!r}")
