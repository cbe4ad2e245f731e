"""`demo`: a real pipeline on real input and a real fleet, shown live, with a report at the end."""

import os
import shlex
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from stabilize_celery.cli.commands import command
from stabilize_celery.cli.embedded import default_home
from stabilize_celery.cli.failures import DONE, FAILED, Mistake
from stabilize_celery.cli.instances import Instances, read_instances
from stabilize_celery.cli.rows import rows_of
from stabilize_celery.cli.session import Session
from stabilize_celery.cli.showing import print_reasons
from stabilize_celery.cli.watching import follow_tree, views
from stabilize_celery.cli.workers import LocalWorkers
from stabilize_celery.cli.working import environment
from stabilize_celery.client import Client, WorkflowHandle
from stabilize_celery.client.words import duration, plural
from stabilize_celery.demo.listing import require_packages
from stabilize_celery.demo.pipeline import audit_pipeline
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.reading import WorkflowView
from stabilize_celery.settings import Settings
from stabilize_celery.transport.producer import ProducerPublisher
from stabilize_celery.transport.worker_command import worker_argv

__all__ = ["add_demo"]

_APP = "stabilize_celery.demo.app"
_LINE_EVERY_S = 1.0
_PROBE = "stabilize.Probe"
_NEXT = {"watch": "the run as a tree", "why": "what a run waits for"}
_GUIDE, _GUIDE_ABOUT = "docs/getting-started.md", "your own pipeline in 15 lines"


def add_demo(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "demo")(demo)


def demo(
    session: Session,
    path: Annotated[Path | None, typer.Option(metavar="DIR", help="The tree to audit. [the standard library]")] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where the report goes.")] = Path("demo-output"),
    workers: Annotated[int, typer.Option(min=1, help="Workers to start.")] = 2,
    processes: Annotated[int, typer.Option(min=1, help="Processes of each.")] = 2,
) -> int:
    """Audit a Python source tree on a temporary fleet of workers, and write a report."""
    source = path or Path(sysconfig.get_paths()["stdlib"])
    try:
        # The first stage finds them by itself; a mistyped folder is told before anything is started.
        require_packages(source)
    except (OSError, ValueError) as error:
        raise Mistake(f"--path: {error}") from None
    try:
        workflow = audit_pipeline(source, output)
    except ValueError as error:
        raise Mistake(str(error)) from None
    if session.is_embedded and session.shared.home is None and not _may_hold_state(default_home(os.environ)):
        session.shared.home = output / "state"
    settings = session.settings(creates=True)
    client = session.stack.enter_context(Client(settings=settings))
    names = [f"demo{number}-{workflow.id[-6:].lower()}" for number in range(1, workers + 1)]
    commands = [_worker(settings, name, processes) for name in names]
    fleet = LocalWorkers(commands, environment(settings), output / "logs", session.say)
    session.say(
        f"Starting {plural(workers, 'worker')} of {plural(processes, 'process', 'processes')}; logs in {output}/logs"
    )
    with fleet:
        fleet.wait_until_ready(client.store)
        handle = client.start(workflow)
        try:
            status = _show(session, client, handle)
        except KeyboardInterrupt:
            session.say(f"Stopped. {handle.id} continues when workers run again.")
            raise
        handled = ProducerPublisher(settings.broker_url or settings.redis_url, settings).handled(names, 3.0)
        return _close(session, handle, status, handled, f"{plural(workers, 'worker')}, {workers * processes} processes")


