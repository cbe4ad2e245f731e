"""StartSubWorkflow: create the inner workflow that a run calls (PROTOCOL 6, 10; wcp 1.13).

Pure. The child's id is derived from the caller's thread: there already means done; a tombstone means cancelled before.
"""

from collections.abc import Mapping
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.creation import Creation, create_workflow
from stabilize_celery.engine.handler import Rules, evaluated, frame_of, guard, opening, stage_fields
from stabilize_celery.engine.moves import (
    Frame,
    owe_completion,
    set_run,
)
from stabilize_celery.engine.plan import WorkflowPlan, decode_workflow_plan
from stabilize_celery.engine.steps import Commit, Decision, Event, Fields, Handling, Hash, Read, workflow_slot
from stabilize_celery.engine.telling import whose
from stabilize_celery.errors import StabilizeError
from stabilize_celery.models.definition import from_definition, inner_definition
from stabilize_celery.models.evaluation import EvaluationError
from stabilize_celery.models.expressions import evaluate, names_in
from stabilize_celery.models.messages import StartSubWorkflow

__all__ = ["handle"]


def handle(message: StartSubWorkflow, _rules: Rules, _attempt: int) -> Handling:
    """Decide whether the child is created, or the call fails."""
    run_key = places.run(message.thread)
    call_name = Fields(places.DEFINITION, ("meta", "definition"))
    snapshot = yield opening(message, Hash(run_key), stage_fields(message.ref_id), call_name, watch=[run_key])
    if (early := guard(message, snapshot)) is not None:
        return early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if frame.run.is_ended or frame.run.child != message.child_id:
        return Decision(note="the call is not wanted any more")
    meta = decode_workflow_plan(snapshot[call_name]["meta"])
    try:
        definition = _definition(frame, unpack(snapshot[call_name]["definition"]))
        context = yield from _context(frame)
        creation = _creation(message, frame, meta, definition, context)
    except StabilizeError as error:
        return _refused(frame, str(error))
    slot = workflow_slot(message.child_id)
    there = yield Read((Hash(places.WORKFLOW),), (places.WORKFLOW,), slot)
    if not there.hash(places.WORKFLOW):
        child = Decision(keeps_entry=True)
        create_workflow(child, creation, there.now_us)
        yield Commit(child, slot)
    return Decision(
        events=[Event("stage.called", message.ref_id, {"workflow_id": message.child_id, **whose(message.thread)})]
    )


def _definition(frame: Frame, own: dict[str, Any]) -> Any:
    call = frame.run.child_call
    if call.get("definition"):
        return call["definition"]
    name = call.get("name") or ""
    try:
        return inner_definition(own, name)
    except KeyError:
        known = ", ".join(sorted([*own.get("sub_workflows", {}), own.get("name", "")]))
        raise EvaluationError(f"no inner workflow is named {name!r}; known here: {known}") from None


def _context(frame: Frame) -> Any:
    expressions = frame.plan.sub_context
    names = set().union(*(names_in(text) for text in expressions.values()))

    def all_of(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: evaluate(text, values) for name, text in expressions.items()}

    given = (yield from evaluated(frame, names, {}, all_of)) if expressions else {}
    return {**given, **frame.run.child_call.get("context", {})}


def _creation(
    message: StartSubWorkflow, frame: Frame, meta: WorkflowPlan, definition: Any, context: dict[str, Any]
) -> Creation:
    depth = frame.workflow.depth + 1
    if depth > meta.max_depth:
        raise EvaluationError(f"inner workflow of depth {depth}; max_depth is {meta.max_depth}")
    workflow = from_definition(definition)
    workflow.context = {**workflow.context, **context}
    if "priority" not in definition:
        workflow.priority = frame.workflow.priority
    return Creation.of(
        message.child_id,
        workflow,
        retention_ms=frame.workflow.retention_ms,
        fails_closed=True,
        trace=frame.workflow.trace or message.workflow_id,
        parent=(message.workflow_id, message.thread, message.ref_id),
        depth=depth,
    )


def _refused(frame: Frame, reason: str) -> Decision:
    decision = Decision()
    set_run(decision, frame.thread, outcome="TERMINAL", reason=reason, child="")
    owe_completion(decision, frame)
    return decision
