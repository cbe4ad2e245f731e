"""The ready-made `python`: runs a script, a script file, or a function of a module, in a process of its own.

Who may submit a workflow may run code on its workers. Where that is not wanted: `TaskRegistry.unregister("python")`.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.process import Command, Finished, run_command
from stabilize_celery.tasks.results import failed
from stabilize_celery.tasks.task import Task

__all__ = ["PythonTask"]

_DEFAULT_TIMEOUT_S = 60.0
_DEFAULT_MAX_OUTPUT = 1024 * 1024
_ERROR_TAIL = 4000
"""How much of stderr an error quotes (characters): mostly the traceback."""
_CODE = ("script", "script_file", "module")
_SETTINGS = frozenset(
    {*_CODE, "function", "inputs", "args", "python_path", "timeout", "cwd", "env"}
    | {"max_output_size", "continue_on_failure"}
)


class PythonTask(Task):
    """Runs Python code in a process of its own, with the data of the stage as `INPUT`.

    Context: one of `script`, `script_file`, or `module` with `function` (called with INPUT); `inputs` (laid over the
    stage's context in INPUT), `args` (texts, sys.argv[1:]), `python_path` (default: the worker's interpreter),
    `timeout` (s, 60), `cwd`, `env`, `max_output_size` (bytes for each stream, 1 MiB), `continue_on_failure`.

    Outputs: `stdout`, `stderr`, `exit_code`, `truncated`, and `result`: what the script left in `RESULT`, or what the
    function returned; it must be JSON. A failed script's outputs are kept, too.

    At the time limit, or when the task is canceled, the process and all it started are ended.
    """

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        inputs = InputReader(stage, "python")
        request = _request(inputs)
        with tempfile.TemporaryDirectory(prefix="stabilize-python-") as name:
            folder = Path(name)
            (folder / "request.json").write_text(request, encoding="utf-8")
            command = _command(inputs, folder)
            try:
                finished = run_command(command)
            except (OSError, ValueError) as error:
                return TaskResult.terminal(f"the interpreter {command.argv[0]!r} can't be started: {error}")
            outputs = _outputs(finished, folder / "result.json")
        if finished.timed_out or finished.returncode:
            problem = _problem(finished, command.timeout_s, outputs["stderr"])
            return failed(problem, outputs, go_on=inputs.flag("continue_on_failure"))
        return TaskResult.success(outputs=outputs)


def _request(inputs: InputReader) -> str:
    kinds = [kind for kind in _CODE if inputs.text(kind)]
    if len(kinds) != 1:
        raise inputs.refusal(
            "give one, and only one, of `script`, `script_file`, or `module` with `function`", "script"
        )
    request: dict[str, Any] = {kinds[0]: inputs.text(kinds[0]), "args": inputs.texts("args")}
    script = inputs.text("script_file")
    if script and not (Path(inputs.text("cwd") or ".") / script).is_file():
        raise inputs.refusal(f"script file not found: {script!r}", "script_file")
    if kinds == ["module"]:
        request["function"] = inputs.required_text("function")
    given: Mapping[str, Any] = {key: value for key, value in inputs.context.items() if key not in _SETTINGS}
    try:
        return json.dumps({**request, "inputs": {**given, **inputs.mapping("inputs")}})
    except (TypeError, ValueError) as error:
        raise inputs.refusal(f"INPUT can't be written as JSON: {error}", "inputs") from None


def _command(inputs: InputReader, folder: Path) -> Command:
    # As text and not as a file: a file's folder would be on sys.path, and ours has modules named `http` and `python`.
    child = Path(__file__).with_name("python_child.py").read_text(encoding="utf-8")
    return Command(
        argv=[inputs.text("python_path") or sys.executable, "-c", child, str(folder)],
        timeout_s=inputs.number("timeout", _DEFAULT_TIMEOUT_S, above_zero=True),
        max_output=int(inputs.number("max_output_size", _DEFAULT_MAX_OUTPUT)),
        cwd=inputs.text("cwd"),
        env=inputs.text_mapping("env"),
    )


def _outputs(finished: Finished, result: Path) -> dict[str, Any]:
    outputs: dict[str, Any] = {
        "stdout": finished.stdout.decode("utf-8", errors="replace").strip(),
        "stderr": finished.stderr.decode("utf-8", errors="replace").strip(),
        "exit_code": finished.returncode,
        "truncated": finished.truncated,
    }
    if result.exists() and not finished.timed_out:
        outputs["result"] = json.loads(result.read_text(encoding="utf-8"))
    return outputs


def _problem(finished: Finished, timeout_s: float, stderr: str) -> str:
    if finished.timed_out:
        headline = f"the script timed out after {timeout_s:g} s; it and all it started were ended"
    elif finished.returncode < 0:
        headline = f"the script was ended by signal {-finished.returncode}"
    else:
        headline = f"the script ended with exit code {finished.returncode}"
    return f"{headline}: {stderr[-_ERROR_TAIL:]}" if stderr else headline
