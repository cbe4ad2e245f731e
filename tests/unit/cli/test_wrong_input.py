"""Every command with wrong input: the exit code, one message on stderr, never a traceback; with `--json` as an object."""

from pathlib import Path

import pytest

from stabilize_celery.client import Client
from tests.unit.cli.conftest import Program, Said
from tests.unit.client.world import gate, stage, workflow

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
    "huge.yaml": SOUND + "context: {x: " + "y" * 20_000_000 + "}\n",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with wrong files of every kind."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "folder.yaml").mkdir()
    locked = tmp_path / "locked.yaml"
    locked.write_text(SOUND)
    locked.chmod(0)
    return tmp_path


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

CASES: list[tuple[str, str]] = [
    *((f"{command} NOBODY", "there is no workflow") for command in (*WITH_ID, "graph")),
    *((f"{command} NOBODY a", "there is no workflow") for command in WITH_REF),
    ("signal NOBODY a go", "there is no workflow"),
]


def checked(said: Said, code: int, words: str) -> None:
    assert (said.code, words.lower() in said.text.lower(), "Traceback" in said.text) == (code, True, False), said


@pytest.mark.parametrize(("line", "words"), CASES)
def test_wrong(served: Program, ids: dict[str, str], place: Path, line: str, words: str) -> None:
    said = served(*(ids.get(word, word) for word in line.split()))
    print(line, said)
