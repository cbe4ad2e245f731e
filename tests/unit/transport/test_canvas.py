"""What of a canvas becomes a stage, and what is refused; tests/integration/test_canvas.py compares with Celery."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.canvas import Signature
from celery.exceptions import Reject

from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.testing import run_workflow
from stabilize_celery.transport.app import Stabilize
from stabilize_celery.transport.canvas import canvas_workflow


@pytest.fixture
def app() -> Celery:
    made = Celery("sums", broker="redis://127.0.0.1:1/0", set_as_current=False)
    for name in ("cv.add", "cv.add-2", "cv.add-2-2"):
        made.task(name=name, shared=False)(total)
    return made


def total(*numbers: int) -> int:
    return sum(numbers)


def ref_ids(app: Celery, signature: Signature) -> list[str]:
    return [stage.ref_id for stage in canvas_workflow(app, signature).stages]


def test_no_two_steps_have_one_name(app: Celery) -> None:
    """Also where a task is called like the second step of another."""
    add, add2, add22 = (app.tasks[name].s(1) for name in ("cv.add", "cv.add-2", "cv.add-2-2"))

    assert ref_ids(app, chain(add, add, add)) == ["add", "add-2", "add-3"]
    assert ref_ids(app, chain(add, add, add2)) == ["add", "add-2", "add-2-2"]
    assert ref_ids(app, chain(add2, add, add, add)) == ["add-2", "add", "add-3", "add-4"]
    assert ref_ids(app, chain(add, add, add2, add22, add2)) == ["add", "add-2", "add-2-2", "add-2-2-2", "add-2-3"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda task: task, "such as add.s(1, 2), not a task"),
        (lambda task: [task.s(1)], "a list of them is group([...])"),
        (lambda _: None, "such as add.s(1, 2), not None"),
        (lambda task: task.name, "not 'cv.add'"),
        (lambda task: {"task": task.name}, "this lacks args, immutable, kwargs, options, subtask_type"),
        (lambda _: {}, "this lacks args"),
    ],
)
def test_what_is_no_signature_is_refused_at_once(app: Celery, given: Callable[[Any], Any], told: str) -> None:
    """Nothing that is inside of here is told."""
    with pytest.raises(TypeError) as error:
        canvas_workflow(app, given(app.tasks["cv.add"]))

    assert told in str(error.value)


@pytest.mark.parametrize(("args", "kwargs", "told"), [("12", None, "args must be a list"), ((), [1], "kwargs must be")])
def test_arguments_have_the_form_that_celery_asks_for(app: Celery, args: Any, kwargs: Any, told: str) -> None:
    """A text would be taken for one argument per letter."""
    with pytest.raises(TypeError, match=told):
        canvas_workflow(app, app.tasks["cv.add"].s(), args, kwargs)


def test_a_signature_that_has_travelled_is_one(app: Celery) -> None:
    """As JSON carries it."""
    add = app.tasks["cv.add"]
    given = chord([add.s(1), add.s(2)], add.s())

    travelled = json.loads(json.dumps(given))

    assert ref_ids(app, travelled) == ref_ids(app, given) == ["add", "add-2", "add-3"]


def test_a_part_that_is_no_whole_signature_is_named_by_its_place(app: Celery) -> None:
    travelled = json.loads(json.dumps(group([app.tasks["cv.add"].s(1), app.tasks["cv.add"].s(2)])))
    del travelled["kwargs"]["tasks"][1]["options"]

    with pytest.raises(InvalidWorkflowError, match=r"group\[1\]: a signature lacks options"):
        canvas_workflow(app, travelled)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("countdown", math.nan),
        ("countdown", math.inf),
        ("countdown", 1e30),
        ("countdown", "5"),
        ("countdown", dt.timedelta(seconds=5)),
        ("eta", "nope"),
        ("eta", 5),
        ("eta", dt.date(2030, 1, 1)),
    ],
    ids=str,
)
def test_a_delay_that_is_none_is_a_problem_of_its_place(app: Celery, option: str, value: Any) -> None:
    """Found before anything is started, with all the others."""
    add = app.tasks["cv.add"]
    bad = chain(add.s(1), add.s(2).set(**{option: value}), add.s(3).set(expires=5))

    with pytest.raises(InvalidWorkflowError) as refused:
        canvas_workflow(app, bad)

    first, second = refused.value.problems
    assert str(first).startswith(f"chain[1]: the {option} must be a ")
    assert second.path == "chain[2]"


def test_delays_are_seconds_or_a_time(app: Celery) -> None:
    """A time without a zone is UTC; less than no pause is none."""
    add = app.tasks["cv.add"]

    stages = canvas_workflow(
        app, group(add.s(1).set(countdown=2), add.s(1).set(countdown=-5), add.s(1).set(eta="2030-01-02T03:04:05"))
    ).stages

    assert [stage.context.get("seconds") for stage in stages] == [2.0, 0.0, None]
    assert stages[2].scheduled_time == dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC).timestamp() * 1000


def test_what_a_step_raised_is_told_once_and_as_it_was_raised(app: Celery) -> None:
    """Not as the error of this package that stands for it, and after one try: an error is final, as in Celery."""
    registry = Stabilize(app, redis_url="redis://127.0.0.1:1/1").registry

    @app.task(name="cv.fail", shared=False)
    def fail(*, rejects: bool) -> None:
        raise Reject("no stock") if rejects else ConnectionError("gone")

    told = []
    for rejects in (False, True):
        done = run_workflow(canvas_workflow(app, fail.s(rejects=rejects)), registry)
        told.append(done.stages[0].tasks[0].task_exception_details["message"])

    assert told == ["ConnectionError: gone", "cv.fail rejected its message: no stock"]


@pytest.mark.parametrize("way", ["map", "starmap"])
def test_a_task_that_map_calls_can_not_be_replaced(app: Celery, way: str) -> None:
    """Nothing would have its result: in Celery neither, which waits for ever."""
    app.conf.update(broker_url="memory://")
    registry = Stabilize(app, redis_url="redis://127.0.0.1:1/1").registry

    @app.task(name="cv.front", bind=True, shared=False)
    def front(self: Any, x: int) -> Any:
        return self.replace(app.tasks["cv.add"].s(x))

    done = run_workflow(canvas_workflow(app, getattr(front, way)([[1]])), registry)

    assert "Call it in a group" in done.stages[0].tasks[0].task_exception_details["message"]


def test_a_header_that_json_cannot_carry_is_a_problem_of_its_place(app: Celery) -> None:
    """As an argument is."""
    with pytest.raises(InvalidWorkflowError, match=r"chain\[1\]: an argument or header: .*JSON"):
        canvas_workflow(app, chain(app.tasks["cv.add"].s(1), app.tasks["cv.add"].s(1).set(headers={"tenant": {1}})))
