"""The registry: names, aliases, options, resolvers, and what an unknown name says."""

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from typing_extensions import override

from stabilize_celery.errors import ConfigurationError, TaskNotFoundError
from stabilize_celery.models.graph import StageGraphBuilder
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.builders import (
    NoOpStageBuilder,
    StageDefinitionBuilder,
    StageDefinitionBuilderFactory,
    UnregisteredStageTypeError,
)
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.tasks.shell import ShellTask
from stabilize_celery.tasks.task import Task
from stabilize_celery.tasks.variants import CallableTask, NoOpTask
from stabilize_celery.tasks.verification import CallableVerifier, VerifyResult
from tests.unit.tasks.support import stage_with


class Deploy(Task):
    @property
    @override
    def aliases(self) -> list[str]:
        return ["rollout"]

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        return TaskResult.success()


class DeployBuilder(StageDefinitionBuilder):
    @property
    @override
    def type(self) -> str:
        return "deploy"

    @property
    @override
    def aliases(self) -> list[str]:
        return ["ship"]


def test_the_ready_made_tasks_are_known() -> None:
    """A new registry knows the tasks that come with the package, and can do without."""
    assert TaskRegistry().list_tasks() == [
        "approval",
        "http",
        "jump",
        "noop",
        "python",
        "shell",
        "sub_workflow",
        "wait",
    ]
    assert TaskRegistry(ready_made=False).names() == ()


def test_a_class_is_made_anew_an_instance_is_kept() -> None:
    """No state leaks between two uses of a class; an instance is used as it is."""
    registry, instance = TaskRegistry(), Deploy()
    registry.register("by class", Deploy)
    registry.register("by instance", instance)

    assert registry.get("by class") is not registry.get("by class")
    assert registry.get("by instance") is instance


def test_the_decorator_takes_functions_and_classes_and_gives_them_back() -> None:
    """What is decorated stays usable as what it was."""
    registry = TaskRegistry()

    @registry.task("charge", aliases=["bill"])
    def charge(stage: StageExecution) -> dict[str, Any]:
        return {"receipt": stage.context["order"]}

    decorated = registry.task("deploy")(Deploy)

    assert charge(stage_with(order=7)) == {"receipt": 7}
    assert registry.get("bill").execute(stage_with(order=7)) == TaskResult.success({"receipt": 7})
    assert decorated is Deploy
    assert isinstance(registry.get("deploy"), Deploy)


def test_an_unknown_name_gets_a_suggestion() -> None:
    """The error names what was asked for, what is alike, and all that is known."""
    with pytest.raises(TaskNotFoundError, match=r"no task 'shel' .*did you mean 'shell'\?; known are: approval, http"):
        TaskRegistry().get("shel")


def test_options_belong_to_the_registration() -> None:
    """They are read by name or alias, are frozen, and are the defaults where none were given."""
    registry = TaskRegistry()
    registry.task("charge", aliases=["bill"], timeout_s=5, max_attempts=3, retry_on=(KeyError,))(lambda _stage: None)

    assert registry.options("bill") == TaskOptions(timeout_s=5, max_attempts=3, retry_on=(KeyError,))
    assert registry.options("shell") == TaskOptions()
    with pytest.raises(FrozenInstanceError):
        registry.options("bill").max_lost = 1  # type: ignore[misc]
    with pytest.raises(TaskNotFoundError):
        registry.options("nothing")


def test_options_come_whole_or_by_field() -> None:
    """Both at once would leave open which one counts."""
    registry, options = TaskRegistry(), TaskOptions(queue="slow")
    registry.task("a", options=options)(lambda _stage: None)

    assert registry.options("a") is options
    with pytest.raises(ConfigurationError, match="not both"):
        registry.task("b", options=options, max_lost=2)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_attempts": 0},
        {"max_attempts": "3"},
        {"max_attempts": 2.5},
        {"max_attempts": None},
        {"max_lost": 0},
        {"max_lost": True},
        {"backoff_s": -1},
        {"backoff_s": math.nan},
        {"backoff_max_s": "60"},
        {"backoff_s": math.inf},
        {"backoff_max_s": 1e300},
        {"backoff_s": 10**400},
        {"queue": ""},
        {"queue": " "},
        {"queue": 5},
        {"timeout_s": 0},
        {"timeout_s": math.nan},
        {"timeout_s": math.inf},
        {"timeout_s": "30"},
        {"rate_per_s": math.nan},
        {"rate_per_s": "5"},
        {"retry_on": 5},
        {"retry_on": "KeyError"},
        {"retry_on": [KeyError, int]},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    """The error names the option; what is no number is in no range, and a retry is for exceptions."""
    with pytest.raises(ConfigurationError, match=f"task option {next(iter(fields))} must"):
        TaskOptions(**fields)


