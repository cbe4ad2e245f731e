"""JudgeInstances: begin the instances of a run, let its thread go on, end it (wcp 1.11; PROTOCOL 9 Inst).

Pure, level-triggered. The thread goes on once: when all are done, or enough, or the condition holds, or at once for
instances that nobody waits for. The run itself ends with its last instance.
"""

from collections.abc import Generator, Mapping

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.completion import complete_run, end_work, failure_status, pass_on
from stabilize_celery.engine.handler import (
    Rules,
    frame_of,
    guard,
    opening,
    stage_fields,
    zone_fields,
)
from stabilize_celery.engine.instances import (
    Crowd,
    begin_instances,
    begin_waiting,
    cancel_instances,
    failures_told,
    instance_thread,
    outputs_after,
    owe_judgement,
    read_instances,
    summed_tasks,
)
from stabilize_celery.engine.moves import (
    Frame,
    Zone,
    after_stages,
    after_tasks,
    count_moves,
    set_run,
)
from stabilize_celery.engine.partial_joins import first_done, number_that_is_enough
from stabilize_celery.engine.plan import InstancesPlan
from stabilize_celery.engine.state import Entry, Run
from stabilize_celery.engine.steps import Decision, Handling, Hash, Read, SetFields, Snapshot
from stabilize_celery.models.evaluation import EvaluationError
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
    crowd = Crowd.of(snapshot[totals], snapshot[counts])
    if not crowd.exists:
        return (yield from _begin(frame, config))
    return (yield from _judge(frame, config, crowd))


def _begin(frame: Frame, config: InstancesPlan) -> Handling:
    """Let the instances exist; past loose ones the thread goes on in the same commit, whatever becomes of them."""
    items = frame.run.planned["instances"]
    begun = min(len(items), config.max_concurrent) if config.max_concurrent else len(items)
    decision = Decision()
    if not items:
        decision.change(SetFields(places.instances(frame.thread), {"total": 0, "begun": 0, "closed": 1}))
        set_run(decision, frame.thread, phase="tasks")
        after_tasks(decision, frame, frame.run.planned)
        return decision
    begin_instances(decision, frame, range(begun))
    decision.change(SetFields(places.instances(frame.thread), {"total": len(items), "begun": begun, "closed": 0}))
    if config.is_joined:
        return decision
    try:
        yield from _pass_on(decision, frame)
    except EvaluationError as error:  # there is no way on: none of them begins, whatever would have become of it
        return (yield from complete_run(frame, "TERMINAL", str(error)))
    return decision


def _pass_on(decision: Decision, frame: Frame) -> Generator[Read, Snapshot, None]:
    """Let the thread of the run go on. Raises EvaluationError, before it has changed anything."""
    moves = yield from pass_on(decision, frame)
    set_run(decision, frame.thread, passed_on=True)
    decision.change(SetFields(places.instances(frame.thread), {"closed": 1}))
    Zone.of(frame.plan).count(decision, -1)
    count_moves(decision, frame.workflow_id, moves)


def _judge(frame: Frame, config: InstancesPlan, crowd: Crowd) -> Handling:
    try:
        return (yield from _judged(frame, config, crowd))
    except EvaluationError as error:
        return (yield from _fail(frame, crowd.total, str(error), "TERMINAL"))


def _judged(frame: Frame, config: InstancesPlan, crowd: Crowd) -> Handling:
    """Decide what the ends so far mean. Raises EvaluationError: an expression does not say how to go on."""
    enough = yield from number_that_is_enough(frame, crowd)
    if 0 < enough < crowd.total:
        return (yield from _go_on(frame, config, crowd, enough))
    if crowd.failed:
        return (yield from _fail(frame, crowd.total))
    if crowd.done >= crowd.total:
        return (yield from _end(frame, crowd.total))
    decision = Decision(note=f"{crowd.done} of {crowd.total} instances are done")
    if config.condition and crowd.done > crowd.judged:
        decision.change(SetFields(places.instances(frame.thread), {"judged": crowd.done}))
    begin_waiting(decision, frame, crowd)
    return decision


def _end(frame: Frame, total: int) -> Handling:
    """End the work of the run with its last instance; its thread may have gone on before."""
    instances = yield from read_instances(frame, range(total))
    status, reason = _take(frame, instances)
    if frame.run.passed_on and not after_stages(frame.plan, frame.run.planned):
        decision = yield from complete_run(frame, status, reason)
        set_run(decision, frame.thread, outputs=frame.run.outputs, tasks=frame.run.tasks)
        return decision
    decision = Decision()
    set_run(decision, frame.thread, outputs=frame.run.outputs, tasks=frame.run.tasks)
    set_run(decision, frame.thread, phase="tasks", outcome=status, reason=reason)
    after_tasks(decision, frame, frame.run.planned)
    return decision


def _take(frame: Frame, ended: Instances) -> tuple[str, str]:
    """Take over what the ended instances wrote and how they went; return the status that follows, and why."""
    runs, outputs = [run for run, _ in ended.values()], outputs_after(frame, ended)
    frame.run = msgspec.structs.replace(frame.run, outputs=outputs, tasks=summed_tasks(runs) or frame.run.tasks)
    reason = failures_told(runs) or frame.run.borne
    return "FAILED_CONTINUE" if reason else "SUCCEEDED", reason


def _go_on(frame: Frame, config: InstancesPlan, crowd: Crowd, enough: int) -> Handling:
    """Let the thread go on with the instances that were done first, as many as were enough."""
    indexes = yield from first_done(frame, enough)
    if config.cancels_remaining:
        instances = yield from read_instances(frame, range(crowd.total))
        first = {instance_thread(frame.thread, index) for index in indexes}
        status, reason = _take(frame, {thread: item for thread, item in instances.items() if thread in first})
        decision = yield from end_work(frame, status, reason)
        set_run(decision, frame.thread, outputs=frame.run.outputs, tasks=frame.run.tasks)
        yield from cancel_instances(decision, frame, instances, "enough instances are done")
        return decision
    _take(frame, (yield from read_instances(frame, indexes)))
    decision = Decision(note=f"{enough} of {crowd.total} instances were enough")
    set_run(decision, frame.thread, outputs=frame.run.outputs)
    yield from _pass_on(decision, frame)
    if crowd.failed or crowd.done >= crowd.total:
        owe_judgement(decision, frame, frame.thread)
    else:
        begin_waiting(decision, frame, crowd)
    return decision


def _fail(frame: Frame, total: int, reason: str = "", status: str = "") -> Handling:
    """End the run with the failure of an instance: the others are cancelled (wcp 1.11)."""
    instances = yield from read_instances(frame, range(total))
    failed = next((run for run, _ in instances.values() if run.status in ("TERMINAL", "STOPPED", "CANCELED")), Run())
    told = reason or f"instance {failed.instance}: {failed.reason or failed.status}"
    decision = yield from complete_run(frame, status or failed.status or failure_status(frame.context), told)
    if failed.tasks:
        set_run(decision, frame.thread, tasks=failed.tasks)
    yield from cancel_instances(decision, frame, instances, told)
    return decision
