"""What the pages show is executed: whole programs as they stand, pieces with the names that they take for granted.

The pages about the patterns have tests of their own (test_pattern_pages.py).
"""

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from celery import Celery

import stabilize_celery
import stabilize_celery.testing
from stabilize_celery import (
    AsyncClient,
    Stabilize,
    StageExecution,
    Task,
    TaskExecution,
    TaskResult,
    VerifyResult,
    Workflow,
    WorkflowHandle,
    from_definition,
)
from stabilize_celery.testing import Simulation, run_workflow
from stabilize_celery.testing.conformance.scenario import (
    Effect,
    EventScript,
    Expectation,
    TaskScript,
    Trigger,
    WorkflowScript,
)
from tests.pages import ROOT, Block, block_with, blocks, execute
from tests.simulation.tuning import seeds

WHOLE_PAGES = (
    "docs/scheduling.md",
    "docs/policies.md",
    "docs/testing.md",
    "docs/builders.md",
    "docs/migrating.md",
    "docs/async.md",
    "docs/web.md",
    "docs/deploying.md",
)
"""Every Python block of these is executed."""
EXECUTED = {
    "README.md": ("def order(",),
    "docs/getting-started.md": ("client.start(", "app.send_task("),
    "docs/canvas.md": ("Stabilize(app", "start_canvas("),
    "docs/concepts.md": ("def crunch(", "class Render(", "def reachable("),
}
"""What the Python blocks of these have in them: a block that nobody executes has none of it."""


def python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )


def app_of_a_page() -> Stabilize:
    """An app that a piece of code registers its tasks with."""
    return Stabilize(Celery("page", broker="memory://"), redis_url="redis://localhost:6379/0")


def single(task_type: str, **context: Any) -> Workflow:
    """A workflow of one stage with one task."""
    return Workflow(stages=[StageExecution(ref_id="a", context=context, tasks=[TaskExecution.create("t", task_type)])])


def test_no_block_goes_unexecuted() -> None:
    """A page that gets a block needs a test for it."""
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")} | {"README.md"}

    for page in pages - set(WHOLE_PAGES):
        shown, words = blocks(page), EXECUTED.get(page, ())
        assert [str(block) for block in shown if not any(one in block.code for one in words)] == []
        assert len(shown) == len(words)


# -- docs/testing.md ---------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the shop of the examples, as a reader has it."""
    shutil.copy(ROOT / "examples" / "shop.py", tmp_path)
    return tmp_path


def test_the_page_about_testing_is_a_file_of_tests_that_pass(project: Path) -> None:
    """Its blocks, one after another, in front of pytest."""
    code = "\n\n".join(block.code for block in blocks("docs/testing.md"))
    (project / "test_shop.py").write_text(code)
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_shop.py", folder=project)

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^def test_", code, re.MULTILINE)) >= 12
    assert re.search(r"^\d+ passed in", done.stdout, re.MULTILINE), done.stdout


def test_the_scenario_of_the_page_passes(project: Path) -> None:
    """The file, by the command that stands below it."""
    [scenario] = blocks("docs/testing.md", "json")
    [command] = blocks("docs/testing.md", "sh")
    (project / "parcel.json").write_text(scenario.code)
    program, *arguments = command.code.split()
    done = python(*arguments, folder=project)

    assert program == "python"
    assert done.stdout.splitlines()[-1:] == ["1 passed, 0 failed"], done.stdout + done.stderr


@pytest.mark.parametrize("kind", [WorkflowScript, TaskScript, Trigger, Effect, EventScript, Expectation])
def test_the_page_names_every_key_of_a_scenario(kind: type[msgspec.Struct]) -> None:
    """A key that no page names is one that nobody uses."""
    text = (ROOT / "docs/testing.md").read_text()

    assert [name for name in kind.__struct_fields__ if not re.search(rf"[`\"]{name}[`\"]", text)] == []


# -- docs/migrating.md -------------------------------------------------------------------------------------------------


def test_the_program_of_the_page_about_migrating_runs(tmp_path: Path) -> None:
    """With the imports that the page gives, as a program of its own."""
    [program] = blocks("docs/migrating.md")
    done = python("-c", program.code, folder=tmp_path)

    assert (done.returncode, done.stdout) == (0, "Hello, you!\n"), done.stderr


