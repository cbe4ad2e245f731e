"""ContinueStage: look at the before, after or on-failure stages of a run (wcp 1.3).

Pure, level-triggered. Starts those whose own requisites are done; when all are done goes on with the run; when one
failed takes the others away and fails the run; when the run has ended takes all away. Costs as much as there are.
"""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import (
    end_run,
)
from stabilize_celery.engine.handler import Rules, frame_of, frame_with, guard, meet, opening, stage_fields
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.instances import withdraw_instances
from stabilize_celery.engine.moves import (
    GOES_ON,
    SYNTHETIC_PHASES,
    Frame,
    Zone,
    after_stages,
    before_stages,
    begin_tasks,
    count_moves,
    enable,
    owe_completion,
    owe_settle,
    set_run,
)
from stabilize_celery.engine.past import Past
from stabilize_celery.engine.rooms import rooms_in
from stabilize_celery.engine.routes import (
    past_of,
)
from stabilize_celery.engine.state import ENTRY, RUN, SIGNALS, Entry, SignalBox
from stabilize_celery.engine.steps import Decision, Handling, Hash, Increment, Read, Snapshot
from stabilize_celery.engine.waiters import forget_waiters
from stabilize_celery.models.messages import ContinueStage, run_name

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
    groups = _groups(frame)
    children: dict[str, _Child] = yield from _children(frame, [ref for refs in groups.values() for ref in refs])
    if frame.run.is_ended:
        return (yield from _take_all_away(frame, children.values()))
    group = groups.pop(frame.run.phase)
    left = [children[ref] for refs in groups.values() for ref in refs]
    return (yield from _decide(frame, {ref: children[ref] for ref in group}, left))


@dataclass(frozen=True, slots=True)
class _Child:
    """A synthetic stage of the run: its run, if it has one, and what else there is of that."""

    frame: Frame
    entry: Entry
    box: SignalBox

    @property
    def is_live(self) -> bool:
        return bool(self.frame.run.status) and not self.frame.run.is_ended

    @property
    def is_done(self) -> bool:
        return self.frame.run.status in GOES_ON

    def take_away(self, decision: Decision, reason: str) -> Generator[Read, Snapshot, int]:
        forget_waiters(decision, self.frame.plan.ref, self.box, self.frame.thread)
        yield from withdraw_instances(decision, self.frame, reason)
        return end_run(decision, self.frame, "CANCELED", reason, self.entry)


def _take_away(decision: Decision, children: Iterable[_Child], reason: str) -> Generator[Read, Snapshot, int]:
    """End those of the children that live. Returns the change of `act`."""
    moves = 0
    for child in children:
        if child.is_live:
            moves += yield from child.take_away(decision, reason)
    return moves


def _groups(frame: Frame) -> dict[str, list[str]]:
    planned = frame.run.planned
    return {
        "before": before_stages(frame.plan, planned),
        "after": after_stages(frame.plan, planned),
        "failure": list(planned.get("failure", [])),
    }


def _children(frame: Frame, refs: list[str]) -> Generator[Read, Snapshot, dict[str, _Child]]:
    keys = {ref: places.run(_token(frame, ref)) for ref in refs}
    runs = yield Read((*map(Hash, keys.values()), *map(stage_fields, refs)), tuple(keys.values()))
    children = {ref: _child(frame, runs, ref) for ref in refs}
    tasks = {ref: places.ledger(run_name(one.thread, None, one.run.task_index)) for ref, one in children.items()}
    boxes = {ref: places.signals(ref) for ref in refs}
    more = [*tasks.values(), *boxes.values()]
    found = yield Read(tuple(map(Hash, more)), tuple(more))
    return {
        ref: _Child(one, ENTRY.decode(found.hash(tasks[ref])), SIGNALS.decode(found.hash(boxes[ref])))
        for ref, one in children.items()
    }


def _token(frame: Frame, ref_id: str) -> str:
    return thread_id(frame.thread, "synthetic", ref_id)


def _child(frame: Frame, group: Snapshot, ref_id: str) -> Frame:
    token = _token(frame, ref_id)
    run = RUN.decode(group.hash(places.run(token)))
    fields = group[stage_fields(ref_id)]
    return frame_with(frame.workflow_id, group.now_us, frame.workflow, fields, ref_id, token, run)


def _take_all_away(frame: Frame, children: Iterable[_Child]) -> Generator[Read, Snapshot, Decision]:
    """End what is left of a run that has ended early; nobody else looks at a standstill of theirs."""
    decision = Decision(note="the run has ended")
    moves = yield from _take_away(decision, children, f"stage {frame.plan.ref!r} has ended")
    owe_settle(decision, frame.workflow_id, decision.change(Increment(places.COUNTERS, "act", moves)))
    return decision


def _decide(frame: Frame, group: Mapping[str, _Child], left: Iterable[_Child]) -> Generator[Read, Snapshot, Decision]:
    """`left`: synthetic stages of other phases, which may live on where a time-out ended theirs."""
    decision = Decision()
    moves = yield from _take_away(decision, left, "its phase is over")
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


def _start_ready(decision: Decision, frame: Frame, group: Mapping[str, _Child]) -> Generator[Read, Snapshot, int]:
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


def _go_on(decision: Decision, frame: Frame, group: Mapping[str, _Child]) -> Generator[Read, Snapshot, None]:
    past = yield from meet([_base(frame), *(child.frame.run.past_out for child in group.values())], {})
    set_run(decision, frame.thread, past=past)
    if frame.run.phase == "before":
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


def _fail(
    decision: Decision, frame: Frame, group: Mapping[str, _Child], failed: Frame
) -> Generator[Read, Snapshot, int]:
    moves = yield from _take_away(decision, group.values(), f"stage {failed.plan.ref!r} beside it failed")
    if frame.run.phase != "failure":
        set_run(decision, frame.thread, outcome=failed.run.status, reason=_told(failed))
    owe_completion(decision, frame)
    return moves


def _told(failed: Frame) -> str:
    return f"{failed.plan.name or failed.plan.ref!r}: {failed.run.reason or failed.run.status}"
