"""Graphs as text and as pictures."""

import sys
from xml.etree import ElementTree as ET

import pytest

from stabilize_celery.cli import graph
from stabilize_celery.cli.failures import Mistake
from stabilize_celery.cli.graph import Box, Graph, Line, graph_of
from stabilize_celery.cli.picture import svg_of
from stabilize_celery.client import Client
from stabilize_celery.models.patterns import instances
from stabilize_celery.models.status import WorkflowStatus
from tests.unit.cli.conftest import Program
from tests.unit.client.world import gate, stage, workflow

SVG = "{http://www.w3.org/2000/svg}"


def text(made, form: str) -> str:
    return graph.text_of(graph_of(made), form)


@pytest.fixture
def flow():
    made = workflow(stage("a"), stage('b "x" #1', "a"), name='odd "name"')
    made.stages[0].status = WorkflowStatus.SUCCEEDED
    return made


def test_mermaid(flow):
    """Stages by number, labels escaped, colours by status."""
    assert text(flow, "mermaid").splitlines() == [
        "flowchart LR",
        '  s0["a: SUCCEEDED"]',
        '  s1["b #quot;x#quot; #35;1"]',
        "  s0 --> s1",
        "  classDef succeeded fill:#c8e6c9,color:#111",
        "  class s0 succeeded",
    ]


def test_a_name_is_no_html_in_mermaid():
    """Whoever shows the drawing shows the name as it is."""
    drawn = text(workflow(stage("<b>&amp;")), "mermaid")

    assert '  s0["#lt;b#gt;#amp;amp;"]' in drawn.splitlines()


def test_dot(flow):
    drawn = text(flow, "dot")

    assert drawn.startswith('digraph "odd \\"name\\"" {')
    assert "  s0 -> s1;" in drawn
    assert 's1 [label="b \\"x\\" #1", fillcolor="white"]' in drawn


def test_a_form_that_is_not_there_is_said():
    with pytest.raises(Mistake, match="mermaid, dot, svg"):
        graph.check_form("png")


def test_instances_are_one_node_that_says_how_many():
    """However many there are when it runs."""
    made = workflow(stage("list"), instances(stage("audit", "list"), over="packages"), instances(stage("x"), count=4))

    lines = text(made, "mermaid").splitlines()

    assert lines[2:4] == ['  s1[["audit, each of packages"]]', '  s2[["x, 4 instances"]]']
    assert 's1 [label="audit, each of packages", fillcolor="white", peripheries=2]' in text(made, "dot")


def test_jumps_are_dashed_and_conditions_stand_on_their_lines():
    """A loop is seen as one, and so is what decides a branch."""
    made = workflow(
        stage("a", split_type="XOR", split_conditions={"b": "n > 1"}, split_default="c"),
        stage("b", "a", jump_targets=["a"]),
        stage("c", "a"),
    )

    assert '  s0 -->|"n #gt; 1"| s1' in text(made, "mermaid")
    assert "  s1 -.-> s0" in text(made, "mermaid")
    assert '  s0 -> s1 [label="n > 1"];' in text(made, "dot")
    assert "  s1 -> s0 [style=dashed, constraint=false];" in text(made, "dot")


# -- pictures ----------------------------------------------------------------------------------------------------------


def corners(picture: str) -> dict[str, tuple[float, float]]:
    """Where each box stands: the left upper corner, by its tip."""
    found = {}
    for group in ET.fromstring(picture).iter(f"{SVG}g"):
        tip, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if tip is not None and box is not None:
            found[tip.text] = (float(box.get("x")), float(box.get("y")))
    return found


def test_a_picture_goes_from_left_to_right_and_nothing_overlaps():
    """Each stage stands right of all that it follows; one without lines stands by itself."""
    made = workflow(
        stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b"), stage("e", "c", "d", "a"), stage("alone")
    )

    at = corners(svg_of(graph_of(made)))

    assert at["a"][0] < at["b"][0] < at["d"][0] < at["e"][0]
    assert at["a"][0] < at["c"][0] < at["e"][0]
    assert len({*at.values()}) == 6
    by_column: dict[float, list[float]] = {}
    for x, y in at.values():
        by_column.setdefault(x, []).append(y)
    for column in by_column.values():
        assert all(lower - upper >= 40 for upper, lower in zip(sorted(column), sorted(column)[1:], strict=False))


def test_a_picture_has_a_line_for_each_edge_and_dashes_for_jumps():
    made = workflow(stage("a"), stage("b", "a"), stage("c", "a", "b", jump_targets=["a"]))

    paths = [one for one in ET.fromstring(svg_of(graph_of(made))).iter(f"{SVG}path") if one.get("class") == "line"]

    assert len(paths) == 4
    assert [one.get("stroke-dasharray") for one in paths].count("6 4") == 1


def test_names_are_text_in_a_picture_whatever_they_hold():
    """Nothing that a definition says becomes markup, and no character breaks the document."""
    name = '<script>alert(1)</script> & "x" \x00\ud800'

    root = ET.fromstring(svg_of(Graph(name, [Box(name, "", WorkflowStatus.NOT_STARTED, is_many=False)])))

    assert root.find(f"{SVG}title").text.startswith("<script>alert(1)</script> &")
    assert not list(root.iter(f"{SVG}script"))


def test_ten_thousand_stages_have_a_picture():
    """In whichever shape: the test's time is the limit."""
    wide = [Box(str(at), "", WorkflowStatus.NOT_STARTED, is_many=False) for at in range(10_002)]
    lines = [Line(0, at) for at in range(1, 10_001)] + [Line(at, 10_001) for at in range(1, 10_001)]

    assert svg_of(Graph("wide", wide, lines)).count("<path") == 20_001


def test_a_picture_needs_its_library(flow, monkeypatch):
    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
    with pytest.raises(Mistake, match=r"stabilize-celery\[graph\]"):
        svg_of(graph_of(flow))


def test_the_graph_of_a_workflow_has_its_statuses(served: Program, client: Client):
    """In each format, by id."""
    handle = client.start(workflow(stage("a"), gate("b", "a")))
    handle.cancel("enough")
    run = handle.id

    for form in ("mermaid", "dot", "svg"):
        said = served("graph", run, "--format", form)
        assert said.code == 0
        assert "SKIPPED" in said.out
    assert served("graph", run, "--json").json["format"] == "mermaid"
