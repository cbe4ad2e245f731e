"""What a shell offers after Tab."""

import pytest

from stabilize_celery.client import Client
from stabilize_celery.models.schedule import Schedule
from tests.servers import free_port
from tests.unit.cli.conftest import Program
from tests.unit.client.world import gate, stage, workflow


@pytest.fixture
def tab(program: Program, monkeypatch: pytest.MonkeyPatch):
    """Ask as bash does: the words so far, the last of them not ended."""

    def ask(line: str) -> list[str]:
        words = f"stabilize-celery {line}"
        monkeypatch.setenv("_STABILIZE_CELERY_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        said = program()
        assert "Traceback" not in said.text
        return said.out.split()

    return ask


def test_commands_options_and_formats(tab):
    assert tab("sta") == ["start", "status"]
    assert "--format" in tab("graph --")
    assert tab("graph x --format m") == ["mermaid"]
    assert tab("list --status TERM") == ["TERMINAL"]


def test_ids_and_stages_come_from_the_server(tab, client: Client, monkeypatch, redis_url: str):
    """Of the server that the environment or the line names."""
    run = client.start(workflow(stage("first"), gate("second", "first"))).id

    assert run in tab(f"why --redis-url {redis_url} {run[:20]}")
    monkeypatch.setenv("STABILIZE_REDIS_URL", redis_url)
    assert run in tab(f"status {run[:20]}")
    assert tab(f"signal {run} s") == ["second"]
    assert tab("signal nobody s") == []


def test_schedules_are_offered_by_name(tab, client: Client, monkeypatch, redis_url: str):
    """Where one is looked for, and not where one is added."""
    monkeypatch.setenv("STABILIZE_REDIS_URL", redis_url)
    client.schedules.add(Schedule(name="nightly", definition=workflow(stage("a")), every_s=60))

    assert tab("schedule pause ni") == ["nightly"]
    assert tab("schedule add ni") == []


def test_no_server_no_offers(tab, monkeypatch, tmp_path):
    """Neither a word nor a server of our own."""
    assert tab("status 0") == []
    monkeypatch.setenv("STABILIZE_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")

    assert tab("status 0") == []
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("shell", "defines"), [("bash", "complete -o default"), ("zsh", "compdef"), ("fish", "complete --command")]
)
def test_each_shell_gets_its_script(program: Program, monkeypatch: pytest.MonkeyPatch, shell: str, defines: str):
    """The script is for the shell that the program was called from."""
    monkeypatch.setattr("shellingham.detect_shell", lambda: (shell, f"/bin/{shell}"))

    said = program("--show-completion")

    assert said.code == 0
    assert defines in said.out
    assert "_STABILIZE_CELERY_COMPLETE" in said.out
