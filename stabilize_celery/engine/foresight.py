"""Which names expressions will look at, told at submission, so that judging them needs no read (docs/decisions/009)."""

from collections.abc import Iterable, Mapping
from typing import Any

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.past import CARRIED_BYTES
from stabilize_celery.models.expressions import names_in
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.workflow import Workflow

__all__ = ["foresight"]

MOST_NAMES = 64
"""A workflow whose expressions look at more names carries none: what travels must stay little (count)."""


def foresight(workflow: Workflow) -> dict[str, dict[str, Any]]:
    """Return by stage what its plan says of `known`, `settled` and `carries`."""
    looked_at = {stage.ref_id: _names(stage) for stage in workflow.stages}
    large = {name for name in set().union(*looked_at.values()) if not _is_small(workflow.context.get(name))}
    carries = _ahead(workflow.stages, looked_at)
    return {
        ref: {
            "known": {name: workflow.context[name] for name in sorted(names - large) if name in workflow.context},
            "settled": sorted(names - large),
            "carries": sorted(carries.get(ref, ())),
        }
        for ref, names in looked_at.items()
    }


def _is_small(value: Any) -> bool:
    return len(pack(value)) <= CARRIED_BYTES


def _names(stage: StageExecution) -> set[str]:
    enabled = stage.context.get("stageEnabled")
    expressions = [*stage.split_conditions.values(), *stage.sub_context.values()]
    expressions += [str(enabled.get("expression"))] if isinstance(enabled, dict) else []
    found: set[str] = set()
    if stage.mi_config is not None:
        config = stage.mi_config
        expressions += [config.completion_condition] if config.completion_condition else []
        found |= {name for name in (config.count_from_context, config.collection_from_context) if name}
    return found.union(*map(names_in, expressions))


def _ahead(stages: Iterable[StageExecution], looked_at: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return by stage the names that the stages look at which its thread may come to.

    It comes from a stage to its before and after stages, and back.
    """
    if not 0 < len(set().union(*looked_at.values())) <= MOST_NAMES:
        return {}
    refs = {stage.id: stage.ref_id for stage in stages}
    from_ref: dict[str, set[str]] = {stage.ref_id: set() for stage in stages}
    for stage in stages:
        parent = refs.get(stage.parent_stage_id or "", stage.parent_stage_id)
        from_ref[stage.ref_id] |= set(stage.requisite_stage_ref_ids)
        if parent in from_ref:
            from_ref[stage.ref_id].add(parent)
            from_ref[parent].add(stage.ref_id)
        for target in stage.jump_targets:
            from_ref.setdefault(target, set()).add(stage.ref_id)
    ahead: dict[str, set[str]] = {ref: set() for ref in from_ref}
    work = [ref for ref, names in looked_at.items() if names]
    while work:
        ref = work.pop()
        told = ahead[ref] | looked_at.get(ref, set())
        for source in from_ref[ref]:
            if not told <= ahead[source]:
                ahead[source] |= told
                work.append(source)
    return ahead
