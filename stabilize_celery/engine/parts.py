"""The parts of a run: the stages before and after it, and those that clean up after its failure (wcp 1.3, 1.8).

What ends a run takes its parts away in the same commit, however deep they lie: a signal, a key or a milestone that
comes later finds nobody. The run's ContinueStage, owed beside that, is the second line.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import (
    end_run,
)
from stabilize_celery.engine.handler import frame_with, stage_fields
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.instances import withdraw_instances
from stabilize_celery.engine.moves import GOES_ON, SYNTHETIC_PHASES, Frame, after_stages, before_stages
from stabilize_celery.engine.state import ENTRY, RUN, SIGNALS, Entry, SignalBox
from stabilize_celery.engine.steps import Decision, Hash, Read, Snapshot
from stabilize_celery.engine.waiters import forget_waiters
from stabilize_celery.models.messages import run_name

__all__ = ["Part", "groups", "read_parts", "take_away", "withdraw_parts"]


@dataclass(frozen=True, slots=True)
class Part:
    """A synthetic stage of a run: its own run, if it has one, and what else there is of that."""

    frame: Frame
    entry: Entry
    box: SignalBox

    @property
    def is_live(self) -> bool:
        """Whether it has begun to live, and has not ended."""
        return bool(self.frame.run.status) and not self.frame.run.is_ended

    @property
    def is_done(self) -> bool:
        """Whether what waits for it may go on."""
        return self.frame.run.status in GOES_ON


def groups(frame: Frame) -> dict[str, list[str]]:
    """Return the refs of a run's parts, defined and planned, by the phase in which they live."""
    planned = frame.run.planned
    return {
        "before": before_stages(frame.plan, planned),
        "after": after_stages(frame.plan, planned),
        "failure": list(planned.get("failure", [])),
    }


def read_parts(frame: Frame, refs: Iterable[str]) -> Generator[Read, Snapshot, dict[str, Part]]:
    """Read and WATCH parts of a run, by ref."""
    threads = {ref: thread_id(frame.thread, "synthetic", ref) for ref in refs}
    keys = {ref: places.run(thread) for ref, thread in threads.items()}
    runs = yield Read((*map(Hash, keys.values()), *map(stage_fields, keys)), tuple(keys.values()))
    frames = {ref: _frame(frame, runs, ref, thread) for ref, thread in threads.items()}
    tasks = {ref: places.ledger(run_name(one.thread, None, one.run.task_index)) for ref, one in frames.items()}
    boxes = {ref: places.signals(ref) for ref in frames}
    more = [*tasks.values(), *boxes.values()]
    found = yield Read(tuple(map(Hash, more)), tuple(more))
    return {
        ref: Part(one, ENTRY.decode(found.hash(tasks[ref])), SIGNALS.decode(found.hash(boxes[ref])))
        for ref, one in frames.items()
    }


def _frame(whole: Frame, snapshot: Snapshot, ref_id: str, thread: str) -> Frame:
    run = RUN.decode(snapshot.hash(places.run(thread)))
    fields = snapshot[stage_fields(ref_id)]
    return frame_with(whole.workflow_id, snapshot.now_us, whole.workflow, fields, ref_id, thread, run)


def take_away(decision: Decision, parts: Iterable[Part], reason: str) -> Generator[Read, Snapshot, int]:
    """End those of the parts that live, with all that is part of them. Returns the change of `act`."""
    moves = 0
    for part in parts:
        if part.is_live:
            forget_waiters(decision, part.frame.plan.ref, part.box, part.frame.thread)
            yield from withdraw_instances(decision, part.frame, reason)
            moves += end_run(decision, part.frame, "CANCELED", reason, part.entry)
            moves += yield from withdraw_parts(decision, part.frame)
    return moves


def withdraw_parts(decision: Decision, frame: Frame) -> Generator[Read, Snapshot, int]:
    """Take away the parts of a run that ends before them; nothing is read for one at work on its tasks.

    Returns the change of `act`.
    """
    if frame.run.phase not in SYNTHETIC_PHASES:
        return 0
    refs = [ref for group in groups(frame).values() for ref in group]
    parts = yield from read_parts(frame, refs)
    return (yield from take_away(decision, parts.values(), f"stage {frame.plan.ref!r} has ended"))
