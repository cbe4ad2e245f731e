"""ContinueStage: look at the before, after or on-failure stages of a run (wcp 1.3).

Pure, level-triggered. Starts those whose own requisites are done; when all are done goes on with the run; when one
failed takes the others away and fails the run. Costs as much as the group is large.
"""

from collections.abc import Mapping

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.handler import Rules, frame_of, guard, opening, stage_fields
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.moves import (
    GOES_ON,
    Frame,
    after_stages,
    before_stages,
    begin_tasks,
    count_moves,
    enable,
    end_run,
    owe_completion,
    past_of,
    set_run,
)
from stabilize_celery.engine.past import Past, merged
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.state import RUN
from stabilize_celery.engine.steps import Decision, Handling, Hash, Read, Snapshot
from stabilize_celery.models.messages import ContinueStage

__all__ = ["handle"]


def handle(message: ContinueStage, _rules: Rules, _attempt: int) -> Handling:
    """Decide what of the group starts now, and whether the run goes on."""
    run_key = places.run(message.thread)
    snapshot = yield opening(message, Hash(run_key), stage_fields(message.ref_id), watch=[run_key])
    if (early := guard(message, snapshot)) is not None:
        return early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if frame.run.is_ended or frame.run.phase not in ("before", "after", "failure"):
        return Decision(note="the run waits for no synthetic stages")
    members = _members(frame)
    keys = [places.run(_token(frame, ref)) for ref in members]
    group = yield Read((*map(Hash, keys), *map(stage_fields, members)), tuple(keys))
    return _decide(frame, {ref: _child(frame, group, ref) for ref in members})


def _members(frame: Frame) -> list[str]:
    planned = frame.run.planned
    if frame.run.phase == "before":
        return before_stages(frame.plan, planned)
    if frame.run.phase == "after":
        return after_stages(frame.plan, planned)
    return list(planned.get("failure", []))


def _token(frame: Frame, ref_id: str) -> str:
    return thread_id(frame.thread, "synthetic", ref_id)


def _child(frame: Frame, group: Snapshot, ref_id: str) -> Frame:
    fields = group[stage_fields(ref_id)]
    token = _token(frame, ref_id)
    run = RUN.decode(group.hash(places.run(token)))
    context = {**unpack(fields[f"x:{ref_id}"]), **run.context}
    plan = decode_plan(fields[f"s:{ref_id}"])
    return Frame(frame.workflow_id, group.now_us, frame.workflow, plan, token, run, context)


def _decide(frame: Frame, group: Mapping[str, Frame]) -> Decision:
    failed = [child for child in group.values() if child.run.status and child.run.is_ended and not _is_done(child)]
    if failed:
        return _fail(frame, group, failed[0])
    decision = Decision()
    if all(_is_done(child) for child in group.values()):
        _go_on(decision, frame, group)
        return decision
    moves = 0
    for ref_id, child in group.items():
        wanted = [requisite for requisite in child.plan.requisites if requisite in group]
        if not child.run.status and all(_is_done(group[requisite]) for requisite in wanted):
            past = merged([_base(frame), *(group[requisite].run.past_out for requisite in wanted)], {})
            enable(decision, frame.workflow_id, ref_id, child.thread, frame.now_us, past, parent=frame.thread)
            moves += 1
    count_moves(decision, frame.workflow_id, moves, is_synthetic=True)
    return decision


def _is_done(child: Frame) -> bool:
    return child.run.status in GOES_ON


def _base(frame: Frame) -> Past:
    return frame.run.past if frame.run.phase == "before" else past_of(frame, frame.run.outputs)


def _go_on(decision: Decision, frame: Frame, group: Mapping[str, Frame]) -> None:
    past = merged([_base(frame), *(child.run.past_out for child in group.values())], {})
    set_run(decision, frame.thread, past=past)
    if frame.run.phase == "before":
        begin_tasks(decision, frame, frame.run.planned)
    else:
        owe_completion(decision, frame)


def _fail(frame: Frame, group: Mapping[str, Frame], failed: Frame) -> Decision:
    decision = Decision()
    moves = 0
    for child in group.values():
        if child.run.status and not child.run.is_ended:
            moves += end_run(decision, child, "CANCELED", f"stage {failed.plan.ref!r} beside it failed")
    count_moves(decision, frame.workflow_id, moves, is_synthetic=True)
    if frame.run.phase != "failure":
        told = f"{failed.plan.name or failed.plan.ref!r}: {failed.run.reason or failed.run.status}"
        set_run(decision, frame.thread, outcome=failed.run.status, reason=told)
    owe_completion(decision, frame)
    return decision
