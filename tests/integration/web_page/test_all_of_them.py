"""List, locks, schedules and fleet in a real browser: who may see them, and how they do with many."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from stabilize_celery.client import Client
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import SetFields, workflow_slot
from stabilize_celery.models.definition import to_definition
from stabilize_celery.models.schedule import Schedule
from stabilize_celery.store.contract import Bury, Transaction
from stabilize_celery.web import WebSettings
from tests.integration.browser import new_page
from tests.integration.fleet import eventually
from tests.integration.site import Site, fan, flow, gate, lattice, list_many, numbers, open_page, served, stage, started
from tests.simulation.nesting import gated
from tests.unit.client.world import World

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.real
TOKEN = "a token that is long enough"


def size_of(page: Page, selector: str, text: str) -> Mapping[str, float]:
    box = page.locator(selector, has_text=text).bounding_box()
    assert box is not None
    return {"width": box["width"], "height": box["height"]}


def test_the_page_fits_a_telephone(still: Site, page: Page) -> None:
    """Whatever somebody called their workflow: nothing is beside the screen, and no word is cut into letters."""
    run = still.client.start(flow(gate(), name="n" * 190))
    still.client.schedules.add(
        Schedule(name="s" * 190, definition=to_definition(flow(gate())), cron="0 3 * * *", timezone="Europe/Berlin")
    )
    page.set_viewport_size({"width": 360, "height": 640})
    for address, heading in (
        ("/workflows", "Workflows"),
        ("/locks", "Locks"),
        ("/schedules", "Schedules"),
        ("/fleet", "Fleet"),
        (f"/workflows/{run.id}", "n" * 190),
    ):
        open_page(page, still, address)
        page.locator("h1", has_text=heading).wait_for(state="attached")
        page.locator(".virtual .row" if address == "/workflows" else "h1").first.wait_for(state="attached")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address
        if address == "/workflows":
            box = page.locator(".virtual").bounding_box()
            assert box is not None
            assert box["y"] < 400, "what is listed is seen before what it is searched by is scrolled away"
        if address == "/schedules":
            assert size_of(page, "th", "Workflow")["height"] < 40, "its head is one line"
            assert size_of(page, "td", "Europe/Berlin")["width"] > 80, "a word is not cut"
            still.client.schedules.remove("s" * 190)


def test_the_list_lives_and_filters_stand_in_the_address(site: Site, page: Page) -> None:
    """A new workflow appears, one that ends changes, a filter can be sent to somebody else."""
    open_page(page, site, "/workflows?name=seen-live")
    page.get_by_text("There are none.").wait_for()
    run = started(site, flow(gate(), name="seen-live"), gate="SUSPENDED")
    row = page.locator(".virtual .row", has_text=run)
    row.locator(".chip", has_text="RUNNING").wait_for()
    site.client.handle(run).cancel("test")
    row.locator(".chip", has_text="CANCELED").wait_for()
    page.get_by_label("Status").select_option("RUNNING")

    page.wait_for_url(re.compile("status=RUNNING&name=seen-live|name=seen-live.*status=RUNNING"))
    page.get_by_text("There are none.").wait_for()


def test_locks_and_their_queues_live(site: Site, page: Page, picture: Callable[[Page, str], None]) -> None:
    """Holder and waiters in order, with links; when the holder ends the next one holds it."""
    waiting = [
        started(
            site,
            flow(stage(ref, does="approval", mutex_key="crane", context={"signal": "go"}), name="unload"),
            **{ref: status},
        )
        for ref, status in (("ship1", "SUSPENDED"), ("ship2", "BUFFERED"), ("ship3", "BUFFERED"))
    ]
    open_page(page, site, "/locks")
    card = page.locator(".card", has_text="crane")
    card.locator("tr", has_text="holds it").get_by_text("ship1").wait_for()
    assert [row.split("\t")[0].strip() for row in card.locator("tbody tr").all_inner_texts()] == [
        "holds it",
        "1.",
        "2.",
    ]
    picture(page, "web-locks")
    site.client.handle(waiting[0]).cancel("test")

    card.locator("tr", has_text="holds it").get_by_text("ship2").wait_for()
    for run in waiting[1:]:
        site.client.handle(run).cancel("test")


def bury_one(site: Site, workflow_id: str) -> None:
    """Let what a workflow owes be a dead letter."""
    store = site.client.store
    with store.session(workflow_slot(workflow_id)) as session:
        entries = [one for found in store.first_due(range(16), 9)[1].values() for one in found]
        (name,) = {one.name for one in entries if one.workflow_id == workflow_id}
        broken = ENTRY.encode(tries=10, error="Traceback:\nKeyError: 'x'")
        session.commit(Transaction([SetFields(ledger(name), broken)], [Bury(name, store.time_ms())]))


def test_a_deadlock_is_marked_and_told(chromium: Browser, page: Page) -> None:
    """Who holds and wants what, in words, with the commands that would break it; both locks bear the mark."""
    world = World()
    for keys_ in (("dock", "gate"), ("gate", "dock")):
        world.start(*gated(*keys_)).signal("gate", "go")
    world.settle(5)
    with served(world.client) as site:
        open_page(page, site, "/locks")
        told = page.get_by_role("alert")
        told.get_by_text("To break it, end one of them").wait_for()

        assert "stabilize-celery cancel" in told.inner_text()
        assert page.locator(".card .chip", has_text="deadlock").count() == 2


def test_the_list_shows_dead_letters_and_priorities(still: Site, page: Page) -> None:
    """Nobody looks at dead letters that are not seen where workflows are; the mark leads to them."""
    run = still.client.start(flow(stage("a"), name="stuck", priority=6))
    bury_one(still, run.id)
    open_page(page, still, "/workflows")
    row = page.locator(".row", has_text=run.id)
    row.get_by_text("priority 6").wait_for()
    row.get_by_text("1 dead letter").click()

    page.get_by_text("1 message that could not be handled").wait_for()


def test_a_dead_letter_is_replayed_and_another_dropped(still: Site, page: Page) -> None:
    """Each once confirmed; the dropped one's workflow has ended."""
    runs = [still.client.start(flow(stage("a"))) for _ in range(2)]
    for run in runs:
        bury_one(still, run.id)
    open_page(page, still, "/dead")
    page.get_by_text("2 messages that could not be handled").wait_for()
    page.get_by_text("KeyError: 'x'").first.wait_for()
    page.locator(".card", has_text=runs[0].id).get_by_role("button", name="Replay").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    page.get_by_text("1 message that could not be handled").wait_for()
    page.get_by_role("button", name="Drop").click()
    page.get_by_role("dialog").get_by_role("button", name="Drop it").click()

    page.get_by_text("There are none.").wait_for()
    assert [run.status().name for run in runs] == ["RUNNING", "TERMINAL"]


