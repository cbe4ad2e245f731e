"""The page while Redis is away: it says so, and goes on by itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from stabilize_celery.client import Client
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.settings import Settings
from tests.integration.browser import browser, new_page
from tests.integration.site import served, stage
from tests.servers import RedisServer

pytestmark = pytest.mark.real


HAS_COME = {
    "workflows": "1 workflow",
    "locks": "No mutex is held or waited for.",
    "schedules": "There are none. `stabilize-celery schedule add` makes one.",
    "fleet": "No worker is running",
    "dead": "There are none.",
    "one workflow": "Time line",
}


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
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(append_only=True))
        settings = Settings(redis_url=server.url, socket_timeout_ms=1_000)
        client = stack.enter_context(Client(settings=settings))
        site = stack.enter_context(served(client))
        page = stack.enter_context(new_page(stack.enter_context(browser())))
        run = client.start(Workflow.create("shop", "one", [stage("a")])).id
        page.goto(f"{site.url}/#/{f'workflows/{run}' if view == 'one workflow' else view}")
        page.set_default_timeout(60_000)
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
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(append_only=True))
        settings = Settings(redis_url=server.url, socket_timeout_ms=1_000)
        client = stack.enter_context(Client(settings=settings))
        site = stack.enter_context(served(client))
        page = stack.enter_context(new_page(stack.enter_context(browser())))
        page.set_default_timeout(60_000)
        run = client.start(Workflow.create("shop", "one", [stage("a")])).id

        server.kill()
        page.goto(f"{site.url}/#/{f'workflows/{run}' if view == 'one workflow' else view}")
        page.get_by_text("○ Redis is away").wait_for()
        assert "reach the state server" in str(page.locator("#live").get_attribute("title"))
        server.start()

        page.get_by_text(HAS_COME[view]).first.wait_for()
        page.get_by_text("○ Redis is away").wait_for(state="detached")


def test_what_can_not_be_read_is_told_in_words() -> None:
    """A part of the view that is chosen while Redis is away: not an empty place without a word."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        client = stack.enter_context(Client(settings=Settings(redis_url=server.url, socket_timeout_ms=1_000)))
        site = stack.enter_context(served(client))
        page = stack.enter_context(new_page(stack.enter_context(browser())))
        run = client.start(Workflow.create("shop", "one", [stage("a")])).id
        page.goto(f"{site.url}/#/workflows/{run}")
        page.get_by_text("● live").wait_for()

        server.freeze()
        page.get_by_role("tab", name="Definition").click()
        page.get_by_text("Can't reach the state server").first.wait_for()
        server.thaw()
