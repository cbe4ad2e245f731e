"""From a valid definition to the plans of its stages (engine/plan.py), once for all workflows of that definition."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.components import components, telling
from stabilize_celery.engine.foresight import foresight
from stabilize_celery.engine.ids import narrowed
from stabilize_celery.engine.plan import Edge, InstancesPlan, StagePlan, TaskPlan, WorkflowPlan
from stabilize_celery.engine.section_names import section_names
from stabilize_celery.engine.steps import Value
from stabilize_celery.models.graph import topological_sort
from stabilize_celery.models.stage.enums import JoinMode, JoinType, SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow

__all__ = ["Compiled", "compile_definition", "task_plans"]


class Compiled(msgspec.Struct, frozen=True):
    """A valid definition, compiled: what all workflows of it write alike, and the plans of their stages, in order."""

    digest: str
    meta: WorkflowPlan
    fields: Mapping[str, Value]
    plans: Sequence[StagePlan]

    def fields_for(self, workflow: Workflow) -> dict[str, Value]:
        """Return the fields of the hash `d` for a workflow of this definition, whose stages and tasks have own ids."""
        fields = dict(self.fields)
        for stage, plan in zip(workflow.stages, self.plans, strict=True):
            own = msgspec.structs.replace(plan, stage_id=stage.id, tasks=task_plans(stage))
            fields[f"s:{plan.ref}"] = pack(own)
        return fields


def compile_definition(workflow: Workflow, definition: Mapping[str, Any], digest: str, retention_ms: int) -> Compiled:
    """Compile a valid workflow, whose definition and its digest are given."""
    plans = _stage_plans(workflow)
    top = [stage for stage in workflow.stages if stage.parent_stage_id is None]
    initial = [stage for stage in top if not stage.requisite_stage_ref_ids]
    meta = WorkflowPlan(
        application=workflow.application,
        name=workflow.name,
        initial=[stage.ref_id for stage in initial],
        order=[stage.ref_id for stage in topological_sort(top)],
        offers=_start_offers(top, plans),
        regions=_regions(workflow.stages),
        sections={plan.ref: plan.mutex_section for plan in plans if plan.mutex_section},
        components={plan.ref: plan.component for plan in plans if plan.component and not plan.requisites},
        open_edges=_open_edges(plans),
        max_jumps=workflow.max_jumps,
        max_depth=workflow.max_depth,
        timeout_ms=workflow.timeout_ms,
        expiry_ms=workflow.start_time_expiry,
        starts_ms=min((stage.scheduled_time or 0 for stage in initial), default=0),
        retention_ms=retention_ms,
        priority=workflow.priority,
        **_concurrency(workflow),
    )
    fields: dict[str, Value] = {
        "meta": pack(meta),
        "context": pack(workflow.context),
        "definition": pack(definition),
        "trigger": pack(workflow.trigger.to_dict()),
        "joins": pack([plan.ref for plan in plans if not plan.is_direct]),
    }
    for stage, plan in zip(workflow.stages, plans, strict=True):
        fields[f"x:{plan.ref}"] = pack(stage.context)
    for name, inner in definition.get("sub_workflows", {}).items():
        fields[f"f:{name}"] = pack(inner)
    return Compiled(digest, meta, fields, plans)


def _concurrency(workflow: Workflow) -> dict[str, Any]:
    limit = workflow.max_concurrent_executions
    if not (workflow.is_limit_concurrent and workflow.pipeline_config_id and limit > 0):
        return {}
    return {
        "concurrency_lock": narrowed("PIPELINE", workflow.application, workflow.pipeline_config_id),
        "concurrency_limit": limit,
        "keep_waiting": workflow.keep_waiting_pipelines,
    }


@dataclass(frozen=True, slots=True)
class _Graph:
    """The top-level graph with its jumps: component and members of each stage, who tells, and whom milestones name."""

    component: Mapping[str, str]
    members: Mapping[str, list[str]]
    tells: Collection[str]
    sections: Mapping[str, str]
    milestones: Collection[str]
    wholes: Mapping[str, str]

    def is_alone(self, ref: str) -> bool:
        return len(self.members[self.component[ref]]) == 1

    def loop_of(self, ref: str) -> list[str]:
        """Return the stages of a loop that are judged together; none where nobody counts their threads."""
        is_counted = ref in self.tells and not self.is_alone(ref)
        return list(dict.fromkeys(self.members[self.component[ref]])) if is_counted else []

    def milestones_inside(self) -> dict[str, list[str]]:
        """Return the milestones that are parts of a top-level stage, by that."""
        found: dict[str, list[str]] = {}
        for name in sorted(self.milestones):
            if self.wholes[name] != name:
                found.setdefault(self.wholes[name], []).append(name)
        return found

    def whole_of_milestone(self, stage: StageExecution) -> str:
        """Return the top-level stage of which a stage's milestone is a part; empty if it is none."""
        ref = stage.milestone_ref_id or ""
        whole = self.wholes[ref] if ref else ""
        return whole if whole != ref else ""

    def edge(self, stage: StageExecution, position: int) -> Edge:
        ref = stage.ref_id
        name = self.component[ref] if ref in self.tells else ""
        group = stage.deferred_choice_group or "" if position >= 0 else ""
        is_direct = position < 0 or _is_direct(stage)
        after = _choose_after_ms(stage)
        section = self.sections.get(ref, "")
        width = stage.thread_merge or len(stage.requisite_stage_ref_ids)
        need = _need(stage)
        bears = 0 if stage.thread_merge else width - (need or 1)
        alone, watched = self.is_alone(ref), ref in self.milestones
        return Edge(ref, position, is_direct, need or width, name, alone, section, group, after, width, bears, watched)


