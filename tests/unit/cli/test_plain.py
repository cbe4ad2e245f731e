"""What others have named is shown by a terminal, never obeyed."""

import io
import json

import pytest
from rich.table import Table
from rich.text import Text

from stabilize_celery.cli.plain import PlainConsole, json_text, plain
from stabilize_celery.client import Client
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.workflow import Workflow
from tests.unit.cli.conftest import Program
from tests.unit.client.world import gate, workflow

HOSTILE = "a\x1b]52;c;cm0gLXJm\x07\x1b[2J\r\x9b31m\u202eb"
"""Sets the clipboard, clears the screen, overwrites its line, turns what follows round."""
SHOWN = "a�]52;c;cm0gLXJm��[2J��31m�b"


def test_what_a_terminal_would_obey_is_replaced() -> None:
    """Lines, tabs and letters of every script stay."""
    assert plain(HOSTILE) == SHOWN
    assert plain("naïve 日本\tété\n😀") == "naïve 日本\tété\n😀"


def test_the_console_replaces_it_in_everything_and_keeps_its_own_colours() -> None:
    """Whatever part of a table or text it is."""
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=True, width=120, color_system="standard", highlight=False)
    table = Table(HOSTILE)
    table.add_row(Text(HOSTILE, style="red"))

    console.print(table, Text(HOSTILE), HOSTILE, markup=False)

    printed = file.getvalue()
    assert printed.count("[2J") == 4
    assert "\x1b[31m" in printed
    assert not [one for one in ("\x1b[2J", "\x1b]", "\x07", "\r", "\x9b", "\u202e") if one in printed]


def test_json_holds_the_same_and_prints_nothing_to_obey() -> None:
    """Programs read what was said."""
    told = json_text({HOSTILE: [HOSTILE]}, indent=2)

    assert plain(told) == told
    assert json.loads(told) == {HOSTILE: [HOSTILE]}


@pytest.mark.real
def test_commands_show_hostile_names(served: Program, client: Client) -> None:
    """A producer may call things what it likes; an operator's terminal is not its to command."""
    definition = Workflow.create(application=HOSTILE, name=HOSTILE, stages=[StageExecution(ref_id=HOSTILE, name="x")])
    started = client.start(definition)

    for command in (
        ("status", started.id),
        ("events", started.id),
        ("why", started.id),
        ("list",),
        ("graph", started.id),
    ):
        for options in ((), ("--json",)):
            said = served(*command, *options)
            assert said.code == 0
            assert plain(said.out + said.err) == said.out + said.err
            assert "[2J" in said.out
    assert served("restart", started.id, HOSTILE).code == 2


@pytest.mark.real
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\u2028", "\x85", "\v"])
def test_a_name_forges_no_line(served: Program, client: Client, ends: str) -> None:
    """Whoever reads a history line by line, or a table, sees what happened."""
    name = f"a{ends}00:00:00.000  b                 SUCCEEDED"
    started = client.start(workflow(gate(name, signal=name), name=name))

    for command in (("status", started.id), ("events", started.id), ("why", started.id), ("list",), ("locks",)):
        assert not [line for line in served(*command).out.splitlines() if line.startswith("00:00:00")]
    assert len(str(started.why()[0]).splitlines()) == 1
    assert {len(str(event).splitlines()) for event in started.events()} == {1}
