"""`celery:NAME`: an app's ordinary Celery task as a stage's task."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import celery
import pytest
from celery import Celery, chain, chord, group
from celery.canvas import _chain as Chain  # the class: `chain` makes no empty one
from celery.exceptions import Ignore, ImproperlyConfigured, MaxRetriesExceededError, Reject

from stabilize_celery.errors import PermanentError, TaskNotFoundError, TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.tasks.call import TaskCall, bind_call
from stabilize_celery.tasks.outcome import classify_exception
from stabilize_celery.transport.app import Stabilize
from stabilize_celery.transport.celery_call import celery_task_names, celery_task_options, resolve_celery_task


@pytest.fixture
def app() -> Celery:
    return Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False)


def call(app: Celery, name: str, /, *, attempt: int = 1, **context: Any) -> TaskResult:
    stage = StageExecution(ref_id="s", type="x", name="x", context=context)
    bound = TaskCall(
        workflow_id="W",
        stage_ref_id="s",
        run_number=1,
        instance_index=None,
        task_name="t",
        attempt=attempt,
        polls=0,
        started_ms=0,
        now_ms=0,
        idempotency_key="W/s/t/0",
    )
    with bind_call(bound):
        return resolve_celery_task(app, f"celery:{name}").execute(stage)


def test_the_context_is_the_keyword_arguments_and_the_dict_the_outputs(app: Celery) -> None:
    """Without change to the task."""

    @app.task(name="greet", shared=False)
    def greet(name: str, loud: bool = False) -> dict[str, Any]:
        return {"greeting": f"hello {name}", "loud": loud}

    assert call(app, "greet", name="Ada").outputs == {"greeting": "hello Ada", "loud": False}


@pytest.mark.parametrize(("value", "outputs"), [(None, {}), (7, {"result": 7}), ([1], {"result": [1]}), ({}, {})])
def test_any_other_value_is_the_output_result(app: Celery, value: Any, outputs: dict[str, Any]) -> None:
    """And a task that returns nothing has no outputs."""

    @app.task(name="give", shared=False)
    def give() -> Any:
        return value

    result = call(app, "give")
    assert (result.status, result.outputs) == (WorkflowStatus.SUCCEEDED, outputs)


def test_a_bound_task_sees_its_request(app: Celery) -> None:
    """Its id is the same for every try; `retries` counts the tries before; `current_task` is the task.

    It is no eager call: code that asks for that does so to know tests from production.
    """

    @app.task(name="look", bind=True, shared=False)
    def look(self: Any) -> dict[str, Any]:
        return {
            "id": self.request.id,
            "retries": self.request.retries,
            "current": celery.current_task.name,
            "task": self.request.task,
            "is_eager": self.request.is_eager,
        }

    assert call(app, "look", attempt=3).outputs == {
        "id": "W/s/t/0",
        "retries": 2,
        "current": "look",
        "task": "look",
        "is_eager": False,
    }


def test_a_retry_may_have_other_arguments(app: Celery) -> None:
    """By name, since those of a stage are names in its context; what has no name is told."""

    @app.task(name="again", bind=True, shared=False)
    def again(self: Any, n: int, more: int = 0) -> None:
        raise self.retry(args=(n + 1,), kwargs={"more": 7}, countdown=0)

    @app.task(name="rest", bind=True, shared=False)
    def rest(self: Any, *numbers: int) -> None:
        raise self.retry(args=(1, 2), countdown=0)

    with pytest.raises(TransientError) as asked:
        call(app, "again", n=1)
    with pytest.raises(PermanentError, match=r"rest asked for a retry with other arguments: .* use kwargs="):
        call(app, "rest")

    assert asked.value.context_update == {"n": 2, "more": 7}


def test_a_task_may_put_another_one_in_its_place(app: Celery) -> None:
    """It is executed in the same stage: nothing is published."""

    @app.task(name="add", shared=False)
    def add(x: int, y: int) -> dict[str, int]:
        return {"sum": x + y}

    @app.task(name="front", bind=True, shared=False)
    def front(self: Any, x: int) -> Any:
        return self.replace(add.s(x, 1))

    assert call(app, "front", x=1).outputs == {"sum": 2}


def test_a_retry_is_a_transient_failure_with_its_pause(app: Celery) -> None:
    """Nothing is published: the broker of this app does not even exist."""

    @app.task(name="again", bind=True, shared=False, max_retries=3)
    def again(self: Any) -> None:
        raise self.retry(countdown=7, exc=OSError("busy"))

    with pytest.raises(TransientError, match="busy") as caught:
        call(app, "again", attempt=3)
    assert caught.value.retry_after == 7


def test_a_retry_past_the_tasks_own_limit_is_its_error(app: Celery) -> None:
    """`max_retries` counts as Celery counts it."""

    @app.task(name="again", bind=True, shared=False, max_retries=3)
    def again(self: Any, error: bool) -> None:
        self.retry(countdown=7, exc=OSError("busy") if error else None)

    with pytest.raises(OSError, match="busy"):
        call(app, "again", attempt=4, error=True)
    with pytest.raises(MaxRetriesExceededError):
        call(app, "again", attempt=4, error=False)


def test_autoretry_is_a_transient_failure(app: Celery) -> None:
    """With the task's own back-off; the task itself still retries as ever outside of a stage."""

    @app.task(name="auto", autoretry_for=(KeyError,), retry_backoff=4, retry_jitter=False, max_retries=2, shared=False)
    def auto() -> None:
        raise KeyError("later")

    before = vars(app.tasks["auto"])["run"]
    with pytest.raises(TransientError, match="later") as caught:
        call(app, "auto", attempt=2)
    assert caught.value.retry_after == 8
    with pytest.raises(PermanentError, match="given up"):
        call(app, "auto", attempt=3)
    assert vars(app.tasks["auto"])["run"] is before


