"""Multiple instances: one run whose task list runs once per instance (wcp 1.11; PROTOCOL 9).

An instance is a run of its own with the thread `<run>.<index>`: it is claimed, suspended and retried like any other.
The run counts those that ended, without WATCH; a merge message judges whether its thread goes on.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import unpack
from stabilize_celery.engine.endings import (
    end_run,
)
from stabilize_celery.engine.handler import visible_values
from stabilize_celery.engine.moves import Frame, bring_to_life, task_list
from stabilize_celery.engine.rooms import rooms_in
from stabilize_celery.engine.state import ENTRY, RUN, SIGNALS, Entry, Run, TaskState
from stabilize_celery.engine.steps import Decision, Event, Hash, Owed, Read, SetFields, Snapshot
from stabilize_celery.models.evaluation import EvaluationError
from stabilize_celery.models.limits import MAX_INSTANCES
from stabilize_celery.models.messages import JudgeInstances, RunTask, run_name

__all__ = [
    "Crowd",
    "begin_instances",
    "begin_waiting",
    "cancel_instances",
    "failures_told",
    "instance_thread",
    "instances_to_begin",
    "outputs_after",
    "owe_judgement",
    "read_instances",
    "summed_tasks",
    "withdraw_instances",
]


_MOST = f"a run has at most {MAX_INSTANCES} instances"


def instance_thread(thread: str, index: int) -> str:
    """Return the thread of an instance."""
    return f"{thread}.{index}"


def instances_to_begin(frame: Frame) -> Generator[Read, Snapshot, list[Any]]:
    """Return the item of each instance (None without a collection), as the run starts.

    Raises:
        EvaluationError: what should say how many does not; names it and what it is.

    """
    config = frame.plan.instances
    if config is None:
        return []
    name = config.count_from or config.collection_from
    if not name:
        return [None] * config.count
    values = yield from visible_values(frame, {name}, {})
    value = values.get(name)
    if config.collection_from:
        if not isinstance(value, list):
            raise EvaluationError(f"collection_from_context: {name!r} is {_kind(values, name)}, not a list")
        if len(value) > MAX_INSTANCES:
            raise EvaluationError(f"collection_from_context: {name!r} has {len(value)} items; {_MOST}")
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise EvaluationError(f"count_from_context: {name!r} is {_kind(values, name)}, not a whole number from 0")
    if value > MAX_INSTANCES:
        raise EvaluationError(f"count_from_context: {name!r} is {value}; {_MOST}")
    return [None] * value


def _kind(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name])[:60] if name in values else "not there"


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many instances a run has, has started, and have ended; and what those added see that wait for their turn."""

    exists: bool = False
    total: int = 0
    begun: int = 0
    done: int = 0
    failed: int = 0
    judged: int = 0
    is_closed: bool = False
    extras: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, totals: Mapping[str, bytes], counts: Mapping[str, bytes]) -> "Crowd":
        """Return what the hashes `places.instances` and `places.instance_counts` say."""
        numbers = {name: int(value) for name, value in {**totals, **counts}.items() if name in cls.__slots__}
        extras = {int(name[2:]): unpack(value) for name, value in totals.items() if name.startswith("x:")}
        return cls("total" in totals, is_closed=totals.get("closed") == b"1", extras=extras, **numbers)

    @property
    def ended(self) -> int:
        """How many have ended, well or not."""
        return self.done + self.failed

    @property
    def is_open(self) -> bool:
        """Whether more may be added: the thread has not gone on, none has failed, and one at least is unfinished."""
        return not self.is_closed and not self.failed and self.ended < self.total

    def room(self, limit: int, wanted: int) -> int:
        """Return how many of `wanted` instances may start now, where at most `limit` are at work (0: any number)."""
        return max(0, min(wanted, limit - (self.begun - self.ended))) if limit else wanted


def begin_waiting(decision: Decision, frame: Frame, crowd: Crowd) -> None:
    """Start those of the instances that wait for their turn for which there is room."""
    config = frame.plan.instances
    starting = crowd.room(config.max_concurrent if config else 0, crowd.total - crowd.begun)
    if starting:
        begin_instances(decision, frame, range(crowd.begun, crowd.begun + starting), crowd.extras)
        decision.change(SetFields(places.instances(frame.thread), {"begun": crowd.begun + starting}))


def begin_instances(
    decision: Decision, frame: Frame, indexes: Iterable[int], extras: Mapping[int, Mapping[str, Any]] | None = None
) -> None:
    """Start the instances `indexes`; `extras`: by index, more names that one sees."""
    config = frame.plan.instances
    tasks = task_list(frame.plan, frame.run.planned)
    listed = frame.run.planned.get("instances", [])
    items = dict(enumerate(listed)) if config and config.collection_from else None
    # How many there are is all that an instance knows of the others: with their items each would carry the whole list.
    planned = {name: value for name, value in frame.run.planned.items() if name != "instances"} | {"of": len(listed)}
    rooms = rooms_in(frame.thread, frame.run)
    for index in indexes:
        thread = instance_thread(frame.thread, index)
        extra = (extras or {}).get(index, {})
        context = {"instance_index": index, **({} if items is None else {"instance_item": items.get(index)})}
        bring_to_life(
            decision,
            thread,
            rooms,
            ref=frame.plan.ref,
            status="RUNNING",
            created_us=frame.now_us + index,
            started_ms=frame.now_ms,
            past=frame.run.past,
            context={**context, **extra},
            tasks=[TaskState() for _ in tasks],
            planned=planned,
            phase="tasks",
            parent=frame.thread,
            instance=index,
            **({"token": frame.run.token} if frame.run.token else {}),
        )
        message = RunTask(
            workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=thread, task_index=0, task_type=tasks[0].type
        )
        decision.owes.append(Owed(message))
        decision.events.append(Event("instance.started", frame.plan.ref, {"thread": frame.thread, "instance": index}))


