"""What is still owed to stages that have ended: their tasks' `on_cancel`, their finalizers (docs/decisions/010)."""

from collections.abc import Iterator
from dataclasses import replace

from stabilize_celery.client.why.branches import Reach
from stabilize_celery.client.why.facts import Facts
from stabilize_celery.client.why.owed import message_reason
from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.words import duration
from stabilize_celery.engine import places
from stabilize_celery.engine.hooks import ON_CANCEL, task_at_work
from stabilize_celery.engine.instances import instance_thread
from stabilize_celery.engine.moves import task_list
from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.state import ENTRY, Run
from stabilize_celery.engine.steps import Hash, Look, workflow_slot
from stabilize_celery.runtime.fleet import Fleet
from stabilize_celery.runtime.reading import StageView, WorkflowView
from stabilize_celery.store.contract import Store

__all__ = ["MOST_INSTANCES", "hook_reasons"]

MOST_INSTANCES = 1_000
"""So many instances of an ended run are asked for an `on_cancel` that is owed (count)."""


def hook_reasons(store: Store, view: WorkflowView) -> list[Reason]:
    """Return what is owed to stages that have ended: two round trips, none where nothing can be owed."""
    asked = {name: (ref, told) for ref, stage in view.stages.items() for name, told in _owed(stage)}
    if not asked:
        return []
    hashes, look = {name: Hash(places.ledger(name)) for name in asked}, Look(tuple(asked))
    snapshot = store.look(workflow_slot(view.id), [look, *hashes.values()])
    entries = {name: ENTRY.decode(snapshot[key]) for name, key in hashes.items() if snapshot[key]}
    if not entries:
        return []
    facts = Facts(view, Fleet(store.fleet(), view.now_ms), Reach(view), entries, snapshot[look])
    return [_reason(facts, name, *asked[name]) for name in entries]


def _reason(facts: Facts, name: str, ref_id: str, told: str) -> Reason:
    entry = facts.entries[name]
    if entry.nb > facts.now_ms and not entry.parked and not facts.is_dead(name):
        left = duration(entry.nb - facts.now_ms)
        text = f"{told} is called by the process that executes it, or by another one in {left}"
        return Reason(ref_id, "hook", text)
    reason = message_reason(facts, ref_id, name, told)
    return replace(reason, kind="hook") if reason.kind == "queued" else reason


def _owed(stage: StageView) -> Iterator[tuple[str, str]]:
    """Yield the ledger names of what may be owed to a stage's ended runs, each with words for it."""
    for thread, run in stage.runs:
        if not run.is_ended:
            continue
        how = {"CANCELED": "was cancelled", "SKIPPED": "was skipped"}.get(run.status, "")
        state = task_at_work(run)
        if how and state is not None and ON_CANCEL in state.hooks:
            yield (
                _cancel_name(thread, run.task_index),
                f"{how}; the on_cancel of {_task(stage.plan, run, run.task_index)}",
            )
        if run.phase in ("instances", "tasks") and stage.plan.instances is not None:
            yield from _of_instances(stage.plan, thread, run)
        if run.has_started and run.instance is None and (stage.plan.finalizers or stage.plan.cleanup_on_failure):
            yield f"Finalize:{thread}", "has ended; the message for its finalizers"


def _of_instances(plan: StagePlan, thread: str, run: Run) -> Iterator[tuple[str, str]]:
    number = min(MOST_INSTANCES, len(run.planned.get("instances", ())))
    for index in range(number):
        for at in range(len(task_list(plan, run.planned))):
            told = f"instance {index} was cancelled; the on_cancel of {_task(plan, run, at)}"
            yield _cancel_name(instance_thread(thread, index), at), told


def _cancel_name(thread: str, task_index: int) -> str:
    return f"Cancel:{thread}.{task_index}"


def _task(plan: StagePlan, run: Run, index: int) -> str:
    tasks = task_list(plan, run.planned)
    return f"task {tasks[index].name}" if index < len(tasks) else "its task"
