"""Runs the finalizers and clean-up hooks of an ended run: user code, at least once, errors logged."""

import logging

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.handler import stage_fields
from stabilize_celery.engine.ledger import message_of
from stabilize_celery.engine.moves import (
    GOES_ON,
    Frame,
    task_list,
)
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.state import ENTRY, RUN, WORKFLOW_RECORD
from stabilize_celery.engine.steps import Hash, workflow_slot
from stabilize_celery.models.messages import FinalizeStage
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.attached import AttachedWorkflow
from stabilize_celery.runtime.hydrate import stage_of
from stabilize_celery.runtime.reading import read_workflow
from stabilize_celery.store.contract import Store
from stabilize_celery.tasks.registry import TaskRegistry

__all__ = ["finalize"]

logger = logging.getLogger("stabilize_celery")


def finalize(store: Store, registry: TaskRegistry, message: FinalizeStage) -> None:
    """Call the run's named finalizers, and `on_cleanup` of its tasks if it did not end well."""
    slot, run_key, fields = workflow_slot(message.workflow_id), places.run(message.thread), stage_fields(message.ref_id)
    entry_key = places.ledger(message.name)
    snapshot = store.look(slot, (Hash(entry_key), Hash(places.WORKFLOW), Hash(run_key), fields))
    run = RUN.decode(snapshot.hash(run_key))
    is_owed = message_of(ENTRY.decode(snapshot.hash(entry_key)), message.workflow_id) == message
    if not is_owed or not snapshot[fields] or not run.status:
        return
    plan = decode_plan(snapshot[fields][f"s:{message.ref_id}"])
    context = {**unpack(snapshot[fields][f"x:{message.ref_id}"]), **run.context}
    record = WORKFLOW_RECORD.decode(snapshot.hash(places.WORKFLOW))
    frame = Frame(message.workflow_id, snapshot.now_us, record, plan, message.thread, run, context)
    workflow = AttachedWorkflow(
        message.workflow_id, plan.application, plan.workflow_name, lambda: read_workflow(store, message.workflow_id)
    )
    stage = stage_of(frame, context, workflow)
    stage.status, stage.end_time = WorkflowStatus[run.status], run.ended_ms
    for name in plan.finalizers:
        _call(registry, name, stage)
    if plan.cleanup_on_failure and run.status not in GOES_ON:
        for task in task_list(plan, run.planned):
            _clean_up(registry, task.type, stage)


def _call(registry: TaskRegistry, name: str, stage: StageExecution) -> None:
    try:
        registry.finalizers.run(name, stage)
    except Exception:
        logger.exception("finalizer %r of stage %r failed", name, stage.ref_id)


def _clean_up(registry: TaskRegistry, task_type: str, stage: StageExecution) -> None:
    if not registry.has(task_type):
        return
    try:
        registry.get(task_type).on_cleanup(stage)
    except Exception:
        logger.exception("on_cleanup of task %r of stage %r failed", task_type, stage.ref_id)
