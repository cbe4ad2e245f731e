"""Asks stage builders (user code) for the work of a stage whose definition leaves it to them."""

from collections.abc import Callable, Iterable
from typing import Any

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.compilation import task_plans
from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.steps import Plan
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.graph import StageGraphBuilder
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.attached import AttachedWorkflow
from stabilize_celery.runtime.hydrate import stage_of
from stabilize_celery.tasks.builders import NoOpStageBuilder, StageDefinitionBuilder
from stabilize_celery.tasks.registry import TaskRegistry

__all__ = ["plan_stage"]


def plan_stage(registry: TaskRegistry, step: Plan, load: Callable[[str], Workflow]) -> dict[str, Any]:
    """Return what the builder of a stage's type plans: tasks, refs of before, after or failure stages, their plans.

    A builder that raises fails the stage: the answer is its error.

    Raises:
        UnreachableError: Redis is away, and the builder wanted to look at the workflow: it is asked again.

    """
    frame = step.frame
    builders, stage_type = registry.builders, frame.plan.type
    if not builders.has(stage_type) or type(builders.get(stage_type)) is NoOpStageBuilder:
        return {}
    workflow = AttachedWorkflow(
        frame.workflow_id, frame.plan.application, frame.plan.workflow_name, lambda: load(frame.workflow_id)
    )
    stage = stage_of(frame, dict(frame.context), workflow)
    try:
        return _planned(builders.get(stage_type), stage, frame.plan, step.phase)
    except UnreachableError:
        raise
    except Exception as error:  # noqa: BLE001 - user code: its error becomes the stage's
        return {"error": f"planning stage {frame.plan.ref!r} failed: {type(error).__name__}: {error}"}


def _planned(builder: StageDefinitionBuilder, stage: StageExecution, plan: StagePlan, phase: str) -> dict[str, Any]:
    if phase == "failure":
        graph = StageGraphBuilder.after_stages(stage)
        builder.on_failure_stages(stage, graph)
        stages = list(graph.build())
        return {"failure": [item.ref_id for item in stages], "stages": _stored(stages, plan)} if stages else {}
    tasks = builder.build_tasks(stage)
    before, after = StageGraphBuilder.before_stages(stage), StageGraphBuilder.after_stages(stage)
    builder.before_stages(stage, before)
    builder.after_stages(stage, after)
    first, last = list(before.build()), list(after.build())
    planned: dict[str, Any] = {"tasks": [[task.id, task.name, task.implementing_class] for task in tasks]}
    if first or last:
        planned |= {"before": [item.ref_id for item in first], "after": [item.ref_id for item in last]}
        planned["stages"] = _stored([*first, *last], plan)
    return planned


def _stored(stages: Iterable[StageExecution], parent: StagePlan) -> dict[str, tuple[bytes, bytes]]:
    return {stage.ref_id: (pack(_plan(stage, parent)), pack(stage.context)) for stage in stages}


def _plan(stage: StageExecution, parent: StagePlan) -> StagePlan:
    owner = stage.synthetic_stage_owner
    return StagePlan(
        ref=stage.ref_id,
        stage_id=stage.id,
        type=stage.type,
        name=stage.name,
        tasks=task_plans(stage),
        requisites=sorted(stage.requisite_stage_ref_ids),
        owner=owner.name if owner else "STAGE_AFTER",
        parent=parent.ref,
        milestones_around=[*([parent.ref] if parent.is_milestone else ()), *parent.milestones_around],
        finalizers=stage.finalizer_names,
        cleanup_on_failure=stage.cleanup_on_failure,
        application=parent.application,
        workflow_name=parent.workflow_name,
    )
