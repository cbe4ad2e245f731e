"""The page in a real browser: what a person sees is so and follows what happens, what they press is done once asked."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stabilize_celery.client import Client
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import SetFields, workflow_slot
from stabilize_celery.models.definition import to_definition
from stabilize_celery.models.schedule import Schedule
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.store.contract import Bury, Transaction
from stabilize_celery.web import WebSettings
from tests.integration.browser import browser, new_page
from tests.integration.fleet import eventually
from tests.integration.site import (
    Site,
    fan,
    lattice,
    list_many,
    numbers,
    open_page,
    order,
    served,
    site_with_a_worker,
    stage,
)
from tests.simulation.nesting import gated
from tests.unit.client.world import World

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.real
TOKEN = "a token that is long enough"
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


def flow(*stages: object, name: str = "one", **more: object) -> Workflow:
    return Workflow.create("shop", name, list(stages), **more)  # type: ignore[arg-type]


def gate(ref: str = "gate", *after: str) -> object:
    return stage(ref, *after, does="approval", context={"signal": "approve"})


def started(site: Site, workflow: Workflow, **statuses: str) -> str:
    """Start it and wait for these statuses."""
    run = site.client.start(workflow)

    def is_there() -> bool:
        found = {one.ref_id: one.status.name for one in run.get().stages}
        return all(found[ref] == status for ref, status in statuses.items())

    eventually(is_there, 60)
    return run.id


def chip(page: Page, text: str) -> None:
    """Wait until the header counts so."""
    page.locator(".head .chip", has_text=text).first.wait_for()


# -- one workflow ------------------------------------------------------------------------------------------------------


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
    page.get_by_label("Why").fill("changed my mind")
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


# -- all of them -------------------------------------------------------------------------------------------------------


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

    page.get_by_text("1 message that nobody handles").wait_for()


def test_a_dead_letter_is_replayed_and_another_dropped(still: Site, page: Page) -> None:
    """Each once confirmed; the dropped one's workflow has ended."""
    runs = [still.client.start(flow(stage("a"))) for _ in range(2)]
    for run in runs:
        bury_one(still, run.id)
    open_page(page, still, "/dead")
    page.get_by_text("2 messages that nobody handles").wait_for()
    page.get_by_text("KeyError: 'x'").first.wait_for()
    page.locator(".card", has_text=runs[0].id).get_by_role("button", name="Replay").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    page.get_by_text("1 message that nobody handles").wait_for()
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

    page.locator(".row", has_text="no such task").get_by_text("no worker at it").wait_for()
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
    button = page.get_by_role("button", name="Search on")
    if button.is_visible():
        button.click()
    return False
