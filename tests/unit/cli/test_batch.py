"""`start --batch` and `start --replace`, on a real server."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from stabilize_celery.client import Client
from stabilize_celery.errors import IdempotencyConflictError, UnreachableError
from tests.unit.cli.conftest import Program

STAGE = {"ref_id": "a", "type": "x", "name": "a", "tasks": [{"name": "t", "implementing_class": "t"}]}


def definition(name: str, **more: Any) -> dict[str, Any]:
    return {"application": "shop", "name": name, "stages": [STAGE], **more}


def lines(path: Path, *values: Any) -> str:
    path.write_text("\n".join(value if isinstance(value, str) else json.dumps(value) for value in values) + "\n")
    return str(path)


def names(served: Program) -> list[str]:
    return sorted(item["name"] for item in served("list", "--json", "--limit", "500").json["items"])


def test_each_line_is_a_workflow(served: Program, tmp_path: Path) -> None:
    """More than one batch of messages; empty lines are left out."""
    file = lines(tmp_path / "all.jsonl", *(definition(f"w{n:03}") for n in range(250)), "")
    said = served("start", "--batch", file)

    assert said.code == 0
    # In a pipe a line stays one, however long the path is.
    assert said.out == f"Started 250 workflows of {file}\n"
    assert names(served) == [f"w{n:03}" for n in range(250)]


def test_each_line_is_a_context_for_the_file(served: Program, tmp_path: Path) -> None:
    template = tmp_path / "w.json"
    template.write_text(json.dumps(definition("order", context={"a": 1, "b": 1})))
    file = lines(tmp_path / "orders.jsonl", {"b": 2}, {"c": 3})
    said = served("start", str(template), "--batch", file, "--json")

    started = [json.loads(line) for line in said.out.splitlines()]
    assert [one["line"] for one in started] == [1, 2]
    assert len(names(served)) == 2


def test_a_key_that_stands_twice_is_refused(served: Program, tmp_path: Path) -> None:
    """As in a pipeline file: one of its values would be lost without a word."""
    twice = json.dumps(definition("a")).replace('"name": "a"', '"name": "a", "name": "b"', 1)
    said = served("start", "--batch", lines(tmp_path / "all.jsonl", definition("x"), twice))

    assert said.code == 2
    assert "line 2    this has the key 'name' twice in one object" in said.err
    assert names(served) == []


def test_with_keys_the_same_file_again_starts_nothing_again(served: Program, tmp_path: Path) -> None:
    """So an interrupted command is simply given again."""
    file = lines(tmp_path / "all.jsonl", definition("a"), definition("b", idempotency_key="mine"))
    ids = [served("start", "--batch", file, "--key", "today", "--json").out for _ in range(2)]

    assert ids[0] == ids[1]
    assert names(served) == ["a", "b"]


def test_keys_of_other_definitions_are_told_with_their_lines(served: Program, tmp_path: Path) -> None:
    """Before anything is started: it would end in the middle, and the same command could never end well."""
    served("start", "--batch", lines(tmp_path / "first.jsonl", definition("a"), definition("b")), "--key", "k")
    again = (definition("new"), definition("x", idempotency_key="k/1"), "", definition("y", idempotency_key="k/2"))
    said = served("start", "--batch", lines(tmp_path / "all.jsonl", *again, definition("b", idempotency_key="k/2")))

    assert said.code == 2
    assert "line 5    idempotency_key: 'k/2' stands for another definition in line 4" in said.err
    said = served("start", "--batch", lines(tmp_path / "all.jsonl", *again))
    assert said.code == 2
    assert "2 problems, nothing was started" in said.text
    assert "line 2    idempotency_key: 'k/1' stands for another definition already" in said.err
    assert "line 4    idempotency_key: 'k/2' stands for another definition already" in said.err
    assert names(served) == ["a", "b"]


def test_a_key_that_somebody_takes_meanwhile_is_no_reason_to_try_again(
    served: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was started is told, and which key stands for something else."""

    def start_many(*_: object, **__: object) -> object:
        raise IdempotencyConflictError("idempotency key 'k/1' stands for another definition already")

    monkeypatch.setattr(Client, "start_many", start_many)
    said = served("start", "--batch", lines(tmp_path / "all.jsonl", definition("a")), "--key", "k")

    assert said.code == 2
    assert "0 to 1 of 1 workflow were started." in said.text
    assert "'k/1' stands for another definition" in said.text
    assert "Run it again" not in said.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, UnreachableError("it", "redis://here", "look")])