def test_ignore_and_reject_have_their_meaning(app: Celery) -> None:
    """Ignore: done; reject: failed; reject with requeue: later."""

    @app.task(name="odd", shared=False)
    def odd(how: str) -> None:
        raise {"ignore": Ignore(), "reject": Reject("no"), "requeue": Reject("later", requeue=True)}[how]

    assert call(app, "odd", how="ignore").status is WorkflowStatus.SUCCEEDED
    assert call(app, "odd", how="reject").status is WorkflowStatus.TERMINAL
    with pytest.raises(TransientError):
        call(app, "odd", how="requeue")


def test_any_other_error_is_the_tasks_own(app: Celery) -> None:
    """The engine decides what it means."""

    @app.task(name="bad", shared=False)
    def bad() -> float:
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        call(app, "bad")


def test_a_class_with_a_call_of_its_own_keeps_it(app: Celery) -> None:
    """A base class may open a session around the body."""

    class Wrapped(celery.Task):
        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return {"wrapped": super().__call__(*args, **kwargs)}

    @app.task(name="wrapped", base=Wrapped, shared=False)
    def wrapped() -> int:
        return 1

    assert call(app, "wrapped").outputs == {"wrapped": 1}


def test_a_name_that_the_app_has_not_is_not_found(app: Celery) -> None:
    """The error has the names that it has; ours and Celery's are not among them."""

    @app.task(name="known", shared=False)
    def known() -> int:
        return 1

    with pytest.raises(TaskNotFoundError, match="celery:known"):
        resolve_celery_task(app, "celery:unknown")
    assert celery_task_names(app) == ["celery:known"]


def test_an_async_function_is_refused_in_words(app: Celery) -> None:
    """What is wrong and what to do; its coroutine is closed, so that nothing warns of it later."""

    @app.task(name="later", shared=False)
    async def later() -> int:
        return 1

    with pytest.raises(PermanentError, match=r"Celery task later is an async function: .* asyncio\.run"):
        call(app, "later")


def test_nothing_behind_a_replacement_is_executed(app: Celery) -> None:
    """As in Celery, where `self.replace` ends the task, with and without `raise` in front of it."""

    @app.task(name="double", shared=False)
    def double(x: int) -> int:
        return 2 * x

    @app.task(name="front", bind=True, shared=False)
    def front(self: Any, x: int, *, raises: bool) -> Any:
        if raises:
            raise self.replace(double.s(x))
        self.replace(double.s(x))
        return "never"

    assert call(app, "front", x=4, raises=False).outputs == {"result": 8}
    assert call(app, "front", x=4, raises=True).outputs == {"result": 8}


