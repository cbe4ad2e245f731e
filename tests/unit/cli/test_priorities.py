"""Priorities on the command line: given with a file, a batch or a schedule, and seen wherever workflows are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stabilize_celery.client import Client
from tests.unit.cli.conftest import Program

FILE = """\
application: shop
name: order
priority: 3
stages:
  - {ref_id: a, tasks: [{name: t, implementing_class: t}]}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "order.yaml"
    path.write_text(FILE)
    return str(path)


@pytest.mark.parametrize(("options", "priority"), [((), 3), (("--priority", "7"), 7), (("--priority", "0"), 0)])
def test_a_priority_stands_in_the_file_or_beside_it(
    served: Program, client: Client, file: str, options: tuple[str, ...], priority: int
) -> None:
    """The one beside it counts."""
    started = served("start", file, "--json", *options).json

    assert client.get(started["id"]).priority == priority
    assert served("status", started["id"], "--json").json["priority"] == priority


def test_a_priority_is_seen_in_the_list_and_above_the_tree(served: Program, file: str) -> None:
    """For people, too; a list in which none has a priority has no column for it."""
    started = served("start", file, "--json").json

    listed, shown = served("list"), served("status", started["id"])
    assert listed.out.splitlines()[0].split()[:3] == ["ID", "STATUS", "PRIORITY"]
    assert listed.out.splitlines()[1].split()[2] == "3"
    assert "· priority 3 " in shown.out
    assert served("list", "--json").json["items"][0]["priority"] == 3


def test_without_priorities_nothing_is_said_of_them(served: Program, file: str) -> None:
    """Most people have none."""
    started = served("start", file, "--json", "--priority", "4").json

    assert "PRIORITY" not in served("list").out
    assert "priority" not in served("status", started["id"]).out


def test_a_batch_has_the_priorities_of_its_lines_or_one_for_all(
    served: Program, client: Client, file: str, tmp_path: Path
) -> None:
    """Lines bring their own, whether they are definitions or names for a file's context."""
    stage = {"ref_id": "a", "tasks": [{"name": "t", "implementing_class": "t"}]}
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps({"application": "shop", "name": "a", "priority": 6, "stages": [stage]}))
    contexts = tmp_path / "contexts.jsonl"
    contexts.write_text('{"n": 1}\n{"n": 2, "priority": 8}')

    served("start", "--batch", str(lines))
    served("start", "--batch", str(lines), "--priority", "9")
    served("start", file, "--batch", str(contexts))
    served("start", file, "--batch", str(contexts), "--priority", "0")

    assert [one["priority"] for one in served("list", "--json").json["items"]] == [0, 0, 8, 3, 9, 6]
    assert "priority" not in client.get(served("list", "--json").json["items"][0]["id"]).context


def test_a_line_s_priority_out_of_range_is_told(served: Program, file: str, tmp_path: Path) -> None:
    """With its line, though the other names of that line go into the context."""
    (tmp_path / "contexts.jsonl").write_text('{"n": 1}\n{"priority": 12}')
    said = served("start", file, "--batch", "contexts.jsonl")

    assert (said.code, "line 2 " in said.text, "priority" in said.text) == (2, True, True)
    assert served("list", "--json").json["items"] == []


def test_what_a_schedule_starts_has_its_priority(served: Program, file: str) -> None:
    """Kept with the definition, and shown."""
    added = served("schedule", "add", "nightly", file, "--every", "60", "--priority", "9", "--json").json

    assert added["definition"]["priority"] == 9
    assert "priority 9" in served("schedule", "show", "nightly").text


@pytest.mark.parametrize("wrong", ["-1", "10", "high"])
def test_a_priority_out_of_range_is_bad_usage(served: Program, file: str, wrong: str) -> None:
    """One error that names the option; nothing is started."""
    said = served("start", file, "--priority", wrong)

    assert (said.code, "--priority" in said.err) == (2, True)
    assert served("list", "--json").json["items"] == []


def test_a_priority_out_of_range_in_a_file_is_told_with_its_line(served: Program, tmp_path: Path) -> None:
    """Like any other mistake of a definition."""
    (tmp_path / "bad.yaml").write_text(FILE.replace("3", "11"))
    said = served("start", "bad.yaml")

    assert (said.code, "line 3" in said.text, "priority" in said.text) == (2, True, True)