def _graph(stages: Sequence[StageExecution]) -> _Graph:
    targets: dict[str, list[str]] = {stage.ref_id: list(stage.jump_targets) for stage in stages}
    for stage in stages:
        for upstream in sorted(stage.requisite_stage_ref_ids):
            targets[upstream].append(stage.ref_id)
    component = components(targets)
    members: dict[str, list[str]] = {}
    for ref, name in component.items():
        members.setdefault(name, []).append(ref)
    jumpers = {stage.ref_id for stage in stages if stage.ref_id in stage.jump_targets}
    for ref in jumpers:  # a stage that jumps to itself is a loop, not alone
        members[component[ref]].append(ref) if len(members[component[ref]]) == 1 else None
    curious = [stage.ref_id for stage in stages if stage.parent_stage_id is None and _wants_to_know(stage)]
    milestones = {stage.milestone_ref_id for stage in stages if stage.milestone_ref_id}
    wholes = _wholes(stages)
    curious += sorted({wholes[ref] for ref in milestones})
    return _Graph(component, members, telling(targets, curious), section_names(stages), milestones, wholes)


def _wholes(stages: Sequence[StageExecution]) -> dict[str, str]:
    """Return the top-level stage that each one is, or is a part of: threads come to that, and not to its parts."""
    known = {name: stage for stage in stages for name in (stage.ref_id, stage.id)}
    found: dict[str, str] = {}
    for stage in stages:
        whole = stage
        while whole.parent_stage_id is not None:
            whole = known[whole.parent_stage_id]
        found[stage.ref_id] = whole.ref_id
    return found


def _upstream(stages: Mapping[str, StageExecution], ref: str) -> list[str]:
    found: set[str] = set()
    stack = [ref]
    while stack:
        fresh = set(stages[stack.pop()].requisite_stage_ref_ids) - found
        found |= fresh
        stack.extend(fresh)
    return [name for name in stages if name in found]


_BEFORE_ANY_RUN = (WorkflowStatus.NOT_STARTED.name, WorkflowStatus.SKIPPED.name)
"""What a stage is that has had no run: the one while a thread may still come, then the other (wcp 1.2)."""


def _above_milestone(
    stage: StageExecution,
    graph: _Graph,
    requisites: Mapping[str, list[str]],
    jumped_from: Mapping[str, list[str]],
) -> list[tuple[str, list[str]]]:
    """Return what is looked at; nothing where the milestone is a status that only a run gives."""
    if stage.milestone_ref_id is None or stage.milestone_status not in _BEFORE_ANY_RUN:
        return []
    return _from_above(graph, _above([graph.wholes[stage.milestone_ref_id]], requisites, jumped_from))


def _leads_in(
    ref: str,
    stages: Mapping[str, StageExecution],
    graph: _Graph,
    requisites: Mapping[str, list[str]],
    jumped_from: Mapping[str, list[str]],
) -> list[tuple[str, list[str]]]:
    """Return what is looked at before a partial join in the loop `ref` fires; none where there is no such join."""
    members = graph.loop_of(ref)
    if ref != graph.component[ref] or not any(_is_partial(stages[member]) for member in members):
        return []
    return _from_above(graph, _above(members, requisites, jumped_from) - set(members))


