"""docs/errors.md says what to do about every error that users can meet."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import stabilize_celery
from stabilize_celery import errors

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
