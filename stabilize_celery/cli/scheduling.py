"""`schedule`: workflows that start by themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from stabilize_celery.cli.commands import Group, command
from stabilize_celery.cli.completing import schedule_names
from stabilize_celery.cli.durations import duration_option, duration_text
from stabilize_celery.cli.failures import DONE, Mistake
from stabilize_celery.cli.pipeline_file import PipelineFile, read_pipeline
from stabilize_celery.cli.session import Session
from stabilize_celery.cli.showing import ShowSecrets, print_table, without_secrets
from stabilize_celery.cli.starting import Priority
from stabilize_celery.client.schedules import Schedules, no_such_schedule
from stabilize_celery.client.words import clock_time, plural
from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.models.problems import InvalidWorkflowError, Problem
from stabilize_celery.models.schedule import MISSED, OVERLAP, Schedule
from stabilize_celery.runtime.schedule_book import KeptSchedule

__all__ = ["schedule_app"]

NewName = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.", autocompletion=schedule_names)]
_OF_FILE = "definition."
_OPTIONS = {"name": "NAME", "every_s": "--every", "max_missed": "--max-missed"} | {
    name: f"--{name}" for name in ("cron", "timezone", "missed", "overlap")
}
"""A setting's own name, and how it is given here."""


def schedule_app() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(cls=Group, help="Start workflows by cron or interval.", no_args_is_help=True)
    command(app, "add")(add)
    command(app, "list")(list_schedules)
    command(app, "show")(show)
    command(app, "pause")(pause)
    command(app, "resume")(resume)
    command(app, "start")(start_now)
    command(app, "remove")(remove)
    return app


def add(  # noqa: PLR0913, PLR0917 - the options of the command
    session: Session,
    name: NewName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A pipeline as YAML or JSON; - is standard input.")],
    cron: Annotated[str, typer.Option("--cron", metavar="EXPR", help="Such as '0 3 * * 1-5' or @daily.")] = "",
    every: Annotated[float | None, duration_option("--every", "Instead of --cron, such as 30s or 1h30m.")] = None,
    timezone: Annotated[str, typer.Option("--timezone", metavar="ZONE", help="Such as Europe/Berlin.")] = "UTC",
    missed: Annotated[
        str, typer.Option("--missed", help="Times missed by more than a minute: skip, once, all.")
    ] = MISSED[1],
    max_missed: Annotated[int, typer.Option("--max-missed", metavar="N", help="With --missed all.")] = 100,
    overlap: Annotated[str, typer.Option("--overlap", help="While the previous one runs: allow, skip.")] = OVERLAP[0],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A value of the context: JSON, or text.")
    ] = None,
    priority: Priority = None,
) -> int:
    """Add a schedule, or replace the one with this name, which stays paused if it is."""
    if bool(cron) == (every is not None):
        raise Mistake("when does it start? Give --cron or --every, one of them")
    pipeline = read_pipeline(file, settings or (), priority)
    schedule = Schedule(
        name=name,
        definition=pipeline.definition,
        cron=cron,
        every_s=every,
        timezone=timezone,
        missed=missed,
        max_missed=max_missed,
        overlap=overlap,
    )
    client = session.client(creates=True)
    try:
        kept = client.schedules.add(schedule)
    except InvalidWorkflowError as error:
        raise _refused(pipeline, name, error) from None
    if session.as_json:
        session.print_json(without_secrets(_object(kept), client.settings))
    elif kept.is_paused:
        session.print(f"Schedule {name} is replaced, and stays paused: `stabilize-celery schedule resume {name}`")
    else:
        session.print(f"Schedule {name}: {'next' if kept.started else 'first'} start {_when(kept.next_ms, 0)}")
    return DONE


def _refused(pipeline: PipelineFile, name: str, error: InvalidWorkflowError) -> Mistake:
    """Return what is wrong: the schedule's own settings by their options, the rest by the file's lines."""
    inner = [Problem(one.path.removeprefix(_OF_FILE), one.message) for one in error.problems if _is_inner(one)]
    own = [f"  {_OPTIONS.get(one.path, one.path)}: {one.message}" for one in error.problems if not _is_inner(one)]
    lines = "\n".join([*own, *pipeline.told(inner)])
    return Mistake(f"schedule {name!r}: {plural(len(error.problems), 'problem')}, nothing was added\n{lines}")


