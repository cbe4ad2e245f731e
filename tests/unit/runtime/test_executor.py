"""A body's end in words: whatever user code answers or raises becomes a result that can be stored."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from stabilize_celery.engine.handlers.run_task import ClaimedTask
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.results import TaskReturned
from stabilize_celery.engine.state import Run, SubOutcome, TaskState, WorkflowRecord
from stabilize_celery.errors import PermanentError, TransientError
from stabilize_celery.models.messages import RunTask
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.executor import MAX_PAUSE_MS, TaskExecutor
from stabilize_celery.tasks.call import TaskCall, current_call
from stabilize_celery.tasks.cancellation import CancellationToken
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.task import SubWorkflowCall, Task, Wait

NOW_MS = 1_700_000_000_000


class Body(Task):
    """A task whose hooks answer as the test says."""

    def __init__(self, body: Callable[[StageExecution], Any], **hooks: Any) -> None:
        self.body, self.hooks = body, hooks

    def execute(self, stage: StageExecution) -> TaskResult:
        result: TaskResult = self.body(stage)
        return result

    def poll_after_ms(self, stage: StageExecution) -> int | None:
        return self.hooks.get("poll_after_ms")

    def waits_for(self, stage: StageExecution) -> Wait | None:
        return self.hooks.get("waits_for")

    def calls_workflow(self, stage: StageExecution) -> SubWorkflowCall | None:
        return self.hooks.get("calls_workflow")


def claimed(run: Run | None = None, lost: int = 0, **state: Any) -> ClaimedTask:
    message = RunTask(workflow_id="w1", ref_id="a", thread="t", task_index=1, task_type="body")
    frame = Frame(
        "w1", NOW_MS * 1000, WorkflowRecord(status="RUNNING"), StagePlan(ref="a", stage_id="i"), "t", run or Run(), {}
    )
    return ClaimedTask(message, frame, 4, lost, 2, TaskState(status="RUNNING", started_ms=NOW_MS - 5, **state), "name")


def execute(
    body: Callable[[StageExecution], Any],
    claim: ClaimedTask | None = None,
    options: TaskOptions | None = None,
    **hooks: Any,
) -> TaskReturned:
    stage = StageExecution(ref_id="a", type="t", name="a")
    executor = TaskExecutor(1_000, jitter=lambda: 0.5)
    return executor.execute(
        claim or claimed(), Body(body, **hooks), options or TaskOptions(), stage, CancellationToken()
    )


def raising(error: BaseException) -> Callable[[StageExecution], Any]:
    def body(_stage: StageExecution) -> Any:
        raise error

    return body


def test_a_success_is_copied_so_that_later_changes_do_not_count() -> None:
    """Outputs and context of the answer, under the number of the attempt."""
    outputs = {"n": [1]}
    returned = execute(lambda _: TaskResult.success(outputs=outputs, context={"c": 1}))
    outputs["n"].append(2)

    assert returned == TaskReturned(4, "SUCCEEDED", {"c": 1}, {"n": [1]})


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (TaskResult.skipped(), "SKIPPED"),
        (TaskResult.failed_continue(error="e"), "FAILED_CONTINUE"),
        (TaskResult.terminal(error="e"), "TERMINAL"),
        (TaskResult.canceled(), "CANCELED"),
        (TaskResult(WorkflowStatus.STOPPED), "STOPPED"),
    ],
)
def test_other_answers_keep_their_status(result: TaskResult, status: str) -> None:
    """A failure has an error text, also where the task gave none."""
    returned = execute(lambda _: result)

    assert returned.status == status
    assert bool(returned.error) is (status in ("FAILED_CONTINUE", "TERMINAL", "STOPPED"))


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (None, "TypeError", "NoneType"),
        ({"a": 1}, "TypeError", "dict"),
        (TaskResult.success(outputs={"f": open}), "OutputError", "outputs.f"),
        (TaskResult.success(outputs={"x": float("nan")}), "OutputError", "outputs.x"),
        (TaskResult.success(context={"c": {1: 2}}), "OutputError", "context.c"),
        (TaskResult.success(outputs={"big": "x" * 2_000, "small": 1}), "OutputError", "outputs.big"),
        (TaskResult.success(context={"big": "x" * 2_000}), "OutputError", "context.big"),
        (TaskResult(WorkflowStatus.REDIRECT), "RedirectError", "names no stage"),
        (TaskResult(WorkflowStatus.NOT_STARTED), "ResultError", "NOT_STARTED"),
        (TaskResult(WorkflowStatus.PAUSED), "ResultError", "PAUSED"),
    ],
)
def test_an_answer_that_is_none_fails_the_task_and_names_what_is_wrong(answer: Any, kind: str, told: str) -> None:
    """The key of the output, the size, the type: what a person needs to mend it."""
    returned = execute(lambda _: answer)

    assert (returned.status, returned.error["type"]) == ("TERMINAL", kind)
    assert told in returned.error["message"]


def test_a_coroutine_is_no_result_and_the_error_says_what_to_do() -> None:
    """Nor is anybody warned later that it was never awaited."""

    async def body(_stage: StageExecution) -> TaskResult:
        return TaskResult.success()

    told = execute(body).error["message"]

    assert told.startswith("the task returned coroutine, not a TaskResult: tasks are plain functions")
    assert "asyncio.run" in told


def test_an_exception_is_a_failure_with_its_traceback() -> None:
    """Of the task's own frames."""
    returned = execute(raising(ValueError("no such order")))

    assert returned.status == "TERMINAL"
    assert "ValueError: no such order" in returned.error["message"]
    assert "Traceback" in returned.error["traceback"]


