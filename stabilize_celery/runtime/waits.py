"""What a live run waits for while no message of its own is owed; and if it waits for nothing, what it is owed.

Each state of a run has either a ledger entry that will move it on, or a named reason to wait. A run with neither
would stand still for ever (PROTOCOL 11): writes were lost, or there is a bug.
"""

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field, replace

from stabilize_celery.engine import places
from stabilize_celery.engine.handler import stage_fields
from stabilize_celery.engine.moves import SYNTHETIC_PHASES, set_run, task_list
from stabilize_celery.engine.plan import StagePlan, decode_plan
from stabilize_celery.engine.sections import section_thread
from stabilize_celery.engine.state import ENTRY, RUN, SIGNALS, WORKFLOW_RECORD, Run
from stabilize_celery.engine.steps import Decision, Hash, Owed, Query, Read, SetFields, Snapshot, workflow_slot
from stabilize_celery.models.messages import (
    AcquireLock,
    CompleteStage,
    CompleteSubWorkflow,
    ContinueStage,
    JudgeInstances,
    Message,
    RunTask,
    StartStage,
    StartSubWorkflow,
    run_name,
    timer_name,
)

__all__ = ["Idle", "Section", "live_names", "moving_names", "owe_what_it_lacks", "read_waits"]

_UNFINISHED = ("NOT_STARTED", "RUNNING", "SUSPENDED")


def moving_names(thread: str, run: Run) -> list[str]:
    """Return the ledger names that would move a live run on."""
    names = [f"{kind}:{thread}" for kind in ("Start", "Done")]
    if run.lock:
        names.append(f"Lock:{thread}#{run.request}")
    if run.phase in SYNTHETIC_PHASES:
        names.append(f"Continue:{thread}")
    if run.phase == "instances":
        names.append(f"Inst:{thread}")
    if run.child:
        names += [f"Child:{thread}", f"ChildDone:{thread}"]
    if run.has_started and run.tasks:
        names.append(run_name(thread, None, run.task_index))
    return names


def live_names(thread: str, run: Run) -> list[str]:
    """Return all ledger names that a live run may have: those that move it on, and its deadlines."""
    timers = [timer_name("stage", thread), *((f"Choose:{thread}",) if run.offer else ())]
    if run.has_started and run.tasks:
        timers += [timer_name(scope, thread, None, run.task_index) for scope in ("task", "wait")]
    return [*moving_names(thread, run), *timers]


@dataclass(frozen=True, slots=True)
class Section:
    """A mutex section that asks for its lock as a run of its own; `line`: threads that it will tell."""

    thread: str
    run: Run
    line: Collection[str]
    has_entry: bool

    @property
    def lock_name(self) -> str:
        """The ledger name of its request."""
        return f"Lock:{self.thread}#{self.run.request}"

    @property
    def is_asked(self) -> bool:
        """Whether its request is owed."""
        return self.run.lock == "requested" and self.has_entry


@dataclass(frozen=True, slots=True)
class Idle:
    """Live runs to which nothing is owed, and what there is to know about what they may wait for."""

    workflow_id: str
    runs: Mapping[str, Run]
    plans: Mapping[str, StagePlan] = field(default_factory=dict)
    waiters: Collection[str] = ()
    """Threads that wait for a signal."""
    held: Collection[str] = ()
    """Threads that wait for a milestone."""
    offers: Collection[str] = ()
    """Names of open offers."""
    sections: Mapping[str, "Section"] = field(default_factory=dict)
    """Thread that waits in a mutex section to what became of the section's request."""
    children: Mapping[str, str] = field(default_factory=dict)
    """Inner workflow to what became of it: absent, ended, or live (also: its end is being told)."""
    parents: Collection[str] = ()
    """Threads of runs that have a live run of their own."""

    def reason(self, thread: str) -> str:  # noqa: PLR0911 - one row per reason
        """Return what a run waits for; empty: nothing."""
        run = self.runs[thread]
        if run.offer:
            return "a choice" if run.offer in self.offers else ""
        if run.held_for:
            return "a milestone" if thread in self.held else ""
        if run.status == "SUSPENDED":
            return "a signal" if thread in self.waiters else ""
        if run.status == "BUFFERED" and not run.lock:
            section = self.sections.get(thread)
            return "its section" if section is not None and section.is_asked and thread in section.line else ""
        if run.phase == "failure" or run.is_at_after_stages:
            return "runs of its own" if thread in self.parents else ""
        if run.outcome or run.status != "RUNNING":
            return ""
        if run.child and run.sub is None:
            return "an inner workflow" if self.children.get(run.child, "live") == "live" else ""
        if run.phase == "instances" or run.phase in SYNTHETIC_PHASES:
            return "runs of its own" if thread in self.parents else ""
        return ""


