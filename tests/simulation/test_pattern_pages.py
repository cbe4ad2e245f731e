"""The guide to the patterns is true: its code runs under any schedule, its drawings show what the code defines.

A page has one `## WCP-<number> <name>` section per pattern: a mermaid block, python blocks that define `workflow`, run it
and assert what comes of it, and a list under "What happens". The python block of index.md, then those in front of a page's first
section, are executed before each section. Other sections with code (locks, forced completion) run the same way.

In a drawing `a --> b` is a requisite, `a -.-> b` a jump or a milestone. A node is a stage by its id or by its label.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import stabilize_celery.testing
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import JoinType, SplitType
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks.call import current_call
from stabilize_celery.testing import run_workflow
from tests.simulation.stories import Story, stage
from tests.simulation.tuning import seeds

GUIDE = Path(__file__).parents[2] / "docs" / "patterns"
INDEX = GUIDE / "index.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEAD = re.compile(r"WCP-(\d+) \S.*")
NODE = re.compile(r"""(\w+)\s*(?:[\[({>]+"?([^"\])}]*)"?[\])}]+)?""")
ARROW = re.compile(r"\s*(-->|-\.->)\s*(?:\|[^|]*\|)?\s*")
RELATION = re.compile(r"-\.\s.*?\s\.->|--\s.*?\s-->")
QUOTED = re.compile(r'"[^"]*"')


