"""Multiple instances: one run whose task list runs once per instance (wcp 1.11; PROTOCOL 9).

An instance is a run of its own with the thread `<run>.<index>`: it is claimed, suspended and retried like any other.
The run counts those that ended, without WATCH; a merge message judges whether its thread goes on.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.endings import (
    end_run,
)
from stabilize_celery.engine.handler import visible_values
from stabilize_celery.engine.moves import (
    Frame,
    set_run,
    task_list,
)
from stabilize_celery.engine.state import ENTRY, RUN, SIGNALS, Entry, Run, TaskState
from stabilize_celery.engine.steps import Add, Decision, Event, Hash, Owed, Read, SetFields, Snapshot
from stabilize_celery.models.expressions import ConditionError
from stabilize_celery.models.messages import JudgeInstances, RunTask, run_name

__all__ = [
    "begin_instances",
    "cancel_instances",
    "collected",
    "instance_thread",
    "instances_to_begin",
    "owe_judgement",
    "read_instances",
    "withdraw_instances",
]


def instance_thread(thread: str, index: int) -> str:
    """Return the thread of an instance."""
    return f"{thread}.{index}"


def instances_to_begin(frame: Frame) -> Generator[Read, Snapshot, list[Any]]:
    """Return the item of each instance (None without a collection), as the run starts.

    Raises:
        ConditionError: what should say how many does not; names it and what it is.

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
            raise ConditionError(f"collection_from_context: {name!r} is {_kind(values, name)}, not a list")
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConditionError(f"count_from_context: {name!r} is {_kind(values, name)}, not a whole number from 0")
    return [None] * value


def _kind(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name])[:60] if name in values else "not there"


def begin_instances(
    decision: Decision, frame: Frame, items: Sequence[Any], first: int, extra: Mapping[str, Any]
) -> None:
    """Start instances number `first` and on, one per item; `extra`: more names that they see."""
    config = frame.plan.instances
    tasks = task_list(frame.plan, frame.run.planned)
    for index, item in enumerate(items, first):
        thread = instance_thread(frame.thread, index)
        context = {"instance_index": index, **({"instance_item": item} if config and config.collection_from else {})}
        set_run(
            decision,
            thread,
            ref=frame.plan.ref,
            status="RUNNING",
            created_us=frame.now_us + index,
            started_ms=frame.now_ms,
            past=frame.run.past,
            context={**context, **extra},
            tasks=[TaskState() for _ in tasks],
            planned=frame.run.planned,
            phase="tasks",
            parent=frame.thread,
            instance=index,
        )
        message = RunTask(
            workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=thread, task_index=0, task_type=tasks[0][2]
        )
        decision.change(Add(places.LIVE, (thread,)))
        decision.owes.append(Owed(message))
        decision.events.append(Event("instance.started", frame.plan.ref, {"thread": frame.thread, "instance": index}))


def owe_judgement(decision: Decision, frame: Frame, thread: str, publish: Any = None) -> None:
    """Owe a look at how many instances have ended."""
    message = JudgeInstances(workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=thread)
    decision.owes.append(Owed(message) if publish is None else Owed(message, publish=publish))


def read_instances(frame: Frame, total: int) -> Generator[Read, Snapshot, dict[str, tuple[Run, Entry]]]:
    """Read and WATCH every instance of a run, with the entry of its current task."""
    threads = [instance_thread(frame.thread, index) for index in range(total)]
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
    instances = yield from read_instances(frame, int(found.get("total", b"0")))
    yield from cancel_instances(decision, frame, instances, reason)


def collected(instances: Mapping[str, tuple[Run, Entry]]) -> dict[str, list[Any]]:
    """Return what the instances wrote: per name a list in order of the instances, None where one wrote nothing."""
    runs = sorted((run for run, _ in instances.values()), key=lambda run: run.instance or 0)
    names = {name: None for run in runs for name in run.outputs}
    return {name: [run.outputs.get(name) for run in runs] for name in names}
