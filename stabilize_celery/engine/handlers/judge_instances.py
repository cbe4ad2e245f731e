"""JudgeInstances: begin the instances of a run, let its thread go on, end it (wcp 1.11; PROTOCOL 9 Inst).

Pure, level-triggered. The thread goes on once: when all are done, or enough, or the condition holds, or at once for
instances that nobody waits for. The run itself ends with its last instance.
"""

from collections.abc import Generator, Mapping

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.completion import complete_run, failure_status, pass_on
from stabilize_celery.engine.endings import (
    end_run,
)
from stabilize_celery.engine.handler import (
    Rules,
    frame_of,
    guard,
    opening,
    stage_fields,
    visible_values,
    zone_fields,
)
from stabilize_celery.engine.instances import begin_instances, cancel_instances, collected, read_instances
from stabilize_celery.engine.moves import (
    Frame,
    Zone,
    after_tasks,
    count_moves,
    set_run,
)
from stabilize_celery.engine.plan import InstancesPlan
from stabilize_celery.engine.state import Entry, Run
from stabilize_celery.engine.steps import Decision, Handling, Hash, Read, SetFields, Snapshot
from stabilize_celery.models.expressions import ConditionError, evaluate_condition, names_in
from stabilize_celery.models.messages import JudgeInstances

__all__ = ["handle"]

Instances = Mapping[str, tuple[Run, Entry]]


def handle(message: JudgeInstances, _rules: Rules, _attempt: int) -> Handling:
    """Decide what the run's instances mean for it now."""
    run_key, totals = places.run(message.thread), Hash(places.instances(message.thread))
    counts = Hash(places.instance_counts(message.thread))
    queries = (Hash(run_key), totals, counts, stage_fields(message.ref_id), zone_fields(message.ref_id))
    snapshot = yield opening(message, *queries, watch=[run_key, totals.key])
    if (early := guard(message, snapshot)) is not None:
        return early
    frame = frame_of(message, snapshot, message.ref_id, message.thread)
    config = frame.plan.instances
    if frame.run.is_ended or frame.run.outcome or config is None or frame.run.phase != "instances":
        return Decision(note="the run has no instances at work")
    state = {name: int(count) for name, count in (snapshot[totals] | snapshot[counts]).items()}
    if "total" not in state:
        return _begin(frame, config)
    if state.get("failed", 0):
        return (yield from _fail(frame, state["total"]))
    return (yield from _judge(frame, config, state))


def _begin(frame: Frame, config: InstancesPlan) -> Decision:
    items = frame.run.planned["instances"]
    begun = min(len(items), config.max_concurrent) if config.max_concurrent else len(items)
    decision = Decision()
    if not items:
        decision.change(SetFields(places.instances(frame.thread), {"total": 0, "begun": 0, "closed": 1}))
        set_run(decision, frame.thread, phase="tasks")
        after_tasks(decision, frame, frame.run.planned)
        return decision
    begin_instances(decision, frame, items[:begun], 0, {})
    decision.change(SetFields(places.instances(frame.thread), {"total": len(items), "begun": begun, "closed": 0}))
    if not config.is_joined:
        message = JudgeInstances(workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=frame.thread)
        decision.keeps_entry = True
        decision.nudges.append(message)
    return decision


def _judge(frame: Frame, config: InstancesPlan, state: dict[str, int]) -> Handling:
    done, total, begun = state.get("done", 0), state["total"], state["begun"]
    if done >= total:
        return (yield from _end(frame, total))
    try:
        goes_on = not state["closed"] and (yield from _may_go_on(frame, config, done, total))
    except ConditionError as error:
        return (yield from _fail(frame, total, str(error), "TERMINAL"))
    if goes_on:
        return (yield from _go_on(frame, config, total))
    room = config.max_concurrent - (begun - done) if config.max_concurrent else 0
    if room > 0 and begun < total:
        decision = Decision()
        items = frame.run.planned["instances"]
        items = [*items, *[None] * (total - len(items))][begun : begun + room]
        begin_instances(decision, frame, items, begun, {})
        decision.change(SetFields(places.instances(frame.thread), {"begun": begun + len(items)}))
        return decision
    return Decision(note=f"{done} of {total} instances are done")


def _may_go_on(frame: Frame, config: InstancesPlan, done: int, total: int) -> Generator[Read, Snapshot, bool]:
    if not config.is_joined:
        return True
    if config.threshold and done >= config.threshold:
        return True
    if not config.condition or not done:
        return False
    counts = {"completed": done, "total": total, "active": total - done}
    values = yield from visible_values(frame, names_in(config.condition), counts)
    return evaluate_condition(config.condition, values)


def _end(frame: Frame, total: int) -> Handling:
    """End the run with its last instance; its thread may have gone on before."""
    instances = yield from read_instances(frame, total)
    outputs = collected(instances)
    frame.run = msgspec.structs.replace(frame.run, outputs={**frame.run.outputs, **outputs})
    status = _status(instances)
    decision = Decision()
    if frame.run.passed_on:
        set_run(decision, frame.thread, outputs=frame.run.outputs)
        count_moves(decision, frame.workflow_id, end_run(decision, frame, status))
        return decision
    set_run(decision, frame.thread, outputs=frame.run.outputs, phase="tasks", outcome=status)
    after_tasks(decision, frame, frame.run.planned)
    return decision


def _status(instances: Instances) -> str:
    failed = any(run.status == "FAILED_CONTINUE" for run, _ in instances.values())
    return "FAILED_CONTINUE" if failed else "SUCCEEDED"


def _go_on(frame: Frame, config: InstancesPlan, total: int) -> Handling:
    instances = yield from read_instances(frame, total)
    ended = {thread: item for thread, item in instances.items() if item[0].is_ended}
    frame.run = msgspec.structs.replace(frame.run, outputs={**frame.run.outputs, **collected(ended)})
    if config.cancels_remaining:
        decision = yield from complete_run(frame, _status(ended))
        set_run(decision, frame.thread, outputs=frame.run.outputs)
        yield from cancel_instances(decision, frame, instances, "enough instances are done")
        return decision
    decision = Decision()
    set_run(decision, frame.thread, outputs=frame.run.outputs, passed_on=True)
    decision.change(SetFields(places.instances(frame.thread), {"closed": 1}))
    moves = yield from pass_on(decision, frame)
    Zone.of(frame.plan).count(decision, frame.workflow_id, -1)
    count_moves(decision, frame.workflow_id, moves)
    return decision


def _fail(frame: Frame, total: int, reason: str = "", status: str = "") -> Handling:
    """End the run with the failure of an instance: the others are cancelled (wcp 1.11)."""
    instances = yield from read_instances(frame, total)
    failed = next((run for run, _ in instances.values() if run.status in ("TERMINAL", "STOPPED", "CANCELED")), Run())
    told = reason or f"instance {failed.instance}: {failed.reason or failed.status}"
    decision = yield from complete_run(frame, status or failed.status or failure_status(frame.context), told)
    yield from cancel_instances(decision, frame, instances, told)
    return decision
