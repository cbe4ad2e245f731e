"""The files of the page: nothing from elsewhere, contrast in both themes, a glyph for every status."""

import re
from pathlib import Path

import pytest

from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.web.files import STATIC

CSS = (STATIC / "style.css").read_text()
SCRIPTS = sorted((STATIC / "js").glob("*.js"))
SURFACES = ("bg", "surface")
TEXTS = (
    "fg",
    "dim",
    "accent",
    "bad",
    "s-running",
    "s-suspended",
    "s-succeeded",
    "s-failed-continue",
    "s-terminal",
    "s-canceled",
)
READABLE = 4.5
"""The contrast that WCAG 2.2 asks for of text (AA)."""
SEEN = 3.0
"""The contrast that it asks for of what is drawn."""


def colours(theme: str) -> dict[str, str]:
    head = ":root {" if theme == "light" else ':root[data-theme="dark"] {'
    block = CSS.split(head, 1)[1].split("}", 1)[0]
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", block))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_in_both_themes(theme: str) -> None:
    """On every surface that text stands on."""
    known = colours(theme)
    weak = {
        (text, surface): round(contrast(known[text], known[surface]), 2)
        for text in TEXTS
        for surface in SURFACES
        if contrast(known[text], known[surface]) < READABLE
    }

    assert weak == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_drawn_can_be_seen(theme: str) -> None:
    """Every status has a colour that stands out from the node that it is drawn on."""
    known = colours(theme)
    drawn = [
        f"s-{status.name.lower().replace('_', '-')}" for status in WorkflowStatus if f"s-{status.name}" != "s-REDIRECT"
    ]

    assert {name for name in drawn if name in known and contrast(known[name], known["surface"]) < SEEN} == set()


def test_the_dark_theme_is_the_same_by_choice_and_by_the_systems_wish() -> None:
    """One is a copy of the other."""
    chosen = CSS.split(':root[data-theme="dark"] {', 1)[1].split("}", 1)[0]
    wished = CSS.split(':root:not([data-theme="light"]) {', 1)[1].split("}", 1)[0]

    assert chosen.split() == wished.split()


def test_the_page_knows_the_priority_of_a_workflow_that_says_nothing() -> None:
    """It shows only others."""
    assert f"DEFAULT_PRIORITY = {DEFAULT_PRIORITY};" in (STATIC / "js" / "words.js").read_text()


def test_every_status_that_a_page_shows_has_a_glyph_and_a_colour() -> None:
    """Colour is never the only sign."""
    words = (STATIC / "js/words.js").read_text().split("STATUSES = {")[1].split("};")[0]
    glyphs = dict(re.findall(r'(\w+): "(.)"', words))

    assert glyphs.keys() >= {status.name for status in WorkflowStatus} - {"REDIRECT"}
    assert {f"s-{name.lower().replace('_', '-')}" for name in glyphs} <= colours("light").keys()
    assert colours("light").keys() == colours("dark").keys()


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_a_script_makes_no_html_of_text_and_asks_no_other_site(file: Path) -> None:
    """Text is set as text, and all that is loaded comes from here; short enough to be read."""
    source = file.read_text()

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", source)
    assert not re.search(r"https?://", source)
    assert source.count("\n") <= 400
    for module in re.findall(r'from "\./([\w.]+)"', source):
        assert (file.parent / module).exists()
