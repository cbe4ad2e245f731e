"""What the command line and the web page show of data: never what its key calls a secret."""

import json

import pytest

from stabilize_celery.cli.looking import result
from stabilize_celery.cli.session import Session, Shared
from stabilize_celery.cli.showing import workflow_object
from stabilize_celery.models.redaction import Redaction
from stabilize_celery.models.result import TaskResult
from stabilize_celery.runtime.reading import read_view, workflow_from
from stabilize_celery.settings import SECRET_KEYS
from stabilize_celery.web.service import Service
from tests.unit.client.world import World, stage

REDACTION = Redaction(SECRET_KEYS)


def login(_: object) -> TaskResult:
    return TaskResult.success(outputs={"session_token": "s-1", "user": "u"})


def test_status_as_json_hides_secrets() -> None:
    """A program that has to have them uses the client."""
    world = World(login=login)
    handle = world.start(stage("a", does="login"))
    workflow = workflow_from(read_view(world.client.store, handle.id))

    shown = workflow_object(workflow, (), redaction=REDACTION)

    assert shown["stages"][0]["outputs"] == {"session_token": "***", "user": "u"}
    assert handle.get().stages[0].outputs == {"session_token": "s-1", "user": "u"}


def test_the_page_hides_secrets_of_a_stage_and_of_the_definition() -> None:
    """Contexts as defined, what runs left in them, outputs."""
    world = World(login=login)
    handle = world.start(stage("a", does="login", context={"password": "hunter2", "host": "h"}))
    service = Service(world.client)

    detail, definition = service.stage(handle.id, "a"), service.definition(handle.id)

    assert detail.context == {"password": "***", "host": "h"}
    assert detail.runs[0].outputs == {"session_token": "***", "user": "u"}
    assert definition["stages"][0]["context"] == {"password": "***", "host": "h"}


def test_a_result_hides_secrets_unless_they_are_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal is looked at by more people than a program's memory."""
    world = World(login=login)
    handle = world.start(stage("a", does="login"))
    monkeypatch.setattr(Session, "client", lambda _: world.client)

    result(Session(Shared()), handle.id)
    hidden = json.loads(capsys.readouterr().out)
    result(Session(Shared()), handle.id, show_secrets=True)
    shown = json.loads(capsys.readouterr().out)

    assert hidden == {"session_token": "***", "user": "u"}
    assert shown == {"session_token": "s-1", "user": "u"}