@dataclass(frozen=True)
class Section:
    """A part of a page, from its heading to the next."""

    page: str
    head: str
    text: str
    preamble: str = ""

    def __str__(self) -> str:
        return f"{self.page}: {self.head}"

    @property
    def number(self) -> int | None:
        """The pattern's number; None: a section about something else."""
        found = HEAD.fullmatch(self.head)
        return int(found[1]) if found else None

    def blocks(self, language: str) -> list[str]:
        return [code for found, code in FENCE.findall(self.text) if found == language]

    @cached_property
    def claims(self) -> list[str]:
        """The items of the list under "What happens"."""
        _, _, behind = FENCE.sub("", self.text).partition("What happens")
        return re.findall(r"^- .+", behind, re.MULTILINE)

    def run(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> Workflow | None:
        """Execute the blocks one after another in one namespace; return the first `workflow` that they define."""
        monkeypatch.setattr(
            stabilize_celery.testing, "run_workflow", lambda *a, **k: run_workflow(*a, **{"seed": seed, **k})
        )
        namespace: dict[str, Any] = {"__name__": "pattern"}
        exec(compile(f"{self.preamble}\nSEED = {seed}\n", f"{self.page} (preamble)", "exec"), namespace)
        defined = None
        for number, code in enumerate(self.blocks("python"), 1):
            exec(compile(code, f"{self} (block {number})", "exec"), namespace)
            defined = defined or namespace.get("workflow")
        return defined


def parts(page: Path) -> Iterator[tuple[str, str]]:
    """Yield headings of the second level and what stands under them; first, under "", what stands before them."""
    head, lines, is_code = "", list[str](), False
    for line in page.read_text().splitlines(keepends=True):
        is_code ^= line.startswith("```")
        if line.startswith("## ") and not is_code:
            yield head, "".join(lines)
            head, lines = line[3:].strip(), []
        else:
            lines.append(line)
    yield head, "".join(lines)


def python_of(text: str) -> str:
    return "\n".join(code for language, code in FENCE.findall(text) if language == "python")


def sections() -> Iterator[Section]:
    shared = python_of(INDEX.read_text())
    for page in sorted(GUIDE.glob("*.md")):
        [(_, before), *rest] = parts(page)
        preamble = f"{shared}\n{python_of(before)}"
        for head, text in rest:
            if page != INDEX and (HEAD.fullmatch(head) or python_of(text)):
                yield Section(page.name, head, text, preamble)


SECTIONS = list(sections())
PATTERNS = [section for section in SECTIONS if section.number is not None]


# -- drawings ----------------------------------------------------------------------------------------------------------


def nodes_of(group: str) -> Iterator[tuple[str, str]]:
    """Yield id and label of `a["A"] & b`."""
    for one in re.split(r"\s*&\s*", group.strip()):
        found = NODE.match(one)
        assert found, f"no node: {one!r}"
        yield found[1], found[2] or ""


def drawing(code: str) -> tuple[dict[str, str], set[tuple[str, str, str]]]:
    """Return a flowchart's labels by node id, and its edges: arrow, from, to (node ids)."""
    first, *lines = code.strip().splitlines()
    assert first.split()[0] in ("flowchart", "graph"), f"not a flowchart: {first}"
    labels, edges = dict[str, str](), set[tuple[str, str, str]]()
    for line in map(str.strip, lines):
        if not line or re.match(r"(%%|subgraph|end$|direction|classDef|class|style|linkStyle)\b", line):
            continue
        plain = RELATION.sub(lambda found: "-.->" if found[0].startswith("-.") else "-->", line)
        groups = ARROW.split(plain)
        found = [list(nodes_of(group)) for group in groups[::2]]
        for group in found:
            labels.update({name: label for name, label in group if label or name not in labels})
        for (sources, targets), arrow in zip(pairwise(found), groups[1::2], strict=True):
            edges |= {(arrow, source, target) for source, _ in sources for target, _ in targets}
    return labels, edges


def stages_drawn(section: Section, workflow: Workflow) -> tuple[set[str], set[tuple[str, str, str]]]:
    """Return the stages and edges that a section's drawings show, by ref_id; what is no stage keeps its node's id."""
    known = {stage.ref_id for stage in workflow.stages}
    nodes, edges = set[str](), set[tuple[str, str, str]]()
    for code in section.blocks("mermaid"):
        labels, drawn = drawing(code)
        names = {node: label if label in known else node for node, label in labels.items()}
        nodes |= set(names.values())
        edges |= {(arrow, names[source], names[target]) for arrow, source, target in drawn}
    return nodes, edges


# -- tests -------------------------------------------------------------------------------------------------------------


def test_every_pattern_has_its_section_once() -> None:
    """43 patterns, none twice, none forgotten."""
    assert sorted(section.number for section in PATTERNS if section.number) == list(range(1, 44))


def test_the_index_lists_every_pattern_under_its_name_with_its_link() -> None:
    """Number, name and link of each row are those of a section."""
    row = re.compile(r"^\| (\d+) \| \[([^]]+)\]\((\w+\.md)#([\w-]+)\) \|", re.MULTILINE)
    rows = {(int(number), name, page, anchor) for number, name, page, anchor in row.findall(INDEX.read_text())}

    assert rows == {
        (section.number, section.head.split(" ", 1)[1], section.page, re.sub(r"[^\w\- ]", "", section.head.lower()).replace(" ", "-"))
        for section in PATTERNS
    }  # fmt: skip


@pytest.mark.parametrize("section", PATTERNS, ids=str)
def test_a_section_has_a_drawing_a_definition_and_what_happens(section: Section) -> None:
    """The same form everywhere: who knows one page finds their way in all of them."""
    code = "\n".join(section.blocks("python"))

    assert len(section.blocks("mermaid")) >= 1
    assert "workflow = " in code
    assert re.search(r"^assert ", code, re.MULTILINE)
    assert len(section.claims) >= 2


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("section", SECTIONS, ids=str)
def test_the_code_of_a_section_does_what_it_says(section: Section, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its asserts hold, in whatever order things happen."""
    section.run(seed, monkeypatch)


@pytest.mark.parametrize("section", [section for section in SECTIONS if section.blocks("mermaid")], ids=str)
def test_a_drawing_shows_what_the_code_defines(section: Section, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requisites are its plain arrows, jumps and milestones its dotted ones; no stage is left out."""
    workflow = section.run(0, monkeypatch)
    assert workflow is not None, "the section defines no `workflow`"
    stages = {stage.ref_id: stage for stage in workflow.stages}
    needed = {("-->", ref, stage.ref_id) for stage in workflow.stages for ref in stage.requisite_stage_ref_ids}
    jumps = {("-.->", stage.ref_id, ref) for stage in workflow.stages for ref in stage.jump_targets}
    milestones = {("-.->", str(stage.milestone_ref_id), stage.ref_id) for stage in workflow.stages}

    nodes, edges = stages_drawn(section, workflow)

    assert {ref for ref, stage in stages.items() if stage.parent_stage_id is None} <= nodes
    assert {edge for edge in edges if edge[0] == "-->"} == needed
    between = {edge for edge in edges if edge[0] == "-.->" and {edge[1], edge[2]} <= stages.keys()}
    assert jumps <= between <= jumps | milestones


def test_a_drawing_is_read_as_mermaid_reads_it() -> None:
    """Chains, several nodes at once, labels on nodes and edges, dotted arrows."""
    labels, edges = drawing('flowchart LR\n  a["the A"] --> b & c --> d\n  d -. again .-> a\n  b -->|late| e(E)\n')

    assert labels == {"a": "the A", "b": "", "c": "", "d": "", "e": "E"}
    assert {edge[1:] for edge in edges if edge[0] == "-->"} == {
        ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("b", "e")
    }  # fmt: skip
    assert {edge[1:] for edge in edges if edge[0] == "-.->"} == {("d", "a")}


# -- claims that no example shows --------------------------------------------------------------------------------------

ARRIVES, IS_AWAY = ("bypassed", "failed and goes on"), ("stopped", "not taken")
RUNS = {
    JoinType.AND: (1, 0),
    JoinType.OR: (1, 1),
    JoinType.MULTI_MERGE: (2, 1),
    JoinType.DISCRIMINATOR: (1, 1),
    JoinType.N_OF_M: (1, 0),
}
"""How often a join of two branches runs if one of them arrives in an odd way, or never does."""
CONTEXTS = {
    "bypassed": {"stageEnabled": False},
    "failed and goes on": {"continuePipelineOnFailure": True},
    "stopped": {"failPipeline": False},
}


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("ending", [*ARRIVES, *IS_AWAY])
@pytest.mark.parametrize("join", RUNS)
def test_which_branches_arrive_is_the_same_at_every_join(join: JoinType, ending: str, seed: int) -> None:
    """Bypassed and FAILED_CONTINUE branches arrive, stopped ones and those not taken don't."""
    is_taken = str(ending != "not taken")
    story = Story(seed).start(
        stage("a", split_type=SplitType.OR, split_conditions={"b": is_taken, "c": "True"}),
        stage("b", "a", does="fail", context=CONTEXTS.get(ending, {})),
        stage("c", "a"),
        stage("j", "b", "c", join_type=join, join_threshold=2 if join == JoinType.N_OF_M else 0),
    )
    story.run()

    assert story.status == "SUCCEEDED"
    assert story.bodies["j"] == RUNS[join][ending in IS_AWAY]


def test_an_and_join_in_a_loop_fires_once_per_pass() -> None:
    """WCP-3: each pass brings its own arrivals; three passes, then on."""

    def again(_stage: StageExecution) -> TaskResult:
        return TaskResult.jump_to("a") if current_call().run_number < 3 else TaskResult.success()

    for seed in range(12):
        story = Story(seed, again=again).start(
            stage("a"),
            stage("b", "a"),
            stage("c", "a"),
            stage("j", "b", "c", does=["work", "again"], jump_targets=["a"]),
            stage("z", "j"),
        )
        story.run()

        assert (story.status, story.bodies["j"], story.bodies["z"]) == ("SUCCEEDED", 3, 1), f"seed {seed}"
