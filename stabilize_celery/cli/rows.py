"""A workflow as rows: one per stage; many stages alike, and the instances of a stage, folded into one with a bar."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from stabilize_celery.cli.instances import Instance, Instances
from stabilize_celery.client.why import Reason
from stabilize_celery.client.words import duration, plural
from stabilize_celery.engine.moves import (
    task_list,
)
from stabilize_celery.engine.state import Run, WorkflowRecord
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import StageView, WorkflowView

__all__ = ["FOLD_ABOVE", "INSTANCES_SHOWN", "Row", "Span", "rows_of"]

FOLD_ABOVE = 30
"""So many stages alike are still shown one by one (count)."""
INSTANCES_SHOWN = 10
"""So many instances of a stage are shown by name: those that failed, are at work or wait for something (count)."""


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when something was at work (epoch ms); 0 as its begin: not yet, as its end: it still is."""

    begin_ms: int = 0
    end_ms: int = 0

    def told(self, now_ms: int) -> str:
        """Return how long that is."""
        return duration((self.end_ms or now_ms) - self.begin_ms) if self.begin_ms else ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the tree. `done` of `total` where it stands for several stages or instances.

    `status` is empty for a line that only says how many more there are. `is_folded`: it stands for stages.
    """

    name: str
    status: str
    depth: int = 0
    span: Span = Span()
    note: str = ""
    done: int = 0
    total: int = 0
    is_folded: bool = False


@dataclass(frozen=True, slots=True)
class _Told:
    """What is known of stages beyond their state, by ref_id."""

    why: Mapping[str, Reason]
    instances: Mapping[str, Instances]


def rows_of(
    view: WorkflowView,
    reasons: Sequence[Reason] = (),
    instances: Mapping[str, Instances] | None = None,
    *,
    folds: bool = True,
) -> list[Row]:
    """Return the rows of a workflow, in the order of its definition; reasons become the notes of unfinished stages.

    `instances`: by stage, as `read_instances` found them. `folds`: many stages alike are one row.
    """
    told = _Told({reason.ref_id: reason for reason in reasons}, instances or {})
    children: dict[str, list[str]] = {}
    for ref_id, stage in view.stages.items():
        if stage.plan.parent is not None:
            children.setdefault(stage.plan.parent, []).append(ref_id)
    folded_groups = _groups_alike(view) if folds else {}
    rows: list[Row] = []
    folded: set[int] = set()
    for ref_id, stage in view.stages.items():
        group = folded_groups.get(ref_id)
        if group is not None:
            if id(group) not in folded:
                folded.add(id(group))
                rows += _folded(view, group, told.why)
        elif stage.plan.parent is None:
            rows += _with_children(view, ref_id, told, children, 0)
    return rows


def _groups_alike(view: WorkflowView) -> dict[str, list[str]]:
    alike: dict[object, list[str]] = {}
    for ref_id, stage in view.stages.items():
        if stage.plan.parent is None:
            kinds = tuple(task.type for task in stage.plan.tasks)
            alike.setdefault((stage.plan.type, kinds, tuple(stage.plan.requisites)), []).append(ref_id)
    return {ref_id: group for group in alike.values() if len(group) > FOLD_ABOVE for ref_id in group}


def _with_children(
    view: WorkflowView, ref_id: str, told: _Told, children: Mapping[str, Sequence[str]], depth: int
) -> Iterator[Row]:
    row = _row(view, ref_id, view.stages[ref_id], told.why.get(ref_id), depth)
    instances = told.instances.get(ref_id)
    if instances is None:
        yield row
    else:
        yield _summed(row, instances, view.stages[ref_id])
        yield from _of_instances(instances, depth + 1)
    for child in children.get(ref_id, ()):
        yield from _with_children(view, child, told, children, depth + 1)


def _summed(row: Row, instances: Instances, stage: StageView) -> Row:
    """Return the row of a stage with its instances counted; what they wait for stands below it."""
    is_over = WorkflowStatus[row.status].is_complete
    note = instances.told(is_over=is_over)
    if is_over and stage.newest and stage.newest[1].reason:
        note = f"{note}; {stage.newest[1].reason}"
    return replace(row, note=note, done=instances.done, total=instances.total)


def _of_instances(instances: Instances, depth: int) -> Iterator[Row]:
    """Yield a row per instance that failed, is at work or waits for a signal, and how many more there are."""
    live = sorted(instances.live, key=lambda one: (not one.is_at_work, one.run.status != "SUSPENDED", one.index))
    number = instances.failed + len(live)
    if number <= INSTANCES_SHOWN:
        named = [*instances.failures, *live]
    else:
        busy = [one for one in live if one.is_at_work or one.run.status == "SUSPENDED"]
        failures = instances.failures[: max(INSTANCES_SHOWN - len(busy), INSTANCES_SHOWN // 2)]
        named = [*failures, *busy[: INSTANCES_SHOWN - len(failures)]]
    yield from (_of_instance(one, depth) for one in named)
    if number > len(named):
        yield Row(f"+{number - len(named):,} more", "", depth)


def _of_instance(one: Instance, depth: int) -> Row:
    run = one.run
    begin = min((task.started_ms for task in run.tasks if task.started_ms), default=0)
    span = Span(begin, run.ended_ms)
    if run.is_ended:
        return Row(one.name, run.status, depth, span, one.reason)
    if run.status == "SUSPENDED":
        note = f"waits for signal {run.waits!r}" if run.waits else "waits for any signal"
    else:
        retried = f"tried again after: {one.reason}" if one.reason else ""
        note = retried if one.is_at_work else "queued"
    return Row(one.name, run.status, depth, span, note)


def _folded(view: WorkflowView, group: Sequence[str], why: Mapping[str, Reason]) -> Iterator[Row]:
    statuses = {ref_id: view.stages[ref_id].status(view.record) for ref_id in group}
    done = sum(WorkflowStatus[status].is_complete for status in statuses.values())
    begun = [stage.newest[1] for ref_id in group if (stage := view.stages[ref_id]).newest]
    unfinished = [run for run in begun if not run.is_ended]
    running = sum(any(task.status == "RUNNING" for task in run.tasks) for run in unfinished)
    queued = len(unfinished) - running
    failed = [ref_id for ref_id, status in statuses.items() if WorkflowStatus[status].is_failure]
    stage = view.stages[group[0]]
    kind = stage.plan.tasks[0].type if stage.plan.tasks else stage.plan.type
    note = ", ".join(
        [f"{done:,} of {len(group):,} done"]
        + ([f"{running} at work"] if running else [])
        + ([f"{queued} wait"] if queued else [])
        + ([f"{len(failed)} failed"] if failed else [])
    )
    status = _together(statuses.values())
    yield Row(f"{len(group)} {kind}", status, 0, _span(view, group), note, done, len(group), is_folded=True)
    for ref_id in failed[:FOLD_ABOVE]:
        yield _row(view, ref_id, view.stages[ref_id], why.get(ref_id), 1)
    if len(failed) > FOLD_ABOVE:
        yield Row(f"… {plural(len(failed) - FOLD_ABOVE, 'more failure')}", "TERMINAL", 1)


def _together(statuses: Collection[str]) -> str:
    found = set(statuses)
    for status in ("TERMINAL", "RUNNING", "SUSPENDED", "BUFFERED"):
        if status in found:
            return status
    if len(found) == 1:
        return found.pop()
    return "RUNNING" if "NOT_STARTED" in found else "SUCCEEDED"


def _span(view: WorkflowView, group: Sequence[str]) -> Span:
    newest = [stage.newest[1] for ref_id in group if (stage := view.stages[ref_id]).newest]
    started = [run.started_ms for run in newest if run.started_ms]
    if not started:
        return Span()
    is_over = len(newest) == len(group) and all(run.is_ended for run in newest)
    return Span(min(started), max(run.ended_ms for run in newest) if is_over else 0)


def _row(view: WorkflowView, ref_id: str, stage: StageView, reason: Reason | None, depth: int) -> Row:
    run = stage.newest[1] if stage.newest else Run()
    status = stage.status(view.record)
    begin = run.started_ms or (run.created_us // 1000 if run.status == "BUFFERED" else 0)
    return Row(ref_id, status, depth, Span(begin, run.ended_ms), _note(view.record, stage, run, reason))


def _short(reason: Reason, run: Run) -> str:
    """Return a reason for a narrow column; that something waits for a free worker is nothing to read about."""
    return "queued" if reason.kind == "queued" else reason.text.removeprefix(f"{run.status}: ")


def _note(record: WorkflowRecord, stage: StageView, run: Run, reason: Reason | None) -> str:
    notes = []
    state = next((task for task in run.tasks if task.attempts - task.polls > 1), None)
    if state is not None and run.is_ended:
        notes.append(plural(state.attempts - state.polls, "attempt"))
    if len(stage.runs) > 1:
        notes.append(f"run {len(stage.runs)}")
    if reason is not None:
        notes.append(_short(reason, run))
    elif run.is_ended and run.reason:
        notes.append(run.reason)
    elif record.is_live and run.tasks and len(run.tasks) > 1 and not run.is_ended:
        notes.append(f"task {run.task_index + 1} of {len(task_list(stage.plan, run.planned))}")
    return _short_lines("; ".join(notes))


def _short_lines(text: str) -> str:
    """Return a text on one line: of many lines (a traceback) the first and the last."""
    first, *more = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    if len(more) > 1:
        return f"{first} … {more[-1]}"
    return " ".join([first, *more])
