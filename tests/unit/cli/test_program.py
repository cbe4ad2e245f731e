"""The command line against a real server: what is printed, and the exit codes."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stabilize_celery import __main__ as entry
from stabilize_celery.cli import commands
from stabilize_celery.cli.failures import DONE, EXIT_CODES, FAILED, MISTAKE, NOBODY_READS, TRY_AGAIN
from stabilize_celery.cli.session import Session
from stabilize_celery.client import Client, WorkflowHandle, outcomes
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import SetFields, workflow_slot
from stabilize_celery.errors import (
    CommitConflictError,
    ConcurrencyError,
    IdempotencyConflictError,
    QueueError,
    RefusedError,
    TransientError,
    UnreachableError,
    WorkflowFailedError,
    WritesRefusedError,
)
from stabilize_celery.runtime.unit import UnitOfWork, WorkDone, not_committed
from stabilize_celery.store.contract import Bury, Put, Transaction
from tests.servers import free_port
from tests.unit.cli.conftest import Program
from tests.unit.client.world import gate, stage, workflow

PIPELINE = """\
application: tests
name: nightly
stages:
  - ref_id: fetch
    tasks: [{name: fetch, implementing_class: work}]
  - ref_id: load
    requisite_stage_ref_ids: [fetch]
    tasks: [{name: load, implementing_class: lode}]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nightly.yaml"
    path.write_text(PIPELINE)
    return path


# -- pipeline files ----------------------------------------------------------------------------------------------------


def test_a_sound_file_is_sound_without_a_server(program: Program, file):
    assert program("validate", str(file)).code == 0
    assert program("validate", str(file), "--json").json == {"file": str(file), "stages": 2, "problems": []}


def test_a_bad_file_gets_every_problem_and_code_2(program: Program, file):
    """Nothing is asked of a server before the file is sound."""
    file.write_text(PIPELINE.replace("[fetch]", "[fetsch]").replace("ref_id: load", "ref_id: fetch"))
    for command in ("validate", "start", "graph"):
        said = program(command, str(file))
        assert (said.code, "Traceback" in said.text) == (2, False)
        assert "2 problems" in said.text
        assert "line 7" in said.text
        assert "did you mean 'fetch'" in said.text


def test_start_prints_the_id(served: Program, file, client: Client):
    said = served("start", str(file), "--json", "--set", "day=7", "--key", "k")
    again = served("--json", "start", str(file), "--set", "day=7", "--key", "k")

    assert said.json == again.json
    assert client.get(said.json["id"]).context == {"day": 7}
    other = served("start", str(file), "--key", "k")
    assert other.code == 2
    assert "Idempotency key 'k' stands for another definition already, which was left as it is" in other.text
    assert client.list().items[0].id in served("list").out


def test_start_leaves_room_for_the_id_beside_a_long_name(served: Program, file, client: Client):
    """On one line of 80 columns, where it is copied from."""
    file.write_text("application: a\nname: " + "é" * 150 + "\nstages: [{ref_id: a}]\n")
    ended = served("start", str(file))

    [line] = [line for line in ended.out.splitlines() if line.startswith("Started")]
    assert len(line) <= 80
    assert client.get(line.split()[-1]).name == "é" * 150


def test_start_warns_of_unknown_tasks(served: Program, file, client: Client):
    """It is started all the same: a worker that knows them may come."""
    client.store.announce("w", {"node": "w", "types": "load\nwork", "queues": "stabilize.control"})

    said = served("start", str(file))

    assert said.code == 0
    assert "line 8 stages[1].tasks[0].implementing_class: no task 'lode' is known" in said.text
    assert "(warning)" in said.text


def test_waiting_ends_with_the_time(served: Program, file):
    said = served("start", str(file), "--wait", "--timeout", "0.1")

    assert (said.code, "has not ended within 0.1 s" in said.text) == (1, True)


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_who_waits_no_longer_is_told_what_goes_on(
    served: Program, file, monkeypatch: pytest.MonkeyPatch, end: BaseException, code: int
):
    """After Ctrl-C, and after the SIGTERM of a supervisor or a CI job."""

    def interrupted(*_args, **_more):
        raise end

    monkeypatch.setattr(WorkflowHandle, "wait", interrupted)
    said = served("start", str(file), "--wait", "--json")

    assert said.code == code
    assert said.json["id"] == served("list", "--json").json["items"][0]["id"]


