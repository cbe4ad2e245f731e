"""What handlers have in common: how runs are enabled, started and ended, and how threads move on (PROTOCOL 7).

Every function adds to a `Decision`; none reads. `act` counts the threads that move: a decision changes it once, by the
sum of what it enabled and ended, and owes Settle where it may have become zero.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import Encoded
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.past import Past
from stabilize_celery.engine.plan import StagePlan, TaskPlan
from stabilize_celery.engine.rooms import enter, room_of_section
from stabilize_celery.engine.state import RUN, Room, Run, TaskState, WorkflowRecord
from stabilize_celery.engine.steps import (
    Add,
    Append,
    Decision,
    Event,
    Increment,
    Owed,
    SetFields,
    Value,
)
from stabilize_celery.models.messages import (
    CheckMilestone,
    CompleteStage,
    ContinueStage,
    EvaluateJoin,
    JudgeInstances,
    RunTask,
    SettleWorkflow,
    StartStage,
    StartSubWorkflow,
    TimeOut,
)

__all__ = [
    "GOES_ON",
    "STAGE_TIMEOUT",
    "SYNTHETIC_PHASES",
    "Frame",
    "Zone",
    "after_stages",
    "after_tasks",
    "before_stages",
    "begin_tasks",
    "bring_to_life",
    "call_sub_workflow",
    "count_moves",
    "enable",
    "owe_completion",
    "owe_continuation",
    "owe_settle",
    "owe_task",
    "set_run",
    "stamp_of",
    "start_run",
    "task_list",
    "tell_status",
    "written_plan",
]


GOES_ON = frozenset({"SUCCEEDED", "FAILED_CONTINUE", "SKIPPED"})
"""Final statuses of a run whose thread goes on (a run skipped before any thread came does not exist)."""


STAGE_TIMEOUT = "stageTimeoutMs"
"""Name in a stage's context: how long a run of it may take (ms). What a run's tasks write there stays."""

SYNTHETIC_PHASES = frozenset({"before", "after", "failure"})
"""Phases of a run in which stages of its own may be live: they go with it."""


class Frame(msgspec.Struct):
    """One run in the light of one snapshot."""

    workflow_id: str
    now_us: int
    workflow: WorkflowRecord
    plan: StagePlan
    thread: str
    run: Run
    context: dict[str, Any] = {}
    """The stage's own context: as defined, overlaid with what the run's tasks added."""
    zone: dict[str, int] = {}
    """Open edges (`in`) and live threads (`live`) of the component that bears the stage's name."""

    @property
    def now_ms(self) -> int:
        """Time of the snapshot, ms."""
        return self.now_us // 1000

    @property
    def is_guarded(self) -> bool:
        """Whether a lock covers what the run executes: then code that can't be stopped keeps it until it returns."""
        return self.run.lock == "held" or bool(self.run.rooms) or self.workflow.lock_state == "held"


class Zone(msgspec.Struct, frozen=True):
    """Where a thread counts: its component (none where nobody wants to know), its stage, its mutex section."""

    component: str
    ref: str
    section: str = ""

    @classmethod
    def of(cls, plan: StagePlan) -> "Zone":
        """Return the zone of a stage."""
        return cls(plan.component, plan.ref, plan.mutex_section)

    def count(self, decision: Decision, runs: int) -> None:
        """Count runs that come to live here, or end."""
        if self.component:
            decision.change(Increment(places.component(self.component), "live", runs))
            decision.change(Increment(places.component(self.component), f"r:{self.ref}", runs))

    @property
    def rooms(self) -> list[Room]:
        """What a run that comes to live here enters: its mutex section."""
        return room_of_section(self.section, self.ref)


def stamp_of(frame: Frame) -> int:
    """Return when a run that ends now writes its outputs (us): of decisions in one commit, each in its turn."""
    return max(frame.now_us, frame.run.past.latest + 1)


def set_run(decision: Decision, thread: str, **values: Any) -> None:
    """Write fields of a run; what is written of it in a row is one change."""
    key, fields = places.run(thread), RUN.encode(**values)
    last = decision.changes[-1] if decision.changes else None
    if type(last) is SetFields and last.key == key and type(last.fields) is Encoded:
        last.fields.add(fields)
    else:
        decision.changes.append(SetFields(key, fields))


