"""All reasons of a workflow."""

from collections.abc import Iterator

from stabilize_celery.client.why.endings import reasons_of_end
from stabilize_celery.client.why.facts import Facts, gather
from stabilize_celery.client.why.held import deadlock_reasons, mutex_reason
from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.why.unfinished import reason_of_stage
from stabilize_celery.client.words import ago
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import WorkflowView, read_view
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Store

__all__ = ["explain", "explain_view"]


def explain(store: Store, workflow_id: str, settings: Settings) -> list[Reason]:
    """Return what each unfinished stage waits for; for an ended workflow, why it failed, by stage.

    Raises:
        WorkflowNotFoundError: there is no such workflow (any more).

    """
    return explain_view(store, read_view(store, workflow_id), settings)


def explain_view(store: Store, view: WorkflowView, settings: Settings) -> list[Reason]:
    """Return the reasons of a workflow that was read already."""
    if not view.record.is_live:
        return reasons_of_end(view)
    facts = gather(store, view)
    return [*deadlock_reasons(facts), *_of_workflow(facts), *_of_stages(facts, settings)]


def _of_workflow(facts: Facts) -> Iterator[Reason]:
    record = facts.view.record
    if record.status == "PAUSED":
        since = ago(record.paused_at_ms, facts.now_ms)
        advice = f"stabilize-celery resume {facts.view.id}"
        yield Reason("", "paused", f"paused by {record.paused_by or 'somebody'} {since}", advice=advice)
    if record.status == "BUFFERED":
        yield mutex_reason(facts, "", record.lock, "")
    elif not any(not run.is_ended for stage in facts.view.stages.values() for _, run in stage.runs):
        yield _standstill(facts)


def _standstill(facts: Facts) -> Reason:
    if facts.entry("Settle") or any(facts.entry(f"Eval:{ref}") for ref in facts.joins):
        return Reason("", "settling", "no stage runs; a worker is about to judge how it goes on, or ends it")
    told = "nothing is owed and nothing runs: this should not happen"
    return Reason("", "stuck", told, "Redis may have lost writes", "stabilize-celery doctor")


def _of_stages(facts: Facts, settings: Settings) -> Iterator[Reason]:
    if facts.view.record.status == "BUFFERED":
        return
    for ref_id, stage in facts.view.stages.items():
        if not WorkflowStatus[stage.status(facts.view.record)].is_complete:
            yield reason_of_stage(facts, ref_id, stage, settings)
