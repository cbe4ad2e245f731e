"""From a case that fails to a smaller one that fails, too: fewer workflows, stages, events, troubles."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from time import monotonic
from typing import Any

from stabilize_celery.models.problems import InvalidWorkflowError
from tests.simulation.fleet.cases import Case, Outcome, run_case
from tests.simulation.fleet.troubles import Troubles

__all__ = ["minimised"]

_REFERENCES = ("requisite_stage_ref_ids", "jump_targets")
_SCHEDULES = 12
"""A smaller case runs otherwise: so many schedules are tried before it counts as one that holds."""


def minimised(case: Case, *, for_s: float = 30.0) -> tuple[Case, Outcome]:
    """Return the smallest case found within `for_s` seconds that breaks a law, and how it does, as a story."""
    until_s = monotonic() + for_s
    best, seeds = case, [case.seed, *range(_SCHEDULES)]
    is_smaller = True
    while is_smaller and monotonic() < until_s:
        is_smaller = False
        for smaller in _smaller(best):
            failing = next((seed for seed in seeds if _fails(replace(smaller, seed=seed), until_s)), None)
            if failing is not None:
                best, is_smaller = replace(smaller, seed=failing), True
                break
    return best, run_case(best, tells=True)


def _fails(case: Case, until_s: float) -> bool:
    if monotonic() > until_s:
        return False
    broken = run_case(case).broken
    return bool(broken) and InvalidWorkflowError.__name__ not in broken


def _smaller(case: Case) -> Iterator[Case]:
    for number in range(len(case.definitions)):
        if len(case.definitions) > 1:
            yield _without_workflow(case, number)
    if case.troubles != Troubles():
        yield replace(case, troubles=Troubles())
    yield from (replace(case, troubles=fewer) for fewer in case.troubles.parts)
    for at in range(len(case.events)):
        yield replace(case, events=(*case.events[:at], *case.events[at + 1 :]))
    for number, definition in enumerate(case.definitions):
        for smaller in _smaller_definitions(definition):
            yield replace(case, definitions=tuple(_with(case.definitions, number, smaller)))


def _without_workflow(case: Case, number: int) -> Case:
    rest = tuple(one for at, one in enumerate(case.definitions) if at != number)
    events = tuple((ms, at - (at > number), what, ref) for ms, at, what, ref in case.events if at != number)
    return replace(case, definitions=rest, events=events)


def _with(definitions: tuple[dict[str, Any], ...], number: int, smaller: dict[str, Any]) -> list[dict[str, Any]]:
    return [smaller if at == number else one for at, one in enumerate(definitions)]


def _smaller_definitions(definition: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from definition.get("sub_workflows", {}).values()
    for stage in definition["stages"]:
        if len(definition["stages"]) > 1 and (smaller := _without_stage(definition, stage["ref_id"])) is not None:
            yield smaller
    for at, stage in enumerate(definition["stages"]):
        for name in sorted(stage.keys() - {"ref_id", "type", "name", "tasks", "parent_stage_ref_id"}):
            smaller = deepcopy(definition)
            del smaller["stages"][at][name]
            yield smaller


def _without_stage(definition: dict[str, Any], ref_id: str) -> dict[str, Any] | None:
    """Return the definition without a stage, and without all that speaks of it."""
    smaller = deepcopy(definition)
    smaller["stages"] = [stage for stage in smaller["stages"] if stage["ref_id"] != ref_id]
    for stage in smaller["stages"]:
        for name in _REFERENCES:
            if name in stage:
                stage[name] = [ref for ref in stage[name] if ref != ref_id]
        if "split_conditions" in stage:
            stage["split_conditions"].pop(ref_id, None)
        if ref_id in (stage.get("split_default"), stage.get("milestone_ref_id"), stage.get("parent_stage_id")):
            return None
    return smaller
