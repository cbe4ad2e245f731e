"""Every command with wrong input: the exit code, one message on stderr, never a traceback; with `--json` as an object."""

import json
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import pytest
import typer

from stabilize_celery.cli import pipeline_file
from stabilize_celery.cli.program import make_app
from stabilize_celery.cli.session import Session
from stabilize_celery.client import Client
from tests.servers import free_port
from tests.unit.cli.conftest import Program
from tests.unit.client.world import gate, stage, workflow

ENDLESS = "x" * 100_000
NOBODY = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
SOUND = "application: tests\nname: n\nstages: [{ref_id: a, tasks: [{name: t, implementing_class: t}]}]\n"
FILES = {
    "sound.yaml": SOUND,
    "empty.yaml": "",
    "text.yaml": "just text",
    "list.json": "[1, 2]",
    "broken.json": '{"application": "a",',
    "broken.yaml": "stages: [a: b: c",
    "tab.yaml": "stages:\n\t- x",
    "bad.yaml": SOUND.replace("ref_id: a", "ref_id: a, requisite_stage_ref_ids: [nobody], join_threshold: -1"),
    "unknown_field.yaml": SOUND.replace("ref_id: a", "ref_id: a, retriez: 3"),
    "alias.yaml": "a: &a [1]\nb: [*a, *nobody]\n",
    "tag.yaml": "a: !!python/object/apply:os.system ['true']\n",
    "deep.json": "[" * 20_000 + "]" * 20_000,
    "deep.yaml": "a: " + "[" * 2_000 + "]" * 2_000,
    "twice.json": '{"application": "a",\n"application": "b"}',
}


@pytest.fixture
def ids(client: Client) -> dict[str, str]:
    """A workflow that waits, one that has ended, one without instances."""
    live = client.start(workflow(stage("a"), gate("b", "a")))
    ended = client.start(workflow(stage("a")))
    ended.cancel("enough")
    return {"LIVE": live.id, "ENDED": ended.id, "NOBODY": NOBODY}


WITH_ID = ("status", "watch", "why", "events", "cancel", "pause", "resume")
WITH_REF = ("restart", "skip-stage", "cancel-stage", "choose", "add-instances", "complete-instances")
WITHOUT = ("list", "locks", "doctor", "dead list", "version")
FILE_COMMANDS = ("start", "validate", "graph")

UNKNOWN = [
    *(f"{command} NOBODY" for command in (*WITH_ID, "graph")),
    *(f"{command} NOBODY a" for command in WITH_REF),
    "signal NOBODY a go",
    "cancel-region NOBODY r",
    "dead replay NOBODY/x",
    "dead drop NOBODY/x",
]
"""An id that nobody has."""

WRONG_FILES = {
    "nothing.yaml": "no such file",
    "empty.yaml": "not an empty file",
    "text.yaml": "not a single value",
    "list.json": "not a list",
    "broken.json": "line 1",
    "broken.yaml": "line 1",
    "tab.yaml": "line 2",
    "bad.yaml": "line 3",
    "unknown_field.yaml": "retriez",
    "alias.yaml": "nobody",
    "tag.yaml": "line 1: the tag !!python/object/apply:os.system has no meaning",
    "deep.json": "nested",
    "deep.yaml": "nested",
    "twice.json": "line 2",
    "binary.yaml": "can't be read",
    "folder.yaml": "can't be read",
}
"""Each wrong file, and a word of what is told about it."""

CASES: list[tuple[str, str]] = [
    *((line, "there is no workflow") for line in UNKNOWN),
    *((f"{command} {name}", words) for command in FILE_COMMANDS for name, words in WRONG_FILES.items()),
]

