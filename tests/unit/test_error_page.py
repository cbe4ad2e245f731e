"""docs/errors.md says what to do about every error that users can meet."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import stabilize_celery
from stabilize_celery import StageExecution, Workflow, errors
from stabilize_celery.errors.classify import _TRANSIENT_WORDS
from stabilize_celery.tasks.options import TaskOptions

PAGE = (Path(__file__).parents[2] / "docs/errors.md").read_text()


def public_errors() -> set[str]:
    found = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    found |= {name for name in stabilize_celery.__all__ if inspect.isclass(getattr(stabilize_celery, name))}
    everything = {name: getattr(errors, name, None) or getattr(stabilize_celery, name) for name in found}
    return {name for name, value in everything.items() if issubclass(value, BaseException)}


def test_every_public_error_has_a_section() -> None:
    """Under its own name; other names of a class stand in its section."""
    headings = set(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE))
    named = set(re.findall(r"\b\w+(?:Error|Exception|NotFound)\b", PAGE))

    assert {name for name in public_errors() if name not in headings | named} == set()
    assert headings <= public_errors()


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
