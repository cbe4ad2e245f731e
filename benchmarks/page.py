"""Does the page stay usable with much to show: 10,000 stages, alike and not, 100,000 workflows? In a real Chromium.

Redis, the page's server and the browser share the machine, and each time begins with an empty page. What the page
itself knows (how long a paint or a batch of changes took) is read from it.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from stabilize_celery import Client
from tests.integration.browser import browser, new_page
from tests.integration.fleet import eventually
from tests.integration.site import Site, fan, lattice, list_many, numbers, open_page, served, site_with_a_worker
from tests.servers import RedisServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["MAX_FIRST_PAINT_S", "MAX_UPDATE_MS", "Timed", "measure", "table"]

MAX_FIRST_PAINT_S, MAX_UPDATE_MS = 2.0, 100.0
_BATCHES = 20
_GRAPHS = {"10,000 stages alike": lambda: fan(10_000), "10,000 stages not alike": lambda: lattice(100, 100)}


@dataclass(frozen=True, slots=True)
class Timed:
    """One thing that a person waits for, in its unit, once per repetition."""

    name: str
    unit: str
    limit: float
    values: tuple[float, ...]

    @property
    def is_within(self) -> bool:
        """Whether the median is below the limit."""
        return median(self.values) < self.limit

    def as_json(self) -> dict[str, Any]:
        """Return everything measured, with its spread."""
        spread = {"min": min(self.values), "median": median(self.values), "max": max(self.values)}
        return {**asdict(self), **spread, "is_within": self.is_within}


def measure(repetitions: int) -> Iterator[Timed]:
    """Measure one thing after the other."""
    with browser() as chromium:
        with RedisServer() as server, Client(server.url, server.url) as client, served(client) as site:
            for name, make in _GRAPHS.items():
                run = client.start(make()).id
                yield from _graph(chromium, site, name, run, repetitions)
        with RedisServer() as server, Client(server.url, server.url) as client, served(client) as site:
            list_many(server.url, 100_000)
            yield from _list(chromium, site, repetitions)
        with TemporaryDirectory() as folder, site_with_a_worker(Path(folder)) as site:
            yield _live(chromium, site)


def _graph(chromium: "Browser", site: Site, name: str, run: str, repetitions: int) -> Iterator[Timed]:
    paints, moves, updates = [], [], []
    for _ in range(repetitions):
        with new_page(chromium) as page:
            paints.append(_first_s(page, site, f"/workflows/{run}", "canvas[data-paints]"))
            page.get_by_role("application").focus()
            moves.append(
                max(_moved_ms(page, key) for key in ("-", "-", "+", "ArrowRight", "ArrowRight", *"-" * 12, "0"))
            )
            for _ in range(12):
                page.keyboard.press("-")
            [before] = numbers(page, "canvas", "paints")
            # It is drawn again each second, for the durations.
            eventually(lambda: numbers(page, "canvas", "paints") > [before + 1])  # noqa: B023 - asked at once
            updates += numbers(page, "canvas", "painted")
    yield Timed(f"{name}: first paint", "s", MAX_FIRST_PAINT_S, tuple(paints))
    yield Timed(f"{name}: slowest of 18 moves and zooms", "ms", MAX_UPDATE_MS, tuple(moves))
    yield Timed(f"{name}: redrawn, all in sight", "ms", MAX_UPDATE_MS, tuple(updates))


def _list(chromium: "Browser", site: Site, repetitions: int) -> Iterator[Timed]:
    firsts, searches = [], []
    for _ in range(repetitions):
        with new_page(chromium) as page:
            firsts.append(_first_s(page, site, "/workflows", ".virtual .row .chip"))
            searches.append(_first_s(page, site, "/workflows?q=needle", "text=looked through"))
    yield Timed("100,000 workflows: first rows", "s", MAX_FIRST_PAINT_S, tuple(firsts))
    yield Timed("100,000 workflows: 5,000 searched for text", "s", MAX_FIRST_PAINT_S, tuple(searches))


def _live(chromium: "Browser", site: Site) -> Timed:
    """Time batches of changes while a worker works through 10,000 stages."""
    run = site.client.start(fan(10_000, "wide"))
    with new_page(chromium) as page:
        open_page(page, site, f"/workflows/{run.id}")
        page.locator("canvas[data-paints]").wait_for()
        updates = []
        for number in range(1, _BATCHES + 1):
            eventually(lambda: numbers(page, ".workflow", "changes") >= [number], 90)  # noqa: B023 - asked at once
            updates.append(sum(numbers(page, ".workflow", "applied") + numbers(page, "canvas", "painted")))
        run.cancel("measured")
    return Timed("10,000 stages at work: a batch of changes", "ms", MAX_UPDATE_MS, tuple(updates))


def _first_s(page: "Page", site: Site, address: str, selector: str) -> float:
    """Return how long it takes from the address to the first thing that is wanted there."""
    page.goto("about:blank")
    began = time.monotonic()
    open_page(page, site, address)
    page.locator(selector).first.wait_for()
    return time.monotonic() - began


def _moved_ms(page: "Page", key: str) -> float:
    page.keyboard.press(key)
    page.evaluate("new Promise(requestAnimationFrame)")
    [painted_ms] = numbers(page, "canvas", "painted")
    return painted_ms


def table(rows: list[Timed]) -> str:
    """Return the rows as people read them."""
    head = f"{'the page':<46} {'minimum':>8} {'median':>8} {'maximum':>8}  below"
    return "\n".join([head, *map(_line, rows)])


def _line(row: Timed) -> str:
    low, middle, high = (f"{value:.3g}" for value in (min(row.values), median(row.values), max(row.values)))
    verdict = f"{row.limit:g} {row.unit}  {'yes' if row.is_within else 'NO'}"
    return f"{row.name:<46} {low:>8} {middle:>8} {high:>8}  {verdict}"