def owe_judgement(decision: Decision, frame: Frame, thread: str, publish: Any = None) -> None:
    """Owe a look at how many instances have ended."""
    message = JudgeInstances(workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=thread)
    decision.owes.append(Owed(message) if publish is None else Owed(message, publish=publish))


def read_instances(frame: Frame, indexes: Iterable[int]) -> Generator[Read, Snapshot, dict[str, tuple[Run, Entry]]]:
    """Read and WATCH these instances of a run, each with the entry of its current task."""
    threads = [instance_thread(frame.thread, index) for index in indexes]
    keys = {thread: Hash(places.run(thread)) for thread in threads}
    snapshot = yield Read(tuple(keys.values()), tuple(key.key for key in keys.values()))
    runs = {thread: RUN.decode(snapshot[key]) for thread, key in keys.items()}
    runs = {thread: run for thread, run in runs.items() if run.status}
    entries = {thread: Hash(places.ledger(run_name(thread, None, run.task_index))) for thread, run in runs.items()}
    found = yield Read(tuple(entries.values()), tuple(key.key for key in entries.values()))
    return {thread: (run, ENTRY.decode(found[entries[thread]])) for thread, run in runs.items()}


def cancel_instances(
    decision: Decision, frame: Frame, instances: Mapping[str, tuple[Run, Entry]], reason: str
) -> Generator[Read, Snapshot, None]:
    """Withdraw the instances that have not ended, with what they wait for."""
    open_ones = {thread: item for thread, item in instances.items() if not item[0].is_ended}
    if any(run.status == "SUSPENDED" for run, _ in open_ones.values()):
        box_key = Hash(places.signals(frame.plan.ref))
        box = SIGNALS.decode((yield Read((box_key,), (box_key.key,)))[box_key])
        rest = [waiter for waiter in box.waiters if waiter.thread not in open_ones]
        decision.change(SetFields(box_key.key, SIGNALS.encode(waiters=rest)))
    for thread, (run, entry) in open_ones.items():
        inner = Frame(frame.workflow_id, frame.now_us, frame.workflow, frame.plan, thread, run, frame.context)
        end_run(decision, inner, "CANCELED", reason, entry)
    decision.change(SetFields(places.instances(frame.thread), {"closed": 1}))


def withdraw_instances(decision: Decision, frame: Frame, reason: str) -> Generator[Read, Snapshot, None]:
    """Withdraw the open instances of a run that ends before them; nothing for a run without any."""
    if frame.run.phase != "instances":
        return
    totals = Hash(places.instances(frame.thread))
    found = (yield Read((totals,), (totals.key,)))[totals]
    instances = yield from read_instances(frame, range(int(found.get("total", b"0"))))
    yield from cancel_instances(decision, frame, instances, reason)


def _collected(instances: Mapping[str, tuple[Run, Entry]]) -> dict[str, list[Any]]:
    """Return what the instances wrote: per name a list in order of the instances, None where one wrote nothing."""
    runs = sorted((run for run, _ in instances.values()), key=lambda run: run.instance or 0)
    names = {name: None for run in runs for name in run.outputs}
    return {name: [run.outputs.get(name) for run in runs] for name in names}


def outputs_after(frame: Frame, ended: Mapping[str, tuple[Run, Entry]]) -> dict[str, Any]:
    """Return the outputs of a run whose instances `ended` count.

    Once its thread has gone on with those that were enough, they are what it took along: the rest has no effect.
    """
    config, outputs = frame.plan.instances, frame.run.outputs
    has_taken_them = frame.run.passed_on and config is not None and config.is_joined
    return outputs if has_taken_them else {**outputs, **_collected(ended)}


def failures_told(runs: Sequence[Run]) -> str:
    """Return why the run of these ended instances is FAILED_CONTINUE: how many failed, and the first; else nothing."""
    failed = [run for run in runs if run.status == "FAILED_CONTINUE"]
    if not failed:
        return ""
    told = failed[0].reason or next((str(task.error.get("message", "")) for task in failed[0].tasks if task.error), "")
    first = f"instance {failed[0].instance}: {told or 'no reason was given'}"
    return f"{len(failed)} of {len(runs)} instances failed, first {first}"


def summed_tasks(runs: Sequence[Run]) -> list[TaskState]:
    """Return the tasks of a run in the light of its ended instances: first start, last end, a failure before all."""
    return [_summed(states) for states in zip(*(run.tasks for run in runs), strict=False)]


def _summed(states: Sequence[TaskState]) -> TaskState:
    failed = next((state for state in states if state.status in ("TERMINAL", "FAILED_CONTINUE")), None)
    shown = failed or TaskState("SUCCEEDED" if any(state.status == "SUCCEEDED" for state in states) else "SKIPPED")
    started_ms = min((state.started_ms for state in states if state.started_ms), default=0)
    return replace(shown, started_ms=started_ms, ended_ms=max(state.ended_ms for state in states))
