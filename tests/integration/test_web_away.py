"""The page while Redis is away: it says so, and goes on by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from stabilize_celery.client import Client
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.settings import Settings
from tests.integration.browser import browser, new_page
from tests.integration.site import served, stage
from tests.servers import RedisServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.real


HAS_COME = {
    "workflows": "1 workflow",
    "locks": "No mutex is held or waited for.",
    "schedules": "There are no schedules. `stabilize-celery schedule add` adds one.",
    "fleet": "No worker is running",
    "dead": "There are none.",
    "one workflow": "Time line",
}


@contextmanager
def opened() -> Iterator[tuple[RedisServer, Page, str, str]]:
    """Yield a Redis that holds one workflow, a page that is still empty, where the site is, and the workflow's id."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(append_only=True))
        client = stack.enter_context(Client(settings=Settings(redis_url=server.url, socket_timeout_ms=1_000)))
        site = stack.enter_context(served(client))
        page = stack.enter_context(new_page(stack.enter_context(browser())))
        page.set_default_timeout(60_000)
        yield server, page, site.url, client.start(Workflow.create("shop", "one", [stage("a")])).id


def address(url: str, view: str, run: str) -> str:
    """Return where a view is."""
    return f"{url}/#/{f'workflows/{run}' if view == 'one workflow' else view}"


@pytest.mark.parametrize("view", ["workflows", "locks", "one workflow"])
@pytest.mark.parametrize(
    ("leave", "come_back"),
    [(RedisServer.freeze, RedisServer.thaw), (RedisServer.kill, RedisServer.start)],
    ids=["silent", "gone"],
)
def test_a_page_says_that_redis_is_away_and_when_it_is_back(
    view: str, leave: Callable[[RedisServer], None], come_back: Callable[[RedisServer], None]
) -> None:
    """Though nothing has changed meanwhile: who looks at a page that is not told of anything must know why."""
    with opened() as (server, page, url, run):
        page.goto(address(url, view, run))
        live = page.locator("#live")
        page.get_by_text("● live").wait_for()

        leave(server)
        page.get_by_text("○ Redis is away").wait_for()
        assert "reach the state server" in str(live.get_attribute("title"))
        come_back(server)

        page.get_by_text("● live").wait_for()
        assert live.get_attribute("title") == ""


@pytest.mark.parametrize("view", HAS_COME)
def test_a_page_that_is_opened_while_redis_is_away_comes_alive_by_itself(view: str) -> None:
    """It says what is wrong, and needs no reload by hand."""
    with opened() as (server, page, url, run):
        server.kill()
        page.goto(address(url, view, run))
        page.get_by_text("○ Redis is away").wait_for()
        assert "reach the state server" in str(page.locator("#live").get_attribute("title"))
        server.start()

        page.get_by_text(HAS_COME[view]).first.wait_for()
        page.get_by_text("○ Redis is away").wait_for(state="detached")


def test_what_can_not_be_read_is_told_in_words() -> None:
    """A part of the view that is chosen while Redis is away: not an empty place without a word."""
    with opened() as (server, page, url, run):
        page.goto(address(url, "one workflow", run))
        page.get_by_text("● live").wait_for()

        server.freeze()
        page.get_by_role("tab", name="Definition").click()
        page.get_by_text("Can't reach the state server").first.wait_for()
        server.thaw()