def test_who_waits_while_the_server_goes_away_is_told_the_id(served: Program, file, monkeypatch: pytest.MonkeyPatch):
    """To look for it later; its status is not known."""

    def unreachable(*_args, **_more):
        raise UnreachableError("the state server (Redis)", "redis://here", "Start it.")

    monkeypatch.setattr(WorkflowHandle, "wait", unreachable)
    monkeypatch.setattr(WorkflowHandle, "status", unreachable)
    said = served("start", str(file), "--wait", "--json")

    assert (said.code, said.json["status"]) == (3, None)
    assert said.json["id"] == served("list", "--json").json["items"][0]["id"]


def test_graphs_of_files_and_of_workflows(served: Program, file, client: Client):
    handle = client.start(workflow(stage("a")))

    assert "s0 --> s1" in served("graph", str(file)).out
    assert 's0["a"]' in served("graph", handle.id).out
    assert served("graph", "missing.yaml").code == 2


# -- looking -----------------------------------------------------------------------------------------------------------


def test_status_of_a_cancelled_workflow(served: Program, client: Client):
    handle = client.start(workflow(gate(), stage("b", "gate")))
    handle.cancel("changed my mind")

    said = served("status", handle.id)

    assert said.code == 0
    assert "CANCELED" in said.out
    assert "changed my mind" in said.text
    told = served("status", handle.id, "--json").json
    assert (told["status"], told["cancellation_reason"]) == ("CANCELED", "changed my mind")
    assert [one["ref_id"] for one in told["stages"]] == ["gate", "b"]


def test_why_says_what_to_do(served: Program, client: Client):
    handle = client.start(workflow(stage("a"), stage("b", "a")))

    said = served("why", handle.id)
    told = served("why", handle.id, "--json").json

    assert "no worker is running" in said.text
    assert "→ start one" in said.text
    assert [one["kind"] for one in told] == ["unattended", "requisites"]


def test_why_folds_many_stages_that_wait_for_the_same(served: Program, client: Client):
    handle = client.start(workflow(stage("a"), *(stage(f"m{n}", "a") for n in range(50))))

    said = served("why", handle.id)

    assert "47 more stages such as m3, m4, m5: can't start before a" in said.text


def test_lists_by_status_with_pages(served: Program, client: Client):
    ids = [client.start(workflow(stage("a"))).id for _ in range(3)]
    client.handle(ids[0]).cancel()

    page = served("list", "--json", "--status", "running", "--limit", "1").json
    rest = served("list", "--json", "--status", "running", "--cursor", page["cursor"]).json

    assert {item["id"] for item in page["items"] + rest["items"]} == set(ids[1:])
    assert "--cursor" in served("list", "--limit", "1").err
    assert served("list", "--status", "nonsense").code == 2


def test_a_list_fits_into_80_columns_and_cuts_names_first(
    served: Program, client: Client, monkeypatch: pytest.MonkeyPatch
):
    """On a terminal; an id can always be copied, a status always be read."""
    monkeypatch.setattr(Session, "is_live", property(lambda _: True))
    run = client.start(workflow(stage("a"), name="a name that is much too long for the column it stands in"))
    run.cancel("enough")

    lines = served("list").out.splitlines()

    assert max(map(len, lines)) <= 80
    assert run.id in lines[1]
    assert "CANCELED" in lines[1]
    assert "…" in lines[1]


def test_a_list_goes_without_columns_before_it_cuts_an_id(
    served: Program, client: Client, monkeypatch: pytest.MonkeyPatch
):
    """Workflows with a key have longer ids than others."""
    monkeypatch.setattr(Session, "is_live", property(lambda _: True))
    keyed = client.start(workflow(gate(), name="urgent order", priority=0), idempotency_key="order-7")

    head, line = (one.split() for one in served("list").out.splitlines()[:2])

    assert (head[:2], line[:2]) == (["ID", "STATUS"], [keyed.id, "RUNNING"])
    assert {"NAME", "TOOK"} <= set(head)


@pytest.mark.parametrize("option", ["application", "name"])
def test_a_list_of_nothing_named_matches_nothing(served: Program, client: Client, option: str):
    """An empty name, such as of a variable that is not set, is asked for all the same; there are workflows."""
    client.start(workflow(stage("a")))

    assert served("list", f"--{option}", "").text == "No workflow matches."