def test_a_transient_error_is_tried_again_until_its_tries_are_used_up() -> None:
    """After its own pause, or the task's growing one; what it learned is kept."""
    own = execute(raising(TransientError("busy", retry_after=0.5, context_update={"at": 3})))
    options = TaskOptions(backoff_s=2, backoff_max_s=3, max_attempts=4, retry_on=(KeyError,))
    first, third = (execute(raising(KeyError("x")), claimed(retries=at), options) for at in (0, 2))
    last = execute(raising(KeyError("x")), claimed(retries=3), options)

    assert (own.status, own.again_after_ms, own.context) == ("RETRY", 500, {"at": 3})
    assert (first.status, third.status, last.status) == ("RETRY", "RETRY", "TERMINAL")
    assert first.again_after_ms < third.again_after_ms <= 3_000


@pytest.mark.parametrize("update", [{"f": open}, "not a mapping", {"big": "x" * 2_000}])
def test_a_retry_whose_context_cannot_be_stored_is_a_retry_without_it(update: Any) -> None:
    """It will learn it again."""
    error = TransientError("busy")
    error.context_update = update
    returned = execute(raising(error))

    assert (returned.status, returned.context) == ("RETRY", {})


def test_a_permanent_error_is_not_tried_again() -> None:
    """Whatever tries are left."""
    assert execute(raising(PermanentError("never"))).status == "TERMINAL"


class WorkerShutdown(SystemExit):
    """As Celery has it."""


def test_leaving_the_process_is_a_failure() -> None:
    """`sys.exit` in a task, or another kind of it, ends the task and nothing else."""
    left = execute(raising(WorkerShutdown()))

    assert execute(raising(SystemExit(3))).error["message"] == "the task called sys.exit(3)"
    assert (left.status, left.error["type"]) == ("TERMINAL", "WorkerShutdown")
    assert "raised WorkerShutdown, which ends no worker" in left.error["message"]