LINES = [
    # Nothing, too much, misspelt.
    ("", "Usage"),
    ("dead", "Usage"),
    ("schedule", "Usage"),
    ("nonsense", "no such command 'nonsense'"),
    ("dead nonsense", "no such command 'nonsense'"),
    *((command, "missing argument 'ID'") for command in (*WITH_ID, *WITH_REF, "signal", "dead show", "dead drop")),
    *((f"{command} LIVE", "missing argument 'REF'") for command in (*WITH_REF, "signal")),
    ("signal LIVE b", "missing argument 'NAME'"),
    ("cancel-region LIVE", "missing argument 'REGION'"),
    *((command, "missing argument") for command in FILE_COMMANDS if command != "start"),
    ("start", "give a pipeline file"),
    *((f"{command} LIVE more", "unexpected extra argument") for command in WITH_ID),
    *((f"{command} more", "unexpected extra argument") for command in WITHOUT),
    *((f"{command} --nonsense", "no such option: --nonsense") for command in (*WITH_ID, *WITH_REF, *WITHOUT)),
    *((f"{command} LIVE nobody", "nobody") for command in (*WITH_REF, "signal")[:-1] if command != "restart"),
    ("restart ENDED nobody", "no effect"),
    ("signal LIVE nobody go", "nobody"),
    ("cancel-region LIVE nobody", "nobody"),
    # Values.
    ("list --limit 0", "--limit"),
    ("list --limit many", "--limit"),
    ("list --status NONSENSE", "no status 'NONSENSE'. Known"),
    ("list --cursor nonsense", "cursor"),
    ("list --redis-url nonsense", "can't read the Redis URL"),
    ("list --redis-url http://localhost", "http://localhost"),
    ("list --namespace {}", "namespace"),
    ("events LIVE --from nonsense", "nonsense"),
    ("signal LIVE b go {not", "is not JSON"),
    ("signal LIVE b go --instance -1", "--instance"),
    ("signal LIVE b go --instance 99999999999999999999", "there is no instance 99999999999999999999"),
    ("add-instances LIVE b 0", "greater than"),
    ("add-instances LIVE b 1 [1]", "not a JSON object"),
    ("graph LIVE --format png", "mermaid, dot, svg"),
    ("start sound.yaml --set", "--set"),
    ("start sound.yaml --set nothing", "key=value"),
    ("start sound.yaml --set =1", "key=value"),
    ("start sound.yaml --set a..b=1", "between dots"),
    ("start sound.yaml --set a=1 --set a.b=1", "not an object"),
    ("start sound.yaml --set a=NaN", "context.a"),
    ("start sound.yaml --timeout 1", "--wait"),
    ("start sound.yaml --wait --timeout -1", "--timeout"),
    ("start sound.yaml --broker-url nope://host", "no broker of the kind 'nope'"),
    ("start sound.yaml --broker-url reddis://host", "did you mean 'redis'"),
    ("start sound.yaml --priority 10", "--priority"),
    ("start sound.yaml --broker-url redis://[::1", "can't read the broker's URL"),
    ("list --limit 99999999999999999999", "ask for 1 to 100000"),
    ("status \udcff", "is not UTF-8 text"),
    ("migrate-check binary.yaml", "not readable Python"),
    ("worker --app=", "--app needs the name"),
    ("worker --app nowhere --control --tasks", "--control and --tasks exclude each other"),
    ("worker --app nowhere.tasks", "there is no module 'nowhere'"),
    ("start sound.yaml --replace=", "--replace needs a key"),
    ("start sound.yaml --wait --timeout soon", "'--timeout': 'soon' is not a duration"),
    ("start sound.yaml --replace k --delay 5x", "'--delay': '5x' is not a duration: give 30s, 5m"),
    ("schedule add w sound.yaml --every soon", "'--every': 'soon' is not a duration"),
    ("result ENDED --timeout nan", "'--timeout': 'nan' is not a duration"),
    ("dead show nonsense", "is not the id of a message"),
    ("dead replay nonsense", "is not the id of a message"),
    ("dead drop nonsense", "is not the id of a message"),
    ("dead show LIVE/nothing", "there is no message"),
    ("dead replay LIVE/nothing", "nothing"),
    ("bench --redis-url redis://localhost", "leave the URL out"),
    ("bench --repetitions 0", "--repetitions"),
    ("demo --path nowhere", "--path: nowhere is not a folder"),
    ("demo --workers 0", "--workers"),
    ("worker", "--app"),
    ("web --port 99999999", "--port"),
    ("web --token short", "16"),
    ("web --host 0.0.0.0", "--token"),
    # What can't be done now.
    ("restart LIVE a", "no effect"),
    ("cancel ENDED", "no effect"),
    ("pause ENDED", "no effect"),
    ("resume LIVE", "no effect"),
    ("choose LIVE a", "no effect"),
    ("add-instances LIVE a", "a"),
    ("complete-instances LIVE a", "a"),
]


