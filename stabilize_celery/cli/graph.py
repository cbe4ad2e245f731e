"""The graph of a workflow as text for Mermaid and Graphviz; stages are coloured by their status."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping

from stabilize_celery.cli.failures import Mistake
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow

__all__ = ["FORMATS", "draw"]

FORMATS = ("mermaid", "dot", "svg")

_COLOURS: Mapping[WorkflowStatus, str] = {
    WorkflowStatus.SUCCEEDED: "#c8e6c9",
    WorkflowStatus.RUNNING: "#bbdefb",
    WorkflowStatus.SUSPENDED: "#fff3bf",
    WorkflowStatus.BUFFERED: "#fff3bf",
    WorkflowStatus.TERMINAL: "#ffcdd2",
    WorkflowStatus.STOPPED: "#ffcdd2",
    WorkflowStatus.FAILED_CONTINUE: "#ffe0b2",
    WorkflowStatus.CANCELED: "#e0e0e0",
    WorkflowStatus.SKIPPED: "#f5f5f5",
}


def draw(workflow: Workflow, form: str) -> str:
    """Return the graph in a format.

    Raises:
        Mistake: there is no such format, or Graphviz, which draws the SVG, is not installed.

    """
    if form == "mermaid":
        return "\n".join(_mermaid(workflow))
    if form == "dot":
        return "\n".join(_dot(workflow))
    if form == "svg":
        return _svg("\n".join(_dot(workflow)))
    raise Mistake(f"there is no format {form!r}; choose one of {', '.join(FORMATS)}")


def _edges(workflow: Workflow) -> Iterator[tuple[int, int]]:
    number = {stage.ref_id: at for at, stage in enumerate(workflow.stages)}
    for at, stage in enumerate(workflow.stages):
        yield from ((number[ref], at) for ref in sorted(stage.requisite_stage_ref_ids) if ref in number)


def _label(stage: StageExecution) -> str:
    title = stage.ref_id if stage.name in ("", stage.ref_id) else f"{stage.name} ({stage.ref_id})"
    if stage.mi_config is not None:
        title += f", {_number(stage.mi_config)}"
    return title if stage.status is WorkflowStatus.NOT_STARTED else f"{title}: {stage.status.name}"


def _number(many: MultiInstanceConfig) -> str:
    if many.collection_from_context:
        return f"each of {many.collection_from_context}"
    return f"{many.count_from_context or many.count} instances"


def _mermaid(workflow: Workflow) -> Iterator[str]:
    yield "flowchart LR"
    for at, stage in enumerate(workflow.stages):
        label = _label(stage).replace("#", "#35;").replace('"', "#quot;").replace("\n", " ")
        yield f'  s{at}["{label}"]' if stage.mi_config is None else f'  s{at}[["{label}"]]'
    for source, target in _edges(workflow):
        yield f"  s{source} --> s{target}"
    for status, colour in _COLOURS.items():
        of_status = [f"s{at}" for at, stage in enumerate(workflow.stages) if stage.status is status]
        if of_status:
            yield f"  classDef {status.name.lower()} fill:{colour},color:#111"
            yield f"  class {','.join(of_status)} {status.name.lower()}"


def _dot(workflow: Workflow) -> Iterator[str]:
    yield f"digraph {_quoted(workflow.name or 'workflow')} {{"
    yield "  rankdir=LR; node [shape=box, style=filled, fillcolor=white, fontname=Helvetica];"
    for at, stage in enumerate(workflow.stages):
        border = "" if stage.mi_config is None else ", peripheries=2"
        yield f'  s{at} [label={_quoted(_label(stage))}, fillcolor="{_COLOURS.get(stage.status, "white")}"{border}];'
    for source, target in _edges(workflow):
        yield f"  s{source} -> s{target};"
    yield "}"


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{plain}"'


def _svg(dot: str) -> str:
    program = shutil.which("dot")
    if program is None:
        raise Mistake("SVG is drawn by Graphviz, and there is no `dot` on PATH; install it or use --format mermaid")
    done = subprocess.run([program, "-Tsvg"], input=dot, capture_output=True, text=True, check=False)  # noqa: S603 - `dot` of PATH
    if done.returncode:
        raise Mistake(f"Graphviz refused the graph: {done.stderr[:300]}")
    return done.stdout