def read_waits(
    workflow_id: str, runs: Mapping[str, Run], parents: Collection[str], *, most_children: int
) -> Generator[Read, Snapshot, Idle]:
    """Read what runs to which nothing is owed may wait for; WATCHed, but for what stands in other slots."""
    refs = {run.ref for run in runs.values()}
    boxes = {run.ref: Hash(places.signals(run.ref)) for run in runs.values() if run.status == "SUSPENDED"}
    held = {run.held_for: Hash(places.milestone_waiters(run.held_for)) for run in runs.values() if run.held_for}
    first: list[Query] = [*map(stage_fields, refs), *boxes.values(), *held.values()]
    watch = [query.key for query in (*boxes.values(), *held.values())]
    seen = yield Read(tuple(first), tuple(watch))
    plans = {ref: decode_plan(seen[stage_fields(ref)][f"s:{ref}"]) for ref in refs if seen[stage_fields(ref)]}
    groups = {plans[run.ref].choice_group for run in runs.values() if run.offer and run.ref in plans}
    offers = {str(group): Hash(places.offers(str(group))) for group in groups}
    opened = (yield Read(tuple(offers.values()), tuple(o.key for o in offers.values()))) if offers else None
    asked = [run for run in runs.values() if run.child and run.sub is None][:most_children]
    children = {}
    for run in asked:
        children[run.child] = yield from _child_state(run.child)
    return Idle(
        workflow_id,
        runs,
        plans,
        {waiter.thread for box in boxes.values() for waiter in SIGNALS.decode(seen[box]).waiters},
        {thread for query in held.values() for thread in seen[query]},
        {name for query in offers.values() for name in opened[query]} if opened else (),
        (yield from _read_sections(runs, plans)),
        children,
        parents,
    )


def _child_state(child_id: str) -> Generator[Read, Snapshot, str]:
    record, notify = Hash(places.WORKFLOW), Hash(places.ledger("Notify"))
    there = yield Read((record, notify), (), workflow_slot(child_id))
    child = WORKFLOW_RECORD.decode(there[record])
    if not child.status:
        return "absent"
    return "live" if child.is_live or there[notify] else "ended"


def _read_sections(
    runs: Mapping[str, Run], plans: Mapping[str, StagePlan]
) -> Generator[Read, Snapshot, dict[str, Section]]:
    names = {
        thread: plans[run.ref].mutex_section
        for thread, run in runs.items()
        if run.status == "BUFFERED" and not (run.lock or run.offer or run.held_for) and run.ref in plans
    }
    if not names:
        return {}
    records = {name: Hash(places.run(section_thread(name))) for name in set(names.values())}
    lines = {name: Hash(places.section_waiters(name)) for name in records}
    first = (*records.values(), *lines.values())
    seen = yield Read(first, tuple(query.key for query in first))
    sections = {
        name: Section(section_thread(name), RUN.decode(seen[records[name]]), set(seen[lines[name]]), has_entry=False)
        for name in records
    }
    owed = {name: Hash(places.ledger(section.lock_name)) for name, section in sections.items()}
    entries = yield Read(tuple(owed.values()), tuple(query.key for query in owed.values()))
    sections = {name: replace(one, has_entry=bool(entries[owed[name]])) for name, one in sections.items()}
    return {thread: sections[name] for thread, name in names.items()}