def test_a_canvas_takes_a_tasks_place_without_a_result_backend(app: Celery) -> None:
    """The app has none: groups and chords are joined here."""

    @app.task(name="total", shared=False)
    def total(numbers: list[int], more: int = 0) -> int:
        return sum(numbers) + more

    @app.task(name="one", shared=False)
    def one() -> int:
        return 1

    ways: dict[str, Any] = {
        "group": lambda: group(one.s(), group(one.s(), one.s())),
        "chord": lambda: chord([one.s(), one.s()], total.s(5)),
        "chain": lambda: chain(group(one.s(), one.s()), total.s(), group(one.si(), one.si())),
        "nothing": lambda: group([]),
        "empty": lambda: Chain(app=app),
    }

    @app.task(name="front", bind=True, shared=False)
    def front(self: Any, way: str) -> Any:
        self.replace(ways[way]())

    results = {way: call(app, "front", way=way).outputs["result"] for way in list(ways)[:-1]}
    assert results == {"group": [1, 1, 1], "chord": 7, "chain": [1, 1], "nothing": []}
    with pytest.raises(ImproperlyConfigured, match="empty chain"):
        call(app, "front", way="empty")


@pytest.mark.parametrize("raises", [False, True])
def test_a_task_may_replace_itself_any_number_of_times(app: Celery, raises: bool) -> None:
    """Also by itself: no deeper stack is needed than for one time, and `raise` may stand in front of it."""

    @app.task(name="down", bind=True, shared=False)
    def down(self: Any, n: int) -> Any:
        if n and raises:
            raise self.replace(down.si(n - 1))
        return self.replace(chain(down.si(n - 1))) if n else {"bottom": self.request.replaced_task_nesting}

    assert call(app, "down", n=1500).outputs == {"bottom": 1500}


def test_what_takes_a_tasks_place_is_tried_again_by_itself(app: Celery) -> None:
    """It counts its own retries, and nothing before it in its canvas is done twice."""
    done: list[str] = []

    @app.task(name="once", shared=False)
    def once() -> int:
        done.append("once")
        return 4

    @app.task(name="flaky", bind=True, shared=False, max_retries=2)
    def flaky(self: Any, x: int) -> Any:
        done.append(f"try {self.request.retries} of {x}")
        if self.request.retries < 2:
            raise self.retry(args=(x + 1,), countdown=1)
        return x

    @app.task(name="front", bind=True, shared=False)
    def front(self: Any) -> Any:
        raise self.replace(chain(once.s(), flaky.s()))

    assert call(app, "front", attempt=2).outputs == {"result": 6}
    assert done == ["once", "try 0 of 4", "try 1 of 5", "try 2 of 6"]


def test_links_and_errbacks_of_what_takes_a_tasks_place_are_called(app: Celery) -> None:
    """Errbacks are told of the task that failed, links get the result of the whole; their failure is nobody's."""
    told: list[Any] = []

    @app.task(name="noted", shared=False)
    def noted(value: Any) -> None:
        told.append(value)
        raise KeyError("nobody's")

    @app.task(name="on_error", shared=False)
    def on_error(request: Any, error: BaseException, trace: Any) -> None:
        told.append((request.task, request.args, repr(error)))

    @app.task(name="double", shared=False)
    def double(x: int) -> int:
        return 2 * x

    @app.task(name="fail", shared=False)
    def fail(x: int) -> None:
        raise ValueError(x)

    @app.task(name="front", bind=True, shared=False)
    def front(self: Any, fails: bool) -> Any:
        canvas = chain(double.s(1), fail.s() if fails else double.s())
        canvas.link(noted.s())
        canvas.link_error(on_error.s())
        return self.replace(canvas)

    assert call(app, "front", fails=False).outputs == {"result": 4}
    with pytest.raises(ValueError, match="2"):
        call(app, "front", fails=True)

    assert told == [4, ("fail", (2,), "ValueError(2)")]


