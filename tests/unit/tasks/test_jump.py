"""The ready-made task that jumps."""

from typing import Any

import pytest

from stabilize_celery.errors import ContextError, is_transient
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.call import bind_call
from stabilize_celery.tasks.jump import JumpTask
from tests.unit.tasks.support import call_with

STAYS = TaskResult.success()
JUMPS = TaskResult.jump_to("b")


class Visible(dict[str, Any]):
    """A context as a running body has it: everything visible, and `own`."""

    def __init__(self, own: dict[str, Any], **brought: Any) -> None:
        super().__init__({**brought, **own})
        self.own = own


def jump(context: dict[str, Any], outputs: dict[str, Any] | None = None, task: str = "t") -> TaskResult:
    with bind_call(call_with(task_name=task)):
        return JumpTask().execute(StageExecution(ref_id="a", context=context, outputs=outputs or {}))


@pytest.mark.parametrize(
    ("settings", "result"),
    [
        ({}, JUMPS),
        ({"jump_if": "n > 1"}, JUMPS),
        ({"jump_if": "n > 2"}, STAYS),
        ({"jump_unless": "n > 1"}, STAYS),
        ({"jump_unless": "n > 2"}, JUMPS),
        ({"jump_if": "m == 'x'"}, JUMPS),
        ({"jump_if": "n or unknown"}, JUMPS),
    ],
)
def test_it_jumps_always_or_on_a_condition(settings: dict[str, Any], result: TaskResult) -> None:
    """The expression sees the context, and the outputs that the run has so far, which win."""
    assert jump({"jump_to": "b", "n": 2, "m": "old", **settings}, {"m": "x"}) == result


def test_each_of_a_stages_jumps_has_settings_of_its_own() -> None:
    """Found by the task's name; a jump that has none uses the stage's plain ones."""
    context = {"jump_to": "z", "jumps": {"one": {"jump_to": "b"}, "two": {"jump_to": "c", "jump_if": "False"}}}

    assert jump(context, task="one") == JUMPS
    assert jump(context, task="two") == STAYS
    assert jump(context, task="three") == TaskResult.jump_to("z")


def test_nothing_from_another_stage_steers_it() -> None:
    """Settings are read from the stage's own context; what a condition looks at is everything that it sees."""
    upstream = {"jump_if": "False", "jump_to": "c", "jumps": {"t": {"jump_to": "c"}}}

    assert jump(Visible({"jump_to": "b"}, **upstream)) == JUMPS
    assert jump(Visible({"jump_to": "b", "jump_unless": "n"}, n=0)) == JUMPS
    with pytest.raises(ContextError, match="`jump_to` must be a text that is not empty; it is missing"):
        jump(Visible({}, **upstream))


@pytest.mark.parametrize(
    ("context", "says"),
    [
        ({}, "stage 'a': jump 't' task: `jump_to` must be a text that is not empty; it is missing"),
        ({"jump_to": 3}, "`jump_to` must be a text; not 3"),
        ({"jump_to": "b", "jump_if": True}, "`jump_if` must be a text; not True"),
        ({"jump_to": "b", "jump_if": "x", "jump_unless": "y"}, "give `jump_if` or `jump_unless`, not both"),
        ({"jump_to": "b", "jump_if": ""}, "`jump_if`: an expression must not be empty"),
        ({"jump_to": "b", "jump_if": "n >"}, "`jump_if`: expression 'n >' does not parse"),
        ({"jump_to": "b", "jump_unless": "open('x')"}, "`jump_unless`: .*Call is not allowed"),
        (
            {"jump_to": "b", "jump_if": "m > 1", "n": 1},
            "`jump_if`: .*unknown name 'm'; known here: jump_if, jump_to, n",
        ),
        ({"jump_to": "b", "jump_if": "n > 'x'", "n": 1}, "`jump_if`: .*TypeError"),
        ({"jumps": 3}, "`jumps` must be names with values; not 3"),
        ({"jumps": {"t": "b"}}, "`t` must be names with values; not 'b'"),
        (
            {"jumps": {"t": {"jump_to": "b", "jumpif": "n"}}},
            "unknown setting 'jumpif'; known are jump_if, jump_to, jump_u",
        ),
    ],
)
def test_a_jump_that_is_unclear_fails_for_good(context: dict[str, Any], says: str) -> None:
    """It neither jumps nor goes on, and is not tried again: another attempt would see the same."""
    with pytest.raises(ContextError, match=says) as caught:
        jump(context)
    assert not is_transient(caught.value)
