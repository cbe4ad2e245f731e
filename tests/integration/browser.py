"""A headless Chromium that the machine has; tests that need one are skipped where there is none, and say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str:
    """The path of a Chromium: $CHROMIUM, or one on PATH. Skips the test where there is none."""
    named = os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else PROGRAMS)), None)
    if found is None:
        pytest.skip(
            f"needs a Chromium: apt install chromium, or set CHROMIUM to its path (looked for {named or PROGRAMS})"
        )
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser for as long as the context lasts."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs the playwright package")
    program = find_browser()
    with driver.sync_playwright() as playwright:
        # Root has no sandbox; a container has a small /dev/shm.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        launched = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield launched
        finally:
            launched.close()


@contextmanager
def new_page(launched: Browser, **settings: object) -> Iterator[Page]:
    """A page in a profile of its own. What goes wrong in it fails the test: errors, and what its policy forbids."""
    context = launched.new_context(viewport={"width": 1280, "height": 800}, **settings)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(30_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text) if told.type == "error" else None)
    try:
        yield page
    finally:
        context.close()
    # That the API refused something is told by the browser, too; the page says it in words.
    assert [one for one in wrong if not one.startswith("Failed to load resource")] == []


def told(page: Page) -> str:
    """What a page says, for whoever looks for the cause of a failure."""
    if page.is_closed():
        return "it is closed"
    return f"{page.url}\n{page.evaluate('document.body.innerText')[:4_000]}"