def _from_above(graph: _Graph, refs: Collection[str]) -> list[tuple[str, list[str]]]:
    """Return stages by component, none before one from which it is reached: so they are read (`judging.look_along`)."""
    found: dict[str, list[str]] = {}
    for name in reversed([name for name in graph.component if name in refs]):
        found.setdefault(graph.component[name], []).append(name)
    return list(found.items())


def _above(refs: Iterable[str], requisites: Mapping[str, list[str]], jumped_from: Mapping[str, list[str]]) -> set[str]:
    """Return the stages from which one of these can be reached, themselves included."""
    found = set(refs)
    stack = list(found)
    while stack:
        ref = stack.pop()
        fresh = {*requisites[ref], *jumped_from[ref]} - found
        found |= fresh
        stack.extend(fresh)
    return found


def _is_partial(stage: StageExecution) -> bool:
    """Whether its join goes on without some of its branches, and absorbs those that are late."""
    is_partial = stage.join_type in (JoinType.DISCRIMINATOR, JoinType.N_OF_M)
    return is_partial and stage.join_mode is not JoinMode.CANCELLING and not _is_direct(stage)


def _around(stage: StageExecution, stages: Mapping[str, StageExecution], parents: Mapping[str, str]) -> Iterator[str]:
    """Yield what a stage is a part of: its parent, the parent of that."""
    while stage.parent_stage_id is not None:
        stage = stages[parents.get(stage.parent_stage_id, stage.parent_stage_id)]
        yield stage.ref_id