@pytest.mark.parametrize("given", [KeyError, [KeyError], {KeyError}, (KeyError,)], ids=repr)
def test_exceptions_to_retry_on_come_as_one_or_several(given: Any) -> None:
    """As people write them; read, they are a tuple."""
    registry = TaskRegistry()
    registry.task("charge", retry_on=given)(lambda _stage: None)

    assert registry.options("charge").retry_on == (KeyError,)


def test_a_decorator_without_a_name_is_refused() -> None:
    """`@stabilize.task` above a function would register nothing, and nobody would see it."""

    def charge(_stage: StageExecution) -> None: ...

    with pytest.raises(ConfigurationError, match=r"a task needs a name: write @….task\('name'\)"):
        TaskRegistry().task(charge)  # type: ignore[arg-type]


def test_a_later_registration_wins_unless_strict() -> None:
    """Names and options of the earlier one are gone; with strict, the name is refused."""
    registry = TaskRegistry()
    registry.register("deploy", NoOpTask, aliases=["ship"], options=TaskOptions(max_lost=1))
    registry.register("deploy", Deploy)

    assert isinstance(registry.get("deploy"), Deploy)
    assert registry.options("deploy") == TaskOptions()
    assert not registry.has("ship")
    with pytest.raises(ValueError, match="'deploy' is registered already"):
        registry.register("deploy", NoOpTask, strict=True)


def test_a_ready_made_task_can_be_replaced_or_forgotten() -> None:
    """An operator decides whether workflows may run commands."""
    registry = TaskRegistry()
    registry.register("http", NoOpTask)
    registry.unregister("shell")
    registry.unregister("never known")

    assert isinstance(registry.get("http"), NoOpTask)
    assert not registry.has("shell")


def test_a_class_is_found_by_its_name() -> None:
    """register_class uses the class's name and aliases; get_by_class the bare or the dotted name."""
    registry = TaskRegistry()
    registry.register_class(Deploy)

    assert isinstance(registry.get("Deploy"), Deploy)
    assert isinstance(registry.get("rollout"), Deploy)
    assert isinstance(registry.get_by_class("Deploy"), Deploy)
    assert isinstance(registry.get_by_class("stabilize_celery.tasks.shell.ShellTask"), ShellTask)
    with pytest.raises(TaskNotFoundError):
        registry.get_by_class("Nothing")


def test_a_resolver_may_have_options_of_its_own_for_each_name() -> None:
    """Only of names that it knows; the others are not found."""

    def resolve(name: str) -> Task:
        if name != "remote:known":
            raise TaskNotFoundError(name)
        return NoOpTask()

    registry = TaskRegistry()
    registry.add_resolver("remote:", resolve, lambda name: TaskOptions(queue=name))

    assert registry.options("remote:known").queue == "remote:known"
    with pytest.raises(TaskNotFoundError):
        registry.options("remote:other")


@pytest.mark.parametrize("wrong", [3, "shell", dict])
def test_what_is_no_task_is_refused(wrong: Any) -> None:
    """A class that is no Task, or a value, can't be registered."""
    with pytest.raises(TypeError, match="register a Task class, a Task instance, or a function"):
        TaskRegistry().register("x", wrong)


def test_an_async_task_is_refused_when_it_is_registered() -> None:
    """A function, or a class whose `execute` is one: no worker would ever await it."""

    async def charge(_stage: StageExecution) -> TaskResult:
        return TaskResult.success()

    class Charge(Task):
        async def execute(self, _stage: StageExecution) -> TaskResult:  # type: ignore[override]
            return TaskResult.success()

    registry = TaskRegistry()
    for wrong in (charge, Charge, Charge()):
        with pytest.raises(TypeError, match=r"task 'charge': .* is an async function; .* asyncio\.run\(\) itself"):
            registry.task("charge")(wrong)
    assert not registry.has("charge")


def test_an_empty_name_is_refused() -> None:
    """A name that nobody could write is an error at once."""
    for wrong in ("", None, 5):
        with pytest.raises(ConfigurationError, match="not empty"):
            TaskRegistry().register(wrong, NoOpTask)  # type: ignore[arg-type]


