"""`run_workflow` and what a test author may do to it: clear errors, the same run for the same seed."""

import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery import (
    InvalidWorkflowError,
    MultiInstanceConfig,
    Task,
    TaskRegistry,
    TaskResult,
    TransientError,
    Workflow,
    current_call,
    deferred_choice,
    exclusive_choice,
    instances,
    to_definition,
)
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.testing import Faults, SimulationStuckError, run_workflow
from tests.simulation.stories import stage, workflow
from tests.simulation.tuning import seeds


def work(stage: StageExecution) -> dict[str, Any]:
    return {stage.ref_id: 1}


def ended(done: Workflow) -> dict[str, str]:
    return {one.ref_id: one.status.name for one in done.stages}


def error_of(done: Workflow, ref_id: str = "a") -> str:
    """The message of the error of a stage's first task."""
    found = done.stage_by_ref_id(ref_id)
    assert found is not None
    return str(found.tasks[0].task_exception_details["message"])


# -- what may be given -------------------------------------------------------------------------------------------------


class Pays(Task):
    """A task class."""

    def execute(self, stage: StageExecution) -> TaskResult:
        return TaskResult.success(outputs={"paid": stage.ref_id})


@pytest.mark.parametrize("task", [Pays, Pays(), lambda stage: {"paid": stage.ref_id}])
def test_a_task_is_a_function_a_class_or_an_instance(task: Any) -> None:
    """As in a worker's registry."""
    assert run_workflow(workflow(stage("a", does="pay")), {"pay": task}).get_context() == {"paid": "a"}


def test_the_tasks_may_be_a_registry() -> None:
    """It is used itself, with what its decorators say: here, no second attempt."""
    registry, calls = TaskRegistry(), list[int]()

    @registry.task("once", max_attempts=1)
    def once(stage: StageExecution) -> None:
        calls.append(current_call().attempt)
        raise TransientError("not now")

    assert ended(run_workflow(workflow(stage("a", does="once")), registry)) == {"a": "TERMINAL"}
    assert calls == [1]


def test_a_definition_is_run_like_the_workflow_that_it_defines() -> None:
    """The content of a pipeline file needs no detour."""
    flow = workflow(stage("a"), stage("b", "a"))

    assert ended(run_workflow(to_definition(flow), {"work": work})) == {"a": "SUCCEEDED", "b": "SUCCEEDED"}


@pytest.mark.parametrize("wrong", [None, "order", [stage("a")], 7])
def test_what_is_no_workflow_is_told(wrong: Any) -> None:
    """By its type."""
    with pytest.raises(TypeError, match=rf"runs a Workflow or a definition, not {type(wrong).__name__}"):
        run_workflow(wrong)


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ([work], "tasks= must be a mapping {task type: function} or a TaskRegistry, not list"),
        (work, "tasks= must be a mapping {task type: function} or a TaskRegistry, not function"),
        ({work: work}, "tasks= has the key <function work"),
        ({"work": None}, "task 'work': register a Task class, a Task instance, or a function, not None"),
        ({"work": "work"}, "task 'work': register a Task class, a Task instance, or a function, not 'work'"),
        ({"work": dict}, "task 'work': register a Task class, a Task instance, or a function, not <class 'dict'>"),
    ],
)
def test_what_is_no_task_is_told_before_anything_runs(tasks: Any, says: str) -> None:
    """With the task's name, and what it may be."""
    with pytest.raises(TypeError, match=re.escape(says)):
        run_workflow(workflow(stage("a")), tasks)


@pytest.mark.parametrize("seed", [None, "seven", 1.5])
def test_a_seed_is_a_number(seed: Any) -> None:
    """None would be another run each time, and nobody would notice."""
    with pytest.raises(TypeError, match="seed= must be a whole number, not"):
        run_workflow(workflow(stage("a")), {"work": work}, seed=seed)


@pytest.mark.parametrize("fault", ["duplicate", "lose", "preempt", "die"])
@pytest.mark.parametrize("share", [-0.1, 1.1, 10, float("nan")])
def test_a_fault_is_a_probability(fault: str, share: float) -> None:
    """Not a percentage."""
    with pytest.raises(ValueError, match=f"{fault}=.* is not a probability"):
        Faults(**{fault: share})  # type: ignore[arg-type]


def test_a_delay_is_not_negative() -> None:
    """Messages do not come before they are sent."""
    with pytest.raises(ValueError, match="max_delay_ms=-1 is negative"):
        Faults(max_delay_ms=-1)


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ([], "there are no stages"),
        ([stage("a", "b")], "no stage has the ref_id 'b'"),
        ([stage("a", "b"), stage("b", "a")], "cycle a -> b -> a"),
        ([exclusive_choice(stage("a"), {"b": "open('x')"}), stage("b", "a")], "Call is not allowed in a condition"),
        ([5], "stages[0]: expected an object, got 5"),
    ],
)
def test_a_bad_definition_is_refused_with_all_its_problems(stages: list[Any], says: str) -> None:
    """As the client refuses it."""
    with pytest.raises(InvalidWorkflowError, match=re.escape(says)):
        run_workflow(Workflow(stages=stages), {"work": work})


