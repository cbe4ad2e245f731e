"""Reasons, states and tables as they are printed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from stabilize_celery.cli.folding import folded_events
from stabilize_celery.cli.instances import Instances
from stabilize_celery.cli.plain import padded, plain
from stabilize_celery.cli.session import Session
from stabilize_celery.cli.tree import COLOURS, Tree
from stabilize_celery.client.events import WorkflowEvent
from stabilize_celery.client.why import Reason
from stabilize_celery.client.words import in_line, plural
from stabilize_celery.models.redaction import Redaction
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.reading import WorkflowView
from stabilize_celery.settings import Settings

__all__ = [
    "ShowSecrets",
    "print_events",
    "print_reasons",
    "print_status",
    "print_table",
    "reason_object",
    "without_secrets",
    "workflow_object",
]

ShowSecrets = Annotated[bool, typer.Option("--show-secrets", help="Also show values under keys that mark secrets.")]

_FOLD_REASONS_ABOVE = 20
_FEW = 3
_WHOLE = ("ID", "STATUS", "PRIORITY", "STARTED", "TOOK")
_NARROWEST = 3
_SPARE = ("APPLICATION", "STARTED", "PRIORITY", "TOOK")
"""What a terminal goes without, in this order, before it cuts off what one copies."""
_TOLD_BELOW = ("failed", "canceled", "dead_letter", "failing", "paused", "deadlock")


def without_secrets(value: Any, settings: Settings, show_secrets: bool = False) -> Any:
    """Return JSON-like data as it is printed: with `***` for secrets, unless they are asked for."""
    return value if show_secrets else Redaction(settings.redact_keys).shown(value)


def print_table(session: Session, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings; in a pipe nothing is cut off."""
    lines = [[plain(in_line(cell)) for cell in row] for row in (columns, *rows)]
    if not session.is_live:
        widths = _needed(lines)
        for line in lines:
            typer.echo("  ".join(map(padded, line, widths)).rstrip())
        return
    lines = _fitting(lines, session.out.width)
    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for column, width in zip(lines[0], _widths(lines, session.out.width), strict=True):
        table.add_column(column, no_wrap=True, overflow="ellipsis", width=width)
    for line in lines[1:]:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in line))
    session.out.print(table)


def _fitting(lines: list[list[str]], room: int) -> list[list[str]]:
    """Return the lines without the columns that there is no room for; long ids are those of workflows with a key."""
    for spare in _SPARE:
        widths = _widths(lines, room)
        if sum(widths) + 2 * (len(widths) - 1) <= room:
            break
        if spare in lines[0]:
            at = lines[0].index(spare)
            lines = [[*line[:at], *line[at + 1 :]] for line in lines]
    return lines


