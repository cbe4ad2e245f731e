"""The rules in the order in which their problems are listed; a problem's code is the first one's."""

from collections.abc import Iterator

from stabilize_celery.models.checks import graph_rules, jump_rules, part_rules, stage_rules
from stabilize_celery.models.checks.view import Rule, View
from stabilize_celery.models.limits import MAX_STAGES
from stabilize_celery.models.problems import Problem

__all__ = ["GRAPH_RULES", "RULES"]


def size(view: View) -> Iterator[Problem]:
    """Require stages, and not too many."""
    count = len(view.stages)
    if count == 0:
        yield view.problem(None, "stages", "there are no stages: nothing would run", "no_stages")
    if count > MAX_STAGES:
        yield view.problem(
            None, "stages", f"there are {count} stages; at most {MAX_STAGES} are allowed", "too_many_stages"
        )


def limit(view: View) -> Iterator[Problem]:
    """Require that a limit of executions says whose."""
    one = view.definition
    if one.is_limit_concurrent and one.max_concurrent_executions and not one.pipeline_config_id:
        told = "a limit of concurrent executions needs one: workflows of the same id share it"
        yield view.problem(None, "pipeline_config_id", told, "limit_of_nothing")


GRAPH_RULES: tuple[Rule, ...] = (
    # Upstream's checks, in upstream's order.
    graph_rules.duplicates,
    graph_rules.thresholds,
    graph_rules.requisites,
    graph_rules.cycles,
)
"""What every graph of stages must satisfy."""

RULES: tuple[Rule, ...] = (
    size,
    limit,
    *GRAPH_RULES,
    graph_rules.parents,
    graph_rules.joins,
    graph_rules.splits,
    stage_rules.names,
    stage_rules.synthetic_stages,
    part_rules.phases,
    stage_rules.deferred_choices,
    stage_rules.milestones,
    part_rules.milestones,
    stage_rules.jumps,
    jump_rules.jump_tasks,
    stage_rules.instances,
    stage_rules.mutexes,
    part_rules.locks,
    stage_rules.regions,
    stage_rules.reducers,
    stage_rules.sub_workflows,
    stage_rules.switches,
    stage_rules.expressions,
)
"""What a definition must satisfy."""