# -- what does not end -------------------------------------------------------------------------------------------------


def stuck(flow: Workflow, **tasks: Any) -> str:
    """Run what does not end; return what is told of it."""
    with pytest.raises(SimulationStuckError) as caught:
        run_workflow(flow, {"work": work, **tasks}, max_steps=600)
    assert caught.value.workflow.status.name == "RUNNING"
    return str(caught.value)


STUCK: dict[str, tuple[Callable[[], Workflow], list[str]]] = {
    "a misspelt task type": (
        lambda: workflow(stage("a"), stage("b", "a", does="wrok")),
        ["stage 'b' is at task 'wrok'", "did you mean 'work'?", "give it in tasks={'wrok': ...}"],
    ),
    "a task of an app that is not there": (
        lambda: workflow(stage("a", does="celery:shop.mail")),
        ["stage 'a' is at task 'celery:shop.mail'", "give it in tasks={'celery:shop.mail': ...}"],
    ),
    "a signal that nobody sends": (
        lambda: workflow(stage("a", does="approval", context={"signal": "approve"})),
        ["stage 'a' waits for signal 'approve'"],
    ),
    "a signal of an inner workflow": (
        lambda: workflow(
            StageExecution(ref_id="a", sub_workflow="inner"),
            sub_workflows={"inner": workflow(stage("x", does="approval", context={"signal": "approve"}))},
        ),
        ["stage 'a' waits for its inner workflow", "    stage 'x' waits for signal 'approve'"],
    ),
    "a signal in an instance": (
        lambda: workflow(instances(stage("a", does="approval", context={"signal": "approve"}), count=2)),
        ["stage 'a', instance 0, waits for signal 'approve'", "stage 'a', instance 1, waits for signal 'approve'"],
    ),
    "a choice that nobody makes": (
        lambda: workflow(*deferred_choice("answer", stage("a"), stage("b"))),
        ["stage 'a' is offered in the choice 'answer': nobody has chosen", "stage 'b' is offered"],
    ),
    "a mutex behind one who waits": (
        lambda: workflow(
            stage("a", does="approval", context={"signal": "approve"}, mutex_key="dock"),
            stage("b", does="wait", context={"seconds": 1}, mutex_key="dock", scheduled_time=1_800_000_000_000),
        ),
        ["stage 'a' waits for signal 'approve'", "stage 'b' waits for the mutex 'dock'"],
    ),
}


@pytest.mark.parametrize("case", STUCK)
def test_what_does_not_go_on_says_what_it_waits_for(case: str) -> None:
    """Stage by stage, with the names that a reader can look for."""
    flow, says = STUCK[case]
    told = stuck(flow())

    assert "workflow 'story' (simulated-1) does not end by itself:" in told
    assert [words for words in says if words not in told] == [], told


def test_a_poll_without_end_is_told_with_its_count() -> None:
    """The job is never done: the bound says so."""
    told = stuck(workflow(stage("a", does="poll")), poll=lambda _: TaskResult.running())

    assert "has not ended after 600 steps; give max_steps= if it is only long:" in told
    assert re.search(r"stage 'a' is at task 'poll', which has answered RUNNING \d{2,} times", told)


def test_a_loop_without_end_is_told_with_its_count() -> None:
    """Where even max_jumps does not end it."""
    flow = workflow(stage("a", does="again", jump_targets=["a"]), max_jumps=1_000_000)
    told = stuck(flow, again=lambda _: TaskResult.jump_to("a"))

    assert re.search(r"stage 'a' for the \d{2,}th time, is", told), told


def test_a_loop_without_end_is_ended_by_its_workflow() -> None:
    """As in production: max_jumps is 100 where nothing is said."""
    flow = workflow(stage("a", does="again", jump_targets=["a"]), stage("b", "a"))
    done = run_workflow(flow, {"again": lambda _: TaskResult.jump_to("a"), "work": work})

    assert ended(done) == {"a": "TERMINAL", "b": "SKIPPED"}


def test_what_is_only_long_may_take_its_time() -> None:
    """`max_steps` is a bound that a test can raise."""

    def poll(_: StageExecution) -> TaskResult:
        return TaskResult.success() if current_call().polls > 400 else TaskResult.running()

    flow = workflow(stage("a", does="poll"))
    with pytest.raises(SimulationStuckError):
        run_workflow(flow, {"poll": poll}, max_steps=100)

    assert ended(run_workflow(flow, {"poll": poll}, max_steps=10_000)) == {"a": "SUCCEEDED"}


