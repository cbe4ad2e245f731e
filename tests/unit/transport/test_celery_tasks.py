"""Deliveries become messages; what is no message says what to do."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery
from celery.exceptions import Reject
from kombu.transport.virtual import Message as Delivery

from stabilize_celery.errors import CommitConflictError, UnreachableError
from stabilize_celery.models.messages import Message, RunTask
from stabilize_celery.models.problems import Problem, refusal
from stabilize_celery.runtime.ports import outgoing
from stabilize_celery.settings import Settings
from stabilize_celery.transport import celery_tasks
from stabilize_celery.transport.app import Stabilize
from stabilize_celery.transport.request import AttemptRequest, SubmitRequest
from stabilize_celery.transport.taking import Begun
from stabilize_celery.transport.worker_command import worker_argv

RUN = RunTask(workflow_id="W", ref_id="a/b:c", thread="t", task_index=2, task_type="charge", instance=1)
AWAY = UnreachableError("the state server", "redis://x", "Start it.")


class FakeRuntime:
    """Answers, or raises, what it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def handle(self, message: Message) -> str:
        return self._do(message)

    def submit(self, definition: Mapping[str, Any], idempotency_key: str | None, *, trace: str = "") -> str:
        return self._do((definition, idempotency_key))

    def _do(self, what: Any) -> str:
        self.asked.append(what)
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


def deliver(runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch, kind: str, task_id: str, **kwargs: Any) -> Any:
    """Run our Celery task as a worker would."""
    monkeypatch.setattr(Stabilize, "runtime", property(lambda _: runtime))
    monkeypatch.setattr(Stabilize, "begin", lambda _, message: Begun(runtime.handle(message)))
    app = Celery("test", broker="redis://127.0.0.1:1/0", set_as_current=False)
    Stabilize(app, settings=Settings())
    task = app.tasks[f"stabilize.{kind}"]
    task.push_request(id=task_id)
    try:
        return task.run(**kwargs)
    finally:
        task.pop_request()


def test_a_delivery_is_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its note is what Flower shows as the result."""
    runtime, sent = FakeRuntime("applied"), outgoing(RUN, "q")
    assert deliver(runtime, monkeypatch, "RunTask", sent.task_id, **sent.kwargs) == "applied"
    assert runtime.asked == [RUN]


def test_a_delivery_while_redis_is_away_ends_in_peace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line in the log: the ledger brings it back."""
    sent = outgoing(RUN, "q")
    note = deliver(FakeRuntime(AWAY), monkeypatch, "RunTask", sent.task_id, **sent.kwargs)
    assert "comes back" in note
    assert len(caplog.records) == 1


def test_a_submission_without_a_key_is_known_by_its_task_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a second delivery finds the first."""
    runtime = FakeRuntime("W")
    deliver(runtime, monkeypatch, "SubmitWorkflow", "id-1", definition={"a": 1})
    deliver(runtime, monkeypatch, "SubmitWorkflow", "id-2", definition={"a": 1}, idempotency_key="order-1")
    assert runtime.asked == [({"a": 1}, "id-1"), ({"a": 1}, "order-1")]


def test_a_bad_definition_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is not retried; the error survives the way to the main process, for Flower."""
    refused = refusal([Problem("stages[0].ref_id", "is missing"), Problem("name", "is empty")])
    with caplog.at_level(logging.ERROR), pytest.raises(type(refused)) as caught:
        deliver(FakeRuntime(refused), monkeypatch, "SubmitWorkflow", "id-1", definition={})

    (record,) = caplog.records
    assert "stages[0].ref_id" in record.message
    assert "name: is empty" in record.message
    assert record.exc_info is None
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(refused)


