"""What handlers have in common: how runs are enabled, started and ended, and how threads move on (PROTOCOL 7).

Every function adds to a `Decision`; none reads. `act` counts the threads that move: a decision changes it once, by the
sum of what it enabled and ended, and owes Settle where it may have become zero.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.past import Past, extended
from stabilize_celery.engine.plan import Edge, StagePlan
from stabilize_celery.engine.state import ENTRY, RUN, WORKFLOW_RECORD, Entry, Run, TaskState, WorkflowRecord
from stabilize_celery.engine.steps import (
    Add,
    Append,
    Decision,
    DeleteFields,
    Event,
    Increment,
    Index,
    Owed,
    Remove,
    SetFields,
    Value,
)
from stabilize_celery.models.messages import (
    CancelSubWorkflow,
    CheckMilestone,
    ChooseStage,
    ClearWorkflow,
    CompleteStage,
    ContinueStage,
    EvaluateJoin,
    ExpireWorkflow,
    FinalizeStage,
    JudgeInstances,
    LeaveSection,
    NotifyParent,
    ReleaseLock,
    RunTask,
    SettleWorkflow,
    StartStage,
    StartSubWorkflow,
    TimeOut,
    run_name,
    timer_name,
)

__all__ = [
    "GOES_ON",
    "SYNTHETIC_PHASES",
    "Frame",
    "Zone",
    "arrive",
    "begin_tasks",
    "close_if_last",
    "close_ways_out",
    "count_moves",
    "enable",
    "end_run",
    "finish_workflow",
    "lock_name",
    "offer_members",
    "owe_settle",
    "past_of",
    "set_run",
    "start_run",
    "written_plan",
]

GOES_ON = frozenset({"SUCCEEDED", "FAILED_CONTINUE", "SKIPPED"})
"""Final statuses of a run whose thread goes on (a run skipped before any thread came does not exist)."""
SYNTHETIC_PHASES = frozenset({"before", "after", "failure"})
"""Phases of a run in which stages of its own may be live: they go with it."""


@dataclass(slots=True)
class Frame:
    """One run in the light of one snapshot."""

    workflow_id: str
    now_us: int
    workflow: WorkflowRecord
    plan: StagePlan
    thread: str
    run: Run
    context: dict[str, Any] = field(default_factory=dict)
    """The stage's own context: as defined, overlaid with what the run's tasks added."""
    zone: dict[str, int] = field(default_factory=dict)
    """Open edges (`in`) and live threads (`live`) of the component that bears the stage's name."""

    @property
    def now_ms(self) -> int:
        """Time of the snapshot, ms."""
        return self.now_us // 1000


@dataclass(frozen=True, slots=True)
class Zone:
    """Where a thread counts: its component (none where nobody wants to know), its stage, its mutex section."""

    component: str
    ref: str
    section: str = ""

    @classmethod
    def of(cls, plan: StagePlan) -> "Zone":
        """Return the zone of a stage."""
        return cls(plan.component, plan.ref, plan.mutex_section)

    def count(self, decision: Decision, workflow_id: str, runs: int) -> None:
        """Count runs that come to live here, or end."""
        if self.component:
            decision.change(Increment(places.component(self.component), "live", runs))
            decision.change(Increment(places.component(self.component), f"r:{self.ref}", runs))
        self.count_inside(decision, workflow_id, runs)

    def count_inside(self, decision: Decision, workflow_id: str, threads: int) -> None:
        """Count threads in the mutex section; the last one that leaves owes its end."""
        if not self.section or not threads:
            return
        inside = decision.change(Increment(places.section(self.section), "inside", threads))
        if threads < 0:
            message = LeaveSection(workflow_id=workflow_id, ref_id=self.ref, section=self.section)
            decision.owes.append(Owed(message, publish=lambda results: results[inside] == 0))


def set_run(decision: Decision, thread: str, **values: Any) -> None:
    """Write fields of a run."""
    decision.change(SetFields(places.run(thread), RUN.encode(**values)))


def enable(
    decision: Decision,
    workflow_id: str,
    ref_id: str,
    thread: str,
    now_us: int,
    past: Past,
    *,
    zone: Zone | None = None,
    **more: Any,
) -> None:
    """Make an enabled run of a stage. The caller counts it in `act`."""
    values = {"ref": ref_id, "status": "NOT_STARTED", "created_us": now_us, **more}
    if past:
        values["past"] = past
    set_run(decision, thread, **values)
    decision.change(Add(places.LIVE, (thread,)))
    if zone is not None:
        zone.count(decision, workflow_id, 1)
    decision.owes.append(Owed(StartStage(workflow_id=workflow_id, ref_id=ref_id, thread=thread)))