# -- docs/async.md -----------------------------------------------------------------------------------------------------


def test_the_page_about_event_loops_does_what_it_says(redis_url: str) -> None:
    """The signal takes effect, and the application's client is open for as long as the application is."""
    names = execute(blocks("docs/async.md"))

    async def served() -> str:
        async with AsyncClient(redis_url, redis_url) as client:
            name: str = await names["approve_in_time"](client)
        async with names["lifespan"](None) as state:
            assert isinstance(state["stabilize"], AsyncClient)
        return name

    assert asyncio.run(served()) == "RUNNING"


# -- docs/web.md -------------------------------------------------------------------------------------------------------


def test_the_page_about_the_web_page_makes_an_app_that_can_not_write() -> None:
    """Mounted in somebody's own server: a change is refused before anything is looked at."""
    app = execute(blocks("docs/web.md"))["app"]

    async def answered() -> int:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
            return (await browser.post("/api/v1/workflows/w/pause", json={})).status_code

    assert asyncio.run(answered()) == 403


# -- docs/deploying.md -------------------------------------------------------------------------------------------------


def test_the_module_of_the_page_about_deploying_registers_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the app of the workers, as the image's environment names it."""
    monkeypatch.setitem(sys.modules, "workers.app", SimpleNamespace(stabilize=app_of_a_page()))  # type: ignore[arg-type]
    stabilize = execute(blocks("docs/deploying.md"))["stabilize"]

    assert (
        run_workflow(single("charge", order_id=7), stabilize.registry).get_context()["receipt"] == "receipt of order 7"
    )


# -- docs/builders.md --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(5))
def test_the_page_about_builders_does_what_it_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its asserts hold, in whatever order things happen."""
    monkeypatch.setattr(
        stabilize_celery.testing, "run_workflow", lambda *given, **more: run_workflow(*given, **{"seed": seed, **more})
    )

    execute(blocks("docs/builders.md"))


def test_the_page_about_builders_has_a_section_for_each() -> None:
    """With an example in which it is called."""
    from stabilize_celery.models import patterns

    text = (ROOT / "docs/builders.md").read_text()
    sections = {part.split("\n", 1)[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}

    assert [name for name in patterns.__all__ if f"{name}(" not in "".join(code_of(sections.get(name, "")))] == []


def code_of(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# -- README.md and docs/getting-started.md -----------------------------------------------------------------------------


def shop_of_the_readme() -> Mapping[str, Any]:
    return execute([block_with("README.md", "def order(")])


@pytest.mark.parametrize("seed", seeds(5))
def test_the_pipeline_of_the_readme_sends_the_parcel(seed: int) -> None:
    """Fifteen lines, run by the registry that they fill."""
    shop = shop_of_the_readme()
    done = run_workflow(shop["order"](7), shop["stabilize"].registry, seed)

    assert done.status.name == "SUCCEEDED"
    assert done.get_context()["label"] == "parcel with receipt of order 7"


def test_a_file_is_the_same_pipeline() -> None:
    """The YAML of the page and the function of the README make one definition."""
    from ruamel.yaml import YAML

    [shown] = blocks("docs/getting-started.md", "yaml")
    written = from_definition(YAML(typ="safe").load(shown.code))

    assert stabilize_celery.to_definition(written) == stabilize_celery.to_definition(shop_of_the_readme()["order"](7))


class SimulatedClient:
    """`Client` without servers: the same calls, the same handle, in memory."""

    registry: stabilize_celery.TaskRegistry

    def __init__(self, redis_url: str, broker_url: str) -> None:
        self._simulation = Simulation(0, self.registry)
        self.urls = (redis_url, broker_url)

    def start(self, workflow: Workflow, *, idempotency_key: str) -> WorkflowHandle:
        workflow_id = self._simulation.start(workflow, idempotency_key=idempotency_key)
        return WorkflowHandle(self._simulation.runtime, workflow_id)


def test_the_producer_of_the_page_starts_an_order_and_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands, but for the client, which reaches no server."""
    shop = ModuleType("shop")
    vars(shop).update(shop_of_the_readme())
    monkeypatch.setitem(sys.modules, "shop", shop)
    monkeypatch.setattr(SimulatedClient, "registry", shop.stabilize.registry, raising=False)
    monkeypatch.setattr(stabilize_celery, "Client", SimulatedClient)

    names = execute([block_with("docs/getting-started.md", "client.start(")])

    assert capsys.readouterr().out == "SUCCEEDED {'label': 'parcel with receipt of order 7'}\n"
    again = names["client"].start(shop.order(7), idempotency_key="order-7")
    assert again == names["handle"], "the same key is the same workflow"


