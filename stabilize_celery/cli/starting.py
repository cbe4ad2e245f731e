"""Commands about pipeline files: start, validate, graph."""

from pathlib import Path
from typing import Annotated

import typer
from rich.cells import cell_len, set_cell_size

from stabilize_celery.cli.batch import start_batch
from stabilize_celery.cli.commands import command
from stabilize_celery.cli.completing import formats, workflow_ids
from stabilize_celery.cli.durations import duration_option
from stabilize_celery.cli.failures import DONE, FAILED, Mistake, sentence_of
from stabilize_celery.cli.graph import Graph, check_form, graph_of, graph_of_view, text_of
from stabilize_celery.cli.instances import read_instances
from stabilize_celery.cli.picture import svg_of
from stabilize_celery.cli.pipeline_file import PipelineFile, read_pipeline, refused, unknown_tasks
from stabilize_celery.cli.plain import plain
from stabilize_celery.cli.session import Session
from stabilize_celery.cli.showing import print_reasons
from stabilize_celery.cli.watching import watch
from stabilize_celery.client import Client, WorkflowHandle
from stabilize_celery.client.words import in_line, plural
from stabilize_celery.engine.creation import Creation
from stabilize_celery.errors import StabilizeError
from stabilize_celery.models.definition import from_definition
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.fleet import Fleet
from stabilize_celery.runtime.reading import read_view

__all__ = ["Priority", "add_starting"]

File = Annotated[Path, typer.Argument(metavar="FILE", help="A pipeline as YAML or JSON; - is standard input.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A value of the context: JSON, or text.")
]
Priority = Annotated[
    int | None, typer.Option("--priority", min=0, max=9, help="0 (most urgent) to 9; overrides the file's.")
]
_SUFFIXES = (".yaml", ".yml", ".json")
_NAME_WIDTH = 40
"""How much of a name stands before an id: both fit one line of 80 columns (characters)."""


def add_starting(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "start")(start)
    command(app, "validate")(validate)
    command(app, "graph")(print_graph)


def start(  # noqa: PLR0913, PLR0917 - the options of the command
    session: Session,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A pipeline as YAML or JSON; - is standard input.")
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option("--batch", metavar="LINES", help="JSON lines: definitions, or contexts for FILE; start each."),
    ] = None,
    replaces: Annotated[
        str | None, typer.Option("--replace", metavar="KEY", help="Replace the workflow that runs under this key.")
    ] = None,
    delay: Annotated[float, duration_option("--delay", "With --replace: start this much later, such as 30s.")] = 0.0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; exit code 1 if it fails.")] = False,
    timeout: Annotated[float | None, duration_option("--timeout", "With --wait: how long, such as 5m.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Idempotency key: start one workflow per key.")] = None,
    settings: Set = None,
    priority: Priority = None,
) -> int:
    """Start a pipeline file, or many workflows from a file of JSON lines."""
    _check_timeout(timeout, wait=wait)
    if batch is not None:
        _check_batch(file, batch, settings, waits=bool(wait or replaces or delay))
        template = read_pipeline(file, settings or ()).definition if file else None
        return start_batch(session, batch, template, key, priority)
    if file is None:
        raise Mistake("give a pipeline file, or --batch with a file of JSON lines")
    pipeline = read_pipeline(file, settings or (), priority)
    _check(pipeline, "nothing was started")
    client = session.client(creates=True)
    _warn(session, client, pipeline)
    try:
        handle = _started(client, pipeline, key, replaces, delay)
    except InvalidWorkflowError as error:
        raise refused(pipeline, error) from None
    if not wait:
        _tell_started(session, pipeline, handle)
        return DONE
    return _wait(session, client, pipeline, handle, timeout)


def _started(
    client: Client, pipeline: PipelineFile, key: str | None, replaces: str | None, delay_s: float
) -> WorkflowHandle:
    if replaces is None:
        if delay_s:
            raise Mistake("--delay needs --replace, whose start it delays")
        return client.start(pipeline.definition, idempotency_key=key)
    if not replaces.strip():
        raise Mistake("--replace needs a key, which names the one workflow that may run at a time")
    if key is not None:
        raise Mistake("--key starts a workflow only once, --replace a new one each time: use one of them")
    return client.replace(pipeline.definition, replaces, delay_s=delay_s)


def _check_timeout(timeout_s: float | None, *, wait: bool) -> None:
    if timeout_s is not None and not wait:
        raise Mistake("--timeout needs --wait, which it limits")


