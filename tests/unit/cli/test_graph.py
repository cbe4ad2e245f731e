"""Graphs as text."""

import shutil

import pytest

from stabilize_celery.cli import graph
from stabilize_celery.cli.failures import Mistake
from stabilize_celery.models.patterns import instances
from stabilize_celery.models.status import WorkflowStatus
from tests.unit.client.world import stage, workflow


@pytest.fixture
def flow():
    made = workflow(stage("a"), stage('b "x" #1', "a"), name='odd "name"')
    made.stages[0].status = WorkflowStatus.SUCCEEDED
    return made


def test_mermaid(flow):
    """Stages by number, labels escaped, colours by status."""
    assert graph.draw(flow, "mermaid").splitlines() == [
        "flowchart LR",
        '  s0["a: SUCCEEDED"]',
        '  s1["b #quot;x#quot; #35;1"]',
        "  s0 --> s1",
        "  classDef succeeded fill:#c8e6c9,color:#111",
        "  class s0 succeeded",
    ]


def test_dot(flow):
    text = graph.draw(flow, "dot")

    assert text.startswith('digraph "odd \\"name\\"" {')
    assert "  s0 -> s1;" in text
    assert 's1 [label="b \\"x\\" #1", fillcolor="white"]' in text


def test_a_form_that_is_not_there_is_said(flow):
    with pytest.raises(Mistake, match="mermaid, dot, svg"):
        graph.draw(flow, "png")


def test_svg_needs_graphviz(flow, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(Mistake, match="Graphviz"):
        graph.draw(flow, "svg")


def test_svg_is_what_graphviz_makes(flow, monkeypatch, tmp_path):
    """The program on PATH gets the dot text; what it refuses is said."""
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\nread line\ncase "$line" in *odd*) echo "<svg/>";; *) echo bad >&2; exit 1;; esac\n')
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(program))

    assert graph.draw(flow, "svg") == "<svg/>\n"
    flow.name = "other"
    with pytest.raises(Mistake, match="bad"):
        graph.draw(flow, "svg")


def test_instances_are_one_node_that_says_how_many():
    """However many there are when it runs."""
    made = workflow(stage("list"), instances(stage("audit", "list"), over="packages"), instances(stage("x"), count=4))

    lines = graph.draw(made, "mermaid").splitlines()

    assert lines[2:4] == ['  s1[["audit, each of packages"]]', '  s2[["x, 4 instances"]]']
    assert 's1 [label="audit, each of packages", fillcolor="white", peripheries=2]' in graph.draw(made, "dot")