class Told(celery.Task):
    """Writes down which of its hooks are called, and with what."""

    abstract = True
    told: list[Any]

    def before_start(self, task_id: Any, args: Any, kwargs: Any) -> None:
        self.told = ["before", task_id, args, kwargs]

    def on_success(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:
        self.told.append(("success", retval))

    def on_failure(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        self.told.append(("failure", repr(exc), type(exc).__name__ in einfo.traceback))

    def on_retry(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        self.told.append(("retry", repr(exc)))

    def after_return(self, status: str, retval: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        self.told.append(("after", status, str(retval)))


BEGIN = ["before", "W/s/t/0", (), {"how": "?"}]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("well", [("success", 7), ("after", "SUCCESS", "7")]),
        ("replaced", []),
        ("badly", [("failure", "ValueError('bad')", True), ("after", "FAILURE", "bad")]),
        ("again", [("retry", "KeyError('busy')")]),
        ("ignored", []),
        ("lost", [("retry", "ConnectionError('gone')")]),
    ],
)
def test_hooks_of_its_class_are_called_as_celery_calls_them(app: Celery, how: str, told: list[Any]) -> None:
    """Sessions are opened and closed, alerts sent; of what is tried again only the retry is told."""

    @app.task(name="nine", shared=False)
    def nine() -> int:
        return 9

    @app.task(name="hooked", base=Told, bind=True, shared=False)
    def hooked(self: Any, how: str) -> Any:
        ways = {
            "badly": ValueError("bad"),
            "ignored": Ignore(),
            "lost": ConnectionError("gone"),
        }
        if how == "again":
            raise self.retry(exc=KeyError("busy"), countdown=1)
        if how == "replaced":
            self.replace(nine.s())
        if how in ways:
            raise ways[how]
        return 7

    with suppress(ValueError, TransientError, ConnectionError):
        call(app, "hooked", how=how)

    assert app.tasks["hooked"].told == [*BEGIN[:3], {"how": how}, *told]


def test_a_hook_that_fails_is_logged_and_changes_nothing(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    """As in Celery; what `before_start` raises is the task's own error, and not what `autoretry_for` is about."""

    class Broken(celery.Task):
        abstract = True

        def before_start(self, task_id: Any, args: Any, kwargs: Any) -> None:
            if kwargs["at"] == "before":
                raise KeyError("no session")

        def on_success(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:
            raise KeyError("no mail")

    @app.task(name="broken", base=Broken, shared=False, autoretry_for=(KeyError,))
    def broken(at: str) -> str:
        return at

    assert call(app, "broken", at="end").outputs == {"result": "end"}
    assert "on_success of task broken failed" in caplog.text
    with pytest.raises(KeyError, match="no session"):
        call(app, "broken", at="before")


def test_what_a_task_keeps_for_its_process_stays(app: Celery) -> None:
    """A connection that its class opens at first use is opened once: in stages, and outside of them, it is the same."""

    class Db(celery.Task):
        abstract = True
        opened = 0
        connection: object = None

        def connect(self) -> object:
            if self.connection is None:
                self.opened += 1
                self.connection = object()
            return self.connection

    @app.task(name="query", base=Db, bind=True, shared=False)
    def query(self: Any) -> None:
        self.connect()

    call(app, "query")
    call(app, "query")
    query.apply()

    assert app.tasks["query"].opened == 1


def test_a_task_that_counts_its_own_tries_has_them_all(app: Celery) -> None:
    """Celery's `max_retries` beyond the ten tries of a registered task; without a limit (None), any number."""

    @app.task(name="poll", bind=True, max_retries=14, shared=False)
    def poll(self: Any) -> str:
        if self.request.retries < 13:
            raise self.retry(countdown=1)
        return "ready"

    options = celery_task_options(app.tasks["poll"])
    with pytest.raises(TransientError) as asked:
        call(app, "poll", attempt=13)
    assert classify_exception(asked.value, options, 13).is_transient
    assert call(app, "poll", attempt=14).outputs == {"result": "ready"}


def test_its_time_limits_are_those_of_one_execution(app: Celery) -> None:
    """The lower of `time_limit` and `soft_time_limit`, in stages and in steps of a canvas; without one: none."""

    @app.task(name="slow", time_limit=9, soft_time_limit=4, shared=False)
    def slow() -> None: ...

    @app.task(name="any", shared=False)
    def any_time() -> None: ...

    registry = Stabilize(app, redis_url="redis://127.0.0.1:1/1").registry
    limits = [
        registry.options(f"{prefix}:{name}").timeout_s for prefix in ("celery", "canvas") for name in ("slow", "any")
    ]

    assert limits == [4.0, None, 4.0, None]