def enable(
    decision: Decision,
    workflow_id: str,
    ref_id: str,
    thread: str,
    now_us: int,
    past: Past,
    *,
    zone: Zone | None = None,
    rooms: Iterable[Room] = (),
    **more: Any,
) -> None:
    """Make an enabled run of a stage, in its zone and in `rooms`. The caller counts it in `act`."""
    values = {"ref": ref_id, "status": "NOT_STARTED", "created_us": now_us, **more}
    if past != Past():
        values["past"] = past
    bring_to_life(decision, thread, [*rooms, *(zone.rooms if zone is not None else ())], **values)
    if zone is not None:
        zone.count(decision, 1)
    decision.owes.append(Owed(StartStage(workflow_id=workflow_id, ref_id=ref_id, thread=thread)))


def bring_to_life(decision: Decision, thread: str, rooms: Iterable[Room], **values: Any) -> None:
    """Write a new run, live, and inside its rooms."""
    once = list({room.thread: room for room in rooms}.values())
    set_run(decision, thread, **values, **({"rooms": once} if once else {}))
    decision.change(Add(places.LIVE, (thread,)))
    enter(decision, once)


def start_run(decision: Decision, frame: Frame, planned: dict[str, Any] | None = None, **more: Any) -> None:
    """Begin the work of an enabled run: before stages, else tasks, else after stages, else its end."""
    plan, thread = frame.plan, frame.thread
    planned = written_plan(decision, planned or {})
    tasks = task_list(plan, planned)
    decision.change(Append(places.started(plan.ref), thread))
    set_run(
        decision,
        thread,
        status="RUNNING",
        started_ms=frame.now_ms,
        tasks=[TaskState() for _ in tasks],
        paused_ms=frame.workflow.paused_ms,
        **({"planned": planned} if planned else {}),
        **more,
    )
    decision.events.append(Event("stage.started", plan.ref, {"thread": thread}))
    tell_status(decision, frame.workflow_id, plan)
    timeout_ms = frame.context.get(STAGE_TIMEOUT)
    if isinstance(timeout_ms, int) and timeout_ms > 0:
        timer = TimeOut(workflow_id=frame.workflow_id, scope="stage", ref_id=plan.ref, thread=thread)
        decision.owes.append(Owed(timer, frame.now_ms + timeout_ms))
    if "error" in planned:
        set_run(decision, thread, outcome="TERMINAL", reason=str(planned["error"]))
        owe_completion(decision, frame)
    elif before_stages(plan, planned):
        _continue_later(decision, frame, "before")
    else:
        begin_tasks(decision, frame, planned)


def tell_status(decision: Decision, workflow_id: str, plan: StagePlan) -> None:
    """Owe a look at who waits for a status of this stage, which has another one now, its whole or parts (WCP-18)."""
    if plan.is_milestone:
        decision.owes.append(Owed(CheckMilestone(workflow_id=workflow_id, ref_id=plan.ref)))
    for others in (plan.milestones_around, plan.milestones_inside):
        for ref in others:
            decision.owes.append(Owed(CheckMilestone(workflow_id=workflow_id, ref_id=ref)))


def written_plan(decision: Decision, planned: dict[str, Any]) -> dict[str, Any]:
    """Write the stages that a builder planned beside the definition's; return what the run remembers of the plan."""
    stages = planned.get("stages", {})
    if stages:
        fields: dict[str, Value] = {}
        for ref_id, (plan, context) in stages.items():
            fields |= {f"s:{ref_id}": plan, f"x:{ref_id}": context}
        decision.change(SetFields(places.DEFINITION, fields))
    return {name: value for name, value in planned.items() if name != "stages"}


