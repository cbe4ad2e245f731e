"""The documentation is whole: links lead somewhere, code is code, decisions and examples keep their form."""

import ast
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from stabilize_celery.cli.program import make_app
from stabilize_celery.runtime.keeper import Keeper
from stabilize_celery.settings import Settings
from stabilize_celery.store.memory import MemoryStore
from tests.unit.runtime.world import RecordingPublisher

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    prose = BLOCK.sub("", page.read_text())
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Files and headings that a page links to exist."""
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_are_python(page: Path) -> None:
    """Whoever copies a block gets no syntax error."""
    for language, code in BLOCK.findall(page.read_text()):
        if language == "python":
            ast.parse(code)


def test_the_readme_shows_the_example_that_is_tested() -> None:
    """The pipeline of the README is a part of examples/shop.py, letter by letter."""
    [shown] = [code for language, code in BLOCK.findall((ROOT / "README.md").read_text()) if language == "python"]

    assert shown in (ROOT / "examples/shop.py").read_text()


def test_the_protocol_tells_the_numbers_that_rule() -> None:
    """Where it says what is so by default."""
    page, default = (ROOT / "docs/internals/protocol.md").read_text(), Settings()
    keeper = Keeper(MemoryStore(), RecordingPublisher(), default, "a worker")

    assert f"PX 2/3 lease` ({keeper.lease_ms // 1000} s by default)" in page
    assert f"lost < N ({default.max_lost})" in page
    assert f"now+lease ({default.lease_ms // 1000} s by default" in page
    assert f"R = {default.republish_ms // 1000} s" in page
    assert f"per namespace (default {default.partitions})" in page


def test_operations_lists_every_setting() -> None:
    """Whoever looks for one finds it there, if only with where to read on."""
    page = (ROOT / "docs/operations.md").read_text().partition("## Settings")[2]

    assert [one.name for one in fields(Settings) if f"`STABILIZE_{one.name.upper()}`" not in page] == []


def test_make_targets_that_the_pages_name_exist() -> None:
    """And every target stands in `make help`."""
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for page in PAGES for target in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)}
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert named <= targets
    assert all(f"make {target} " in told for target in targets)
    assert targets >= {"setup", "demo", "test", "check", "conformance", "chaos", "bench"}


def command_lines() -> set[str]:
    """Return the command lines of the program that the pages show, in blocks and within sentences."""
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    shown = {line for page in pages for _, code in BLOCK.findall(page.read_text()) for line in code.splitlines()}
    shown |= {span for page in pages for span in re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text()))}
    lines = {re.split(r"\s#|\s\|\s", line)[0].strip() for line in shown}
    return {line.removeprefix("stabilize-celery ") for line in lines if line.startswith("stabilize-celery ")}


@pytest.mark.parametrize("line", sorted(command_lines()))
def test_commands_that_the_pages_name_exist(line: str) -> None:
    """With all the options that stand behind them."""
    command = typer.main.get_command(make_app())
    words = line.replace("[", " ").replace("]", " ").split()
    while words and words[0] in (known := getattr(command, "commands", {})):
        command = known[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts} | {"--help", "--install-completion"}

    is_whole = not getattr(command, "commands", {}) or (words or [""])[0].startswith("--")
    assert is_whole, f"{words[:1]} is no command"
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("decision", DECISIONS, ids=name)
def test_a_decision_says_what_it_gives_up(decision: Path) -> None:
    """Context, decision, price, and the sign that it was wrong; on one screen."""
    text = decision.read_text()

    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Context",
        "Decision",
        "What we give up",
        "How we will notice that it was wrong",
    ]
    assert text.startswith(f"# {decision.name[:3]} ")
    assert len(text.splitlines()) <= 60


def test_every_decision_is_in_the_index() -> None:
    """Nobody finds what is not listed."""
    index = (ROOT / "docs/index.md").read_text()

    assert [name(decision) for decision in DECISIONS if f"decisions/{decision.name}" not in index] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_an_example_is_short_and_says_how_to_run_it(example: Path) -> None:
    """One screen, and the first line names the command."""
    source = example.read_text()

    assert len(source.splitlines()) < 60
    assert f"celery -A {example.stem} worker" in (ast.get_docstring(ast.parse(source)) or "")
