"""Pipelines as YAML or JSON files: read, changed by `--set`, and problems shown with the lines they stand on."""

import functools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.error import MarkedYAMLError, YAMLError

from stabilize_celery.cli.failures import Mistake
from stabilize_celery.cli.json_input import JsonMistake, TwiceError, json_of, json_once
from stabilize_celery.cli.yaml_text import line_in, plain_of, read_yaml
from stabilize_celery.client.words import plural
from stabilize_celery.models.limits import MAX_DEFINITION_BYTES
from stabilize_celery.models.problems import InvalidWorkflowError, Problem, Suggester

__all__ = ["PipelineFile", "read_pipeline", "refused", "text_of", "unknown_tasks"]

_MAX_BYTES = 64 * 1024 * 1024
_STEP = re.compile(r"\.?([\w$-]+)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]")


@dataclass(frozen=True, slots=True)
class PipelineFile:
    """A definition as it was written; `text` knows the lines."""

    name: str
    definition: dict[str, Any]
    text: str

    def line_of(self, path: str) -> int:
        """Return the line (from 1) of what a problem's path names, or of what is nearest around it."""
        node: Any = _with_lines(self.text)
        line = 1
        for plain, position, quoted in _STEP.findall(path):
            key: str | int = int(position) if position else plain or quoted
            found = line_in(node, key)
            if found is None:
                break
            line, node = found + 1, node[key]
        return line

    def told(self, problems: Sequence[Problem], *, is_warning: bool = False) -> list[str]:
        """Return a line of text for each problem, in the order of the file."""
        mark = "  (warning)" if is_warning else ""
        numbered = [(self.line_of(problem.path), problem) for problem in problems]
        return [f"  line {line:<4} {problem}{mark}" for line, problem in sorted(numbered, key=lambda item: item[0])]


@functools.lru_cache(maxsize=1)
def _with_lines(text: str) -> Any:
    """Return what YAML text holds, with its lines; JSON is YAML, but for what little of it is not."""
    try:
        return read_yaml(text)
    except (YAMLError, ValueError, RecursionError):
        return None


def read_pipeline(path: Path, settings: Sequence[str] = (), priority: int | None = None) -> PipelineFile:
    """Return the pipeline in a file (`-`: standard input), with the values of `--set` in its context.

    `priority`: In place of the file's own; None: that stays.

    Raises:
        Mistake: the file can't be read, is no YAML or JSON, or holds no object; the text has the line.

    """
    name, text = text_of(path)
    found = _parsed(name, text)
    if not isinstance(found, Mapping):
        raise Mistake(f"{name}: a pipeline is an object with `application`, `name` and `stages`, not {_kind(found)}")
    _check_size(name, found)
    definition = plain_of(found)
    for setting in settings:
        _set(definition, setting)
    if priority is not None:
        definition["priority"] = priority
    return PipelineFile(name, definition, text)


def text_of(path: Path) -> tuple[str, str]:
    """Return a file's name and text; `-` is standard input. Raises Mistake: it can't be read."""
    try:
        if str(path) == "-":
            return "standard input", _standard_input()
        if path.stat().st_size > _MAX_BYTES:
            raise Mistake(f"{path}: larger than {_MAX_BYTES} bytes, too large for a pipeline")
        return str(path), path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise Mistake(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise Mistake(f"{path}: can't be read: it is a folder") from None
    except UnicodeDecodeError as error:
        raise Mistake(f"{path}: can't be read: it is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise Mistake(f"{path}: can't be read: {error.strerror or error}") from None


def _standard_input() -> str:
    if sys.stdin is None:
        raise Mistake("standard input is closed: give a file")
    data = sys.stdin.buffer.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise Mistake(f"standard input is larger than {_MAX_BYTES} bytes, too large for a pipeline")
    return data.decode("utf-8-sig")


def _parsed(name: str, text: str) -> Any:
    try:
        is_json = name.endswith(".json")
        return _json(text, only=is_json) if is_json or text.lstrip()[:1] in ("{", "[") else read_yaml(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise Mistake(f"{name}: {line}{error.problem or error.context}") from None
    except json.JSONDecodeError as error:
        raise Mistake(f"{name}: line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise Mistake(f"{name}: it is nested too deeply to be a pipeline") from None
    except (YAMLError, ValueError) as error:
        raise Mistake(f"{name}: this is not YAML or JSON: {str(error)[:300]}") from None


def _json(text: str, *, only: bool = False) -> Any:
    """Return what JSON holds. YAML reads what begins like it and is none, unless it must be JSON (`only`).

    YAML tells the lines of keys given twice, too.
    """
    try:
        # Ten thousand stages take YAML's reader half a minute.
        return json_once(text)
    except json.JSONDecodeError as told:
        if only:
            raise
        try:
            return read_yaml(text)
        except YAMLError:
            raise told from None
    except TwiceError:
        return read_yaml(text)


_MAX_VALUES = MAX_DEFINITION_BYTES // 2
"""Values in a file, with those that aliases repeat: as JSON each takes two characters at least."""


def _check_size(name: str, found: Any) -> None:
    """Raise Mistake where aliases make more of a file than any definition may be."""
    known: dict[int, int] = {}

    def values_in(node: Any) -> int:
        if not isinstance(node, Mapping | list | tuple):
            return 1
        if id(node) not in known:
            known[id(node)] = 1 + sum(map(values_in, node.values() if isinstance(node, Mapping) else node))
        return known[id(node)]

    if values_in(found) > _MAX_VALUES:
        raise Mistake(f"{name}: its aliases expand it to more than a pipeline may have: over {_MAX_VALUES:,} values")


def _set(definition: dict[str, Any], setting: str) -> None:
    name, equals, text = setting.partition("=")
    if not (name and equals):
        raise Mistake(f"--set {setting!r}: write it as key=value")
    try:
        value = json_of(text, f"--set {name}: the value")
    except JsonMistake as mistake:
        if mistake.is_json:
            raise
        value = text
    *outer, last = name.split(".")
    if not all((*outer, last)):
        raise Mistake(f"--set {setting!r}: a name between dots is empty; nested keys are written as outer.inner=value")
    place = definition
    for key in ("context", *outer):
        inner = place.setdefault(key, {})
        if not isinstance(inner, dict):
            raise Mistake(f"--set {setting!r}: {key!r} is not an object in this pipeline's context")
        place = inner
    place[last] = value


def refused(pipeline: PipelineFile, error: InvalidWorkflowError, what: str = "nothing was started") -> Mistake:
    """Return what to tell about a definition that was refused: every problem with its line."""
    count = plural(len(error.problems), "problem")
    return Mistake("\n".join([f"{pipeline.name}: {count}, {what}", *pipeline.told(error.problems)]))


def unknown_tasks(pipeline: PipelineFile, known: set[str], workers: int) -> list[Problem]:
    """Return a problem for each task whose type no live worker knows; none where no worker is running."""
    problems = []
    suggester = Suggester(known)
    fleet = "the one live worker" if workers == 1 else f"the {workers} live workers"
    for at, stage in enumerate(pipeline.definition.get("stages", [])):
        for number, task in enumerate(stage.get("tasks", [])):
            kind = str(task.get("implementing_class", ""))
            if workers and kind not in known and not kind.startswith("celery:"):
                told = f"no task {kind!r} is known to {fleet}{suggester.suggest(kind)}"
                problems.append(Problem(f"stages[{at}].tasks[{number}].implementing_class", told, "unknown_task"))
    return problems


def _kind(value: object) -> str:
    if value is None:
        return "an empty file"
    return "a list" if isinstance(value, list) else "a single value"