def owe_what_it_lacks(decision: Decision, idle: Idle, thread: str) -> str:
    """Owe what moves a run on that nothing is owed to; return what that is, or empty if there is no way to tell."""
    run, plan = idle.runs[thread], idle.plans.get(idle.runs[thread].ref)
    if plan is None or run.offer:
        return ""
    if run.held_for:
        decision.change(SetFields(places.milestone_waiters(run.held_for), {thread: run.ref}))
        return "let it wait for its milestone again"
    if run.status == "SUSPENDED":
        set_run(decision, thread, status="RUNNING", waits="")
        run_again = _task(idle, plan, thread)
        return _owe(decision, run_again, **_attempts(run)) if run_again else ""
    if run.status == "BUFFERED" and not run.lock:
        return _owe_to_section(decision, idle, thread)
    message = _message(idle, plan, thread)
    return _owe(decision, message, **(_attempts(run) if isinstance(message, RunTask) else {})) if message else ""


def _owe_to_section(decision: Decision, idle: Idle, thread: str) -> str:
    run, section = idle.runs[thread], idle.sections.get(thread)
    ids = {"workflow_id": idle.workflow_id, "ref_id": run.ref}
    if section is not None and section.run.lock == "requested" and not section.has_entry:
        return _owe(decision, AcquireLock(**ids, thread=section.thread, request=section.run.request))
    set_run(decision, thread, status="NOT_STARTED")
    return _owe(decision, StartStage(**ids, thread=thread))


def _message(idle: Idle, plan: StagePlan, thread: str) -> Message | None:
    run = idle.runs[thread]
    ids = {"workflow_id": idle.workflow_id, "ref_id": run.ref, "thread": thread}
    if run.status == "NOT_STARTED":
        return StartStage(**ids)
    if run.status == "BUFFERED":
        return AcquireLock(**ids, request=run.request) if run.lock == "requested" else None
    has_result = bool(run.outcome or run.jump)
    rows = (
        (run.phase == "failure" or run.is_at_after_stages, ContinueStage(**ids)),
        (has_result, CompleteStage(**ids)),
        (bool(run.child) and run.sub is None, _call(idle, run, ids)),
        (run.phase == "instances", JudgeInstances(**ids)),
        (run.phase in SYNTHETIC_PHASES, ContinueStage(**ids)),
    )
    return next((message for fits, message in rows if fits), _task(idle, plan, thread) or CompleteStage(**ids))


def _call(idle: Idle, run: Run, ids: dict[str, str]) -> Message:
    is_absent = idle.children.get(run.child) == "absent"
    return (StartSubWorkflow if is_absent else CompleteSubWorkflow)(**ids, child_id=run.child)


def _task(idle: Idle, plan: StagePlan, thread: str) -> RunTask | None:
    run = idle.runs[thread]
    tasks = task_list(plan, run.planned)
    at_work = run.tasks[run.task_index].status if run.task_index < len(run.tasks) else ""
    if run.phase != "tasks" or run.task_index >= len(tasks) or at_work not in _UNFINISHED:
        return None
    return RunTask(
        workflow_id=idle.workflow_id,
        ref_id=run.ref,
        thread=thread,
        task_index=run.task_index,
        task_type=tasks[run.task_index].type,
    )


def _attempts(run: Run) -> dict[str, int]:
    """Return an attempt number above all that were ever given: a result of before the loss must not count."""
    return {"att": run.att + 2 * run.tasks[run.task_index].attempts + 2}


def _owe(decision: Decision, message: Message, **fields: int) -> str:
    decision.owes.append(Owed(message, fields=ENTRY.encode(**fields)))
    return f"owe it {message.name} again"
