"""Commands that look: status, list, watch, why, events."""

from typing import Annotated

import typer

from stabilize_celery.cli.commands import command
from stabilize_celery.cli.completing import statuses, workflow_ids
from stabilize_celery.cli.durations import duration_option
from stabilize_celery.cli.failures import DONE, FAILED, Mistake
from stabilize_celery.cli.instances import read_instances
from stabilize_celery.cli.session import Session
from stabilize_celery.cli.showing import (
    ShowSecrets,
    print_events,
    print_reasons,
    print_status,
    print_table,
    reason_object,
    without_secrets,
    workflow_object,
)
from stabilize_celery.cli.tree import header
from stabilize_celery.cli.watching import watch as watch_until_the_end
from stabilize_celery.client.pages import WorkflowSummary
from stabilize_celery.client.why.explain import explain_view
from stabilize_celery.client.words import clock_time, duration
from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.models.redaction import Redaction
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import read_view, workflow_from
from stabilize_celery.transport.canvas_values import plain

__all__ = ["WorkflowId", "add_looking"]

WorkflowId = Annotated[str, typer.Argument(metavar="ID", help="A workflow's id.", autocompletion=workflow_ids)]


def add_looking(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "status")(status)
    command(app, "list")(list_workflows)
    command(app, "watch")(watch)
    command(app, "why")(why)
    command(app, "events")(events)
    command(app, "result")(result)


def status(
    session: Session,
    workflow_id: WorkflowId,
    shows_each: Annotated[
        bool, typer.Option("--all", help="Show each stage on a terminal, too, however many are alike.")
    ] = False,
) -> int:
    """Show a workflow's stages, and why it failed or was cancelled."""
    client = session.client()
    view = read_view(client.store, workflow_id, without_payloads=not session.as_json)
    reasons, instances = explain_view(client.store, view, client.settings), read_instances(client.store, view)
    if session.as_json:
        redaction = Redaction(client.settings.redact_keys)
        session.print_json(workflow_object(workflow_from(view), reasons, instances, redaction))
    else:
        print_status(session, view, reasons, instances, shows_each=shows_each)
    return DONE


def list_workflows(
    session: Session,
    application: Annotated[str | None, typer.Option(help="Only those of this application.")] = None,
    name: Annotated[str | None, typer.Option(help="Only those of this name.")] = None,
    status: Annotated[str | None, typer.Option(help="Only those in this status.", autocompletion=statuses)] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Continue after the previous page.")] = None,
) -> int:
    """List workflows, newest first."""
    client = session.client()
    try:
        page = client.list(application=application, name=name, status=status, limit=limit, cursor=cursor)
    except ValueError as error:
        raise Mistake(str(error)) from None
    if session.as_json:
        session.print_json({"items": [_summary(item) for item in page.items], "cursor": page.cursor})
        return DONE
    if not page.items:
        is_asked = any(given is not None for given in (application, name, status, cursor))
        session.print("No workflow matches." if is_asked else "There are no workflows.")
        return DONE
    now_ms = client.store.time_ms()
    has_priorities = any(item.priority != DEFAULT_PRIORITY for item in page.items)
    columns = ("ID", "STATUS", *(("PRIORITY",) if has_priorities else ()), "APPLICATION", "NAME", "STARTED", "TOOK")
    print_table(session, columns, [_line(item, now_ms, has_priorities=has_priorities) for item in page.items])
    if page.cursor:
        session.say(f"More: --cursor {page.cursor}")
    return DONE


def _summary(item: WorkflowSummary) -> dict[str, object]:
    fields = ("id", "application", "name", "priority", "started_ms", "ended_ms")
    dead = list(item.dead_letters)
    return {**{name: getattr(item, name) for name in fields}, "status": item.status.name, "dead_letters": dead}


def _line(item: WorkflowSummary, now_ms: int, *, has_priorities: bool) -> tuple[str, ...]:
    took = duration((item.ended_ms or now_ms) - item.started_ms)
    status = f"{item.status.name}, dead letter" if item.dead_letters else item.status.name
    priority = (str(item.priority),) if has_priorities else ()
    return (item.id, status, *priority, item.application, item.name, clock_time(item.started_ms, now_ms), took)


def watch(session: Session, workflow_id: WorkflowId) -> int:
    """Follow a workflow to its end as a live tree (in a pipe: as lines). Exit code 1 if it fails."""
    client = session.client()
    ended = watch_until_the_end(session, client, workflow_id)
    if session.as_json:
        session.print_json_line({"id": workflow_id, "status": ended.name})
    elif not session.is_live:
        session.print(f"{workflow_id} is {ended.name}")
    return DONE if ended is WorkflowStatus.SUCCEEDED else FAILED


def why(session: Session, workflow_id: WorkflowId) -> int:
    """Say what each unfinished stage waits for, or why the workflow failed."""
    client = session.client()
    view = read_view(client.store, workflow_id, without_payloads=True)
    reasons = explain_view(client.store, view, client.settings)
    if session.as_json:
        session.print_json([reason_object(reason) for reason in reasons])
        return DONE
    session.print(header(view))
    if reasons:
        session.out.print()
        print_reasons(session, reasons, with_traceback=False)
    elif not view.record.is_live:
        session.print("It has ended and waits for nothing.")
    return DONE


def events(
    session: Session,
    workflow_id: WorkflowId,
    from_id: Annotated[str, typer.Option("--from", help="Only what happened after this event id.")] = "0",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Then follow new events until its end.")] = False,
) -> int:
    """Print the history of a workflow, oldest first."""
    handle = session.client().handle(workflow_id)
    handle.status()
    try:
        print_events(session, handle.events(from_id, follow))
    except ValueError as error:
        raise Mistake(str(error)) from None
    return DONE


def result(
    session: Session,
    workflow_id: WorkflowId,
    timeout: Annotated[float | None, duration_option("--timeout", "How long to wait for its end, such as 5m.")] = None,
    show_secrets: ShowSecrets = False,
) -> int:
    """Wait for the end; print as JSON what a canvas returned, or else the outputs of all stages."""
    client = session.client()
    handle = client.handle(workflow_id)
    # The wait itself would outlast a server that is away.
    handle.status()
    returned = plain(handle.result(timeout))
    session.print_json(without_secrets(returned, client.settings, show_secrets))
    return DONE
