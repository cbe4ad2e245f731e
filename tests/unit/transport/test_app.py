"""`Stabilize(app)`: what it adds, and that the app's own tasks stay as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from celery import Celery, Task

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.messages import MESSAGE_TYPES
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.settings import Settings
from stabilize_celery.tasks.task import Task as StageTask
from stabilize_celery.telemetry import optional
from stabilize_celery.transport.app import Stabilize
from stabilize_celery.transport.consumed import add_queues, warn_of_strays

BROKER = "redis://localhost:6379/0"


def new_app(**conf: Any) -> Celery:
    app = Celery("shop", broker=BROKER, set_as_current=False)
    app.conf.update(conf)

    @app.task(name="shop.send_mail", shared=False)
    def send_mail(to: str) -> str:
        return to

    return app


def attributes_of(task: Task) -> dict[str, Any]:
    names = [name for name, _ in task.from_config] + ["max_retries", "default_retry_delay", "Request", "throws"]
    return {name: getattr(task, name) for name in names}


def test_the_apps_configuration_and_tasks_stay_as_they_are() -> None:
    """The same app with and without us: equal settings, equal attributes of its tasks, equal routes."""
    plain, ours = new_app(), new_app()
    Stabilize(ours, settings=Settings())

    assert dict(ours.conf) == dict(plain.conf)
    assert attributes_of(ours.tasks["shop.send_mail"]) == attributes_of(plain.tasks["shop.send_mail"])
    routes = [app.amqp.router.route({}, "shop.send_mail")["queue"].name for app in (ours, plain)]
    assert routes == ["celery", "celery"]


def test_it_can_be_made_before_the_app_is_configured() -> None:
    """Nothing of the configuration is read at import: settings that are given later count."""
    app = Celery("shop", set_as_current=False)
    stabilize = Stabilize(app, settings=Settings())
    assert not app.configured

    app.config_from_object({"broker_url": "redis://elsewhere:6379/3", "task_default_queue": "shop"})

    assert stabilize.state_url == "redis://elsewhere:6379/3"
    assert app.tasks["stabilize.RunTask"].app is app


def test_there_is_one_celery_task_per_message_type() -> None:
    """And two for what is no ledger message; each acks late, keeps no result, and is not requeued by Celery."""
    app = new_app(task_acks_late=False, task_ignore_result=False, task_reject_on_worker_lost=True)
    Stabilize(app, settings=Settings())

    ours = {name: task for name, task in app.tasks.items() if name.startswith("stabilize.")}
    assert set(ours) == {f"stabilize.{kind}" for kind in (*MESSAGE_TYPES, "Probe", "SubmitWorkflow")}
    for task in ours.values():
        assert task.acks_late
        assert task.ignore_result
        assert not task.reject_on_worker_lost


def test_annotations_of_all_tasks_do_not_change_what_the_ledger_relies_on() -> None:
    """A rate limit or early acks for `*` are for the app's own tasks; limits on time are for ours, too."""
    everything = {"rate_limit": "1/m", "acks_late": False, "ignore_result": False, "expires": 1, "queue": "slow"}
    app = new_app(task_annotations={"*": {**everything, "serializer": "pickle", "time_limit": 30}})
    Stabilize(app, settings=Settings())
    ours, theirs = app.tasks["stabilize.RunTask"], app.tasks["shop.send_mail"]

    assert (ours.rate_limit, ours.acks_late, ours.ignore_result) == (0, True, True)
    assert (ours.expires, ours.serializer, getattr(ours, "queue", None)) == (None, "json", None)
    assert ours.time_limit == 30
    assert (theirs.rate_limit, theirs.acks_late, theirs.queue) == ("1/m", False, "slow")


@pytest.mark.parametrize(("routes", "told"), [({"*": {"queue": "slow"}}, True), ({"shop.*": {"queue": "slow"}}, False)])
def test_routes_that_lead_submissions_astray_are_told(
    caplog: pytest.LogCaptureFixture, routes: dict[str, Any], *, told: bool
) -> None:
    """What no plain worker consumes would wait for ever; the text says how to route it."""
    app = new_app(task_routes=routes)

    warn_of_strays(app)

    assert ("send stabilize.SubmitWorkflow to the queue 'slow'" in caplog.text) is told
    assert bool(caplog.records) is told


def test_a_route_to_a_queue_that_is_not_there_is_for_who_sends(caplog: pytest.LogCaptureFixture) -> None:
    """Celery refuses it there."""
    warn_of_strays(new_app(task_routes={"*": {"queue": "slow"}}, task_create_missing_queues=False))

    assert not caplog.records