def _is_inner(problem: Problem) -> bool:
    return problem.path.startswith(_OF_FILE)


def list_schedules(session: Session, show_secrets: ShowSecrets = False) -> int:
    """List all schedules."""
    client = session.client()
    found = client.schedules.all()
    if session.as_json:
        objects = [_object(kept) for kept in found]
        session.print_json(without_secrets(objects, client.settings, show_secrets))
        return DONE
    if not found:
        session.print("There are no schedules.")
        return DONE
    now_ms = client.store.time_ms()
    columns = ("NAME", "WHEN", "NEXT", "LAST", "STARTED", "NOTE")
    print_table(session, columns, [_row(kept, now_ms) for kept in found])
    return DONE


def _row(kept: KeptSchedule, now_ms: int) -> tuple[str, ...]:
    note = "paused" if kept.is_paused else kept.error or (f"{kept.skipped} skipped" if kept.skipped else "")
    times = (_when(kept.next_ms, now_ms), _when(kept.last_ms, now_ms))
    return (kept.schedule.name, _times(kept.schedule), *times, str(kept.started), note)


def _times(schedule: Schedule) -> str:
    if schedule.every_s is not None:
        return f"every {duration_text(schedule.every_s)}"
    return f"{schedule.cron} {schedule.timezone}"


def _when(at_ms: int | None, now_ms: int) -> str:
    return "-" if at_ms is None else clock_time(at_ms, now_ms)


def show(session: Session, name: Name, show_secrets: ShowSecrets = False) -> int:
    """Show one schedule, with what it started last."""
    client = session.client()
    kept = client.schedules.get(name)
    if kept is None:
        raise _unknown(client.schedules, name)
    if session.as_json:
        session.print_json(without_secrets(_object(kept), client.settings, show_secrets))
        return DONE
    now_ms, schedule = client.store.time_ms(), kept.schedule
    session.print(f"{name}: {_times(schedule)}{' (paused)' if kept.is_paused else ''}")
    session.print(f"next      {_when(kept.next_ms, now_ms)}")
    session.print(f"last      {_when(kept.last_ms, now_ms)} {kept.last_id}")
    session.print(f"started   {kept.started}, {kept.skipped} skipped")
    session.print(f"missed    {schedule.missed}; overlap {schedule.overlap}")
    if (priority := schedule.to_dict()["definition"].get("priority", DEFAULT_PRIORITY)) != DEFAULT_PRIORITY:
        session.print(f"priority  {priority}")
    if kept.error:
        session.print(f"error     {kept.error}")
    return DONE


def pause(session: Session, name: Name) -> int:
    """Pause a schedule: it starts nothing until it is resumed."""
    return _changed(session, name, Schedules.pause, "is paused")


def resume(session: Session, name: Name) -> int:
    """Resume a paused schedule with its next time from now."""
    kept = session.client().schedules.get(name)
    is_going_on = kept is not None and not kept.is_paused
    return _changed(
        session, name, Schedules.resume, "is not paused, and goes on as it did" if is_going_on else "goes on"
    )


def start_now(session: Session, name: Name) -> int:
    """Start its workflow now, in addition to its times."""
    schedules = session.client().schedules
    handle = schedules.start(name)
    if handle is None:
        raise _unknown(schedules, name)
    if session.as_json:
        session.print_json({"name": name, "id": handle.id})
    else:
        session.print(f"Schedule {name}: started {handle.id}")
    return DONE


def remove(session: Session, name: Name) -> int:
    """Remove a schedule; workflows that it started continue."""
    return _changed(session, name, Schedules.remove, "is gone")


def _changed(session: Session, name: str, change: Callable[[Schedules, str], bool], what: str) -> int:
    schedules = session.client().schedules
    if not change(schedules, name):
        raise _unknown(schedules, name)
    if session.as_json:
        session.print_json({"name": name, "told": what})
    else:
        session.print(f"Schedule {name} {what}")
    return DONE


def _unknown(schedules: Schedules, name: str) -> Mistake:
    told = no_such_schedule(schedules, name)
    return Mistake(told if told.endswith("?") else f"{told}; `stabilize-celery schedule list` shows them all")


def _object(kept: KeptSchedule) -> dict[str, Any]:
    names = ("next_ms", "last_ms", "last_id", "started", "skipped", "is_paused", "error")
    return {**kept.schedule.to_dict(), **{name: getattr(kept, name) for name in names}}