def _may_hold_state(home: Path) -> bool:
    """Return whether the user's data folder is there or can be made: commands find the run there without --home."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return False
    return os.access(home, os.R_OK | os.W_OK | os.X_OK)


def _worker(settings: Settings, name: str, processes: int) -> list[str]:
    return worker_argv(_APP, settings, extra=["-c", str(processes), "-n", f"{name}@%h"])


def _show(session: Session, client: Client, handle: WorkflowHandle) -> WorkflowStatus:
    if session.is_live:
        return follow_tree(session, client, handle.id)
    status = WorkflowStatus.RUNNING
    last, said_at = "", 0.0
    for view in views(client, handle.id):
        status = WorkflowStatus[view.record.status]
        line = _progress(view, read_instances(client.store, view))
        if line != last and (not view.record.is_live or time.monotonic() - said_at > _LINE_EVERY_S):
            session.say(line)
            last, said_at = line, time.monotonic()
    return status


def _progress(view: WorkflowView, instances: Mapping[str, Instances]) -> str:
    rows = [row for row in rows_of(view, (), instances) if row.status != "NOT_STARTED" and row.depth == 0]
    return " · ".join(f"{row.name} {row.note if row.total else row.status}" for row in rows)


def _close(session: Session, handle: WorkflowHandle, status: WorkflowStatus, handled: Counter[str], fleet: str) -> int:
    workflow = handle.get()
    facts = _facts(handle, workflow, handled)
    if session.as_json:
        session.print_json({"id": handle.id, "status": status.name, **facts})
    elif status is WorkflowStatus.SUCCEEDED:
        session.out.print()
        for line in _lines(session, handle, facts, fleet):
            session.out.print(line, markup=False, soft_wrap=True)
    else:
        session.print(f"The audit ended {status.name}:")
        print_reasons(session, handle.why(), with_traceback=True)
    return DONE if status is WorkflowStatus.SUCCEEDED else FAILED


def _facts(handle: WorkflowHandle, workflow: Workflow, handled: Counter[str]) -> dict[str, Any]:
    outputs = {stage.ref_id: stage.outputs for stage in workflow.stages}
    events = list(handle.events())
    kinds = Counter(event.kind for event in events)
    return {
        "took_ms": (workflow.end_time or 0) - (workflow.start_time or 0),
        "stages": len(workflow.stages),
        "totals": outputs.get("rank", {}).get("totals", {}),
        "messages": sum(n for name, n in handled.items() if name.startswith("stabilize.") and name != _PROBE),
        "retries": kinds["task.retried"],
        "instances": kinds["instance.completed"],
        "rank_started": sum(event.kind == "stage.started" and event.ref_id == "rank" for event in events),
        "report_html": outputs.get("report", {}).get("report_html", ""),
        "report_json": outputs.get("report", {}).get("report_json", ""),
    }


def _lines(session: Session, handle: WorkflowHandle, facts: dict[str, Any], fleet: str) -> Iterator[str]:
    totals = facts["totals"]
    what = f"{plural(totals['packages'], 'package')}, {totals['files']:,} files, {totals['lines']:,} lines"
    yield f"✔ audit of {what} in {duration(facts['took_ms'])}    ({fleet})"
    if totals["unparsed"]:
        yield f"  {plural(totals['unparsed'], 'file')} did not parse and are listed in the report"
    started = "once" if facts["rank_started"] == 1 else f"{facts['rank_started']} times"
    work = f"{plural(facts['stages'], 'stage')} and {plural(facts['instances'], 'instance')}"
    retries = plural(facts["retries"], "retry", "retries")
    yield f"  {facts['messages']:,} messages for {work} · {retries} · rank started {started}"
    yield f"  Report   {_near(Path(facts['report_html']))}  (and {Path(facts['report_json']).name})"
    yield ""
    yield from _next_steps(handle.id, session.shared.home)


def _next_steps(workflow_id: str, home: Path | None) -> Iterator[str]:
    """Return what to try next: commands that can be pasted as they are, and what they show."""
    where = f" --home {shlex.quote(str(home))}" if home else ""
    steps = {f"{_program()} {name} {workflow_id}{where}": about for name, about in _NEXT.items()}
    steps[_GUIDE] = _GUIDE_ABOUT
    width = max(map(len, steps))
    for label, (step, about) in zip(("Next:", "", ""), steps.items(), strict=True):
        yield f"{label:6} {step:{width}}   {about}"


def _program() -> str:
    name = Path(sys.argv[0])
    return str(_near(name)) if name.name == "stabilize-celery" else "python -m stabilize_celery"


def _near(path: Path) -> Path:
    """Return a path as it is written from here."""
    absolute = path.absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else path
