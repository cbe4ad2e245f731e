"""ContinueStage: look at the before, after or on-failure stages of a run (wcp 1.3).

Pure, level-triggered. Starts those whose own requisites are done; when all are done goes on with the run; when one
failed takes the others away and fails the run; when the run has ended takes away what is left. Costs as much as there
are.
"""

from collections.abc import Generator, Iterable, Mapping
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import Rules, frame_of, guard, meet, opening, stage_fields
from stabilize_celery.engine.moves import (
    SYNTHETIC_PHASES,
    Frame,
    Zone,
    begin_tasks,
    count_moves,
    enable,
    owe_completion,
    owe_settle,
    set_run,
)
from stabilize_celery.engine.parts import Part, groups, read_parts, take_away, withdraw_parts
from stabilize_celery.engine.past import Past
from stabilize_celery.engine.rooms import rooms_in
from stabilize_celery.engine.routes import (
    past_of,
)
from stabilize_celery.engine.steps import Decision, Handling, Hash, Increment, Read, Snapshot
from stabilize_celery.models.messages import ContinueStage

__all__ = ["handle"]


def handle(message: ContinueStage, _rules: Rules, _attempt: int) -> Handling:
    """Decide what of the group starts now, and whether the run goes on."""
    run_key = places.run(message.thread)
    snapshot = yield opening(message, Hash(run_key), stage_fields(message.ref_id), watch=[run_key])
    if (early := guard(message, snapshot)) is not None:
        return early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    if frame.run.phase not in SYNTHETIC_PHASES:
        return Decision(note="the run waits for no synthetic stages")
    if frame.run.is_ended:
        return (yield from _take_all_away(frame))
    phases = groups(frame)
    parts: dict[str, Part] = yield from read_parts(frame, [ref for refs in phases.values() for ref in refs])
    group = phases.pop(frame.run.phase)
    left = [parts[ref] for refs in phases.values() for ref in refs]
    return (yield from _decide(frame, {ref: parts[ref] for ref in group}, left))


def _take_all_away(frame: Frame) -> Generator[Read, Snapshot, Decision]:
    """End what is left of a run that has ended early; nobody else looks at a standstill of theirs."""
    decision = Decision(note="the run has ended")
    moves = yield from withdraw_parts(decision, frame)
    owe_settle(decision, frame.workflow_id, decision.change(Increment(places.COUNTERS, "act", moves)))
    return decision


def _decide(frame: Frame, group: Mapping[str, Part], left: Iterable[Part]) -> Generator[Read, Snapshot, Decision]:
    """`left`: synthetic stages of other phases, which may live on where a time-out ended theirs."""
    decision = Decision()
    moves = yield from take_away(decision, left, "its phase is over")
    has_ended = [child for child in group.values() if child.frame.run.status and not child.is_live]
    failed = next((child.frame for child in has_ended if not child.is_done), None)
    if failed is not None:
        moves += yield from _fail(decision, frame, group, failed)
    elif all(child.is_done for child in group.values()):
        yield from _go_on(decision, frame, group)
    else:
        moves += yield from _start_ready(decision, frame, group)
    count_moves(decision, frame.workflow_id, moves)
    return decision


def _start_ready(decision: Decision, frame: Frame, group: Mapping[str, Part]) -> Generator[Read, Snapshot, int]:
    moves = 0
    for child in group.values():
        wanted = [group[requisite] for requisite in child.frame.plan.requisites if requisite in group]
        if not child.frame.run.status and all(one.is_done for one in wanted):
            past = yield from meet([_base(frame), *(one.frame.run.past_out for one in wanted)], {})
            _start(decision, frame, child.frame, past)
            moves += 1
    return moves


def _start(decision: Decision, frame: Frame, child: Frame, past: Past) -> None:
    """Enable a synthetic stage: the locks that cover its parent cover it, too."""
    rooms = [*rooms_in(frame.thread, frame.run), *Zone.of(child.plan).rooms]
    more: dict[str, Any] = {"parent": frame.thread, **({"token": frame.run.token} if frame.run.token else {})}
    enable(decision, frame.workflow_id, child.plan.ref, child.thread, frame.now_us, past, rooms=rooms, **more)


def _base(frame: Frame) -> Past:
    return frame.run.past if frame.run.phase == "before" else past_of(frame, frame.run.outputs)


def _go_on(decision: Decision, frame: Frame, group: Mapping[str, Part]) -> Generator[Read, Snapshot, None]:
    past = yield from meet([_base(frame), *(child.frame.run.past_out for child in group.values())], {})
    set_run(decision, frame.thread, past=past)
    if frame.run.phase == "before":
        set_run(decision, frame.thread, phase="tasks")
        borne = next(
            (_told(child.frame) for child in group.values() if child.frame.run.status == "FAILED_CONTINUE"), ""
        )
        if borne:
            set_run(decision, frame.thread, borne=borne)
        begin_tasks(decision, frame, frame.run.planned)
        return
    if frame.run.phase == "after":
        set_run(decision, frame.thread, phase="done")
    owe_completion(decision, frame)


def _fail(decision: Decision, frame: Frame, group: Mapping[str, Part], failed: Frame) -> Generator[Read, Snapshot, int]:
    moves = yield from take_away(decision, group.values(), f"stage {failed.plan.ref!r} beside it failed")
    if frame.run.phase != "failure":
        set_run(decision, frame.thread, outcome=failed.run.status, reason=_told(failed))
    owe_completion(decision, frame)
    return moves


def _told(failed: Frame) -> str:
    return f"{failed.plan.name or failed.plan.ref!r}: {failed.run.reason or failed.run.status}"
