"""Every key of a scenario's expectations, judged on what became of it; what differs is told in words."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from stabilize_celery.testing.conformance.outcome import Execution, Outcome
from stabilize_celery.testing.conformance.overlaps import (
    Named,
    find_before_end,
    find_interleaving,
    find_most_at_once,
    find_order,
    find_overlap,
)
from stabilize_celery.testing.conformance.scenario import Expectation, RunRange, Scenario
from stabilize_celery.testing.conformance.selection import Selection

__all__ = ["find_differences"]

Differences: TypeAlias = Iterator[str]
_Check: TypeAlias = Callable[[Expectation, str, Outcome, Selection], Differences]


def find_differences(scenario: Scenario, outcome: Outcome) -> list[str]:
    """Return what was expected and not seen, a line each; empty: the scenario has passed.

    Of one that did not come to an end nothing more is said.
    """
    if outcome.problem:
        return [outcome.problem]
    found: list[str] = []
    selection = Selection(scenario, outcome)
    for workflow, expectation in ((scenario.main.name, scenario.expect), *scenario.expect.workflows.items()):
        for check in _CHECKS:
            found += check(expectation, workflow, outcome, selection)
    return found


def _label(workflow: str, selection: Selection, ref_id: str = "") -> str:
    place = "" if selection.is_main(workflow) else workflow
    return "/".join(part for part in (place, ref_id) if part) or "workflow"


def _one_of(expected: str | list[str], seen: str) -> bool:
    return seen in ([expected] if isinstance(expected, str) else expected)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _status(expectation: Expectation, workflow: str, outcome: Outcome, selection: Selection) -> Differences:
    executions = outcome.executions.get(workflow, [])
    if expectation.instances is not None and len(executions) != expectation.instances:
        yield f"{_label(workflow, selection)}: expected {expectation.instances} executions, saw {len(executions)}"
    if expectation.status is None:
        return
    if not executions:
        yield f"{_label(workflow, selection)}: expected status {_shown(expectation.status)}, but it was never started"
    for execution in executions:
        if not _one_of(expectation.status, execution.status):
            told = f" ({execution.reason})" if execution.reason else ""
            expected = _shown(expectation.status)
            yield f"{_label(workflow, selection)}: expected status {expected}, saw {execution.status}{told}"


def _stages(expectation: Expectation, workflow: str, outcome: Outcome, selection: Selection) -> Differences:
    for reference, expected in expectation.stages.items():
        home, ref_id = selection.resolve(reference, workflow)
        for execution in outcome.executions.get(home, []):
            seen = execution.stages.get(ref_id, "no such stage")
            if not _one_of(expected, seen):
                yield f"stage {_label(home, selection, ref_id)}: expected {_shown(expected)}, saw {seen}"


def _runs(expectation: Expectation, workflow: str, _: Outcome, selection: Selection) -> Differences:
    wanted: list[tuple[list[str], int | RunRange]] = [([ref], runs) for ref, runs in expectation.runs.items()]
    wanted += [([ref], 0) for ref in expectation.not_run]
    wanted += [(several.stages, several.runs) for several in expectation.sum_runs]
    for references, expected in wanted:
        seen = sum(len(selection.runs(reference, workflow)) for reference in references)
        if not _fits(seen, expected):
            yield f"runs of {' + '.join(references)}: expected {expected}, saw {seen}"


def _fits(seen: int, expected: int | RunRange) -> bool:
    return seen in expected if isinstance(expected, RunRange) else seen == expected


def _instances(expectation: Expectation, workflow: str, _: Outcome, selection: Selection) -> Differences:
    for reference, expected in expectation.mi.items():
        seen = selection.instance_counts(reference, workflow)
        for name in ("started", "completed", "canceled"):
            wanted = getattr(expected, name)
            if wanted is not None and not _fits(seen[name], wanted):
                yield f"instances of {reference} {name}: expected {wanted}, saw {seen[name]}"


def _outputs(expectation: Expectation, workflow: str, outcome: Outcome, _: Selection) -> Differences:
    for execution in outcome.executions.get(workflow, []):
        for name, expected in expectation.outputs.items():
            if name not in execution.outputs:
                yield f"output {name}: expected {_shown(expected)}, but there is none"
            elif _canonical(execution.outputs[name]) != _canonical(expected):
                yield f"output {name}: expected {_shown(expected)}, saw {_shown(execution.outputs[name])}"


def _records(expectation: Expectation, workflow: str, outcome: Outcome, selection: Selection) -> Differences:
    for reference, expected in expectation.records.items():
        seen = _recorded(reference, workflow, outcome, selection)
        if Counter(map(_canonical, seen)) != Counter(map(_canonical, expected)):
            yield f"records of {reference}: expected {_shown(expected)} in any order, saw {_shown(seen)}"
    for reference, expected in expectation.records_in_order.items():
        seen = _recorded(reference, workflow, outcome, selection)
        if list(map(_canonical, seen)) != list(map(_canonical, expected)):
            yield f"records of {reference}: expected {_shown(expected)} in this order, saw {_shown(seen)}"


def _recorded(reference: str, workflow: str, outcome: Outcome, selection: Selection) -> list[Any]:
    home, ref_id = selection.resolve(reference, workflow)
    executions: Sequence[Execution] = outcome.executions.get(home, [])
    return [value for execution in executions for value in execution.records.get(ref_id, [])]


def _canonical(value: Any) -> str:
    """Return a value as text that tells 1 from True but not 1 from 1.0."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _order(expectation: Expectation, workflow: str, _: Outcome, selection: Selection) -> Differences:
    def named(reference: str) -> Named:
        return reference, selection.spans(reference, workflow)

    for first, second in expectation.order:
        yield from find_order(named(first), named(second))
    for first, second in expectation.starts_before_end:
        yield from find_before_end(named(first), named(second))
    for references in expectation.never_overlap:
        yield from find_overlap([named(reference) for reference in references])
    for groups in expectation.never_interleave:
        yield from find_interleaving([[named(reference) for reference in group] for group in groups])
    for most in expectation.max_concurrent:
        yield from find_most_at_once([named(reference) for reference in most.stages], most.max)


def _code(_: Expectation, workflow: str, outcome: Outcome, selection: Selection) -> Differences:
    """Tell where the engine's word and the task code's disagree: no run is done whose code was not executed."""
    for execution in outcome.executions.get(workflow, []):
        for ref_id in selection.scripted(workflow):
            runs = outcome.history.runs([execution.id], ref_id)
            numbers = {run.thread: number for number, run in enumerate(runs, 1)}
            instances = outcome.history.instances([execution.id], ref_id)
            done: set[tuple[int, int | None]] = {
                (numbers[span.thread], index) for index, span in instances if span.status == "SUCCEEDED"
            }
            if not selection.has_instances(workflow, ref_id):
                done = {(numbers[run.thread], None) for run in runs if run.status == "SUCCEEDED"}
            seen = {(visit.run, visit.instance) for visit in execution.visits if visit.ref_id == ref_id}
            for number, index in done - seen:
                place = f"run {number} of {ref_id}" + ("" if index is None else f", instance {index},")
                yield f"{place} SUCCEEDED, but its code was never executed"
            for number in {number for number, _ in seen} - set(numbers.values()):
                yield f"code of {ref_id} was executed in run {number}, but that run has not started"


_CHECKS: tuple[_Check, ...] = (_status, _stages, _runs, _instances, _outputs, _records, _order, _code)