def test_a_worker_that_ends_takes_its_task_with_it() -> None:
    """Where somebody stops it in the middle of a body: that is no answer, and the task comes back."""
    ending = TaskExecutor(1_000, ends_worker=lambda error: isinstance(error, WorkerShutdown))
    body, stage = Body(raising(WorkerShutdown())), StageExecution(ref_id="a", type="t", name="a")

    with pytest.raises(WorkerShutdown):
        ending.execute(claimed(), body, TaskOptions(), stage, CancellationToken())


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C means what it means in a plain program, however the tests were started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_is_a_failure_unless_somebody_can_have_pressed_ctrl_c() -> None:
    """A worker handles that signal itself: there it is the task's own, and no worker of threads would hear of it."""
    body = raising(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        execute(body)
    with ThreadPoolExecutor(1) as beside:
        assert beside.submit(execute, body).result().status == "TERMINAL"
    signal.signal(signal.SIGINT, lambda *_: None)
    assert execute(body).error["message"] == "KeyboardInterrupt: KeyboardInterrupt"


class Canceled(BaseException):
    """As asyncio's CancelledError is made, or gevent's Timeout."""


def test_what_is_no_exception_is_an_answer_but_for_what_ends_the_process() -> None:
    """A body may raise anything; only the end of its greenlet goes through."""

    class GreenletExit(BaseException):
        pass

    failed = execute(raising(Canceled("the inner loop was stopped")))

    assert (failed.status, failed.error["message"]) == (
        "TERMINAL",
        f"{Canceled.__module__}.Canceled: the inner loop was stopped",
    )
    assert execute(raising(GeneratorExit())).status == "TERMINAL"
    with pytest.raises(GreenletExit):
        execute(raising(GreenletExit()))


def test_an_exception_that_cannot_even_be_told_is_a_failure() -> None:
    """Its own methods are user code, too."""

    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    returned = execute(raising(Unspeakable()))

    assert returned.status == "TERMINAL"
    assert "Unspeakable" in returned.error["message"]


def test_a_poll_asks_again_when_the_task_says_or_after_a_growing_pause() -> None:
    """Never in the past, never beyond all times."""
    running = lambda _: TaskResult.running({"seen": 1})  # noqa: E731
    pauses = [execute(running, claimed(polls=polls)).again_after_ms for polls in (0, 2, 50)]

    assert execute(running, poll_after_ms=7).again_after_ms == 7
    assert execute(running, poll_after_ms=-7).again_after_ms == 0
    assert execute(running, poll_after_ms=10**30).again_after_ms == MAX_PAUSE_MS
    assert pauses == sorted(pauses)
    assert pauses[-1] <= 15_000


def test_a_hook_that_raises_is_the_tasks_failure() -> None:
    """Hooks are called with the call bound, and their errors classified as the body's."""

    class Polling(Body):
        def poll_after_ms(self, stage: StageExecution) -> int | None:
            raise TransientError(f"in {current_call().task_name}")

    stage = StageExecution(ref_id="a", type="t", name="a")
    task = Polling(lambda _: TaskResult.running())
    returned = TaskExecutor(1_000).execute(claimed(), task, TaskOptions(), stage, CancellationToken())

    assert (returned.status, returned.error["message"]) == ("RETRY", "in name (code=101)")


def test_a_suspension_says_what_it_waits_for() -> None:
    """A signal, a deadline, or the end of an inner workflow."""
    suspended = lambda _: TaskResult.suspend()  # noqa: E731
    call = SubWorkflowCall(definition={"name": "in", "stages": []}, context={"n": 1})

    assert execute(suspended).signal == ""
    assert execute(suspended, waits_for=Wait("ok", 5_000)).deadline_ms == 5_000
    assert execute(suspended, calls_workflow=call).sub_workflow == {
        "name": None,
        "definition": {"name": "in", "stages": []},
        "context": {"n": 1},
    }


@pytest.mark.parametrize(
    "hooks",
    [
        {"waits_for": Wait("ok", 10**30)},
        {"calls_workflow": SubWorkflowCall(definition={"f": open})},
        {"calls_workflow": SubWorkflowCall(name="x", context={"d": timedelta(1), "f": open})},
    ],
)
def test_a_wait_that_cannot_be_stored_fails_the_task(hooks: dict[str, Any]) -> None:
    """Found here it is the task's error; later it would be nobody's."""
    returned = execute(lambda _: TaskResult.suspend(), **hooks)

    assert returned.status == "TERMINAL"
    assert returned.error["message"]


def test_the_call_tells_the_body_which_attempt_it_is() -> None:
    """Retries and losses count together; the key is the same for every try; times are the state server's."""
    seen: list[TaskCall] = []

    def body(_stage: StageExecution) -> TaskResult:
        seen.append(current_call())
        return TaskResult.success()

    run = Run(token=9, signal="ok", payload=7, sub=SubOutcome("w2", "SUCCEEDED", {"o": 1}), instance=3)
    execute(body, claimed(run, lost=1, retries=2, polls=5), TaskOptions(timeout_s=60))

    (call,) = seen
    assert (call.attempt, call.polls, call.run_number, call.instance_index) == (4, 5, 2, 3)
    assert (call.fencing_token, call.signal, call.signal_payload) == (9, "ok", 7)
    assert (call.started_ms, call.now_ms, call.deadline_ms) == (NOW_MS - 5, NOW_MS, NOW_MS - 5 + 60_000)
    assert call.idempotency_key == "w1/a/t/1"
    assert call.sub_workflow is not None
    assert (call.sub_workflow.status, call.sub_workflow.outputs) == ("SUCCEEDED", {"o": 1})


def test_the_call_tells_the_body_why_its_inner_workflow_failed() -> None:
    seen: list[TaskCall] = []

    def body(_stage: StageExecution) -> TaskResult:
        seen.append(current_call())
        return TaskResult.success()

    execute(body, claimed(Run(sub=SubOutcome("w2", "TERMINAL", reason="stage 'x': declined")), lost=0))

    assert seen[0].sub_workflow is not None
    assert seen[0].sub_workflow.reason == "stage 'x': declined"


def test_no_error_tells_a_secret_of_the_context() -> None:
    """Its text, its traceback and the context that it leaves are shown to many; the body itself got the value."""
    context = {"login": {"db_password": "hunter-2"}, "host": "db.example"}
    stage = StageExecution(ref_id="a", type="t", name="a", context=context)

    def body(found: StageExecution) -> TaskResult:
        raise PermissionError(f"no {found.context['login']['db_password']} at {found.context['host']}")

    def answers(found: StageExecution) -> TaskResult:
        return TaskResult.terminal(error=f"refused {found.context['login']['db_password']}")

    raised = TaskExecutor(1_000).execute(claimed(), Body(body), TaskOptions(), stage, CancellationToken())
    told = TaskExecutor(1_000).execute(claimed(), Body(answers), TaskOptions(), stage, CancellationToken())

    assert raised.error["message"] == "PermissionError: no *** at db.example"
    assert "hunter-2" not in str(raised)
    assert (told.error["message"], told.context["error"]) == ("refused ***", "refused ***")