def _widths(lines: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return the columns' widths: where they are too wide together, names and errors give way.

    What one copies and what tells the state is never cut off.
    """
    widths = _needed(lines)
    flexible = [at for at, name in enumerate(lines[0]) if name not in _WHOLE]
    while sum(widths) + 2 * (len(widths) - 1) > room:
        widest = max(flexible, key=lambda at: widths[at], default=None)
        if widest is None or widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return widths


def _needed(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]


def print_reasons(session: Session, reasons: Sequence[Reason], *, with_traceback: bool = False) -> None:
    """Print reasons, one block each; many stages that wait for the same thing take one line."""
    width = min(24, max((cell_len(_name(reason)) for reason in reasons), default=0))
    shown, folded = _folded(reasons)
    for reason in shown:
        _print_reason(session, reason, width)
        if with_traceback and reason.traceback:
            session.out.print(Text(reason.traceback.rstrip()), soft_wrap=True)
    for text, names in folded.items():
        told = f"{plural(len(names), 'more stage')} such as {', '.join(names[:_FEW])}: {text}"
        session.out.print(Text(told), soft_wrap=not session.is_live)


def _print_reason(session: Session, reason: Reason, width: int) -> None:
    name, advice = _name(reason), f"→ {reason.advice}" if reason.advice else ""
    below = [Text(line, style="dim") for more in (reason.detail, advice) for line in more.splitlines()]
    if session.is_live:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=width, overflow="fold")
        table.add_row(Text(name, style="bold"), Text(reason.text))
        for line in below:
            table.add_row("", line)
        session.out.print(table)
        return
    session.out.print(Text.assemble((padded(name, width), "bold"), "  ", reason.text), soft_wrap=True)
    for line in below:
        session.out.print(Text(" " * (width + 2)) + line, soft_wrap=True)


def _name(reason: Reason) -> str:
    return plain(in_line(reason.ref_id)) or "workflow"


def _folded(reasons: Sequence[Reason]) -> tuple[list[Reason], dict[str, list[str]]]:
    if len(reasons) <= _FOLD_REASONS_ABOVE:
        return list(reasons), {}
    shown: list[Reason] = []
    seen: dict[str, int] = {}
    folded: dict[str, list[str]] = {}
    for reason in reasons:
        seen[reason.kind] = seen.get(reason.kind, 0) + 1
        if seen[reason.kind] <= _FEW or reason.kind == "failed":
            shown.append(reason)
        else:
            folded.setdefault(reason.text if reason.kind == "requisites" else reason.kind, []).append(reason.ref_id)
    return shown, folded


def print_events(session: Session, events: Iterable[WorkflowEvent]) -> None:
    """Print events, a line each as they come; what many instances of a stage do alike takes few lines.

    As JSON each line is an object, and none is left out.
    """
    if session.as_json:
        for event in events:
            session.print_json_line(_event_object(event))
        return
    for line in folded_events(events):
        session.out.print(line, markup=False, soft_wrap=True)


def _event_object(event: WorkflowEvent) -> dict[str, Any]:
    told = {name: getattr(event, name) for name in ("id", "kind", "ref_id", "at_ms")}
    return {**told, **({"run": event.run} if event.run else {}), "data": dict(event.data), "told": event.told}


def print_status(
    session: Session,
    view: WorkflowView,
    reasons: Sequence[Reason],
    instances: Mapping[str, Instances] | None = None,
    *,
    shows_each: bool = False,
) -> None:
    """Print a workflow's stages, with their instances, and what went wrong, with tracebacks.

    `shows_each`: also on a terminal each stage has a line, as it has in a pipe, however many are alike.
    """
    tree = Tree(view, reasons, instances, folds=session.out.is_terminal and not shows_each)
    if session.out.is_terminal:
        session.out.print(tree)
        if tree.is_folded:
            session.out.print(Text("   --all shows stages that are alike one by one", style="dim"))
    else:
        for line in tree.lines():
            session.print(line)
    failed = [reason for reason in reasons if reason.kind in _TOLD_BELOW]
    if failed:
        session.out.print()
        print_reasons(session, failed, with_traceback=True)


def reason_object(reason: Reason) -> dict[str, Any]:
    """Return a reason as JSON has it."""
    fields = ("ref_id", "kind", "text", "detail", "advice", "traceback")
    told = {name: value for name in fields if (value := getattr(reason, name))}
    return told if reason.deadlock is None else told | {"deadlock": reason.deadlock.as_objects()}


def workflow_object(
    workflow: Workflow,
    reasons: Sequence[Reason],
    instances: Mapping[str, Instances] | None = None,
    redaction: Redaction | None = None,
) -> dict[str, Any]:
    """Return a workflow's state as JSON has it; stages that have instances, with their counts."""
    shown = redaction.shown if redaction is not None else dict
    counted = {ref_id: {"instances": of_stage.as_json()} for ref_id, of_stage in (instances or {}).items()}
    return {
        "id": workflow.id,
        "application": workflow.application,
        "name": workflow.name,
        "status": workflow.status.name,
        "priority": workflow.priority,
        "started_ms": workflow.start_time,
        "ended_ms": workflow.end_time,
        "canceled_by": workflow.canceled_by,
        "cancellation_reason": workflow.cancellation_reason,
        "stages": [
            {
                "ref_id": stage.ref_id,
                "name": stage.name,
                "status": stage.status.name,
                "started_ms": stage.start_time,
                "ended_ms": stage.end_time,
                "outputs": shown(stage.outputs),
                **counted.get(stage.ref_id, {}),
                "tasks": [
                    {
                        "name": task.name,
                        "implementing_class": task.implementing_class,
                        "status": task.status.name,
                        "error": task.task_exception_details,
                    }
                    for task in stage.tasks
                ],
            }
            for stage in workflow.stages
        ],
        "reasons": [reason_object(reason) for reason in reasons],
    }
