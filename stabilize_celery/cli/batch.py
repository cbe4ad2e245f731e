"""Many workflows from a file of JSON lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from stabilize_celery.cli.failures import DONE, Mistake
from stabilize_celery.cli.json_input import json_of
from stabilize_celery.cli.pipeline_file import text_of
from stabilize_celery.cli.session import Session
from stabilize_celery.client import Client
from stabilize_celery.client.words import plural
from stabilize_celery.engine.creation import Creation
from stabilize_celery.errors import IdempotencyConflictError
from stabilize_celery.models.limits import MAX_LISTED_PROBLEMS
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.runtime.submission import find_key_problem

__all__ = ["start_batch"]

_AT_ONCE = 100
"""Workflows whose messages are sent in one batch (count)."""
_KEY = "idempotency_key"
_PRIORITY = "priority"
_AGAIN = "Run it again: what has a key (--key, idempotency_key) is not started twice."


@dataclass(frozen=True, slots=True)
class _Line:
    """One workflow to start, and the line (from 1) that it stands on."""

    number: int
    definition: dict[str, Any]
    key: str | None


def start_batch(
    session: Session, file: Path, template: dict[str, Any] | None, key: str | None, priority: int | None = None
) -> int:
    """Start a workflow for each line: a definition, or, with a template, names for its context. All are checked first.

    Args:
        session: The command's.
        file: JSON lines; empty ones are left out. `idempotency_key` and `priority` in a line are the workflow's.
        template: The definition that the lines' names are put into.
        key: Start of the keys of lines that have none: the line's number follows.
        priority: That of each, in place of its own; None: that stays.

    Raises:
        Mistake: lines are no JSON, or no sound definitions: each is named, and nothing was started. Or the template's
            context takes no names.

    """
    if template is not None and not isinstance(template.get("context", {}), dict):
        raise Mistake("the pipeline's context is not an object, so lines can't add to it: leave it out, or write {}")
    name, text = text_of(file)
    lines, keys = _checked(name, text, template, key, priority)
    client = session.client(creates=True)
    _check_keys(client, name, keys)
    tell = session.advancing(len(lines), "starting")
    started = 0
    try:
        for first in range(0, len(lines), _AT_ONCE):
            part = lines[first : first + _AT_ONCE]
            handles = client.start_many([one.definition for one in part], idempotency_keys=[one.key for one in part])
            started += len(handles)
            tell(started)
            if session.as_json:
                for line, handle in zip(part, handles, strict=True):
                    session.print_json_line({"line": line.number, "id": handle.id})
    except BaseException as error:
        if not session.as_json:
            most = min(started + _AT_ONCE, len(lines))
            # Somebody else took a key meanwhile: that stays so, however often it is tried.
            hint = "" if isinstance(error, IdempotencyConflictError) else f" {_AGAIN}"
            session.say(f"{started:,} to {most:,} of {plural(len(lines), 'workflow')} were started.{hint}")
        raise
    if not session.as_json:
        session.print(f"Started {plural(started, 'workflow')} of {name}")
    return DONE


_Keys: TypeAlias = dict[str, tuple[str, int]]
"""For each key the digest of the definition that it stands for, and the first line that has it."""


def _checked(
    name: str, text: str, template: dict[str, Any] | None, key: str | None, priority: int | None
) -> tuple[Sequence[_Line], _Keys]:
    lines: list[_Line] = []
    told: list[str] = []
    keys: _Keys = {}
    # Not by `splitlines`: JSON may have other ends of lines inside of texts.
    for number, content in enumerate(text.split("\n"), 1):
        if len(told) >= MAX_LISTED_PROBLEMS:
            break
        if not content.strip():
            continue
        try:
            line = _read(number, content, template, key, priority)
            problems = _problems(line, keys)
            lines.append(line)
        except Mistake as mistake:
            problems = [str(mistake)]
        told += [_told(number, problem) for problem in problems]
    if told:
        raise _refused(name, told)
    return lines, keys


def _check_keys(client: Client, name: str, keys: _Keys) -> None:
    """Raise Mistake where keys of lines were used before, for other definitions."""
    taken = client.runtime.submissions.taken({key: digest for key, (digest, _) in keys.items()})
    told = [_told(keys[key][1], f"{_KEY}: {key!r} stands for another definition already") for key in taken]
    if told:
        raise _refused(name, told)


def _told(number: int, problem: str) -> str:
    return f"  line {number:<4} {problem}"


def _refused(name: str, told: Sequence[str]) -> Mistake:
    listed = told[:MAX_LISTED_PROBLEMS]
    return Mistake("\n".join([f"{name}: {plural(len(told), 'problem')}, nothing was started", *listed]))


def _read(number: int, content: str, template: dict[str, Any] | None, key: str | None, priority: int | None) -> _Line:
    found = json_of(content)
    if not isinstance(found, dict):
        raise Mistake("each line must be a JSON object")
    own = found.pop(_KEY, None)
    if own is None and key:
        own = f"{key}/{number}"
    if template is not None:
        of_workflow = {_PRIORITY: found.pop(_PRIORITY)} if _PRIORITY in found else {}
        found = {**template, **of_workflow, "context": {**template.get("context", {}), **found}}
    if priority is not None:
        found[_PRIORITY] = priority
    return _Line(number, found, own)


def _problems(line: _Line, keys: _Keys) -> list[str]:
    """Return what is wrong with a line. `keys`: those of the lines so far; its own is added."""
    try:
        digest = Creation.of("checked", line.definition, retention_ms=0).digest
    except InvalidWorkflowError as error:
        return [str(problem) for problem in error.problems]
    if line.key is None:
        return []
    if problem := find_key_problem(line.key):
        return [f"{_KEY}: {problem}"]
    first, number = keys.setdefault(line.key, (digest, line.number))
    return [] if first == digest else [f"{_KEY}: {line.key!r} stands for another definition in line {number}"]
