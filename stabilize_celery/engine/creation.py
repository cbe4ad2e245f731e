"""Creating a workflow: one EXEC that writes the definition, the start stages and what is owed (PROTOCOL 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.compilation import Compiled, compile_definition
from stabilize_celery.engine.endings import (
    finish_workflow,
)
from stabilize_celery.engine.ids import thread_id
from stabilize_celery.engine.moves import (
    Zone,
    enable,
)
from stabilize_celery.engine.past import Past
from stabilize_celery.engine.plan import Edge, WorkflowPlan
from stabilize_celery.engine.routes import (
    offer_members,
)
from stabilize_celery.engine.state import WORKFLOW_RECORD, WorkflowRecord
from stabilize_celery.engine.steps import Decision, Event, Increment, Index, Owed, SetFields, Value
from stabilize_celery.models.definition import definition_digest, from_definition, plain_definition
from stabilize_celery.models.encode import encode_workflow
from stabilize_celery.models.messages import StartWorkflow, TimeOut
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.problems import refusal
from stabilize_celery.models.recent import Mark, Recent, mark_of
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.trigger import Trigger
from stabilize_celery.models.validation import find_definition_problems, find_id_problems
from stabilize_celery.models.workflow import Workflow

__all__ = ["Creation", "begin_workflow", "bound_workflow", "create_workflow"]

_MET_WHILE_IT_RUNS = ("invalid_expression",)


@dataclass(frozen=True, slots=True)
class Creation:
    """A valid workflow, compiled: what its creation writes."""

    workflow_id: str
    digest: str
    fields: Mapping[str, Value]
    meta: WorkflowPlan
    retention_ms: int
    key: str = ""
    trace: str = ""
    parent: tuple[str, str, str] = ("", "", "")
    """Calling workflow, thread and stage, of an inner workflow."""
    depth: int = 0

    @property
    def size(self) -> int:
        """How large its definition is as it is stored (bytes)."""
        return sum(len(value) for value in self.fields.values() if isinstance(value, bytes))

    @classmethod
    def of(
        cls,
        workflow_id: str,
        definition: Mapping[str, Any] | Workflow,
        *,
        retention_ms: int,
        fails_closed: bool = False,
        **more: Any,
    ) -> "Creation":
        """Validate and compile.

        `fails_closed`: accept expressions that nobody can evaluate: their stage ends TERMINAL when it comes to them,
        which is what the engine promises of any error in one (wcp 1.4). Producers are told before.

        Raises:
            InvalidWorkflowError: names every problem with its path.

        """
        workflow = definition if isinstance(definition, Workflow) else from_definition(definition)
        raw = encode_workflow(workflow)
        mark = mark_of(raw)
        problems = [*find_id_problems(workflow), *find_definition_problems(raw, mark)]
        if fails_closed:
            problems = [problem for problem in problems if problem.code not in _MET_WHILE_IT_RUNS]
        if problems:
            raise refusal(problems, workflow.name, workflow.stages)
        if not _is_of_models(workflow):
            workflow = from_definition(raw, workflow_id=workflow.id)
        compiled = _compiled(workflow, raw, mark, retention_ms)
        fields, meta = compiled.fields_for(workflow), compiled.meta
        return cls(workflow_id, compiled.digest, fields, meta, retention_ms, **more)


def _is_of_models(workflow: Any) -> bool:
    """Return whether a valid workflow has no mappings where it should have stages, tasks and the like."""
    stages = workflow.stages
    if not (isinstance(workflow.trigger, Trigger) and all(isinstance(stage, StageExecution) for stage in stages)):
        return False
    tasks = [task for stage in stages for task in stage.tasks]
    parts = [(tasks, TaskExecution), ([stage.mi_config for stage in stages], MultiInstanceConfig | None)]
    return all(isinstance(one, kind) for found, kind in parts for one in found)


_COMPILED: Recent[Compiled] = Recent(64)


def _compiled(workflow: Workflow, raw: Mapping[str, Any], mark: Mark | None, retention_ms: int) -> Compiled:
    """Compile a valid workflow, encoded as `raw`, or return what was compiled of late of the same definition."""
    found = _COMPILED.get(mark, retention_ms)
    if found is None:
        plain = plain_definition(raw)
        found = compile_definition(workflow, plain, definition_digest(plain), retention_ms)
        _COMPILED.keep(mark, found, retention_ms)
    return found


def create_workflow(decision: Decision, creation: Creation, now_us: int) -> None:
    """Write a new workflow; it begins at once unless it has to wait for a slot of its pipeline."""
    meta, now_ms = creation.meta, now_us // 1000
    waits = bool(meta.concurrency_lock)
    record = WorkflowRecord(
        status="BUFFERED" if waits else "RUNNING",
        digest=creation.digest,
        application=meta.application,
        name=meta.name,
        started_ms=now_ms,
        parent_id=creation.parent[0],
        parent_thread=creation.parent[1],
        parent_ref=creation.parent[2],
        depth=creation.depth,
        priority=meta.priority,
        key=creation.key,
        trace=creation.trace,
        retention_ms=creation.retention_ms,
        lock=meta.concurrency_lock,
        lock_state="requested" if waits else "",
    )
    decision.priority = meta.priority
    decision.change(SetFields(places.WORKFLOW, WORKFLOW_RECORD.encode_all(record)))
    decision.change(SetFields(places.DEFINITION, creation.fields))
    decision.change(Index(meta.application, meta.name, now_ms, record.status, was=""))
    decision.events.append(Event("workflow.created", "", {"name": meta.name}))
    if waits:
        decision.owes.append(Owed(StartWorkflow(workflow_id=creation.workflow_id)))
    else:
        begin_workflow(decision, creation.workflow_id, record, meta, now_us)


def begin_workflow(
    decision: Decision, workflow_id: str, record: WorkflowRecord, meta: WorkflowPlan, now_us: int
) -> None:
    """Enable the start stages, and bound the whole by its time-out; too late for its expiry, cancel it."""
    if meta.expiry_ms is not None and now_us // 1000 > meta.expiry_ms:
        told = "its start time has expired"
        finish_workflow(decision, workflow_id, record, "CANCELED", now_us // 1000, reason=told, is_empty=True)
        return
    for name, count in meta.open_edges.items():
        decision.change(SetFields(places.component(name), {"in": count}))
    starts = 0
    for group, members in meta.offers.items():
        edges = [Edge(ref, 0, is_direct=True, need=1, component=name, choose_after_ms=ms) for ref, name, ms in members]
        starts += offer_members(decision, workflow_id, group, thread_id(workflow_id, group), edges, now_us, Past())
    offered = {member[0] for members in meta.offers.values() for member in members}
    for ref_id in (ref for ref in meta.initial if ref not in offered):
        starts += 1
        zone = Zone(meta.components.get(ref_id, ""), ref_id, meta.sections.get(ref_id, ""))
        enable(decision, workflow_id, ref_id, thread_id(workflow_id, ref_id), now_us, Past(), zone=zone)
    decision.change(Increment(places.COUNTERS, "act", starts))
    bound_workflow(decision, workflow_id, meta, now_us // 1000)
    decision.events.append(Event("workflow.started", ""))


def bound_workflow(decision: Decision, workflow_id: str, meta: WorkflowPlan, now_ms: int) -> None:
    """Owe the time-out of a workflow that begins now, if it has one."""
    if meta.timeout_ms is not None:
        decision.owes.append(Owed(TimeOut(workflow_id=workflow_id, scope="workflow"), now_ms + meta.timeout_ms))