# -- what fails --------------------------------------------------------------------------------------------------------


def boom(_: StageExecution) -> None:
    raise RuntimeError("the printer is on fire")


def test_a_workflow_that_fails_is_returned() -> None:
    """Not raised: how it failed is what the test is about."""
    done = run_workflow(workflow(stage("a", does="boom"), stage("b", "a")), {"boom": boom, "work": work})

    assert (done.status.name, ended(done)) == ("TERMINAL", {"a": "TERMINAL", "b": "SKIPPED"})
    assert error_of(done) == "RuntimeError: the printer is on fire"


def test_a_failed_assert_in_a_task_is_a_failed_task() -> None:
    """Its words come back with the task."""

    def expects(stage: StageExecution) -> None:
        raise AssertionError(f"{stage.ref_id} was not expected")

    done = run_workflow(workflow(stage("a", does="expects")), {"expects": expects})

    assert (done.status.name, error_of(done)) == ("TERMINAL", "AssertionError: a was not expected")


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (5, "task 'odd' returned int; return a TaskResult, a dict of outputs, or None"),
        ("done", "task 'odd' returned str; return a TaskResult"),
        ((1, 2), "task 'odd' returned tuple"),
        (True, "task 'odd' returned bool"),
        (TaskResult, "task 'odd' returned type"),
        ({"when": object()}, "outputs.when: object is not JSON"),
        ({"many": {1, 2}}, "outputs.many: object is not JSON: set; pass a sorted list"),
        ({1: 2}, "outputs: key 1 is not JSON"),
        ({"x": float("nan")}, "outputs.x: number is not JSON: nan"),
    ],
)
def test_a_task_that_returns_nonsense_fails_in_words(returned: Any, says: str) -> None:
    """Which task, what it returned, what it may return: nothing is guessed."""
    done = run_workflow(workflow(stage("a", does="odd")), {"odd": lambda _: returned})

    assert done.status.name == "TERMINAL"
    assert says in error_of(done)


def test_a_function_without_a_parameter_fails_in_words() -> None:
    """A task is called with its stage."""
    done = run_workflow(workflow(stage("a", does="odd")), {"odd": lambda: None})  # type: ignore[dict-item, misc]

    assert "takes 0 positional arguments but 1 was given" in error_of(done)


def test_who_ends_the_test_run_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a task's body is not a failed task."""
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.default_int_handler)

    def interrupted(_: StageExecution) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_workflow(workflow(stage("a", does="interrupted")), {"interrupted": interrupted})


# -- the same again ----------------------------------------------------------------------------------------------------


def test_a_workflow_may_be_run_again() -> None:
    """It stays as it was; so may what came back."""
    flow = workflow(stage("a"), stage("b", "a"), context={"n": 1})
    before = to_definition(flow)

    first = run_workflow(flow, {"work": work})
    second = run_workflow(flow, {"work": work})
    third = run_workflow(first, {"work": work})

    assert ended(first) == ended(second) == ended(third) == {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    assert [first.end_time, first.get_context()] == [second.end_time, second.get_context()]
    assert (flow.status.name, to_definition(flow)) == ("NOT_STARTED", before)


# -- what a pipeline may have ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(5))
def test_stages_of_one_mutex_are_not_at_work_together(seed: int) -> None:
    """In one workflow as in several."""
    stages = [stage(ref, does="wait", context={"seconds": 1}, mutex_key="dock") for ref in "abc"]
    done = run_workflow(workflow(*stages), seed=seed)
    turns = sorted((one.start_time or 0, one.end_time or 0) for one in done.stages)

    assert [turns[0][1] <= turns[1][0], turns[1][1] <= turns[2][0]] == [True, True]


def test_nothing_is_left_behind() -> None:
    """Finalizers and hooks that are owed at the end are run, too: the workflow is over when it is returned."""
    registry, finalized = TaskRegistry(), list[str]()
    registry.register("work", work)
    registry.finalizers.register("tidy", lambda stage: finalized.append(stage.ref_id))
    run_workflow(workflow(stage("a", finalizer_names=["tidy"])), registry)

    assert set(finalized) == {"a"}


@pytest.mark.parametrize("seed", seeds(6))
def test_deliveries_that_come_to_nothing_are_no_standstill(seed: int) -> None:
    """Hundreds of instances are cancelled at once: what was sent for them arrives, and says nothing; the end is behind it."""
    crowd = stage("a", mi_config=MultiInstanceConfig(count=450, join_threshold=1, cancel_remaining=True))

    done = run_workflow(workflow(crowd), tasks={"work": work}, seed=seed)

    assert done.status.name == "SUCCEEDED"
