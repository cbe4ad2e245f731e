"""CompleteStage: end a run whose work is done and move its thread on (wcp 1.3, 1.4; PROTOCOL 7.2).

Pure. One commit costs as much as the stage has outgoing edges, whatever the size of the workflow.
"""

from collections.abc import Generator
from typing import Any

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.completion import complete_run, failure_status
from stabilize_celery.engine.endings import (
    end_run,
)
from stabilize_celery.engine.handler import Rules, frame_of, guard, opening, stage_fields, zone_fields
from stabilize_celery.engine.instances import owe_judgement, withdraw_instances
from stabilize_celery.engine.moves import (
    GOES_ON,
    Frame,
    owe_continuation,
    set_run,
    written_plan,
)
from stabilize_celery.engine.plan import decode_workflow_plan
from stabilize_celery.engine.state import Run
from stabilize_celery.engine.steps import Append, Decision, Fields, Handling, Hash, Increment, Plan, Read, Snapshot
from stabilize_celery.models.messages import CompleteStage

__all__ = ["decide", "handle"]


def handle(message: CompleteStage, _rules: Rules, _attempt: int) -> Handling:
    """Decide how the run ends."""
    run_key = places.run(message.thread)
    snapshot = yield opening(
        message, Hash(run_key), stage_fields(message.ref_id), zone_fields(message.ref_id), watch=[run_key]
    )
    if (early := guard(message, snapshot)) is not None:
        return early
    return (yield from decide(frame_of(message, snapshot, message.ref_id, message.thread)))


def decide(frame: Frame) -> Handling:
    """Decide how a run ends whose work is done."""
    if frame.run.is_ended:
        return Decision(note=f"the run is {frame.run.status or 'gone'}")
    if frame.run.instance is not None:
        return _end_instance(frame)
    has_failed = frame.run.outcome == "TERMINAL"
    if has_failed and frame.run.phase != "failure":
        planned = yield Plan("failure", frame)
        if planned and planned.get("failure"):
            return _run_failure_stages(frame, planned)
    if frame.run.jump:
        refused = yield from _refuse_jump(frame)
        if refused:
            return (yield from complete_run(_without_jump(frame), "TERMINAL", refused))
    if has_failed:
        # How many instances there are can't be told: as with a condition, there is no safe way to go on.
        status = "TERMINAL" if frame.run.planned.get("is_final") else failure_status(frame.context)
    else:
        status = frame.run.outcome or _rolled_up(frame.run)
    decision = yield from complete_run(frame, status, frame.run.reason or frame.run.borne)
    yield from withdraw_instances(decision, frame, frame.run.reason)
    return decision


def _end_instance(frame: Frame) -> Decision:
    """End one instance; the judgement of its run follows."""
    run, config = frame.run, frame.plan.instances
    status = run.outcome or _rolled_up(run)
    status = failure_status(frame.context) if status == "TERMINAL" else status
    decision = Decision()
    end_run(decision, frame, status, run.reason)
    kind = "done" if status in GOES_ON else "failed"
    count = decision.change(Increment(places.instance_counts(run.parent), kind, 1))
    if config is not None and config.is_partial:
        decision.change(Append(places.instance_ends(run.parent), f"{kind}:{run.instance}"))
    total = frame.run.planned.get("of", 0) or 1
    each = kind == "failed" or (
        config is not None and bool(config.condition or config.max_concurrent or config.is_dynamic)
    )
    need = min(total, config.threshold) if config is not None and config.threshold else total
    owe_judgement(decision, frame, run.parent, lambda results: each or (results[count] or 0) >= need)
    return decision


def _rolled_up(run: Run) -> str:
    is_borne = run.borne or any(task.status == "FAILED_CONTINUE" for task in run.tasks)
    return "FAILED_CONTINUE" if is_borne else "SUCCEEDED"


def _run_failure_stages(frame: Frame, planned: dict[str, Any]) -> Decision:
    decision = Decision()
    set_run(decision, frame.thread, phase="failure", planned={**frame.run.planned, **written_plan(decision, planned)})
    owe_continuation(decision, frame.workflow_id, frame.plan.ref, frame.thread)
    return decision


def _refuse_jump(frame: Frame) -> Generator[Read, Snapshot, str]:
    plan, target = frame.plan, frame.run.jump
    if target not in plan.jump_targets:
        declared = ", ".join(plan.jump_targets) or "none"
        return f"jump to {target!r}, which is not among the stage's jump_targets ({declared})"
    meta, jumps = Fields(places.DEFINITION, ("meta",)), Hash(places.JUMPS)
    snapshot = yield Read((meta, jumps), (places.JUMPS,))
    limit = decode_workflow_plan(snapshot[meta]["meta"]).max_jumps
    if int(snapshot[jumps].get("n", b"0")) >= limit:
        return f"more than max_jumps = {limit} jumps in this workflow"
    return ""


def _without_jump(frame: Frame) -> Frame:
    return msgspec.structs.replace(frame, run=msgspec.structs.replace(frame.run, jump=""))