def _regions(stages: Iterable[StageExecution]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for stage in stages:
        if stage.cancel_region:
            found.setdefault(stage.cancel_region, []).append(stage.ref_id)
    return found


def _start_offers(top: Iterable[StageExecution], plans: Iterable[StagePlan]) -> dict[str, list[tuple[str, str, int]]]:
    component = {plan.ref: plan.component for plan in plans}
    found: dict[str, list[tuple[str, str, int]]] = {}
    for stage in top:
        if stage.deferred_choice_group and not stage.requisite_stage_ref_ids:
            member = (stage.ref_id, component[stage.ref_id], _choose_after_ms(stage))
            found.setdefault(stage.deferred_choice_group, []).append(member)
    return found


def _choose_after_ms(stage: StageExecution) -> int:
    """Return after which time an offered stage chooses itself; 0 stands for never, so at once is as soon as can be."""
    return 0 if stage.choose_after_ms is None else max(1, stage.choose_after_ms)


def _wants_to_know(stage: StageExecution) -> bool:
    """Whether a stage's join decides by what can still come.

    An AND join only gives up later without it: but in a mutex section what waits at it keeps the lock.
    """
    decides = stage.join_type not in (JoinType.AND, JoinType.MULTI_MERGE)
    keeps_lock = stage.join_type is JoinType.AND and stage.mutex_section is not None
    return bool(stage.thread_merge) or (len(stage.requisite_stage_ref_ids) > 1 and (decides or keeps_lock))


def _open_edges(plans: Sequence[StagePlan]) -> dict[str, int]:
    found: dict[str, int] = {plan.component: 0 for plan in plans if plan.component}
    for plan in plans:
        for edge in (*plan.edges, *plan.jumps):
            if edge.component and edge.component != plan.component:
                found[edge.component] += 1
    return found


def _stage_plans(workflow: Workflow) -> list[StagePlan]:
    stages = {stage.ref_id: stage for stage in workflow.stages}
    positions = {ref: sorted(stage.requisite_stage_ref_ids) for ref, stage in stages.items()}
    graph = _graph(workflow.stages)
    edges: dict[str, list[Edge]] = {ref: [] for ref in stages}
    jumped_from: dict[str, list[str]] = {ref: [] for ref in stages}
    for ref, stage in stages.items():
        for position, upstream in enumerate(positions[ref]):
            edges[upstream].append(graph.edge(stage, position))
        for target in stage.jump_targets:
            jumped_from[target].append(ref)
    synthetic = _synthetic(workflow.stages)
    views, inside = foresight(workflow), graph.milestones_inside()
    ends = [stage.ref_id for stage in workflow.stages if stage.parent_stage_id is None and not edges[stage.ref_id]]
    parents = {stage.id: stage.ref_id for stage in workflow.stages}
    return [
        msgspec.structs.replace(
            _stage_plan(workflow, stage, parents, synthetic),
            requisites=positions[ref],
            edges=edges[ref],
            is_only_end=ends == [ref],
            jumps=[graph.edge(stages[target], -1) for target in stage.jump_targets],
            jumped_from=jumped_from[ref],
            is_milestone=ref in graph.milestones,
            milestones_around=[name for name in _around(stage, stages, parents) if name in graph.milestones],
            milestones_inside=inside.get(ref, []),
            milestone_whole=graph.whole_of_milestone(stage),
            milestone_above=_above_milestone(stage, graph, positions, jumped_from),
            upstream=_upstream(stages, ref) if stage.join_mode is JoinMode.CANCELLING else [],
            component=graph.component[ref] if ref in graph.tells else "",
            members=graph.loop_of(ref),
            leads_in=_leads_in(ref, stages, graph, positions, jumped_from),
            mutex_section=graph.sections.get(ref, ""),
            **views[ref],
        )
        for ref, stage in stages.items()
    ]


def _synthetic(stages: Iterable[StageExecution]) -> dict[tuple[str, str], list[str]]:
    by_id = {stage.id: stage.ref_id for stage in stages}
    found: dict[tuple[str, str], list[str]] = {}
    for stage in stages:
        if stage.parent_stage_id is not None and stage.synthetic_stage_owner is not None:
            parent = by_id.get(stage.parent_stage_id, stage.parent_stage_id)
            found.setdefault((parent, stage.synthetic_stage_owner.name), []).append(stage.ref_id)
    return found


def _stage_plan(
    workflow: Workflow,
    stage: StageExecution,
    parents: Mapping[str, str],
    synthetic: Mapping[tuple[str, str], list[str]],
) -> StagePlan:
    owner = stage.synthetic_stage_owner
    return StagePlan(
        ref=stage.ref_id,
        stage_id=stage.id,
        type=stage.type,
        name=stage.name,
        tasks=task_plans(stage),
        join=stage.join_type.name,
        join_mode=stage.join_mode.name,
        thread_merge=stage.thread_merge,
        instances=_instances(stage),
        choice_group=stage.deferred_choice_group,
        milestone=stage.milestone_ref_id,
        milestone_status=stage.milestone_status or "",
        cancels_regions=stage.cancels_regions,
        is_direct=_is_direct(stage),
        need=_need(stage),
        split=stage.split_type.name,
        conditions=list(stage.split_conditions.items()),
        default_target=stage.split_default,
        thread_split=stage.thread_split,
        reducers=stage.output_reducers,
        mutex_key=stage.mutex_key,
        mutex_scope=stage.mutex_scope.name,
        mutex_limit=stage.mutex_limit,
        before=synthetic.get((stage.ref_id, SyntheticStageOwner.STAGE_BEFORE.name), []),
        after=synthetic.get((stage.ref_id, SyntheticStageOwner.STAGE_AFTER.name), []),
        owner=owner.name if owner else None,
        parent=parents.get(stage.parent_stage_id, stage.parent_stage_id) if stage.parent_stage_id else None,
        expiry_ms=stage.start_time_expiry,
        scheduled_ms=stage.scheduled_time,
        finalizers=stage.finalizer_names,
        cleanup_on_failure=stage.cleanup_on_failure,
        jump_targets=stage.jump_targets,
        sub_workflow=stage.sub_workflow,
        sub_context=stage.sub_context,
        terminates_workflow=stage.terminates_workflow,
        application=workflow.application,
        workflow_name=workflow.name,
    )


def task_plans(stage: StageExecution) -> list[TaskPlan]:
    """Return the plans of a stage's own tasks, in order."""
    return [TaskPlan(task.id, task.name, task.implementing_class) for task in stage.tasks]


def _instances(stage: StageExecution) -> InstancesPlan | None:
    config = stage.mi_config
    if config is None:
        return None
    return InstancesPlan(
        count=config.count,
        count_from=config.count_from_context,
        collection_from=config.collection_from_context,
        is_joined=config.sync_on_complete,
        threshold=config.join_threshold,
        cancels_remaining=config.cancel_remaining,
        is_dynamic=config.allow_dynamic,
        condition=config.completion_condition or "",
        max_concurrent=config.max_concurrent,
    )


def _is_direct(stage: StageExecution) -> bool:
    if stage.thread_merge:
        return False
    return len(stage.requisite_stage_ref_ids) <= 1 or stage.join_type is JoinType.MULTI_MERGE


def _need(stage: StageExecution) -> int:
    if stage.thread_merge:
        return stage.thread_merge
    if _is_direct(stage) or stage.join_type is JoinType.DISCRIMINATOR:
        return 1
    if stage.join_type is JoinType.OR:
        return 0
    if stage.join_type is JoinType.N_OF_M and stage.join_threshold:
        return stage.join_threshold
    return len(stage.requisite_stage_ref_ids)