def words_of(line: str, ids: dict[str, str]) -> list[str]:
    return [ids.get(word, word) if "/" not in word else word.replace("LIVE", ids["LIVE"]) for word in line.split()]


def write_files(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    (folder / "folder.yaml").mkdir()


@pytest.mark.parametrize(("line", "words"), CASES + LINES)
def test_wrong_input_is_told_in_words_with_code_2(
    served: Program, ids: dict[str, str], tmp_path: Path, line: str, words: str
) -> None:
    """Nothing else is printed; with `--json` it is an object, on stderr or, of an act without effect, on stdout."""
    write_files(tmp_path)
    told = served(*words_of(line, ids))
    as_json = served("--json", *words_of(line, ids))

    assert (told.code, words.lower() in told.text.lower(), "Traceback" in told.text) == (2, True, False), told
    assert as_json.code == 2
    assert isinstance(json.loads(as_json.out or as_json.err), dict)
    assert "\n" not in as_json.err.strip()


def every_command(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command, those in groups, too."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from every_command(one, (*before, name))
        else:
            yield (*before, name)


EVERY_COMMAND = list(every_command(typer.main.get_command(make_app())))


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_no_command_forgets_json_when_it_fails(program: Program, words: tuple[str, ...]) -> None:
    """Wherever it stands: a mistake is one object on one line of stderr, and nothing else is printed."""
    # What `worker` does not know is Celery's; without an app it is told nothing.
    mistake = ("--redis-url",) if words == ("worker",) else ("--no-such-option",)
    for line in (("--json", *words, *mistake), (*words, "--json", *mistake)):
        said = program(*line)

        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), said
        assert json.loads(said.err)["error"]["kind"] == "UsageError"


@pytest.mark.parametrize(
    "line",
    [
        *(f"{command} {NOBODY}" for command in (*WITH_ID, "graph", "result")),
        *(f"{command} {NOBODY} a" for command in WITH_REF),
        *(f"dead {act} {NOBODY}/x" for act in ("show", "replay", "drop")),
        *(f"schedule {act} x" for act in ("show", "pause", "resume", "start", "remove")),
        f"signal {NOBODY} a go",
        f"cancel-region {NOBODY} r",
        "start sound.yaml",
        "schedule add x sound.yaml --every 60",
        "schedule list",
        "list",
        "locks",
        "dead list",
        "web --port 0",
    ],
)
def test_no_command_forgets_json_when_no_server_answers(program: Program, tmp_path: Path, line: str) -> None:
    """With the code of what may be tried again."""
    write_files(tmp_path)
    said = program(*line.split(), "--json", "--redis-url", f"redis://127.0.0.1:{free_port()}/0")

    assert (said.code, said.out, said.err.count("\n")) == (3, "", 1), said
    assert json.loads(said.err)["error"]["kind"] == "UnreachableError"


@pytest.mark.parametrize("name", ["pipelines", "nothing"])
def test_a_file_is_named_as_it_is_written(program: Program, tmp_path: Path, name: str) -> None:
    """Also one whose name could begin a sentence."""
    (tmp_path / "pipelines").mkdir()

    assert program("validate", name).err.startswith(f"{name}: ")


@pytest.mark.parametrize("line", ["start sound.yaml --home things", "migrate-check binary.yaml", "demo --path things"])
def test_a_path_within_a_sentence_keeps_its_letters(program: Program, tmp_path: Path, line: str) -> None:
    """Only a word of our own is made the beginning of a sentence."""
    write_files(tmp_path)
    (tmp_path / "things").write_text("")
    said = program(*line.split())

    assert (said.code, "Things" in said.text, "Binary" in said.text) == (2, False, False), said


@pytest.mark.parametrize("command", ["start -", "validate -", "graph -", "start --batch -"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"\xff\xfe", "can't be read"),
        (b"{", "line 1"),
        (b"[1", "line 1"),
        (None, "closed"),
        (b"x" * 101, "larger than 100"),
    ],
)
def test_standard_input_is_no_pipeline(
    served: Program, monkeypatch: pytest.MonkeyPatch, command: str, given: bytes | None, words: str
) -> None:
    """Told as of a file."""
    monkeypatch.setattr(pipeline_file, "_MAX_BYTES", 100)
    monkeypatch.setattr("sys.stdin", None if given is None else TextIOWrapper(BytesIO(given)))
    told = served(*command.split())

    assert (told.code, words in told.text) == (2, True), told


