"""All reasons of a workflow."""

from collections.abc import Iterator

from stabilize_celery.client.why.endings import reasons_of_end
from stabilize_celery.client.why.facts import Facts, gather
from stabilize_celery.client.why.held import deadlock_reasons, mutex_reason
from stabilize_celery.client.why.hooks import hook_reasons
from stabilize_celery.client.why.joins import idle_join_reason
from stabilize_celery.client.why.reason import Reason
from stabilize_celery.client.why.unfinished import reason_of_stage
from stabilize_celery.client.words import ago
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import WorkflowView, read_view
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Store

__all__ = ["explain", "explain_view"]

_LOOKS = 4
"""So many readings must find that nothing is owed before that is told: what was read piece by piece may have moved."""


def explain(store: Store, workflow_id: str, settings: Settings) -> list[Reason]:
    """Return what each unfinished stage waits for; for an ended workflow, why it failed, by stage.

    Raises:
        WorkflowNotFoundError: there is no such workflow (any more).

    """
    return explain_view(store, read_view(store, workflow_id, without_payloads=True), settings)


def explain_view(store: Store, view: WorkflowView, settings: Settings) -> list[Reason]:
    """Return the reasons of a workflow that was read already; it is read again where something seems to be lost.

    Raises:
        WorkflowNotFoundError: it is gone by now.

    """
    found = _reasons(store, view, settings)
    alarms = _alarms(found)
    for _ in range(_LOOKS - 1):
        if not alarms:
            break
        found = _reasons(store, read_view(store, view.id, without_payloads=True), settings)
        alarms &= _alarms(found)
    return [reason for reason in found if reason.kind != "stuck" or (reason.ref_id, reason.text) in alarms]


def _alarms(reasons: list[Reason]) -> set[tuple[str, str]]:
    return {(reason.ref_id, reason.text) for reason in reasons if reason.kind == "stuck"}


def _reasons(store: Store, view: WorkflowView, settings: Settings) -> list[Reason]:
    if not view.record.is_live:
        return [*reasons_of_end(view), *hook_reasons(store, view)]
    facts = gather(store, view)
    of_stages = _of_stages(facts, settings)
    return [*deadlock_reasons(facts), *_of_workflow(facts), *of_stages, *hook_reasons(store, view)]


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
    if any(facts.entry(name) for name in facts.entries if name == "Settle" or name.startswith("Eval:")):
        return Reason("", "settling", "no stage runs; a worker is about to decide how it continues, or that it ends")
    told = "nothing is owed and nothing runs: this should not happen"
    return Reason("", "stuck", told, "Redis may have lost writes", "stabilize-celery doctor")


def _of_stages(facts: Facts, settings: Settings) -> Iterator[Reason]:
    if facts.view.record.status == "BUFFERED":
        return
    for ref_id, stage in facts.view.stages.items():
        if not WorkflowStatus[stage.status(facts.view.record)].is_complete:
            yield reason_of_stage(facts, ref_id, stage, settings)
        elif (reason := idle_join_reason(facts, facts.reach, ref_id)) is not None:
            yield reason
