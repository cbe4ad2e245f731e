"""The python task against real interpreters."""

from pathlib import Path
from typing import Any

import pytest

from stabilize_celery.errors import ContextError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.tasks.python import PythonTask
from tests.unit.tasks.support import stage_with


def run(**context: Any) -> TaskResult:
    return PythonTask().execute(stage_with(**context))


def test_a_script_reads_input_and_leaves_a_result() -> None:
    """INPUT has the stage's context with `inputs` laid over it; what is printed is stdout, not the result."""
    result = run(
        script="print('hi')\nRESULT = {'sum': sum(INPUT['n']), 'who': INPUT['who']}", who="ann", inputs={"n": [1, 2]}
    )

    assert result == TaskResult.success(
        {"stdout": "hi", "stderr": "", "exit_code": 0, "truncated": False, "result": {"sum": 3, "who": "ann"}},
    )


def test_the_tasks_own_settings_are_not_input() -> None:
    """INPUT is data: no script, no timeout."""
    assert run(script="RESULT = sorted(INPUT)", timeout=30, order=1).outputs["result"] == ["order"]


def test_a_script_without_a_result_has_none() -> None:
    """No RESULT, no output `result`; RESULT = None is one."""
    assert "result" not in run(script="x = 1").outputs
    assert run(script="RESULT = None").outputs["result"] is None


def test_a_script_that_raises_shows_its_own_lines() -> None:
    """The traceback leads to the script, not to us."""
    result = run(script="def f():\n    raise ValueError('bad order')\nf()")

    error = result.context["error"]
    assert (result.status, result.outputs["exit_code"]) == (WorkflowStatus.TERMINAL, 1)
    assert "the script ended with exit code 1: Traceback" in error
    assert "File \"<script>\", line 2, in f\n    raise ValueError('bad order')" in error
    assert 'File "<string>"' not in error


def test_a_failure_may_let_the_pipeline_go_on() -> None:
    """With continue_on_failure, an exit code goes on as an output."""
    result = run(script="import sys; sys.exit(4)", continue_on_failure=True)

    assert (result.status, result.outputs["exit_code"]) == (WorkflowStatus.FAILED_CONTINUE, 4)


def test_a_script_file_is_run_as_python_does(tmp_path: Path) -> None:
    """Its folder is importable, it has its arguments, and its name is __main__."""
    (tmp_path / "beside.py").write_text("VALUE = 7\n", encoding="utf-8")
    script = tmp_path / "job.py"
    script.write_text("import sys, beside\nRESULT = [beside.VALUE, __name__, sys.argv]\n", encoding="utf-8")

    result = run(script_file=str(script), args=["--fast"])

    assert result.outputs["result"] == [7, "__main__", [str(script), "--fast"]]


def test_a_function_of_a_module_is_called_with_input(tmp_path: Path) -> None:
    """Modules are found in the working folder; what the function returns is the result."""
    (tmp_path / "shop.py").write_text("def total(data):\n    return sum(data['prices'])\n", encoding="utf-8")

    assert run(module="shop", function="total", cwd=str(tmp_path), prices=[2, 3]).outputs["result"] == 5


def test_our_own_modules_do_not_hide_the_standard_library() -> None:
    """We have modules named http and python: a script gets the standard library's."""
    assert run(script="import http, shlex\nRESULT = http.HTTPStatus(404).phrase").outputs["result"] == "Not Found"


def test_a_result_that_is_not_json_is_a_failure() -> None:
    """Nothing is turned into a text behind the script's back."""
    result = run(script="RESULT = {1, 2}")

    assert "RESULT can't be written as JSON: Object of type set is not JSON serializable" in result.context["error"]


def test_a_script_that_runs_too_long_is_ended() -> None:
    """What it printed before is kept."""
    result = run(script="print('begun', flush=True)\nimport time\ntime.sleep(60)", timeout=2)

    assert result.context["error"].startswith("the script timed out after 2 s")
    assert result.outputs["stdout"] == "begun"


def test_the_environment_is_the_stages() -> None:
    """env is added to the worker's."""
    assert run(script="import os\nRESULT = os.environ['COUNT']", env={"COUNT": 3}).outputs["result"] == "3"


def test_an_interpreter_that_is_not_there_is_a_failure_with_a_reason() -> None:
    """Not an exception: trying again would not help."""
    result = run(script="x = 1", python_path="/no/such/python")

    assert result.context["error"].startswith("the interpreter '/no/such/python' can't be started: ")


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ({}, "give one, and only one, of `script`, `script_file`, or `module` with `function`"),
        ({"script": "x", "script_file": "y"}, "give one, and only one, of"),
        ({"script_file": "no.py", "cwd": "/tmp"}, "script file not found: 'no.py'"),
        ({"module": "math"}, "`function` must be a text that is not empty"),
        ({"script": "x", "inputs": [1]}, "`inputs` must be names with values"),
        ({"script": "x", "when": object()}, "INPUT can't be written as JSON"),
    ],
)
def test_wrong_settings_are_named(context: dict[str, Any], problem: str) -> None:
    """The error has the stage, the task, and what is wrong."""
    with pytest.raises(ContextError, match=f"stage 'a': python task: {problem}"):
        run(**context)
