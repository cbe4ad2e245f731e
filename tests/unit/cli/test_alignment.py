"""Columns are straight on the screen, whatever is in them: wide characters, accents of their own, emoji, commands."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len

from stabilize_celery.cli.folding import folded_events
from stabilize_celery.cli.locking import lock_lines
from stabilize_celery.client import Client
from stabilize_celery.client.events import WorkflowEvent
from stabilize_celery.client.why.deadlocks import deadlocks_among
from stabilize_celery.client.why.locks import all_locks
from stabilize_celery.models.schedule import Schedule
from tests.unit.cli.conftest import Program
from tests.unit.client.world import World, gate, stage, workflow

PRINTABLE = ["plain", "日本語の名前", "e\u0301te\u0301", "👩‍💻 dev", "한글"]
NAMES = [*PRINTABLE, "esc\x1b[1m", "tab\tand\nline"]


def begins(lines: list[str], words: str, names: Sequence[str] = NAMES) -> set[int]:
    """The cells at which the first match begins, over all lines that have one."""
    found = [(line, match) for line in lines if (match := re.search(words, line))]
    assert len(found) == len(names), lines
    return {cell_len(line[: match.start()]) for line, match in found}


def test_a_list(served: Program, client: Client) -> None:
    for name in NAMES:
        client.start(workflow(gate(), name=name))

    assert len(begins(served("list").out.splitlines(), r"\d\d:\d\d:\d\d")) == 1


def test_schedules(served: Program, client: Client) -> None:
    for name in PRINTABLE:
        client.schedules.add(Schedule(name=name, definition=workflow(stage("a")), every_s=60))

    assert len(begins(served("schedule", "list").out.splitlines(), "every 1m", PRINTABLE)) == 1


def test_reasons(served: Program, client: Client) -> None:
    run = client.start(workflow(*(gate(name) for name in NAMES)))

    assert len(begins(served("why", run.id).out.splitlines(), "no live worker|no worker|queued")) == 1


def test_events() -> None:
    events = [WorkflowEvent("1-0", "task.started", name, 0, {"task": "t"}) for name in NAMES]

    assert len(begins(list(folded_events(events)), "task ")) == 1


def test_holders_of_a_lock() -> None:
    world = World()
    for name in NAMES:
        world.start(gate("a", mutex_key="dock", mutex_limit=9), name=name)
    store = world.client.store
    (lock,) = found = all_locks(store)
    lines = list(lock_lines(lock, deadlocks_among(store, found, 9), world.now_ms))

    assert len(begins(lines, "token")) == 1


def test_a_name_that_is_cut_leaves_room_for_the_id(served: Program, tmp_path: Path) -> None:
    """In cells, not in characters."""
    definition = {"application": "a", "name": "語" * 100, "stages": [{"ref_id": "a"}]}
    (tmp_path / "w.json").write_text(json.dumps(definition))

    (line,) = served("start", "w.json").out.splitlines()

    assert cell_len(line) <= 80