def start_run(decision: Decision, frame: Frame, planned: dict[str, Any] | None = None, **more: Any) -> None:
    """Begin the work of an enabled run: before stages, else tasks, else after stages, else its end."""
    plan, thread = frame.plan, frame.thread
    planned = written_plan(decision, planned or {})
    tasks = task_list(plan, planned)
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
    decision.change(Append(places.started(plan.ref), thread))
    decision.events.append(Event("stage.started", plan.ref, {"thread": thread}))
    if plan.is_milestone:
        decision.owes.append(Owed(CheckMilestone(workflow_id=frame.workflow_id, ref_id=plan.ref)))
    timeout_ms = frame.context.get("stageTimeoutMs")
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
        owe_task(decision, frame, 0, tasks[0][2])
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


def task_list(plan: StagePlan, planned: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the tasks of a run as (id, name, type): the stage's own, else those that its builder planned."""
    if plan.tasks:
        return [(task.id, task.name, task.type) for task in plan.tasks]
    return [(task[0], task[1], task[2]) for task in planned.get("tasks", [])]


def before_stages(plan: StagePlan, planned: dict[str, Any]) -> list[str]:
    """Return the refs of a stage's before stages, defined and planned."""
    return [*plan.before, *planned.get("before", {})]


def after_stages(plan: StagePlan, planned: dict[str, Any]) -> list[str]:
    """Return the refs of a stage's after stages, defined and planned."""
    return [*plan.after, *planned.get("after", {})]


def end_run(decision: Decision, frame: Frame, status: str, reason: str = "", entry: Entry | None = None) -> int:
    """Give a run its final status and take away all that it owes or holds. Returns its share of `act`: -1.

    An instance has none: it is part of its run.

    `entry`: the ledger entry of its current task, where the caller has read and WATCHed it: code that still runs in
    it keeps the lock until it returns (PROTOCOL 4.3).
    """
    run, plan, thread = frame.run, frame.plan, frame.thread
    is_busy = entry is not None and bool(entry.own) and run.lock == "held"
    values: dict[str, Any] = {"status": status, "ended_ms": frame.now_ms, "waits": ""}
    if reason:
        values["reason"] = reason
    if is_busy:
        values["code_runs"] = True
        task = run_name(thread, None, run.task_index)
        decision.change(SetFields(places.ledger(task), ENTRY.encode(cx=True)))
    decision.change(Remove(places.LIVE, (thread,)))
    if run.instance is None and not run.passed_on:
        Zone.of(plan).count(decision, frame.workflow_id, -1)
    if not run.has_started:
        decision.change(Append(places.bypassed(plan.ref), thread))
    if run.held_for:
        decision.change(DeleteFields(places.milestone_waiters(run.held_for), (thread,)))
    _forget_messages(decision, frame, keep_task=is_busy or run.code_runs)
    values |= _give_back(decision, frame, keep_lock=is_busy or run.code_runs)
    if run.child and run.sub is None:
        kill = CancelSubWorkflow(workflow_id=frame.workflow_id, thread=thread, child_id=run.child)
        decision.owes.append(Owed(kill))
    if run.phase in SYNTHETIC_PHASES:
        owe_continuation(decision, frame.workflow_id, plan.ref, thread)
    if run.instance is None and _wants_to_finalize(frame, status):
        final = FinalizeStage(workflow_id=frame.workflow_id, ref_id=plan.ref, thread=thread)
        decision.owes.append(Owed(final))
    set_run(decision, thread, **values)
    told: dict[str, Any] = (
        {"thread": thread} if run.instance is None else {"thread": run.parent, "instance": run.instance}
    )
    kind = "stage" if run.instance is None else "instance"
    decision.events.append(Event(f"{kind}.{_ENDINGS[status]}", plan.ref, told | ({"reason": reason} if reason else {})))
    if plan.is_milestone:
        decision.owes.append(Owed(CheckMilestone(workflow_id=frame.workflow_id, ref_id=plan.ref)))
    return 0 if run.instance is not None or run.offer or run.held_for else -1


def _wants_to_finalize(frame: Frame, status: str) -> bool:
    plan = frame.plan
    cleans_up = plan.cleanup_on_failure and status not in GOES_ON
    return frame.run.has_started and (bool(plan.finalizers) or cleans_up)


_ENDINGS = {
    "SUCCEEDED": "completed",
    "FAILED_CONTINUE": "failed_continue",
    "SKIPPED": "skipped",
    "STOPPED": "stopped",
    "TERMINAL": "failed",
    "CANCELED": "canceled",
}


def _forget_messages(decision: Decision, frame: Frame, *, keep_task: bool) -> None:
    thread, run = frame.thread, frame.run
    decision.forgets += [f"Start:{thread}", f"Done:{thread}", f"Continue:{thread}", f"Child:{thread}"]
    decision.forgets += [timer_name("stage", thread), f"Choose:{thread}"]
    if run.has_started and run.tasks:
        decision.forgets += [timer_name(scope, thread, None, run.task_index) for scope in ("task", "wait")]
        if not keep_task:
            decision.forgets.append(run_name(thread, None, run.task_index))


def _give_back(decision: Decision, frame: Frame, *, keep_lock: bool) -> dict[str, Any]:
    run = frame.run
    if run.lock not in ("requested", "held") or (run.lock == "held" and keep_lock):
        return {}
    release_lock(decision, frame)
    return {"lock": "done"}


def release_lock(decision: Decision, frame: Frame) -> None:
    """Owe the give-back of a run's mutex, and no longer its request."""
    run, plan = frame.run, frame.plan
    decision.forgets.append(f"Lock:{frame.thread}#{run.request}")
    message = ReleaseLock(
        workflow_id=frame.workflow_id,
        ref_id=plan.ref,
        thread=frame.thread,
        request=run.request,
        lock=lock_name(plan, frame.workflow_id),
    )
    decision.owes.append(Owed(message))


def lock_name(plan: StagePlan, workflow_id: str) -> str:
    """Return the full name of a stage's mutex: scope, then what the scope names, then the key."""
    if plan.mutex_scope == "WORKFLOW":
        return f"WORKFLOW:{workflow_id}:{plan.mutex_key}"
    if plan.mutex_scope == "APPLICATION":
        return f"APPLICATION:{plan.application}:{plan.mutex_key}"
    return f"GLOBAL:{plan.mutex_key}"


def past_of(frame: Frame, outputs: dict[str, Any]) -> Past:
    """Return what those after this run see."""
    return extended(frame.run.past, outputs, frame.thread, frame.now_us) if outputs else frame.run.past


def arrive(decision: Decision, frame: Frame, edges: Sequence[Edge], past: Past) -> int:
    """Put the thread on the taken edges: enable direct targets, arrive at joins. Returns the change of `act`."""
    moves = _offer_groups(decision, frame, edges, past)
    meets_join = False
    for edge in edges:
        if edge.group:
            continue
        for number in range(frame.plan.thread_split):
            if edge.is_direct:
                token = thread_id(frame.thread, edge.target, number)
                zone = Zone(edge.component, edge.target, edge.section)
                enable(decision, frame.workflow_id, edge.target, token, frame.now_us, past, zone=zone)
                moves += 1
            else:
                meets_join = True
                _arrive_at_join(decision, frame, edge)
    if meets_join:
        set_run(decision, frame.thread, past_out=past)
    return moves


def _offer_groups(decision: Decision, frame: Frame, edges: Sequence[Edge], past: Past) -> int:
    """Offer the members of each deferred choice group together, once per thread. Returns the change of `act`."""
    groups: dict[str, list[Edge]] = {}
    for edge in edges:
        if edge.group:
            groups.setdefault(edge.group, []).append(edge)
    moves = 0
    for group, members in groups.items():
        for number in range(frame.plan.thread_split):
            cause = thread_id(frame.thread, group, number)
            moves += offer_members(decision, frame.workflow_id, group, cause, members, frame.now_us, past)
    return moves


def offer_members(
    decision: Decision, workflow_id: str, group: str, cause: str, members: Sequence[Edge], now_us: int, past: Past
) -> int:
    """Offer the members of a deferred choice together (WCP-16). Returns the change of `act`: +1."""
    name = thread_id(cause, "offer", group)
    threads = {member.target: thread_id(name, member.target) for member in members}
    for member in members:
        thread = threads[member.target]
        values: dict[str, Any] = {"ref": member.target, "status": "BUFFERED", "created_us": now_us, "offer": name}
        set_run(decision, thread, **values, **({"past": past} if past else {}))
        decision.change(Add(places.LIVE, (thread,)))
        Zone(member.component, member.target, member.section).count(decision, workflow_id, 1)
        decision.events.append(Event("stage.offered", member.target, {"thread": thread, "group": group}))
        if member.choose_after_ms:
            timer = ChooseStage(workflow_id=workflow_id, ref_id=member.target, thread=thread)
            decision.owes.append(Owed(timer, now_us // 1000 + member.choose_after_ms))
    decision.change(SetFields(places.offers(group), {name: pack({"at": now_us, "members": threads})}))
    return 1


def _arrive_at_join(decision: Decision, frame: Frame, edge: Edge) -> None:
    decision.change(Append(places.arrivals(edge.target), f"{edge.position}:{frame.thread}"))
    waiting = decision.change(Increment(places.waiting(edge.target), "n", 1))
    Zone("", edge.target, edge.section).count_inside(decision, frame.workflow_id, 1)
    is_open = -1
    if edge.component:
        decision.change(Increment(places.component(edge.component), "live", 1))
        is_open = decision.change(Increment(places.component(edge.component), "in", 0))

    def may_fire(results: Sequence[int | None]) -> bool:
        need = edge.need or (results[is_open] or 0)
        return (results[waiting] or 0) >= need or not edge.is_alone

    message = EvaluateJoin(workflow_id=frame.workflow_id, ref_id=edge.component or edge.target)
    decision.owes.append(Owed(message, publish=may_fire))


def close_ways_out(decision: Decision, workflow_id: str, plan: StagePlan, got_threads: Collection[str] = ()) -> None:
    """Tell once that nothing more comes out of a stage (PROTOCOL 7.2 close); `got_threads`: targets served just now."""
    decision.change(SetFields(places.shut(plan.component), {plan.ref: 1}))
    if plan.is_milestone:
        decision.owes.append(Owed(CheckMilestone(workflow_id=workflow_id, ref_id=plan.ref)))
    for edge in (*plan.edges, *plan.jumps):
        if not edge.component or edge.component == plan.component:
            continue
        name = str(edge.position) if edge.position >= 0 else f"j:{plan.ref}"
        decision.change(SetFields(places.closed(edge.target), {name: 1}))
        decision.change(Increment(places.component(edge.component), "in", -1))
        if edge.target in got_threads and edge.is_direct and edge.is_alone:
            continue  # its own end finds all closed
        if edge.target in got_threads and edge.is_alone:
            continue  # its arrival owes the look already
        decision.owes.append(Owed(EvaluateJoin(workflow_id=workflow_id, ref_id=edge.component)))


def count_moves(decision: Decision, workflow_id: str, moves: int, *, is_synthetic: bool = False) -> None:
    """Change `act` by `moves`; where nothing may move any more, owe Settle. Call once per decision.

    The end of a before or after stage owes none: its parent lives on.
    """
    if not moves:
        return
    position = decision.change(Increment(places.COUNTERS, "act", moves))
    if moves < 0 and not is_synthetic:
        owe_settle(decision, workflow_id, position)


def owe_settle(decision: Decision, workflow_id: str, act_position: int | None = None) -> None:
    """Owe Settle; published at once if the change at `act_position` made `act` zero and no join can fire now."""
    joins = [owed for owed in decision.owes if isinstance(owed.message, EvaluateJoin)]

    def now(results: Sequence[int | None]) -> bool:
        return (act_position is None or results[act_position] == 0) and not any(o.publish(results) for o in joins)

    decision.owes.append(Owed(SettleWorkflow(workflow_id=workflow_id), publish=now))


def finish_workflow(
    decision: Decision,
    workflow_id: str,
    record: WorkflowRecord,
    status: str,
    now_ms: int,
    *,
    reason: str = "",
    is_empty: bool = False,
    **more: Any,
) -> None:
    """End a workflow. Unless `is_empty`, what still lives in it is cleared by an owed message."""
    values = {"status": status, "ended_ms": now_ms, "reason": reason, **more}
    if record.lock_state in ("requested", "held"):
        values["lock_state"] = "done"
        lock = ReleaseLock(workflow_id=workflow_id, ref_id="", thread="", request=0, lock=record.lock)
        decision.forgets.append("Lock:#0")
        decision.owes.append(Owed(lock))
    decision.change(SetFields(places.WORKFLOW, WORKFLOW_RECORD.encode(**values)))
    decision.change(Index(record.application, record.name, record.started_ms, status, now_ms))
    decision.forgets += ["TO:workflow", "Unpark", "Begin"]
    if is_empty:
        owe_expiry(decision, workflow_id, now_ms + record.retention_ms)
    else:
        decision.owes.append(Owed(ClearWorkflow(workflow_id=workflow_id)))
    if record.parent_id:
        decision.owes.append(Owed(NotifyParent(workflow_id=workflow_id)))
    decision.events.append(Event(f"workflow.{status.lower()}", "", {"reason": reason} if reason else {}))


def owe_expiry(decision: Decision, workflow_id: str, at_ms: int) -> None:
    """Owe the deletion of an ended workflow at the end of its retention."""
    decision.owes.append(Owed(ExpireWorkflow(workflow_id=workflow_id), at_ms))


def close_if_last(decision: Decision, frame: Frame, got_threads: Collection[str]) -> None:
    """Say that nothing more comes out of this stage, if this was its last thread ever; else owe a look."""
    plan = frame.plan
    if not plan.component:
        return
    is_last = not plan.members and frame.zone.get("in", 0) == 0 and frame.zone.get("live", 0) == 1
    if is_last:
        close_ways_out(decision, frame.workflow_id, plan, got_threads)
    else:
        look = EvaluateJoin(workflow_id=frame.workflow_id, ref_id=plan.component)
        is_urgent = bool(plan.members) or not got_threads
        decision.owes.append(Owed(look, publish=lambda _: is_urgent))