def _check_batch(file: Path | None, batch: Path, settings: list[str] | None, *, waits: bool) -> None:
    if waits:
        raise Mistake("--batch starts all at once and waits for nothing: leave out --wait, --replace and --delay")
    if file is None and settings:
        raise Mistake("--set changes FILE, and there is none: give one, or write the values into the lines")
    if str(file) == str(batch) == "-":
        raise Mistake("FILE and --batch can't both be standard input: name a file for one of them")


def _tell_started(session: Session, pipeline: PipelineFile, handle: WorkflowHandle) -> None:
    if session.as_json:
        session.print_json({"id": handle.id})
    else:
        name = in_line(str(pipeline.definition.get("name") or pipeline.name))
        shown = name if cell_len(name) <= _NAME_WIDTH else f"{set_cell_size(name, _NAME_WIDTH - 1).rstrip()}…"
        session.print(f"Started {shown}: {handle.id}")
        session.say(f"stabilize-celery watch {handle.id}")


def _wait(
    session: Session, client: Client, pipeline: PipelineFile, handle: WorkflowHandle, timeout_s: float | None
) -> int:
    if session.is_live and timeout_s is None:
        status = watch(session, client, handle.id)
    else:
        if not session.as_json:
            _tell_started(session, pipeline, handle)
        try:
            status = handle.wait(timeout_s).status
        except TimeoutError as error:
            return _still_runs(session, handle, error)
        except (KeyboardInterrupt, SystemExit, StabilizeError):
            # Ctrl-C, the SIGTERM of a supervisor, no server: it goes on, and this is the one place that knows its id.
            if session.as_json:
                _print_status(session, handle)
            raise
    if session.as_json:
        session.print_json({"id": handle.id, "status": status.name})
    elif status is not WorkflowStatus.SUCCEEDED:
        session.print(f"{handle.id} ended {status.name}")
        print_reasons(session, handle.why())
    elif not session.is_live:
        session.print(f"{handle.id} ended {status.name}")
    return DONE if status is WorkflowStatus.SUCCEEDED else FAILED


def _still_runs(session: Session, handle: WorkflowHandle, error: TimeoutError) -> int:
    if session.as_json:
        _print_status(session, handle)
    else:
        session.err.print(sentence_of(error), markup=False, soft_wrap=True)
    return FAILED


def _print_status(session: Session, handle: WorkflowHandle) -> None:
    """Print an object with the id, and with the status, if that is to be had."""
    try:
        status = handle.status().name
    except StabilizeError:
        status = None
    session.print_json({"id": handle.id, "status": status})


def validate(session: Session, file: File, settings: Set = None) -> int:
    """Check a pipeline file: every problem at once, with its line."""
    pipeline = read_pipeline(file, settings or ())
    _check(pipeline, "it can't be started")
    stages = len(pipeline.definition.get("stages", []))
    if session.as_json:
        session.print_json({"file": str(file), "stages": stages, "problems": []})
    else:
        session.print(f"{pipeline.name} is sound: {plural(stages, 'stage')}")
    return DONE


def _check(pipeline: PipelineFile, what: str) -> None:
    try:
        Creation.of("validated", pipeline.definition, retention_ms=0)
    except InvalidWorkflowError as error:
        raise refused(pipeline, error, what) from None


def _warn(session: Session, client: Client, pipeline: PipelineFile) -> None:
    fleet = Fleet(client.store.fleet(), client.store.time_ms())
    problems = unknown_tasks(pipeline, fleet.types, len(fleet.live))
    for line in pipeline.told(problems, is_warning=True):
        session.err.print(line, markup=False, style="yellow")


def print_graph(
    session: Session,
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|ID", help="A pipeline file, or the id of a workflow.", autocompletion=workflow_ids
        ),
    ],
    form: Annotated[str, typer.Option("--format", help="mermaid, dot or svg.", autocompletion=formats)] = "mermaid",
) -> int:
    """Print the graph of a pipeline file or of a workflow."""
    check_form(form)
    graph = _graph(session, what)
    drawn = svg_of(graph) if form == "svg" else text_of(graph, form)
    if session.as_json:
        session.print_json({"format": form, "graph": drawn})
    else:
        typer.echo(plain(drawn))
    return DONE


def _graph(session: Session, what: str) -> Graph:
    if what == "-" or Path(what).exists():
        pipeline = read_pipeline(Path(what))
        _check(pipeline, "it has no graph")
        return graph_of(from_definition(pipeline.definition))
    if what.endswith(_SUFFIXES):
        raise Mistake(f"{what}: there is no such file")
    client = session.client()
    view = read_view(client.store, what, without_payloads=True)
    return graph_of_view(view, read_instances(client.store, view))