def begin_tasks(decision: Decision, frame: Frame, planned: dict[str, Any]) -> None:
    """Owe the first task of a run, or what comes after its tasks."""
    tasks = task_list(frame.plan, planned)
    if frame.plan.sub_workflow is not None:
        call_sub_workflow(decision, frame, {"name": frame.plan.sub_workflow})
    elif "instances" in planned and tasks:
        set_run(decision, frame.thread, phase="instances")
        message = JudgeInstances(workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=frame.thread)
        decision.owes.append(Owed(message))
    elif tasks:
        set_run(decision, frame.thread, phase="tasks")
        owe_task(decision, frame, 0, tasks[0].type)
    else:
        after_tasks(decision, frame, planned)


def after_tasks(decision: Decision, frame: Frame, planned: dict[str, Any]) -> None:
    """Go on behind the last task: after stages if there are any, else the end of the run."""
    if frame.run.instance is None and after_stages(frame.plan, planned):
        _continue_later(decision, frame, "after")
    else:
        owe_completion(decision, frame)


def owe_task(decision: Decision, frame: Frame, index: int, task_type: str, **fields: Any) -> None:
    """Owe the RunTask of task number `index`."""
    message = RunTask(
        workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=frame.thread, task_index=index, task_type=task_type
    )
    decision.owes.append(Owed(message, fields=fields))


def owe_completion(decision: Decision, frame: Frame) -> None:
    """Owe the CompleteStage of a run."""
    message = CompleteStage(workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=frame.thread)
    decision.owes.append(Owed(message))


def call_sub_workflow(decision: Decision, frame: Frame, call: dict[str, Any]) -> None:
    """Owe the start of an inner workflow that the run will wait for."""
    from_call = thread_id(frame.workflow_id, frame.thread, frame.run.task_index, frame.run.child, "sub")
    child = f"{frame.workflow_id[:60]}.{from_call}"
    set_run(decision, frame.thread, child=child, child_call=call, sub=None)
    message = StartSubWorkflow(
        workflow_id=frame.workflow_id, ref_id=frame.plan.ref, thread=frame.thread, child_id=child
    )
    decision.owes.append(Owed(message))


def _continue_later(decision: Decision, frame: Frame, phase: str) -> None:
    set_run(decision, frame.thread, phase=phase)
    owe_continuation(decision, frame.workflow_id, frame.plan.ref, frame.thread)


def owe_continuation(decision: Decision, workflow_id: str, ref_id: str, thread: str) -> None:
    """Owe a look at the synthetic stages of a run."""
    decision.owes.append(Owed(ContinueStage(workflow_id=workflow_id, ref_id=ref_id, thread=thread)))


def task_list(plan: StagePlan, planned: dict[str, Any]) -> Sequence[TaskPlan]:
    """Return the tasks of a run: the stage's own, else those that its builder planned."""
    return plan.tasks or [TaskPlan(*task[:3]) for task in planned.get("tasks", [])]


def before_stages(plan: StagePlan, planned: dict[str, Any]) -> list[str]:
    """Return the refs of a stage's before stages, defined and planned."""
    return [*plan.before, *planned.get("before", {})]


def after_stages(plan: StagePlan, planned: dict[str, Any]) -> list[str]:
    """Return the refs of a stage's after stages, defined and planned."""
    return [*plan.after, *planned.get("after", {})]


def count_moves(decision: Decision, workflow_id: str, moves: int) -> None:
    """Change `act` by `moves`; whoever lowers it owes Settle. Call once per decision.

    Also the end of a before or after stage: its parent may have timed out, and then nobody else would.
    """
    if not moves:
        return
    position = decision.change(Increment(places.COUNTERS, "act", moves))
    if moves < 0:
        owe_settle(decision, workflow_id, position)


def owe_settle(decision: Decision, workflow_id: str, act_position: int | None = None) -> None:
    """Owe Settle; published at once if the change at `act_position` made `act` zero and no join can fire now."""
    joins = [owed for owed in decision.owes if isinstance(owed.message, EvaluateJoin)]

    def now(results: Sequence[int | None]) -> bool:
        return (act_position is None or results[act_position] == 0) and not any(o.publish(results) for o in joins)

    decision.owes.append(Owed(SettleWorkflow(workflow_id=workflow_id), publish=now))