@pytest.mark.parametrize("error", [AWAY, CommitConflictError("others were first")])
def test_a_submission_that_may_succeed_later_goes_back_to_its_queue(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Redis is away, or others were first. Nothing stands in the ledger yet: the message is all there is."""
    monkeypatch.setattr(celery_tasks, "_REQUEUE_PAUSE_S", 0.0)
    with pytest.raises(Reject) as caught:
        deliver(FakeRuntime(error), monkeypatch, "SubmitWorkflow", "id-1", definition={})
    assert caught.value.requeue


def attempt_request(stabilize: Stabilize, acked: list[str]) -> AttemptRequest:
    sent = outgoing(RUN, "q")
    headers = {"id": sent.task_id, "task": "stabilize.RunTask", "lang": "py"}
    delivery = Delivery(
        {"body": "", "headers": headers, "properties": {"delivery_info": {}, "delivery_tag": "1"}}, channel=None
    )
    return AttemptRequest(
        delivery,
        app=stabilize.app,
        headers=headers,
        body=[[], dict(sent.kwargs), {}],
        decoded=True,
        on_ack=lambda *_: acked.append("ack"),
        on_reject=lambda *_: acked.append("reject"),
    )


def test_a_dead_child_is_reported_and_its_message_acknowledged() -> None:
    """The ledger sends it again: a requeue by Celery would come on top of that, and without a count."""
    acked: list[str] = []
    stabilize = Stabilize(Celery("t", set_as_current=False), settings=Settings())
    request = attempt_request(stabilize, acked)
    request.on_accepted(4711, 0.0)
    try:
        raise WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL) Job: 7.")
    except WorkerLostError:
        request.on_failure(ExceptionInfo())

    (report,) = stabilize.reports.waiting()
    assert report is not None
    assert (report.task_id, report.pid, report.is_lost) == ("W/Run:t.1.2", 4711, True)
    assert report.died == "Worker exited prematurely: signal 9 (SIGKILL)"
    assert acked == ["ack"]


def test_a_child_that_celerys_time_limit_ends_is_reported_as_such() -> None:
    """A soft limit ends no process; what it raises is the body's own affair."""
    stabilize = Stabilize(Celery("t", set_as_current=False), settings=Settings())
    request = attempt_request(stabilize, [])
    request.on_accepted(4711, 0.0)
    request.on_timeout(soft=True, timeout=2)
    assert stabilize.reports.waiting() == ()

    request.on_timeout(soft=False, timeout=2.5)

    (report,) = stabilize.reports.waiting()
    assert (report.pid, report.is_lost, report.died) == (4711, True, "Celery's time limit of 2.5 s ended it")

    # A real pool tells so first, and its report is the one that counts.
    stabilize.reports.done(report)
    try:
        raise TimeLimitExceeded(2.5)
    except TimeLimitExceeded:
        request.on_failure(ExceptionInfo())
    assert [report.died for report in stabilize.reports.waiting()] == ["Celery's time limit of 2.5 s ended it"]


def test_a_failing_handler_is_no_dead_child() -> None:
    """It is an error of the message, which the ledger counts."""
    acked: list[str] = []
    stabilize = Stabilize(Celery("t", set_as_current=False), settings=Settings())
    request = attempt_request(stabilize, acked)
    try:
        raise ValueError("odd")
    except ValueError:
        request.on_failure(ExceptionInfo())
    assert stabilize.reports.waiting() == ()


def test_a_revoked_message_is_handled_all_the_same() -> None:
    """Celery's list of revoked ids would make it owed for ever."""
    assert not attempt_request(Stabilize(Celery("t", set_as_current=False), settings=Settings()), []).revoked()


def test_the_workers_command_has_roles() -> None:
    """Control moves on; tasks runs bodies and takes what other programs submit; both is everything."""
    settings = Settings(task_queues={"render": "gpu"})

    def queues(*, control: bool = False, tasks: bool = False) -> list[str]:
        command = worker_argv("shop", settings, control=control, tasks=tasks, extra=["-c", "4"])
        assert command[1:6] == ["-m", "celery", "-A", "shop", "worker"]
        assert command[-2:] == ["-c", "4"]
        return [option for option in command if option.startswith("--queues")]

    assert "broker.connection_retry_on_startup=true" in worker_argv("shop", settings)
    assert queues(control=True) == ["--queues=stabilize.control"]
    assert queues(tasks=True) == ["--queues=stabilize.work,gpu,celery"]
    assert queues() == queues(control=True, tasks=True) == []


def test_a_submission_does_not_show_its_definition() -> None:
    """Flower and `inspect active` tell what it is about: contexts may hold secrets."""
    app = Celery("test", broker="redis://127.0.0.1:1/0", set_as_current=False)
    Stabilize(app, settings=Settings())
    definition = {
        "application": "shop",
        "name": "order",
        "stages": [{"ref_id": "a", "context": {"password": "hunter2"}}],
    }
    kwargs = {"definition": definition, "idempotency_key": "order-7"}
    headers = {"task": "stabilize.SubmitWorkflow", "id": "s1", "argsrepr": "()", "kwargsrepr": repr(kwargs)}
    body = ([], kwargs, {})
    delivery = Delivery({"body": "", "headers": headers, "properties": {"delivery_tag": "1", "delivery_info": {}}})

    request = SubmitRequest(delivery, app=app, body=body, headers=headers, decoded=True)

    assert request.kwargsrepr == "application=shop name=order stages=1 idempotency_key=order-7"
    assert "hunter2" not in repr((request.info(), request))


@pytest.mark.parametrize("kwargs", [{}, {"definition": 7}, {"definition": {"stages": 3, "name": []}}])
def test_a_submission_that_is_none_shows_nothing(kwargs: dict[str, Any]) -> None:
    app = Celery("test", broker="redis://127.0.0.1:1/0", set_as_current=False)
    Stabilize(app, settings=Settings())
    headers = {"task": "stabilize.SubmitWorkflow", "id": "s1"}
    delivery = Delivery({"body": "", "headers": headers, "properties": {"delivery_tag": "1", "delivery_info": {}}})

    request = SubmitRequest(delivery, app=app, body=([], kwargs, {}), headers=headers, decoded=True)

    assert request.kwargsrepr == ""