def test_schedules_are_shown_paused_and_started(still: Site, page: Page) -> None:
    """Each act once confirmed; what was started is in the list."""
    definition = to_definition(flow(stage("a"), name="report"))
    still.client.schedules.add(Schedule(name="nightly/eu", definition=definition, cron="0 3 * * *"))
    open_page(page, still, "/schedules")
    row = page.locator("tr", has_text="nightly/eu")
    row.get_by_text("0 3 * * * UTC").wait_for()
    row.get_by_role("button", name="Start now").click()
    page.get_by_role("dialog").get_by_role("button", name="Start now").click()
    page.get_by_text(re.compile("Started 0")).wait_for()
    row.get_by_role("button", name="Pause").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()

    row.get_by_role("button", name="Resume").wait_for()
    row.get_by_text("paused").wait_for()
    assert [item.name for item in still.client.list().items] == ["report"]


def test_a_stage_that_no_worker_is_at_says_so(site: Site, page: Page) -> None:
    """RUNNING alone would say that somebody works on it."""
    run = started(site, flow(stage("a", does="no such task")), a="RUNNING")
    open_page(page, site, f"/workflows/{run}/stages")

    page.locator(".row", has_text="no such task").get_by_text("no worker runs it").wait_for()
    site.client.handle(run).cancel("seen")


def test_a_result_is_shown_once_it_is_there(site: Site, page: Page) -> None:
    """What every stage put out, on a tab of its own."""
    run = started(site, flow(stage("after")), after="SUCCEEDED")
    site.client.handle(run).wait(30)
    open_page(page, site, f"/workflows/{run}/result")

    page.locator("details[data-name=Result] pre").wait_for()


def test_the_fleet_is_shown(site: Site, page: Page, picture: Callable[[Page, str], None]) -> None:
    """Workers with what they know, queues with who serves them."""
    open_page(page, site, "/fleet")
    page.get_by_text("● answers").wait_for()
    page.locator("tr", has_text="stabilize.work").first.wait_for()
    picture(page, "web-fleet")


def test_a_queue_that_nobody_serves_is_marked(still: Site, page: Page) -> None:
    """In words, not in colour alone."""
    still.client.start(flow(stage("a")))
    open_page(page, still, "/fleet")

    page.locator("tr", has_text="stabilize.control").get_by_text("nobody listens").wait_for()
    page.get_by_text("No worker is running").wait_for()


