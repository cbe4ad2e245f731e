"""What a browser shows and sends is what is there: also after a pause, under a filter, and to the last digit."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

from stabilize_celery.client import Client
from stabilize_celery.web import WebSettings
from tests.integration.browser import new_page
from tests.integration.fleet import eventually
from tests.integration.site import Site, flow, gate, open_page, served, stage, started
from tests.integration.web_page.test_all_of_them import bury_one

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

import pytest

pytestmark = pytest.mark.real
TOKEN = "a token that is long enough"
LONG = 9_007_199_254_740_993
"""What JavaScript rounds."""


def rows_of(page: Page) -> int:
    return int(page.locator(".virtual").get_attribute("aria-rowcount") or 0)


def test_a_number_is_sent_and_shown_to_its_last_digit(still: Site, page: Page) -> None:
    """Ids of other systems have more digits than JavaScript's numbers."""
    definition = still_definition = {
        "application": "shop",
        "name": "digits",
        "context": {"order_id": LONG, "ratio": 1.0},
        "stages": [{"ref_id": "a", "type": "x", "name": "a", "tasks": [{"name": "t", "implementing_class": "t"}]}],
    }
    open_page(page, still, "/start")
    page.get_by_label("Definition (JSON)").fill(json.dumps(definition))
    page.get_by_role("button", name="Start").click()
    page.get_by_role("tab", name="Definition").click()
    page.get_by_text(str(LONG)).wait_for()

    (run,) = still.client.list(name="digits").items
    assert still.client.get(run.id).context == still_definition["context"]
    assert isinstance(still.client.get(run.id).context["ratio"], float)


def test_what_a_signal_brings_is_what_was_written(site: Site, page: Page) -> None:
    run = started(site, flow(gate(), name="signalled"), gate="SUSPENDED")
    open_page(page, site, f"/workflows/{run}/graph?stage=gate")
    page.get_by_role("complementary", name="Stage").get_by_role("button", name="Signal approve").click()
    page.get_by_label("Payload (JSON, or nothing)").fill(f'{{"order": {LONG}}}')
    page.get_by_role("dialog").get_by_role("button", name="Send").click()

    done = site.client.handle(run).wait(60)
    assert str(LONG) in json.dumps(done.stages[0].outputs)
    page.get_by_role("complementary", name="Stage").get_by_text(str(LONG)).first.wait_for()


def test_a_list_has_no_gaps(still: Site, page: Page) -> None:
    """More came while nobody looked than a stream tells of at once."""
    still.client.start(flow(gate(), name="gap"))
    open_page(page, still, "/workflows?name=gap")
    eventually(lambda: rows_of(page) == 1)
    still.client.start_many([flow(gate(), name="gap") for _ in range(120)])

    eventually(lambda: rows_of(page) == 121)
    page.get_by_text("121 workflows", exact=True).wait_for()


def test_a_list_follows_its_filter(still: Site, page: Page) -> None:
    """What comes into a status appears where it belongs, what leaves it goes; a time of start holds for news, too."""
    runs = [still.client.start(flow(gate(), name="filtered")) for _ in range(3)]
    runs[2].cancel("first")
    open_page(page, still, "/workflows?name=filtered&status=CANCELED")
    eventually(lambda: rows_of(page) == 1)
    runs[0].cancel("second")
    eventually(lambda: rows_of(page) == 2)
    shown = [page.locator(".virtual .row").nth(at).get_by_role("link").first.inner_text() for at in range(2)]
    assert shown == [runs[2].id, runs[0].id]

    open_page(page, still, "/workflows?name=filtered&status=RUNNING")
    eventually(lambda: rows_of(page) == 1)
    runs[1].cancel("third")
    page.get_by_text("There are none.").wait_for()

    open_page(page, still, "/workflows?name=filtered&since=2100-01-01T00:00")
    page.get_by_text("There are none.").wait_for()
    page.get_by_text("● live").wait_for()
    assert rows_of(page) == 0


def test_a_replay_without_effect_is_told(still: Site, page: Page) -> None:
    """Somebody else was faster."""
    run = still.client.start(flow(stage("a")))
    bury_one(still, run.id)
    open_page(page, still, "/dead")
    page.get_by_role("button", name="Replay", exact=True).click()
    [letter] = still.get("/dead")["items"]
    assert still.post(f"/dead/{run.id}/{letter['name']}/drop").json()["took_effect"]
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()

    page.get_by_role("dialog").get_by_text("0 of 1 message handled again").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Back").click()
    page.get_by_text("There are none.").wait_for()


def test_the_keyboard_keeps_its_place(site: Site, page: Page) -> None:
    """Over what is drawn anew, and over what is left."""
    run = started(site, flow(gate(), stage("b"), name="keys"), gate="SUSPENDED", b="SUCCEEDED")
    open_page(page, site, f"/workflows/{run}/graph?stage=gate")
    page.get_by_role("complementary", name="Stage").get_by_role("button", name="Skip").focus()
    page.evaluate("document.activeElement.dataset.mark = 'before'")
    site.client.handle(run).signal("gate", "other")
    eventually(lambda: page.locator("[data-mark]").count() == 0)

    assert page.evaluate("document.activeElement.textContent") == "Skip"
    page.keyboard.press("Escape")
    page.get_by_role("complementary", name="Stage").wait_for(state="hidden")
    assert page.evaluate("document.activeElement !== document.body")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("heading", name="keys").wait_for()
    site.client.handle(run).cancel("test")


def test_a_result_comes_while_it_is_looked_at(site: Site, page: Page) -> None:
    run = started(site, flow(gate(), name="awaited"), gate="SUSPENDED")
    open_page(page, site, f"/workflows/{run}/result")
    page.get_by_text("there is a result once it has ended").wait_for()
    site.client.handle(run).signal("gate", "approve")

    page.locator("pre", has_text="gate").or_(page.locator("pre", has_text="signal")).first.wait_for()
    assert page.get_by_text("there is a result once it has ended").count() == 0


def test_who_is_signed_out_signs_in_where_they_were(chromium: Browser, redis_url: str) -> None:
    """What was typed is still there; a view that lives asks for the token by itself."""
    with ExitStack() as stack:
        client = stack.enter_context(Client(redis_url, redis_url))
        site = stack.enter_context(served(client, WebSettings(token=TOKEN, session_s=3)))
        page = stack.enter_context(new_page(chromium))
        open_page(page, site, "/start")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("Idempotency key").fill("typed by hand")
        page.get_by_role("link", name="Locks").wait_for()
        eventually(lambda: page.evaluate("fetch('api/v1/service').then((answer) => answer.status)") == 401)
        page.get_by_role("button", name="Start", exact=True).click()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        assert page.get_by_label("Idempotency key").input_value() == "typed by hand"

        page.get_by_role("link", name="Locks").click()
        page.get_by_text("● live").wait_for()
        page.get_by_label("Token").wait_for(timeout=30_000)