def test_an_empty_url_does_not_hide_that_of_the_environment(served: Program, client: Client):
    """As of a variable that is not set; else a server of its own would be used, with nothing in it."""
    run = client.start(workflow(stage("a")))
    empty = ("--redis-url", "", "--broker-url", "", "--namespace", "")

    assert run.id in served("list", *empty).out
    assert run.id in served(*empty, "list").out


def test_in_a_pipe_each_stage_of_a_status_is_one_line(served: Program, client: Client):
    """However long its name and what is told of it, and without blanks at its end: `grep` finds all of it."""
    name = "a stage with a name " * 5 + "x"
    handle = client.start(workflow(stage(name), gate("then", name), name="a workflow with a name " * 4))
    handle.cancel("a reason that is long: " * 10)

    lines = served("status", handle.id).out.partition("\n\n")[0].splitlines()

    assert [line == line.rstrip() for line in lines] == [True] * 3
    assert handle.id in lines[0]
    assert name in lines[1]
    assert "then" in lines[2]


def test_events_are_lines(served: Program, client: Client):
    handle = client.start(workflow(gate()))
    handle.cancel("enough")

    lines = served("events", handle.id).out.splitlines()

    assert lines[0].endswith("workflow 'tested' created")
    assert lines[-1].endswith("workflow CANCELED: enough")
    assert served("events", handle.id, "--json").out.count('"kind"') == len(lines)


def test_watch_in_a_pipe_prints_history_to_the_end(served: Program, client: Client, monkeypatch: pytest.MonkeyPatch):
    """A workflow that failed or was cancelled gives code 1."""
    monkeypatch.setattr("stabilize_celery.client.following._CLEARING_S", 0.1)
    handle = client.start(workflow(gate()))
    handle.cancel("enough")

    said = served("watch", handle.id)

    assert said.code == 1
    assert said.out.rstrip().endswith(f"{handle.id} is CANCELED")


def test_locks_without_any(served: Program):
    assert "No mutex" in served("locks").out
    assert served("locks", "--json").json == []


# -- acting ------------------------------------------------------------------------------------------------------------


def test_acts_say_whether_they_took_effect(served: Program, client: Client):
    handle = client.start(workflow(stage("a", scheduled_time=4_000_000_000_000)))

    assert "paused" in served("pause", handle.id).out
    assert served("resume", handle.id, "--json").json == {"id": handle.id, "took_effect": True, "told": "resumed"}
    assert served("signal", handle.id, "a", "go", '{"by": 1}').code == 0
    assert served("cancel", handle.id, "--reason", "enough").code == 0
    again = served("cancel", handle.id)
    assert (again.code, "no effect: it has ended CANCELED already" in again.err) == (2, True)