# -- who may -----------------------------------------------------------------------------------------------------------


def test_signing_in_and_out(chromium: Browser, redis_url: str) -> None:
    """Without the token nothing is shown; afterwards all of it, streams too; signed out, nothing again."""
    with ExitStack() as stack:
        client = stack.enter_context(Client(redis_url, redis_url))
        site = stack.enter_context(served(client, WebSettings(token=TOKEN)))
        page = stack.enter_context(new_page(chromium))
        run = client.start(flow(gate())).id
        open_page(page, site, "/workflows")
        page.get_by_label("Token").fill("not the token at all")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("That is not the token.").wait_for()
        assert run not in page.content()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name=run).wait_for()
        page.get_by_text("● live").wait_for()
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Token").wait_for()
        page.reload()
        page.get_by_label("Token").wait_for()


def test_a_read_only_page_offers_nothing_to_press(chromium: Browser, redis_url: str) -> None:
    """No action, no start; all is to be seen."""
    with ExitStack() as stack:
        client = stack.enter_context(Client(redis_url, redis_url))
        site = stack.enter_context(served(client, WebSettings(is_read_only=True)))
        page = stack.enter_context(new_page(chromium))
        run = client.start(flow(gate())).id
        open_page(page, site, f"/workflows/{run}/graph?stage=gate")
        page.get_by_text("read-only").wait_for()
        page.get_by_role("complementary", name="Stage").get_by_role("heading", name="gate").wait_for()

        assert page.get_by_role("button", name=re.compile("Cancel|Pause|Signal|Skip")).count() == 0
        assert page.get_by_role("link", name="Start").count() == 0


# -- large -------------------------------------------------------------------------------------------------------------

# How long all of this takes: `python -m benchmarks page`.


@pytest.mark.parametrize("shape", ["fan", "lattice"])
def test_ten_thousand_stages_are_drawn_and_moved(still: Site, page: Page, shape: str) -> None:
    """Stages alike as one field, or each for itself; moving and zooming redraws what is seen."""
    workflow = fan(10_000) if shape == "fan" else lattice(100, 100)
    open_page(page, still, f"/workflows/{still.client.start(workflow).id}")
    page.locator("canvas[data-paints]").wait_for()
    page.get_by_role("application").focus()
    for key in ("-", "+", "ArrowRight"):
        [before] = numbers(page, "canvas", "paints")
        page.keyboard.press(key)
        eventually(lambda: numbers(page, "canvas", "paints") > [before])  # noqa: B023 - asked at once
    for _ in range(12):
        page.keyboard.press("-")
    [before] = numbers(page, "canvas", "paints")
    # It is drawn again each second, for the durations.
    eventually(lambda: numbers(page, "canvas", "paints") > [before + 1])


def test_ten_thousand_stages_live(busy: Site, page: Page, picture: Callable[[Page, str], None]) -> None:
    """While a worker works through them the page takes batch after batch of changes, and stays at hand."""
    run = busy.client.start(fan(10_000, "wide"))
    open_page(page, busy, f"/workflows/{run.id}")
    eventually(lambda: numbers(page, ".workflow", "changes") >= [5], 90)
    assert "SKIPPED" not in page.locator(".counts").inner_text()
    picture(page, "web-large")
    page.get_by_role("tab", name="Stages").click()
    page.get_by_label("Search").fill("part9999")
    page.locator(".row", has_text="part9999").wait_for()
    run.cancel("test")


def test_a_hundred_thousand_workflows_are_listed_searched_and_scrolled(
    still: Site, redis_url: str, page: Page, picture: Callable[[Page, str], None]
) -> None:
    """The first rows come at once, more as one scrolls; a text is found, and the search says how far it has looked."""
    list_many(redis_url, 100_000)
    open_page(page, still, "/workflows")
    page.locator(".virtual .row .chip").first.wait_for()
    picture(page, "web-list")
    box = page.get_by_role("grid", name="Workflows")
    for _ in range(5):
        box.press("End")
        page.wait_for_timeout(50)
    eventually(lambda: len(page.locator(".virtual .row").all()) < 60)
    page.get_by_text(re.compile(r"[1-9],?\d\d\d workflows so far")).wait_for()
    open_page(page, still, "/workflows?q=needle")
    page.get_by_text("looked through").wait_for()
    eventually(lambda: search_on(page), 60)


def search_on(page: Page) -> bool:
    if page.locator(".row", has_text="needle").count():
        return True
    button = page.get_by_role("button", name="Keep searching")
    if button.is_visible():
        button.click()
    return False
