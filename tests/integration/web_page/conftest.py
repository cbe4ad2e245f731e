"""A browser, and pages that are served to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stabilize_celery.client import Client
from tests.integration.browser import browser, new_page
from tests.integration.site import Site, served, site_with_a_worker

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURES = os.environ.get("STABILIZE_SCREENSHOTS")
"""A folder that pictures for the documentation are put into; none: they are only taken."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as launched:
        yield launched


@pytest.fixture(scope="module")
def site(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With a worker behind it."""
    with site_with_a_worker(Path(tmp_path_factory.mktemp("page"))) as site:
        yield site


@pytest.fixture
def busy(chromium: Browser, tmp_path: Path) -> Iterator[Site]:
    """With a worker of its own, for what leaves it with work: others would wait behind that."""
    with site_with_a_worker(tmp_path) as site:
        yield site


@pytest.fixture
def still(chromium: Browser, redis_url: str) -> Iterator[Site]:
    """Without a worker: nothing moves by itself."""
    with Client(redis_url, redis_url) as client, served(client) as site:
        yield site


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    with new_page(chromium, color_scheme="light") as shown:
        yield shown


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[Page, str], None]:
    """Take a picture; it is checked that it is small enough for the documentation."""
    folder = Path(PICTURES) if PICTURES else tmp_path

    def take(page: Page, name: str) -> None:
        file = folder / f"{name}.png"
        page.screenshot(path=file)
        assert 5_000 < file.stat().st_size < 300_000

    return take
