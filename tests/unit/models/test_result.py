"""TaskResult: what a task says when it returns."""

import pytest

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.status import WorkflowStatus

S = WorkflowStatus


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (TaskResult.success({"o": 1}, {"c": 2}), TaskResult(S.SUCCEEDED, {"c": 2}, {"o": 1})),
        (TaskResult.success(), TaskResult(S.SUCCEEDED)),
        (TaskResult.running({"c": 1}), TaskResult(S.RUNNING, {"c": 1})),
        (TaskResult.terminal("no", {"c": 1}), TaskResult(S.TERMINAL, {"c": 1, "error": "no"})),
        (
            TaskResult.failed_continue("no", {"o": 1}, {"c": 2}),
            TaskResult(S.FAILED_CONTINUE, {"c": 2, "error": "no"}, {"o": 1}),
        ),
        (TaskResult.skipped(), TaskResult(S.SKIPPED)),
        (TaskResult.canceled({"o": 1}), TaskResult(S.CANCELED, {}, {"o": 1})),
        (TaskResult.stopped({"o": 1}), TaskResult(S.STOPPED, {}, {"o": 1})),
        (TaskResult.suspend({"c": 1}), TaskResult(S.SUSPENDED, {"c": 1})),
        (TaskResult.redirect({"c": 1}), TaskResult(S.REDIRECT, {"c": 1})),
        (TaskResult.jump_to("a", {"c": 1}, {"o": 2}), TaskResult(S.REDIRECT, {"c": 1}, {"o": 2}, "a")),
    ],
)
def test_every_factory_makes_its_result(made: TaskResult, wanted: TaskResult) -> None:
    """Status, context, outputs and target are where the engine looks for them."""
    assert made == wanted


def test_a_factory_leaves_its_arguments_alone() -> None:
    """The error is not written into the caller's dict."""
    mine = {"c": 1}
    TaskResult.terminal("no", mine).context["more"] = 1

    assert mine == {"c": 1}


def test_merging_lays_the_other_result_over_this_one() -> None:
    """Status and target stay this result's."""
    first = TaskResult.jump_to("a", {"c": 1, "x": 1}, {"o": 1})

    assert first.merge_outputs(TaskResult.success({"o": 2}, {"x": 2})) == TaskResult(
        S.REDIRECT, {"c": 1, "x": 2}, {"o": 2}, "a"
    )
    assert first.merge_outputs(None) is first


def test_a_builder_collects_and_can_be_used_on() -> None:
    """What was built does not change when the builder goes on."""
    builder = TaskResult.builder(S.SUCCEEDED).context({"a": 1}).outputs({"b": 2}).add_context("c", 3)
    built = builder.add_output("d", 4).build()
    builder.add_output("e", 5)

    assert built == TaskResult(S.SUCCEEDED, {"a": 1, "c": 3}, {"b": 2, "d": 4})
