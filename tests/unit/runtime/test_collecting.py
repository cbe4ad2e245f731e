"""Python's collector rests while a large definition is started, and never longer."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stabilize_celery import StageExecution, Workflow
from stabilize_celery.models.definition import to_definition
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.runtime import submission
from stabilize_celery.runtime.collecting import without_collector
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import Settings
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.tasks.registry import TaskRegistry


class Nobody:
    """A broker that takes everything."""

    def publish(self, batch: object) -> None:
        """Nothing is sent."""


@pytest.fixture
def was_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether the collector was on, each time that a workflow was created."""
    seen: list[bool] = []
    create = submission.create_workflow

    def noted(*given: Any) -> None:
        seen.append(gc.isenabled())
        create(*given)

    monkeypatch.setattr(submission, "create_workflow", noted)
    yield seen
    gc.enable()


def start(definition: Any) -> None:
    Runtime(MemoryStore(), TaskRegistry(), Nobody(), Settings(), "here").submit(definition)


def wide(width: int) -> Workflow:
    return Workflow.create("app", "wide", [StageExecution(ref_id=f"s{number}") for number in range(width)])


@pytest.mark.parametrize("make", [wide, lambda width: to_definition(wide(width))], ids=["workflow", "definition"])
def test_it_rests_while_a_large_workflow_is_started(was_on: list[bool], make: Any) -> None:
    """A small one is soon done."""
    start(make(3))
    start(make(1_000))

    assert was_on == [True, False]
    assert gc.isenabled()


def test_it_works_again_when_the_start_fails(was_on: list[bool]) -> None:
    """A wrong definition is refused after all of it was looked at."""
    stages = [{"ref_id": f"s{number}", "requisite_stage_ref_ids": ["nobody"]} for number in range(1_000)]

    with pytest.raises(InvalidWorkflowError):
        start({"application": "app", "name": "wide", "stages": stages})

    assert was_on == []
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off(was_on: list[bool]) -> None:
    """Whoever has switched it off knows why."""
    gc.disable()

    start(wide(1_000))

    assert was_on == [False]
    assert not gc.isenabled()


@pytest.mark.parametrize("wrong", [None, [], "stages", {"stages": None}, {"stages": 7}])
def test_what_is_no_definition_is_refused_as_ever(wrong: Any) -> None:
    with pytest.raises(InvalidWorkflowError):
        start(wrong)


def test_it_is_off_inside_and_as_before_afterwards() -> None:
    """Also after an error, and where it was off before."""
    with without_collector():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), without_collector():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_it_comes_back_with_the_last_thread() -> None:
    """Not while another one is still inside."""
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with without_collector():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(10)
    with without_collector():
        pass
    assert not gc.isenabled()
    leave.set()
    thread.join(10)

    assert gc.isenabled()
