"""A workflow on the page, in a real browser: what a person sees is so and follows it, what they press is done."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from stabilize_celery.models.workflow import Workflow
from tests.integration.browser import new_page
from tests.integration.fleet import eventually
from tests.integration.site import Site, flow, gate, open_page, order, stage, started

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.real


def chip(page: Page, text: str) -> None:
    """Wait until the header counts so."""
    page.locator(".head .chip", has_text=text).first.wait_for()


def test_an_order_from_the_list_to_its_end(site: Site, page: Page, picture: Callable[[Page, str], None]) -> None:
    """Found in the list, looked at as a graph, approved in the panel, followed to its end without a reload."""
    run = started(site, order(), approve="SUSPENDED", weigh="SUCCEEDED", pack="SUCCEEDED")
    open_page(page, site, "/workflows")
    page.get_by_role("link", name=run).click()
    chip(page, "1 FAILED_CONTINUE")
    page.evaluate("window.stayed = true")
    open_page(page, site, f"/workflows/{run}/graph?stage=approve")
    panel = page.get_by_role("complementary", name="Stage")
    panel.get_by_role("button", name="Signal approve").click()
    picture(page, "web-signal")
    page.get_by_role("dialog").get_by_label("Payload").fill('{"by": "Ann"}')
    page.get_by_role("dialog").get_by_role("button", name="Send").click()

    chip(page, "SUCCEEDED")
    chip(page, "6 SUCCEEDED")
    assert page.evaluate("window.stayed")
    assert site.client.get(run).stage_by_ref_id("approve").outputs["payload"] == {"by": "Ann"}
    panel.get_by_text('"Ann"').first.wait_for()
    panel.get_by_role("button", name="Restart from here").wait_for()


def test_what_failed_is_shown_with_its_traceback(site: Site, page: Page) -> None:
    """In the panel of the stage, and under Why."""
    script = {"script": "def boom():\n    raise ValueError('no such order')\nboom()"}
    run = site.client.start(flow(stage("bad", does="python", context=script)))
    run.wait(60)
    open_page(page, site, f"/workflows/{run.id}/graph?stage=bad")

    panel = page.get_by_role("complementary", name="Stage")
    panel.get_by_text("no such order").first.wait_for()
    panel.get_by_text("Events", exact=True).click()
    panel.locator("td", has_text="task bad TERMINAL").or_(panel.locator("td", has_text="TERMINAL")).first.wait_for()
    open_page(page, site, f"/workflows/{run.id}/why")
    page.locator(".reason", has_text="no such order").first.wait_for()


def test_a_failed_workflow_is_restarted_from_a_stage(site: Site, page: Page) -> None:
    """Once that was confirmed; the page follows the new run."""
    once = {
        "command": "test -e $MARK && exit 0; touch $MARK; exit 1",
        "env": {"MARK": f"/tmp/{os.getpid()}-{time.time_ns()}"},
    }
    run = site.client.start(flow(stage("flaky", does="shell", context=once), stage("after", "flaky")))
    run.wait(60)
    open_page(page, site, f"/workflows/{run.id}/graph?stage=flaky")
    page.get_by_role("button", name="Restart from here").click()
    page.get_by_role("dialog").get_by_role("button", name="Restart from here").click()

    chip(page, "2 SUCCEEDED")
    page.get_by_text(re.compile("restarted 1.")).wait_for()


def test_pause_and_resume(site: Site, page: Page) -> None:
    """Who paused it stands with it; resumed, it goes on."""
    run = started(site, flow(gate(), stage("after", "gate")), gate="SUSPENDED")
    open_page(page, site, f"/workflows/{run}")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    page.get_by_text("Paused by local (web)").wait_for()
    site.client.handle(run).signal("gate", "approve")
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()

    chip(page, "2 SUCCEEDED")


def test_text_of_workflows_is_never_code(site: Site, page: Page) -> None:
    """Names, contexts and outputs that look like HTML are shown as they are."""
    evil = "<img src=x onerror=window.hacked=1>"
    run = started(
        site, flow(stage("a", does="noop", context={"x": evil}), gate("gate", "a"), name=evil), gate="SUSPENDED"
    )
    open_page(page, site, "/workflows")
    page.get_by_text(evil).first.wait_for()
    open_page(page, site, f"/workflows/{run}/stages?stage=a")
    page.get_by_role("heading", name=re.compile("onerror")).wait_for()
    page.get_by_text("Context, as defined").click()
    page.locator("pre", has_text="onerror").wait_for()

    assert page.evaluate("window.hacked") is None


def test_a_name_turns_nothing_round(still: Site, page: Page) -> None:
    """Marks of writing direction are shown as such; letters of a script from the right stay among themselves."""
    run = still.client.start(Workflow.create("\u05e9\u05dc\u05d5\u05dd", "\u202elive", [gate("\u2066gate")]))
    open_page(page, still, f"/workflows/{run.id}/definition")

    page.get_by_role("heading", name="\ufffdlive").wait_for()
    page.locator("pre", has_text=r"\u202elive").wait_for()
    application, name = page.locator(".head bdi").bounding_box(), page.locator(".head code.id").bounding_box()
    assert application is not None
    assert name is not None
    assert application["x"] + application["width"] <= name["x"]


def test_nothing_is_cancelled_before_it_was_confirmed(site: Site, page: Page) -> None:
    """Back and Escape do nothing; the button with the words does it, with the reason."""
    run = started(site, flow(gate()), gate="SUSPENDED")
    open_page(page, site, f"/workflows/{run}")
    for leave in ("Back", None):
        page.get_by_role("button", name="Cancel", exact=True).click()
        if leave:
            page.get_by_role("button", name=leave).click()
        else:
            page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
    assert site.client.handle(run).status().name == "RUNNING"
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_label("Reason").fill("changed my mind")
    page.get_by_role("button", name="Cancel the workflow").click()

    chip(page, "CANCELED")
    page.get_by_text("changed my mind").first.wait_for()
    assert site.client.get(run).cancellation_reason == "changed my mind"


def test_an_act_without_effect_says_why_and_stays_open(site: Site, page: Page) -> None:
    """Somebody else was faster: the dialog tells it."""
    run = started(site, flow(gate()), gate="SUSPENDED")
    open_page(page, site, f"/workflows/{run}")
    page.get_by_role("button", name="Pause").click()
    site.client.handle(run).pause()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()

    page.get_by_role("alert").get_by_text("No effect").wait_for()


def test_the_graph_goes_by_keyboard_and_is_read_out(site: Site, page: Page) -> None:
    """Arrows go along the lines, Enter opens the stage, Escape closes it."""
    run = started(site, order(), approve="SUSPENDED", label="FAILED_CONTINUE")
    open_page(page, site, f"/workflows/{run}")
    page.get_by_role("application").focus()
    told = page.locator("#graph-told")
    page.keyboard.press("ArrowRight")
    assert "charge: succeeded" in told.inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")

    panel = page.get_by_role("complementary", name="Stage")
    panel.get_by_role("heading", name=re.compile("weigh|ship")).wait_for()
    page.keyboard.press("Escape")
    panel.wait_for(state="hidden")


def test_every_view_can_be_reached_and_linked_to(
    site: Site, chromium: Browser, picture: Callable[[Page, str], None]
) -> None:
    """Graph, time line, stages, history, why, definition: each under an address of its own; light and dark."""
    run = started(site, order(), approve="SUSPENDED", weigh="SUCCEEDED", pack="SUCCEEDED")
    with new_page(chromium, color_scheme="light") as page:
        open_page(page, site, f"/workflows/{run}/graph?stage=label")
        page.get_by_text("no printer").first.wait_for()
        page.locator("canvas[data-paints]").wait_for()
        picture(page, "web-graph")
        page.get_by_role("tab", name="Stages").click()
        page.locator(".virtual .row", has_text="invoice").wait_for()
        page.get_by_role("tab", name="History").click()
        page.locator(".inner .row:visible").first.wait_for()
        page.get_by_role("grid", name="History").press("Home")
        page.get_by_text("workflow 'order' created").wait_for()
        page.get_by_role("tab", name="Why").click()
        page.get_by_text("Nobody has sent it").first.wait_for()
        page.get_by_role("tab", name="Definition").click()
        page.locator("pre", has_text='"order_id": 7').wait_for()
    with new_page(chromium, color_scheme="dark") as page:
        open_page(page, site, f"/workflows/{run}/gantt?stage=label")
        page.get_by_text("no printer").first.wait_for()
        page.locator(".gantt canvas").wait_for()
        picture(page, "web-timeline-dark")


def test_history_and_stages_follow_what_happens(site: Site, page: Page) -> None:
    """Whatever view is open."""
    run = started(site, flow(gate(), stage("after", "gate")), gate="SUSPENDED")
    open_page(page, site, f"/workflows/{run}/events")
    page.get_by_text("waits for signal 'approve'").first.wait_for()
    site.client.handle(run).signal("gate", "approve")

    page.locator(".row", has_text="workflow SUCCEEDED").wait_for()
    page.get_by_role("tab", name="Stages").click()
    page.locator(".row", has_text="after").locator(".chip", has_text="SUCCEEDED").wait_for()


def test_a_workflow_is_started_from_the_page(site: Site, page: Page) -> None:
    """A bad definition is told problem by problem; a sound one leads to its workflow."""
    open_page(page, site, "/start")
    definition = page.get_by_label("Definition (JSON)")
    text = definition.input_value()
    definition.fill(text.replace('"pay"\n      ]', '"pai"\n      ]'))
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("alert").get_by_text("did you mean 'pay'").wait_for()
    definition.fill(text.replace('"charge"', '"work"').replace('"ship"', '"work"'))
    page.get_by_role("button", name="Start", exact=True).click()

    chip(page, "2 SUCCEEDED")


def test_a_priority_is_given_with_a_start(still: Site, page: Page) -> None:
    """Beside the definition; the workflow's head shows it."""
    open_page(page, still, "/start")
    page.get_by_label("Priority").fill("9")
    page.get_by_role("button", name="Start", exact=True).click()

    page.locator(".head").get_by_text("priority 9").wait_for()