def test_what_can_t_be_written_is_told(served: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, of which the system says it."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "log")

    monkeypatch.setattr(Session, "print_json", full)
    told = served("list", "--json")

    assert told.code == 2
    assert json.loads(told.err)["error"]["message"] == "Can't go on: No space left on device: 'log'"


@pytest.mark.parametrize(
    "command",
    [f"signal LIVE b go {ENDLESS}", f"status {ENDLESS[:9000]}", f"schedule show {ENDLESS}", f"graph {ENDLESS}.yaml"],
)
def test_what_is_endless_is_not_given_back_whole(served: Program, ids: dict[str, str], command: str) -> None:
    """The sentence stays one that can be read."""
    said = served(*(ids.get(word, word) for word in command.split()))

    assert said.code == 2
    assert "xxx" in said.err
    assert len(said.err) < 600


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("signal LIVE b go DIGITS", "has a number of more than 4,300 digits"),
        ("signal LIVE b go BRACKETS", "is nested too deeply"),
        ("add-instances LIVE b 1 DIGITS", "has a number of more than 4,300 digits"),
        ("start sound.yaml --set x=DIGITS", "--set x: the value has a number of more than 4,300 digits"),
        ("start sound.yaml --set x=BRACKETS", "--set x: the value is nested too deeply"),
    ],
)
def test_json_that_no_reader_takes_is_wrong_input(
    served: Program, ids: dict[str, str], tmp_path: Path, line: str, words: str
) -> None:
    """Python refuses to read such numbers, and gives up at such depths."""
    write_files(tmp_path)
    given = {"DIGITS": "9" * 5_000, "BRACKETS": "[" * 100_000}
    for name, text in given.items():
        line = line.replace(name, text)
    told = served(*(ids.get(word, word) for word in line.split(" ")))

    assert (told.code, words in told.text, "Traceback" in told.text) == (2, True, False), told.text[:500]


@pytest.mark.parametrize("code", ["0", "3", "'bye'"])
def test_an_app_whose_module_ends_the_program_is_told_so(
    served: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Celery would end with it, and say nothing."""

    def start(*_: object) -> NoReturn:
        pytest.fail("a worker was started")

    monkeypatch.setattr("os.execve", start)
    # What looks at the app is a process of its own.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    (tmp_path / "quits.py").write_text(f"import sys\nsys.exit({code})\n")
    told = served("worker", "-A", "quits")

    assert (told.code, told.out) == (2, "")
    assert "--app quits: the module ends the program when it is imported" in told.err


def test_that_there_is_no_result_is_told_as_any_error(served: Program, ids: dict[str, str]) -> None:
    """With code 1: the workflow failed, and nobody was mistaken."""
    said, as_json = served("result", ids["ENDED"]), served("result", ids["ENDED"], "--json")

    assert (said.code, as_json.code, said.out) == (1, 1, "")
    assert f"Workflow {ids['ENDED']} ended CANCELED" in said.err
    assert json.loads(as_json.err)["error"]["kind"] == "WorkflowFailedError"