def test_where_it_was_interrupted_is_told(
    served: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """So nobody has to count what there is now."""
    answers = iter([["handle"] * 100, error])

    def start_many(*_: object, **__: object) -> object:
        answer = next(answers)
        if isinstance(answer, list):
            return answer
        raise answer

    monkeypatch.setattr(Client, "start_many", start_many)
    said = served("start", "--batch", lines(tmp_path / "all.jsonl", *(definition(f"w{n}") for n in range(250))))

    assert said.code in (130, 3)
    assert "100 to 200 of 250 workflows were started. Run it again: what has a key" in said.text


def test_all_lines_with_mistakes_are_told_at_once(served: Program, tmp_path: Path) -> None:
    """Not one for each try, whatever kind of mistake it is."""
    bad = ("{", '{"a": 1,', "[1]", '"text"', "[" * 20_000, definition("b", stages=[]), definition("c", priority=12))
    said = served("start", "--batch", lines(tmp_path / "all.jsonl", definition("a"), "", *bad))

    assert said.code == 2
    assert f"{len(bad)} problems, nothing was started" in said.text
    assert "line 4 this is not JSON: Expecting property name enclosed in double quotes (column 9)" in said.text
    assert [number for number in range(1, 10) if f"line {number} " in said.text] == list(range(3, 10))
    assert names(served) == []


def test_a_line_ends_where_json_lines_say(served: Program, tmp_path: Path) -> None:
    """Not at the other ends of lines that a text may hold; a mark of the encoding before the first does no harm."""
    file = tmp_path / "all.jsonl"
    texts = [json.dumps(definition(name), ensure_ascii=False) for name in ("a\u2028b", "c\x85d")]
    file.write_bytes("\r\n".join(texts).encode("utf-8-sig"))

    assert served("start", "--batch", str(file)).code == 0
    assert names(served) == ["a\u2028b", "c\x85d"]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("{", "line 2    this is not JSON"),
        ("[1]", "line 2    each line must be a JSON object"),
        (json.dumps(definition("x", colour=1)), "line 2"),
        (json.dumps(definition("x", stages=[])), "line 2"),
        (json.dumps(definition("x", idempotency_key=5)), "line 2    idempotency_key: expected text, got 5"),
        (
            json.dumps(definition("x", idempotency_key="k")) + "\n" + json.dumps(definition("y", idempotency_key="k")),
            "line 3    idempotency_key: 'k' stands for another definition in line 2",
        ),
    ],
)
def test_one_bad_line_and_nothing_is_started(served: Program, tmp_path: Path, bad: str, told: str) -> None:
    said = served("start", "--batch", lines(tmp_path / "all.jsonl", definition("a"), bad, definition("b")))

    assert said.code == 2
    assert told in said.err
    assert "othing was started" in said.err
    assert "Traceback" not in said.err
    assert names(served) == []


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--batch", "nowhere.jsonl"],
        ["--batch", "x", "--wait"],
        ["--batch", "x", "--replace", "k"],
        ["--batch", "w.json", "--delay", "30s"],
        ["--batch", "w.json", "--set", "a=1"],
        ["w.json", "--delay", "3"],
        ["w.json", "--replace", "k", "--key", "j"],
    ],
)
def test_options_that_dont_go_together(served: Program, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "w.json").write_text(json.dumps(definition("w")))
    said = served("start", *options)

    assert said.code == 2
    assert "Traceback" not in said.err
    assert names(served) == []


def test_standard_input_is_read_once(served: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """As file and as lines it would be empty the second time, and nothing be started without a word."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(definition("w")).encode())))
    said = served("start", "-", "--batch", "-")

    assert (said.code, "can't both be standard input" in said.text) == (2, True)


def test_replace_cancels_what_had_the_key(served: Program, tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps(definition("w")))
    first, second = (served("start", "w.json", "--replace", "k", "--json").json["id"] for _ in range(2))

    assert served("status", first, "--json").json["status"] == "CANCELED"
    assert served("status", second, "--json").json["status"] == "BUFFERED"


@pytest.mark.parametrize("context", [None, [1]])
def test_lines_can_t_add_to_a_context_that_is_no_object(served: Program, tmp_path: Path, context: object) -> None:
    """An empty `context:` of a template is one that holds nothing, and is told before any line."""
    template = tmp_path / "w.json"
    template.write_text(json.dumps(definition("order", context=context)))
    said = served("start", str(template), "--batch", lines(tmp_path / "orders.jsonl", {"b": 2}))

    assert said.code == 2
    assert said.err.startswith("The pipeline's context is not an object")


def test_a_number_that_no_reader_takes_is_one_of_the_problems(served: Program, tmp_path: Path) -> None:
    """The others are told beside it."""
    file = lines(tmp_path / "all.jsonl", '{"a": ' + "9" * 5_000 + "}", "nope")
    said = served("start", "--batch", file)

    assert said.code == 2
    assert "2 problems, nothing was started" in said.err
    assert "line 1    this has a number of more than 4,300 digits" in said.err
    assert "line 2    this is not JSON" in said.err