def test_a_program_that_has_only_celery_sends_the_message_that_the_page_shows() -> None:
    """Task and arguments are those that workers serve; where the page has `{...}` it leaves the definition out."""
    sent: list[tuple[str, dict[str, Any]]] = []

    class App:
        def send_task(self, name: str, kwargs: dict[str, Any]) -> None:
            sent.append((name, kwargs))

    execute([block_with("docs/getting-started.md", "app.send_task(")], app=App())

    [(name, arguments)] = sent
    assert name in app_of_a_page().app.tasks
    assert set(arguments) == {"definition", "idempotency_key"}


# -- docs/concepts.md --------------------------------------------------------------------------------------------------


def concept(words: str, **names: Any) -> Stabilize:
    """Execute a piece of the page; return the app that it has registered its task with."""
    stabilize = app_of_a_page()
    known = {"Task": Task, "TaskResult": TaskResult, "VerifyResult": VerifyResult}
    shown: Block = block_with("docs/concepts.md", words)
    execute([shown], stabilize=stabilize, **known, **names)
    return stabilize


def test_the_task_that_looks_whether_it_counts_works_on_all_parts() -> None:
    """Nobody cancels it here: it comes to its end."""
    worked: list[str] = []
    stabilize = concept("def crunch(", parts_of=lambda file: [f"{file}-1", f"{file}-2"], work_on=worked.append)

    assert run_workflow(single("crunch", file="f"), stabilize.registry).status.name == "SUCCEEDED"
    assert worked == ["f-1", "f-2"]


class Farm:
    """Where jobs run that a task polls; done when it was asked `needed` times."""

    def __init__(self, needed: int) -> None:
        self.asked, self.needed, self.cancelled = 0, needed, list[str]()

    def submit(self, scene: str) -> str:
        return f"job for {scene}"

    def is_done(self, _job: str) -> bool:
        self.asked += 1
        return self.asked >= self.needed

    def cancel(self, job: str) -> None:
        self.cancelled.append(job)


def test_the_task_that_polls_a_farm_keeps_its_job() -> None:
    """It is called again until the job is done; nothing is cancelled."""
    farm = Farm(needed=3)
    done = run_workflow(single("render", scene="s"), concept("class Render(", farm=farm).registry)

    assert (done.status.name, farm.asked, farm.cancelled) == ("SUCCEEDED", 3, [])


def test_the_task_that_polls_a_farm_cancels_its_job() -> None:
    """Cancelled between two polls, its class is told."""
    farm = Farm(needed=1_000)
    simulation = Simulation(0, concept("class Render(", farm=farm).registry)
    handle = WorkflowHandle(simulation.runtime, simulation.start(single("render", scene="s")))
    simulation.after(5_000, lambda: handle.cancel("not needed"))
    simulation.finish(handle.id)

    assert handle.status().name == "CANCELED"
    assert farm.cancelled == ["job for s"]


def test_the_verification_of_the_page_looks_again() -> None:
    """Not reachable at first: the check is made again, the work is not."""
    pinged: list[str] = []

    def ping(url: str) -> bool:
        pinged.append(url)
        return len(pinged) > 1

    stabilize = concept("def reachable(", ping=ping)
    stabilize.registry.register("deploy", lambda _: {"url": "https://shop"})
    done = run_workflow(single("deploy", verification="reachable"), stabilize.registry)

    assert done.status.name == "SUCCEEDED"
    assert pinged == ["https://shop", "https://shop"]
