"""docs/errors.md says what to do about every error that users can meet."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import stabilize_celery
from stabilize_celery import StageExecution, Workflow, errors, testing
from stabilize_celery.errors import tree
from stabilize_celery.errors.classify import _TRANSIENT_WORDS
from stabilize_celery.tasks.options import TaskOptions

PAGE = (Path(__file__).parents[2] / "docs/errors.md").read_text()


HEADINGS = set(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE))
NEVER_LEAVE = ("cli", "web", "demo", "testing")
"""Folders whose own errors end as an exit code, as an answer of the page, or before the program that is tested."""
OF_THE_EXECUTOR = {"AskedAgainError", "FinalError"}
"""What it tells itself of an exception that a body raised."""


def subclasses(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def errors_of_the_package() -> set[str]:
    """Names of all that anybody outside of it can be given."""
    for folder in pkgutil.iter_modules(stabilize_celery.__path__, "stabilize_celery."):
        if folder.ispkg and folder.name.rpartition(".")[2] not in NEVER_LEAVE:
            path = importlib.import_module(folder.name).__path__
            for found in pkgutil.walk_packages(path, folder.name + "."):
                importlib.import_module(found.name)
    known = {one for one in subclasses(errors.StabilizeError) if one.__module__.startswith("stabilize_celery.")}
    inside = {one for one in known if one.__module__.split(".")[1] in NEVER_LEAVE or one.__name__.startswith("_")}
    return {one.__name__ for one in known - inside} - OF_THE_EXECUTOR


def test_every_error_has_a_section_or_stands_in_that_of_its_base() -> None:
    """Whoever searches the page for the name on the screen finds it."""
    named = set(re.findall(r"\b\w+Error\b", PAGE))
    aliases = {name for name in (*errors.__all__, *stabilize_celery.__all__) if name.endswith("NotFound")}

    assert errors_of_the_package() - named == set()
    assert all(f"`{alias}` is" in PAGE for alias in aliases)


def test_every_error_with_a_section_can_be_caught_by_its_name() -> None:
    """All from one place; Python's own, and that of the simulator, are told apart on the page."""
    elsewhere = {"TimeoutError", *testing.__all__}

    assert HEADINGS - set(stabilize_celery.__all__) == HEADINGS & elsewhere
    assert all(issubclass(getattr(stabilize_celery, name), errors.StabilizeError) for name in HEADINGS - elsewhere)
    assert {"TimeoutError", "SimulationStuckError"} <= HEADINGS


def test_every_module_of_errors_offers_what_it_has() -> None:
    """A star import, and what documents itself by it, has them all."""
    own = {name for name, one in vars(tree).items() if inspect.isclass(one) and one.__module__ == tree.__name__}

    assert own <= set(tree.__all__)
    assert set(tree.__all__) <= set(errors.__all__)


def test_messages_that_the_page_quotes_are_in_the_code() -> None:
    """Word for word, up to what is filled in."""
    code = "\n".join(
        path.read_text().replace('"\n            "', "").replace('"\n        "', "")
        for path in (Path(__file__).parents[2] / "stabilize_celery").rglob("*.py")
    )
    quoted = re.findall(r"^\| `([^`]+)` \|", PAGE.partition("## Messages in logs and reports")[2], re.MULTILINE)

    assert len(quoted) >= 7
    for text in quoted:
        parts = [part.strip(" :") for part in re.split(r"'x'|…|stabilize-keeper:|allkeys-lru", text)]
        assert all(part in code for part in parts if part), text


def test_the_page_quotes_a_problem_as_it_is_told() -> None:
    """A reader who searches for the words on the screen finds the page."""
    stages = [StageExecution(ref_id=ref_id) for ref_id in ("fetch", "unpack")]
    stages.append(StageExecution(ref_id="load", requisite_stage_ref_ids={"fetsch"}))

    with pytest.raises(errors.StabilizeError) as caught:
        Workflow.create("shop", "import", stages)

    assert f"`{str(caught.value).splitlines()[1].strip()}`" in PAGE


def test_the_concepts_name_what_is_tried_again() -> None:
    """Exceptions by the words in their names, and how often."""
    page, options = (Path(__file__).parents[2] / "docs/concepts.md").read_text(), TaskOptions()
    section = page.partition("## Retries")[2].partition("\n## ")[0]

    assert [word for word in _TRANSIENT_WORDS if f"`{word}`" not in section] == []
    assert f"tried up to {options.max_attempts} times" in section
    assert f"about {options.backoff_s:g} s, then twice as long each time, up to {options.backoff_max_s:g} s" in section