@pytest.mark.parametrize(
    ("accepted", "is_told"),
    [
        (["pickle"], True),
        (["yaml", "msgpack"], True),
        ([], True),
        (["json"], False),
        (["pickle", "application/json"], False),
        (None, False),
    ],
)
def test_a_worker_that_would_throw_all_our_messages_away_says_so(
    accepted: list[str] | None, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Celery would reject each of them as it comes, and the workflows would wait."""
    add_queues(new_app(accept_content=accepted), ["stabilize.control"])

    assert ("its messages are JSON, and the app's accept_content is" in caplog.text) is is_told


def test_other_apps_of_the_process_do_not_get_our_tasks() -> None:
    """Two apps side by side: only the one that asked for it."""
    Stabilize(new_app(), settings=Settings())
    assert not [name for name in new_app().tasks if name.startswith("stabilize.")]


def test_a_plain_worker_consumes_our_queues_beside_its_own() -> None:
    """And keeps the default queue; queues of single task types are among ours."""
    app = new_app()
    stabilize = Stabilize(app, settings=Settings(task_queues={"render": "gpu"}))
    stabilize.task("print", queue="printers")(lambda _stage: None)

    add_queues(app, stabilize.queues())

    expected = {"celery", "stabilize.control", "stabilize.work", "gpu", "printers"}
    assert set(app.amqp.queues.consume_from) == expected
    assert stabilize.settings.task_queues == {"render": "gpu", "print": "printers"}


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["stabilize.work"], None, {"stabilize.work"}),
        (["celery", "mine"], None, {"celery", "mine"}),
        (None, ["stabilize.work"], {"celery", "stabilize.control"}),
    ],
)
def test_the_queues_that_a_worker_is_told_to_consume_win(
    include: list[str] | None, exclude: list[str] | None, expected: set[str]
) -> None:
    """`-Q` and `-X` mean what they mean for every Celery worker."""
    app = new_app()
    add_queues(app, Stabilize(app, settings=Settings()).queues())

    app.amqp.queues.select(include)
    app.amqp.queues.deselect(exclude)

    assert set(app.amqp.queues.consume_from) == expected


def test_an_apps_own_task_queues_are_kept() -> None:
    """Where `task_queues` is set, those are consumed, and ours."""
    app = new_app(task_queues={"mail": {"exchange": "mail", "routing_key": "mail"}}, task_create_missing_queues=False)
    add_queues(app, Stabilize(app, settings=Settings()).queues())

    assert set(app.amqp.queues.consume_from) == {"mail", "stabilize.control", "stabilize.work"}


def test_functions_and_classes_are_registered_and_stay_what_they_are() -> None:
    """The decorator returns what it was given."""
    stabilize = Stabilize(new_app(), settings=Settings())

    @stabilize.task("charge", timeout_s=5)
    def charge(stage: StageExecution) -> TaskResult:
        return TaskResult.success({"of": stage.ref_id})

    @stabilize.task("refund")
    class Refund(StageTask):
        def execute(self, stage: StageExecution) -> TaskResult:
            return TaskResult.success({"back": stage.ref_id})

    stage = StageExecution(ref_id="s", type="x", name="x")
    assert charge(stage).outputs == {"of": "s"}
    assert stabilize.registry.get("charge").execute(stage).outputs == {"of": "s"}
    assert isinstance(stabilize.registry.get("refund"), Refund)
    assert stabilize.registry.options("charge").timeout_s == 5


def test_a_finalizer_is_registered() -> None:
    """By its name, for `finalizer_names`."""
    stabilize = Stabilize(new_app(), settings=Settings())
    stabilize.finalizer("close")(lambda _stage: None)
    assert stabilize.registry.finalizers.has("close")


def test_state_lies_where_it_is_said_to() -> None:
    """The argument wins over the settings, the settings over the broker."""
    assert Stabilize(new_app(), "redis://a/1", settings=Settings(redis_url="redis://b/1")).state_url == "redis://a/1"
    assert Stabilize(new_app(), settings=Settings(redis_url="redis://b/1")).state_url == "redis://b/1"
    assert Stabilize(new_app(), settings=Settings()).state_url == BROKER


def test_a_broker_that_is_no_redis_needs_a_redis_url() -> None:
    """One error that says what to give; the broker's password is not in it."""
    app = Celery("shop", broker="amqp://user:secret@mq//", set_as_current=False)
    with pytest.raises(ConfigurationError, match="redis_url") as caught:
        _ = Stabilize(app, settings=Settings()).state_url
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"settings": Settings(metrics_port=9_100)}, "STABILIZE_METRICS_PORT needs prometheus_client: pip install"),
        ({"settings": Settings(encryption_keys="a:b")}, "STABILIZE_ENCRYPTION_KEYS"),
        ({"redis_url": "localhost:6379"}, "can't read the Redis URL"),
    ],
)
def test_a_worker_that_can_not_do_what_settings_ask_for_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], given: dict[str, Any], told: str
) -> None:
    """Before it has forked or connected; a traceback of Celery's start says no more."""
    monkeypatch.setattr(optional.importlib.util, "find_spec", lambda _: None)
    app = new_app()
    stabilize = Stabilize(app, **{"settings": Settings(), **given})

    with pytest.raises(SystemExit) as ended:
        app.Worker(hostname="w0@host")

    assert stabilize.app is app
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(told)


def test_a_second_one_on_the_same_app_is_refused() -> None:
    """Its tasks would silently belong to the first."""
    app = new_app()
    Stabilize(app, settings=Settings())
    with pytest.raises(ConfigurationError, match="already"):
        Stabilize(app, settings=Settings())


def test_each_process_has_connections_of_its_own() -> None:
    """The same within a process, another one after a fork; all begin with the id that the main process gave."""
    stabilize = Stabilize(new_app(), settings=Settings())
    stabilize.name_worker("w0@host")
    held = stabilize.process()
    assert stabilize.process() is held

    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b"other" if stabilize.process() is not held else b"same"
        os.write(write_end, answer + b" " + stabilize.worker_id.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read_end, 200).decode().split() == ["other", stabilize.worker_id]


def test_importing_and_making_one_needs_no_servers() -> None:
    """No connection is made before something is sent or a worker starts."""
    program = (
        "from celery import Celery; from stabilize_celery.transport.app import Stabilize; "
        "app = Celery('x', broker='redis://127.0.0.1:1/0'); s = Stabilize(app); "
        "app.finalize(); print(len(app.tasks), s.queues())"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "stabilize.control" in done.stdout
