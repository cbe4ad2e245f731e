"""The graph of a workflow as text for Mermaid and Graphviz, and as a picture; stages are coloured by their status."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from stabilize_celery.cli.failures import Mistake
from stabilize_celery.cli.instances import Instances
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.reading import WorkflowView, workflow_from

__all__ = ["FORMATS", "Box", "Graph", "Line", "LineKind", "check_form", "graph_of", "graph_of_view", "text_of"]

FORMATS = ("mermaid", "dot", "svg")
_LONGEST_LABEL = 48

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


class LineKind(Enum):
    """What a line between two stages says."""

    FOLLOWS = "follows"
    JUMPS = "jumps"
    """Its tasks may send the thread there: a loop, mostly."""
    BELONGS = "belongs"
    """From a stage to one that was planned for it (before or after its work)."""


@dataclass(frozen=True, slots=True)
class Box:
    """A stage. `told`: its status, instances and runs, empty where there is nothing to say."""

    title: str
    told: str
    status: WorkflowStatus
    is_many: bool

    @property
    def label(self) -> str:
        """All of it on one line."""
        return f"{self.title}: {self.told}" if self.told else self.title

    @property
    def colour(self) -> str:
        """Its colour as `#rrggbb`."""
        return _COLOURS.get(self.status, "#ffffff")


@dataclass(frozen=True, slots=True)
class Line:
    """A line between two boxes, by their positions. `label`: the condition under which it is taken."""

    source: int
    target: int
    kind: LineKind = LineKind.FOLLOWS
    label: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """What is drawn, in whichever format."""

    name: str
    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def check_form(form: str) -> None:
    """Refuse a format that there is not. Raises Mistake."""
    if form not in FORMATS:
        raise Mistake(f"there is no format {form!r}; choose one of {', '.join(FORMATS)}")


def text_of(graph: Graph, form: str) -> str:
    """Return the graph as `mermaid` or `dot`."""
    return "\n".join(_mermaid(graph) if form == "mermaid" else _dot(graph))


# -- what is drawn -----------------------------------------------------------------------------------------------------


def graph_of(workflow: Workflow) -> Graph:
    """Return the graph of a definition."""
    return _graph(workflow, {})


def graph_of_view(view: WorkflowView, instances: Mapping[str, Instances]) -> Graph:
    """Return the graph of a workflow as it is now: how often a stage has run, how many of its instances are done."""
    told: dict[str, list[str]] = {}
    for ref_id, stage in view.stages.items():
        passes = sum(run.instance is None for _, run in stage.runs)
        many = instances.get(ref_id)
        counted = [f"{many.done:,} of {many.total:,} done"] if many else []
        failed = [f"{many.failed:,} failed"] if many and many.failed else []
        told[ref_id] = [*counted, *failed, *([f"run {passes}"] if passes > 1 else [])]
    return _graph(workflow_from(view), told)


def _graph(workflow: Workflow, told: Mapping[str, list[str]]) -> Graph:
    number = {stage.ref_id: at for at, stage in enumerate(workflow.stages)}
    by_id = {stage.id: at for at, stage in enumerate(workflow.stages)}
    graph = Graph(workflow.name or "workflow", [_box(stage, told.get(stage.ref_id, [])) for stage in workflow.stages])
    for at, stage in enumerate(workflow.stages):
        for ref in sorted(stage.requisite_stage_ref_ids & number.keys()):
            condition = workflow.stages[number[ref]].split_conditions.get(stage.ref_id, "")
            graph.lines.append(Line(number[ref], at, label=_cut(condition)))
        graph.lines.extend(Line(at, number[ref], LineKind.JUMPS) for ref in stage.jump_targets if ref in number)
        if stage.parent_stage_id in by_id:
            graph.lines.append(Line(by_id[stage.parent_stage_id], at, LineKind.BELONGS))
    return graph


def _box(stage: StageExecution, told: list[str]) -> Box:
    title = stage.ref_id if stage.name in ("", stage.ref_id) else f"{stage.name} ({stage.ref_id})"
    if stage.mi_config is not None:
        title += f", {_number(stage.mi_config)}"
    begun = [] if stage.status is WorkflowStatus.NOT_STARTED else [stage.status.name]
    return Box(title, ", ".join([*begun, *told]), stage.status, stage.mi_config is not None)


def _number(many: MultiInstanceConfig) -> str:
    if many.collection_from_context:
        return f"each of {many.collection_from_context}"
    return f"{many.count_from_context or many.count} instances"


def _cut(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _LONGEST_LABEL else f"{plain[: _LONGEST_LABEL - 1]}…"


# -- as text -----------------------------------------------------------------------------------------------------------

_MERMAID_LINES = {LineKind.FOLLOWS: "-->", LineKind.JUMPS: "-.->", LineKind.BELONGS: "-.-"}
# A label is HTML there, and "#" begins a code.
_MERMAID_CODES = str.maketrans({"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;"})
_DOT_LINES = {
    LineKind.FOLLOWS: "",
    LineKind.JUMPS: "style=dashed, constraint=false",
    LineKind.BELONGS: "style=dotted, arrowhead=none",
}


def _mermaid(graph: Graph) -> Iterator[str]:
    yield "flowchart LR"
    for at, box in enumerate(graph.boxes):
        label = f'"{_for_mermaid(box.label)}"'
        yield f"  s{at}[[{label}]]" if box.is_many else f"  s{at}[{label}]"
    for line in graph.lines:
        label = f'|"{_for_mermaid(line.label)}"|' if line.label else ""
        yield f"  s{line.source} {_MERMAID_LINES[line.kind]}{label} s{line.target}"
    for status, colour in _COLOURS.items():
        of_status = [f"s{at}" for at, box in enumerate(graph.boxes) if box.status is status]
        if of_status:
            yield f"  classDef {status.name.lower()} fill:{colour},color:#111"
            yield f"  class {','.join(of_status)} {status.name.lower()}"


def _for_mermaid(text: str) -> str:
    return text.replace("\n", " ").translate(_MERMAID_CODES)


def _dot(graph: Graph) -> Iterator[str]:
    yield f"digraph {_quoted(graph.name)} {{"
    yield "  rankdir=LR; node [shape=box, style=filled, fillcolor=white, fontname=Helvetica];"
    for at, box in enumerate(graph.boxes):
        border = ", peripheries=2" if box.is_many else ""
        colour = "white" if box.colour == "#ffffff" else box.colour
        yield f'  s{at} [label={_quoted(box.label)}, fillcolor="{colour}"{border}];'
    for line in graph.lines:
        label = f"label={_quoted(line.label)}" if line.label else ""
        given = ", ".join(filter(None, (label, _DOT_LINES[line.kind])))
        yield f"  s{line.source} -> s{line.target}{f' [{given}]' if given else ''};"
    yield "}"


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{plain}"'