def test_an_unknown_workflow_is_told_in_words(site: Site, page: Page) -> None:
    """The server's own words."""
    open_page(page, site, "/workflows/01ARZ3NDEKTSV4RRFFQ69G5FAV")

    page.get_by_text("no workflow '01ARZ3NDEKTSV4RRFFQ69G5FAV'").wait_for()


def test_an_address_that_nobody_made_is_told(still: Site, page: Page) -> None:
    """Typed by hand: half a letter, the name of something that every object has."""
    open_page(page, still, "/workflows")
    page.locator(".virtual").wait_for()
    page.goto(still.url + "/#/constructor")
    page.get_by_text("There is no such page.").wait_for()
    page.goto(still.url + "/#/workflows/%E0%A4%A")

    page.get_by_text("no workflow '%E0%A4%A'").wait_for()


def test_a_tab_of_the_browser_says_what_it_shows(still: Site, page: Page) -> None:
    """Who has several open tells them apart; the notes of a list of stages are no boxes."""
    run = still.client.start(flow(gate(), name="told-apart"))
    open_page(page, still, "/locks")
    eventually(lambda: page.title() == "Locks · stabilize-celery", 30)
    page.goto(f"{still.url}/#/workflows/{run.id}/stages")
    eventually(lambda: page.title() == f"told-apart …{run.id[-6:]} · stabilize-celery", 30)

    page.locator(".virtual .row").first.wait_for()
    assert page.locator(".virtual .cell.note").first.evaluate("one => getComputedStyle(one).borderTopWidth") == "0px"