def test_clear_forgets_all_tasks() -> None:
    """Also the ready-made ones and aliases."""
    registry = TaskRegistry()
    registry.register("deploy", Deploy, ["ship"])

    registry.clear()

    assert registry.names() == ()


def test_a_resolver_answers_for_its_prefix() -> None:
    """It is given the whole name, is asked by has(), and its names can't be registered."""

    def resolve(name: str) -> Task:
        if name != "celery:shop.send_mail":
            raise TaskNotFoundError(f"no Celery task {name!r}")
        return CallableTask(lambda _stage: {"asked": name})

    registry = TaskRegistry()
    registry.add_resolver("celery:", resolve)

    assert registry.get("celery:shop.send_mail").execute(stage_with()).outputs == {"asked": "celery:shop.send_mail"}
    assert (registry.has("celery:shop.send_mail"), registry.has("celery:other")) == (True, False)
    assert registry.options("celery:shop.send_mail") == TaskOptions()
    registry.add_resolver("celery:", resolve, TaskOptions(max_attempts=3))
    assert registry.options("celery:shop.send_mail") == TaskOptions(max_attempts=3)
    with pytest.raises(TaskNotFoundError, match="no Celery task"):
        registry.get("celery:other")
    with pytest.raises(ConfigurationError, match="are resolved, not registered"):
        registry.register("celery:mine", NoOpTask)
    with pytest.raises(ConfigurationError, match="needs a prefix"):
        registry.add_resolver("", resolve)


def test_stage_builders_are_found_by_type_and_alias() -> None:
    """A type without a builder has just the tasks of its definition."""
    registry = TaskRegistry()
    registry.register_builder(DeployBuilder())
    stage = stage_with()
    builder = registry.get_builder("ship")
    graph = StageGraphBuilder.before_stages(stage)
    builder.before_stages(stage, graph)
    builder.after_stages(stage, graph)
    builder.on_failure_stages(stage, graph)
    builder.add_context_flags(stage)

    assert isinstance(builder, DeployBuilder)
    assert (builder.build_tasks(stage), list(graph.build())) == ([], [])
    assert isinstance(registry.get_builder("unknown"), NoOpStageBuilder)
    assert registry.builders.has("deploy")


def test_a_wait_stage_builds_its_task() -> None:
    """A stage of type `wait` needs no tasks in its definition."""
    [task] = TaskRegistry().get_builder("wait").build_tasks(stage_with())

    assert (task.implementing_class, task.stage_start, task.stage_end) == ("wait", True, True)


def test_a_strict_factory_refuses_unknown_types() -> None:
    """The error has a suggestion and the known types."""
    factory = StageDefinitionBuilderFactory(strict=True)
    factory.register_class(DeployBuilder)

    with pytest.raises(UnregisteredStageTypeError, match=r"did you mean 'deploy'.*known are: deploy, noop, ship, wait"):
        factory.get("deplyo")


def test_finalizers_are_known_by_name_and_given_the_stage() -> None:
    """A finalizer that raises is not hushed up; an unknown one is named."""
    seen: list[str] = []
    finalizers = TaskRegistry().finalizers
    finalizers.register("remove files", lambda stage: seen.append(stage.ref_id))
    finalizers.register("broken", lambda stage: stage.context["missing"])

    finalizers.run("remove files", stage_with())

    assert (seen, finalizers.names(), finalizers.has("broken")) == (["a"], ("broken", "remove files"), True)
    with pytest.raises(KeyError):
        finalizers.run("broken", stage_with())
    with pytest.raises(
        ConfigurationError, match=r"stage 'a': no finalizer 'remove file' .*did you mean 'remove files'"
    ):
        finalizers.run("remove file", stage_with())


def test_verifiers_are_known_by_name() -> None:
    """Functions become verifiers; an unknown name has a suggestion."""
    registry = TaskRegistry()

    @registry.verifier("has url")
    def has_url(stage: StageExecution) -> VerifyResult:
        return VerifyResult.ok() if "url" in stage.outputs else VerifyResult.retry()

    registry.register_verifier("same", CallableVerifier(has_url, max_retries=1))

    assert registry.get_verifier("has url").verify(stage_with()).is_retry
    assert registry.get_verifier("same").max_retries == 1
    assert (registry.verifiers.has("same"), registry.verifiers.names()) == (True, ("has url", "same"))
    with pytest.raises(ConfigurationError, match="did you mean 'has url'"):
        registry.get_verifier("has_url")