def test_stages_are_skipped_restarted_and_cancelled(served: Program, client: Client):
    handle = client.start(workflow(stage("a"), stage("b")))

    assert served("skip-stage", handle.id, "a").code == 0
    assert served("cancel-stage", handle.id, "b").code == 0
    assert served("restart", handle.id, "a").code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("watch", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("events", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("cancel", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("status", "no/such id"),
        ("start", "no-such-file.yaml"),
        ("signal", "nope", "a", "b", "{not json"),
        ("dead", "show", "a/b"),
        ("dead", "replay", "a/b"),
        ("list", "--cursor", "nonsense"),
        ("list", "--limit", "0"),
        ("list", "--redis-url", "ftp://x"),
        ("nonsense",),
        ("status",),
    ],
)
def test_mistakes_are_sentences_with_code_2(served: Program, arguments):
    said = served(*arguments)

    assert said.code == 2
    assert said.text
    assert "Traceback" not in said.text


def test_a_server_that_is_away_is_code_3(program: Program):
    """It says where, and what to set; an option after the command counts like one before it."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    for arguments in (("list", "--redis-url", url), ("--redis-url", url, "list")):
        said = program(*arguments)
        assert said.code == 3
        assert url in said.err
        assert "STABILIZE_REDIS_URL" in said.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommitConflictError("others were first"), 3),
        (ConcurrencyError("others were first"), 3),
        (TransientError("not now"), 3),
        (UnreachableError("the state server (Redis)", "redis://nowhere", "Start it."), 3),
        (WritesRefusedError("its disk is full"), 3),
        (QueueError("the broker is away"), 3),
        (IdempotencyConflictError("'k' stands for another definition"), 2),
        (RefusedError("it has ended"), 2),
        (WorkflowFailedError("it failed"), 1),
        (TimeoutError("it has not ended"), 1),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_may_be_tried_again_has_a_code_of_its_own(
    served: Program, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
):
    """A script can tell it from a mistake."""

    def failed(*_args, **_more):
        raise error

    monkeypatch.setattr(Client, "list", failed)
    said, as_json = served("list"), served("list", "--json")

    assert (said.code, as_json.code, json.loads(as_json.err)["error"]["exit_code"]) == (code, code, code)


def test_an_act_that_is_outrun_may_be_tried_again(served: Program, client: Client, monkeypatch: pytest.MonkeyPatch):
    """An act that the workflow's status refuses may not: its code is another one."""
    handle = client.start(workflow(gate()))
    monkeypatch.setattr(outcomes, "PATIENCE_S", 0.0)
    monkeypatch.setattr(UnitOfWork, "run", lambda *_args, **_more: WorkDone(not_committed()))

    said, as_json = served("pause", handle.id), served("pause", handle.id, "--json")

    assert (said.code, as_json.code, as_json.json["took_effect"]) == (3, 3, False)
    assert "too busy right now: try again" in said.err


def test_a_workflow_that_is_outrun_at_its_start_may_be_tried_again(
    served: Program, file, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(UnitOfWork, "run", lambda *_args, **_more: WorkDone(not_committed()))

    assert served("start", str(file), "--key", "k").code == 3


def test_help_and_page_tell_the_exit_codes(program: Program):
    page = (Path(__file__).parents[3] / "docs" / "errors.md").read_text()
    told = {int(code) for code in re.findall(r"(?:: |; )(\d) ", EXIT_CODES)}

    assert told == {DONE, FAILED, MISTAKE, TRY_AGAIN}
    assert EXIT_CODES in program("--help").text
    assert all(f"| {code} |" in page for code in (*told, NOBODY_READS))


def test_without_any_server_it_is_said(program: Program):
    """Looking makes no data folder."""
    said = program("list")

    assert (said.code, "no server is given" in said.text.lower()) == (3, True)


# -- dead letters, doctor ----------------------------------------------------------------------------------------------


@pytest.fixture
def letter_id(client: Client):
    handle = client.start(workflow(stage("a")))
    entries = [entry for found in client.store.first_due(range(16), 9)[1].values() for entry in found]
    (name,) = (entry.name for entry in entries if entry.name.startswith("Start:"))
    fields = ENTRY.encode(tries=10, error="Traceback (most recent call last):\nKeyError: 'x'")
    with client.store.session(workflow_slot(handle.id)) as session:
        session.commit(Transaction([SetFields(ledger(name), fields)], [Bury(name, client.store.time_ms())]))
    return f"{handle.id}/{name}"


def test_dead_letters_are_listed_shown_and_replayed(served: Program, letter_id: str):
    assert letter_id in served("dead", "list").out
    assert [one["id"] for one in served("dead", "list", "--json").json] == [letter_id]
    assert "Traceback" in served("dead", "show", letter_id).out
    assert served("dead", "show", letter_id, "--json").json["tries"] == 10
    assert served("dead", "replay", letter_id).code == 0
    assert "no dead letters" in served("dead", "list").out


def test_a_dropped_letter_ends_its_workflow(served: Program, letter_id: str):
    assert served("dead", "drop", letter_id).code == 0
    assert served("status", letter_id.partition("/")[0], "--json").json["status"] == "TERMINAL"


def test_the_doctor_finds_what_is_missing(served: Program, letter_id: str):
    """No worker, no append-only file, a dead letter: each with what to do; code 1."""
    said = served("doctor")

    assert said.code == 1
    for words in ("no worker is running", "appendonly", "1 dead letter", "✔ the broker at"):
        assert words in said.text
    found = {check["name"]: check["ok"] for check in served("doctor", "--json").json}
    assert (found["workers"], found["appendonly"], found["broker"]) == (False, False, True)


def test_the_doctor_tells_what_waits_for_a_newer_worker_from_dead_letters(
    served: Program, client: Client, letter_id: str
):
    """A metric counts dead letters, too: the two are to agree."""
    workflow_id = letter_id.partition("/")[0]
    newer = Put("Invent:x", {"t": "InventStage"}, client.store.time_ms() + 60_000)
    with client.store.session(workflow_slot(workflow_id)) as session:
        session.commit(Transaction(ledger=[newer]))

    assert "✘ 1 dead letter, 1 message for a newer worker" in served("doctor").text


def test_the_doctor_is_content_with_a_healthy_server(served: Program, client: Client, monkeypatch: pytest.MonkeyPatch):
    line = {"node": "w", "queues": "stabilize.control\nstabilize.work", "version": "1"}
    client.store.announce("w", line)
    client.store.announce("v", {**line, "version": "2"})
    healthy = {**client.store.health(), "appendonly": "yes", "appendfsync": "everysec"}
    monkeypatch.setattr(type(client.store), "health", lambda _: healthy)

    said = served("doctor")

    assert said.code == 0, said.text
    assert "several versions" in said.text


def test_the_doctor_looks_at_the_broker(served: Program):
    said = served("doctor", "--broker-url", f"redis://:secret@127.0.0.1:{free_port()}/0")

    assert "✘ the broker at redis://:***@127.0.0.1" in said.text
    assert "secret" not in said.text


# -- the program -------------------------------------------------------------------------------------------------------


def test_the_module_is_the_program():
    """`python -m stabilize_celery` has all commands in its help."""
    done = subprocess.run(
        [sys.executable, "-m", "stabilize_celery", "--help"], capture_output=True, text=True, check=True
    )

    for command in ("demo", "worker", "start", "status", "list", "watch", "why", "events", "locks", "dead", "doctor"):
        assert command in done.stdout


def test_versions(program: Program):
    assert set(program("version", "--json").json) == {"version", "python"}
    assert "Python" in program("version").out
    assert len(program("version", "--short").out.split()) == 1
    assert program("--version").out == program("version").out
    for line in (("--json", "--version"), ("--version", "--json")):
        assert program(*line).json == program("version", "--json").json


def test_a_reader_that_has_seen_enough_is_no_error(served: Program, client: Client, redis_url: str):
    """`stabilize-celery events ID | head -1` ends quietly."""
    handle = client.start(workflow(*(stage(f"s{n}") for n in range(200))))
    handle.cancel("enough")
    command = f"{sys.executable} -m stabilize_celery events {handle.id} --redis-url {redis_url} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)

    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_an_interrupt_is_quiet(program: Program, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.metadata, "version", interrupted)

    assert program("version").code == 130


def test_an_interrupt_before_any_command_is_at_work_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Loading the program takes long enough for Ctrl-C."""

    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "import_module", interrupted)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    with pytest.raises(SystemExit) as ended:
        entry.main()

    assert (ended.value.code, capsys.readouterr().err) == (130, "")


def test_without_its_packages_the_command_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """In one line; trying again can't help, so its code is that of wrong usage."""

    def missing(_name: str) -> None:
        raise ModuleNotFoundError("No module named 'typer'", name="typer")

    monkeypatch.setattr(entry, "import_module", missing)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    with pytest.raises(SystemExit) as ended:
        entry.main()

    told = "The command line needs typer: pip install 'stabilize-celery[cli]'\n"
    assert (ended.value.code, capsys.readouterr().err) == (MISTAKE, told)


def test_starting_and_looking_work_with_the_embedded_server(program: Program, file, tmp_path):
    """Without a URL `start` makes a server of its own, and what it keeps is there for the next command."""
    started = program("start", str(file), "--json")
    listed = program("list", "--json", "--home", str(tmp_path / "home"))

    assert "Started an embedded" in started.err
    assert [item["id"] for item in listed.json["items"]] == [started.json["id"]]


def test_a_list_of_nothing_says_so(served: Program):
    """An empty table would leave it open whether anything was looked at."""
    assert served("list").text == "There are no workflows."
    assert served("list", "--name", "nobody").text == "No workflow matches."
    assert served("list", "--json").json == {"items": [], "cursor": None}


@pytest.mark.parametrize("command", [(), ("start",), ("dead",), ("schedule",), ("doctor",)])
def test_the_help_gives_flags_no_value(program: Program, command):
    """`--json <bool>` would look as if a value had to follow."""
    said = program(*command, "--help")

    assert said.code == 0
    assert "--help" in said.out
    assert "bool" not in said.out
