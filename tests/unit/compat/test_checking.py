"""What of a program changes is told by line, with what to write there; what does not change is not told."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from stabilize_celery.cli.program import run
from stabilize_celery.compat.checking import CHANGE, LOOK, MISSING, check_source
from stabilize_celery.errors import ConfigurationError
from tests.pages import block_with


def told(text: str) -> list[tuple[int, str, str]]:
    return [(one.line, one.kind, one.todo) for one in check_source(text, "p.py")]


def test_every_name_says_where_it_is_now() -> None:
    """The home that is told has the name."""
    found = told(
        "from stabilize import Workflow, Orchestrator, TaskRegistry\nfrom stabilize.models.status import WorkflowStatus\n"
    )

    assert [(line, kind) for line, kind, _ in found] == [(1, CHANGE)] * 3 + [(2, CHANGE)]
    for _, _, todo in found:
        _, home, _, name = todo.split()
        assert name in import_module(home).__all__


@pytest.mark.parametrize(
    ("line", "kind", "todo"),
    [
        ("from stabilize import SqliteQueue", CHANGE, "CeleryQueue(app or url)"),
        ("from stabilize.persistence.sqlite import SqliteWorkflowStore", CHANGE, "RedisWorkflowStore(url)"),
        ("from stabilize.queue.processor.config import QueueProcessorConfig", CHANGE, "from stabilize_celery import"),
        ("from stabilize import DockerTask", CHANGE, "from stabilize_celery.compat import DockerTask"),
        ("from stabilize import TaskRegistry", CHANGE, "from stabilize_celery.compat import TaskRegistry"),
        (
            "from stabilize.tasks.sub_workflow import SubWorkflowTask",
            CHANGE,
            "from stabilize_celery.compat import SubWorkflowTask",
        ),
        ("from stabilize.queue.messages import CancelRegion", LOOK, "may end SUCCEEDED"),
        ("from stabilize.events import get_event_bus", CHANGE, "from stabilize_celery.compat import get_event_bus"),
        (
            "from stabilize.events.replay import EventReplayer",
            CHANGE,
            "from stabilize_celery.compat import EventReplayer",
        ),
        ("from stabilize.events import SnapshotStore", MISSING, "store.retrieve(id)"),
        ("from stabilize.monitor import Panel", MISSING, "stabilize-celery watch"),
        ("from stabilize.llm import LLMTask", CHANGE, "from stabilize_celery.compat.llm import LLMTask"),
        ("from stabilize.llm.tools import tool", CHANGE, "from stabilize_celery.compat.llm.tools import tool"),
        ("from stabilize.audit import audit", CHANGE, "from stabilize_celery.compat.audit import audit"),
        ("from stabilize.resilience.cancellation import cancel_task", LOOK, "is cancelled with its stage"),
        ("from stabilize.resilience.circuits import WorkflowCircuitFactory", MISSING, "TransientError(…, retry_after"),
        ("from stabilize.nowhere import Panel", MISSING, "has no counterpart"),
        ("from stabilize import *", LOOK, "name what is needed"),
        ("import stabilize.models.stage", CHANGE, "import stabilize_celery.models.stage"),
        ("import stabilize.queue.messages", CHANGE, "import stabilize_celery.compat.queue.messages"),
        ("import stabilize.nowhere", MISSING, "has no counterpart"),
        ("import stabilize.queue.dedup", MISSING, "is always on"),
        ("from stabilize import queue", CHANGE, "from stabilize_celery.compat import queue"),
        ("from stabilize.queue import messages", CHANGE, "from stabilize_celery.compat.queue import messages"),
    ],
)
def test_imports(line: str, kind: str, todo: str) -> None:
    [found] = told(line + "\n")

    assert found[:2] == (1, kind)
    assert todo in found[2]


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("processor.register_handler(h)", LOOK),
        ("class Mine(StartStageHandler): pass", MISSING),
        ("processor.process_one()", LOOK),
        ("queue._create_table()", LOOK),
        ("queue.push(m, timedelta(1))", MISSING),
        ("queue.push(m, delay=timedelta(1))", MISSING),
        ("StageExecution(deferred_choice_group='g')", LOOK),
        ("StageExecution(milestone_ref_id='m')", LOOK),
        ("TaskResult.canceled()", LOOK),
        ("stage.context['_join_fired']", MISSING),
        ("StageExecution(split_conditions={'a': 'n > 1', 'b': 'order.total > 5'})", MISSING),
    ],
)
def test_what_differs_is_told_of_programs_for_upstream_only(call: str, kind: str) -> None:
    assert [found[:2] for found in told(f"import stabilize\n{call}\n")][1:] == [(2, kind)]
    assert told(f"{call}\n") == []


@pytest.mark.parametrize(
    "call",
    ["stage.context['_jump_count']", "stage.context['_signal_name']", "queue.push(m)", "processor.process_all()"],
)
def test_what_is_as_there_is_not_told(call: str) -> None:
    assert len(told(f"import stabilize\n{call}\n")) == 1


@pytest.mark.parametrize(
    "program",
    [
        "chain(a.s(1), b.s()).apply_async()",
        "chain(a.s(1), b.s()).delay()",
        "chain(a.s(1), b.s())()",
        "(group(a.s(1)) | b.s()).apply_async()",
        "flow = chord([a.s()], b.s())\nflow.delay()",
        "flow = chain(a.s())\nflow()",
        "chain(a.s(1)).on_error(e.s()).apply_async()",
        "flow = chain(a.s())\nflow(4)",
        "chord([a.s()])(b.s())",
        "import celery as c\nc.group(a.s()).delay()",
    ],
)
def test_a_canvas_that_is_sent_is_started_instead(program: str) -> None:
    found = told(f"from celery import chain, chord, group\n{program}\n")

    assert [kind for _, kind, _ in found] == [CHANGE]
    assert "start_canvas" in found[0][2]


def test_what_a_canvas_has_without_counterpart_is_told() -> None:
    program = (
        "from celery import chain as line\n"
        "line(a.s().set(expires=3), b.s().set(queue='fast', countdown=1))\n"
        "def step(self):\n    self.replace(a.s())\n    text.replace('a', 'b')\n"
    )

    assert [found[:2] for found in told(program)] == [(2, MISSING), (2, MISSING), (4, LOOK)]


def test_what_a_canvas_is_sent_with_is_told() -> None:
    """Some of it belongs to the canvas itself, some has no counterpart."""
    program = (
        "from celery import chain\nchain(a.s()).apply_async(countdown=3, link_error=e.s(), queue='fast', retry=False)\n"
    )

    found = [str(finding) for finding in check_source(program, "p.py")]

    assert [line.split()[2:4] for line in found] == [
        ["change", ".apply_async(countdown=…):"],
        ["change", ".apply_async(link_error=…):"],
        ["change", "canvas.apply_async(…):"],
        ["missing", ".apply_async(queue=…):"],
    ]


@pytest.mark.parametrize(
    "program",
    [
        "cache.set('k', 1, expires=3)",
        "def one():\n    job = chain(a.s())\n    return job\ndef other(job):\n    job.delay(3)",
        "job = chain(a.s())\njob = task\njob.delay(3)",
        "names = group()",
    ],
)
def test_what_only_looks_like_a_canvas_is_not_told(program: str) -> None:
    assert told(f"from celery import chain, group\n{program}\n") == []


def test_a_program_of_neither_has_nothing_to_change() -> None:
    assert (
        told(
            "from celery import Celery\nfrom mine import stabilize\napp.send_task('a')\nmail.delay(3)\nx = 'a'.replace('a', 'b')\n"
        )
        == []
    )


def test_what_is_no_python_is_told_with_its_line() -> None:
    with pytest.raises(ConfigurationError, match=r"p\.py, line 2: this is not readable Python"):
        check_source("a = 1\nfrom (\n", "p.py")


@pytest.mark.parametrize(
    "source",
    [
        b"\xef\xbb\xbffrom stabilize import Workflow\n",
        "# -*- coding: latin-1 -*-\nname = 'Jos\xe9'\n".encode("latin-1"),
    ],
    ids=["byte order mark", "latin-1"],
)
def test_what_python_reads_is_read(source: bytes) -> None:
    """By its mark, or by the encoding that it names."""
    assert len(check_source(source, "p.py")) == (b"stabilize" in source)


@pytest.mark.parametrize("terms", [500, 5_000])
def test_what_is_nested_too_deeply_is_told(terms: int) -> None:
    try:
        assert check_source("a = " + " + ".join(["'a'"] * terms), "p.py") == []
    except ConfigurationError as error:
        assert "nested too deeply" in str(error)  # noqa: PT017 - how deep is too deep is Python's to say


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("import stabilize as st\nst.Nope()\n", "stabilize.Nope"),
        ("import stabilize\nstabilize.SqliteQueue('x')\n", "stabilize.SqliteQueue"),
        (
            "import stabilize.models\nx: stabilize.models.status.WorkflowStatus\n",
            "stabilize.models.status.WorkflowStatus",
        ),
    ],
)
def test_names_that_are_used_through_their_module_are_told(program: str, found: str) -> None:
    """An import of the module alone says nothing of them."""
    assert [one.what for one in check_source(program, "p.py") if one.line == 2] == [found]


def test_a_folder_is_read_whatever_lies_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can't be read is told beside what the others need; what others have written is left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, text in {
        "ours.py": "from stabilize import SqliteQueue\n",
        "two.py": "print 'of Python 2'\n",
        "notes.ipynb": "{}",
        ".venv/lib/theirs.py": "(",
        "env/site-packages/theirs.py": "(",
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    Path("gone.py").symlink_to("nowhere.py")

    assert run(["migrate-check", "."]) == 0
    said = capsys.readouterr().out

    assert "SqliteQueue" in said
    assert "theirs" not in said
    assert said.count("look     not read:") == 3
    assert "4 files: 4 lines to change or look at" in said


def test_the_page_shows_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a program like the one that it is about; with a directory, and with what isn't there, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("pipeline.py").write_text(
        "from stabilize import SqliteQueue, Workflow\n" + "\n" * 7 + "queue.push(m, delay)\n"
    )
    shown = block_with("docs/migrating.md", "migrate-check pipeline.py", "").code.splitlines()[1:]

    assert run(["migrate-check", "pipeline.py"]) == 1
    assert capsys.readouterr().out.splitlines() == shown
    assert run(["migrate-check", "."]) == 1
    assert run(["migrate-check", "nowhere.py"]) == 2
    Path("broken.py").write_text("(")
    assert run(["migrate-check", "broken.py"]) == 2
    assert "Traceback" not in capsys.readouterr().err
