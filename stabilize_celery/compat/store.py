"""RedisWorkflowStore: workflows by id, as `SqliteWorkflowStore` had them."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, Self

from stabilize_celery.client.client import Client
from stabilize_celery.client.handle import WorkflowHandle
from stabilize_celery.client.outcomes import Outcome
from stabilize_celery.compat.drafts import Drafts
from stabilize_celery.compat.integrity import check_stored
from stabilize_celery.compat.jumps import declare_jumps
from stabilize_celery.compat.list_outputs import join_list_outputs
from stabilize_celery.compat.made import Made
from stabilize_celery.compat.registry import TaskRegistry
from stabilize_celery.compat.retold import retold
from stabilize_celery.compat.text_keys import with_text_keys
from stabilize_celery.compat.transactions import StoreTransaction, transaction
from stabilize_celery.errors import UnreachableError, WorkflowNotFoundError
from stabilize_celery.models.context import StageContext
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow, WorkflowCriteria
from stabilize_celery.runtime.ports import Outgoing, Publisher
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Store
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.tasks import registry

__all__ = ["RedisWorkflowStore", "create_store", "forget_memory", "stage_of"]

_PAGE = 200
_END = 1 << 62


@dataclass(frozen=True)
class _Kept:
    """What is kept in this process under one name: workflows of a store in memory, and those that are not started."""

    store: Store | None
    drafts: Drafts = field(default_factory=Drafts)


_NAMED: dict[str, _Kept] = {}
"""Stores in memory that have a name: as long as this process."""
_WAITING: dict[tuple[str, str], _Kept] = {}
"""What is not started, by Redis and namespace: until the last store there is closed."""
_MADE: Made["RedisWorkflowStore"] = Made()


class RedisWorkflowStore:
    """Workflows on Redis. What is stored but not started is kept in this process until `Orchestrator.start`.

    There, all stores of one Redis and namespace have it.

    Args:
        url: `redis://...`, or `memory://` for one process and no server; all stores of this process with the same
            `memory://NAME` have the same workflows.
        create_tables: Accepted; there are none.
        namespace: Start of all keys.
        settings: All settings, in place of the environment's.
        connection_string: Upstream's name of `url`.

    """

    def __init__(
        self,
        url: str = "",
        create_tables: bool = True,
        *,
        namespace: str | None = None,
        settings: Settings | None = None,
        connection_string: str = "",
    ) -> None:
        del create_tables
        url = url or connection_string
        in_memory = url.startswith("memory:")
        kept = _kept_as(url) if in_memory else None
        self._relay = _Relay()
        self.client = Client(
            None if in_memory else url or None,
            None,
            namespace,
            settings=settings,
            store=kept.store if kept is not None else None,
            publisher=self._relay,
        )
        self.task_registry: registry.TaskRegistry | None = None
        """The task types of the processor in this process, if there is one yet."""
        if kept is None:
            kept = _WAITING.setdefault(_place(self.client.settings), _Kept(None))
        self.drafts = kept.drafts
        """Workflows that wait for their start."""
        _MADE.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. With the last store of a Redis, what was not started there is forgotten."""
        _MADE.forget(self)
        if not any(store.drafts is self.drafts for store in _MADE):
            _WAITING.pop(_place(self.client.settings), None)
        self.client.close()

    @staticmethod
    def holding(workflow_id: str) -> "RedisWorkflowStore | None":
        """Return the store of this process in which a workflow waits for its start, if there is one."""
        return next((store for store in _MADE if workflow_id in store.drafts), None)

    @staticmethod
    def newest() -> "RedisWorkflowStore | None":
        """Return the store of this process that was made last, if there is one."""
        return next(reversed(_MADE), None)

    @staticmethod
    def knowing(workflow_id: str) -> "RedisWorkflowStore | None":
        """Return a store of this process that has a workflow, started or not, if there is one."""
        return next((store for store in _MADE if store.exists(workflow_id)), None)

    @staticmethod
    def owner_of(entity_id: str) -> str | None:
        """Return the id of the workflow whose stage or task that is, of those stored or started in this process."""
        return next((owner for store in _MADE if (owner := store.drafts.owner_of(entity_id)) is not None), None)

    def publish_to(self, publisher: Publisher) -> None:
        """Send what this store's workflows owe there, from now on."""
        self._relay.publisher = publisher

    # -- workflows -----------------------------------------------------------------------------------------------------

    def store(self, execution: Workflow) -> None:
        """Keep a workflow until it is started; whether it is sound is looked at then.

        Raises:
            IntegrityError: its id is taken, or two of its stages have one `ref_id`.

        """
        check_stored(execution, is_known=self.exists(execution.id))
        self.drafts.keep(execution)

    def start(self, workflow: Workflow | str) -> WorkflowHandle:
        """Start a workflow, stored or not, once.

        Raises:
            InvalidWorkflowError: the definition is not sound; nothing was started.
            WorkflowNotFoundError: an id was given, and nothing is stored under it.
            ValueError: it was cancelled before it was started.

        """
        workflow_id = workflow if isinstance(workflow, str) else workflow.id
        draft = self.drafts.get(workflow_id) or workflow
        if isinstance(draft, str):
            return self._known(draft)
        if draft.status is WorkflowStatus.CANCELED:
            raise ValueError(f"workflow {draft.id} was cancelled before it was started; make a new one")
        if draft.status is WorkflowStatus.PAUSED:
            raise ValueError(f"workflow {draft.id} was paused before it was started: resume it, then start it")
        draft.context = with_text_keys(draft.context)
        for stage in draft.stages:
            stage.context = with_text_keys(stage.context)
        known = TaskRegistry.made() if self.task_registry is None else [self.task_registry]
        declare_jumps(draft, known)
        join_list_outputs(draft)
        handle = self.client.start(draft)
        self.drafts.note(draft)
        self.drafts.forget(workflow_id)
        return handle

    def retrieve(self, execution_id: str) -> Workflow:
        """Return a workflow as it is now. Raises WorkflowNotFoundError."""
        draft = self.drafts.get(execution_id)
        return retold(self.client.get(execution_id)) if draft is None else deepcopy(draft)

    def retrieve_stage(self, stage_id: str, workflow_id: str | None = None) -> StageExecution:
        """Return a stage by its id, of a workflow that was stored or started here; of any other one by both ids.

        Raises:
            WorkflowNotFoundError: there is no such workflow.
            KeyError: there is no such stage, or nobody said whose it is.

        """
        owner = workflow_id or self.drafts.owner_of(stage_id)
        if owner is None:
            raise KeyError(f"whose stage is {stage_id!r}? It was not stored here: give workflow_id, too")
        return self._held(owner, stage_id)

    def retrieve_by_application(self, application: str, criteria: WorkflowCriteria | None = None) -> Iterator[Workflow]:
        """Yield the workflows of an application, newest first; all, or those of the criteria."""
        return _chosen(map(self.retrieve, self._ids(application)), criteria)

    def list_workflows(self, application: str, limit: int = 100) -> list[Workflow]:
        """Return so many workflows of an application at most, newest first."""
        return list(islice(self.retrieve_by_application(application), limit))

    def retrieve_by_pipeline_config_id(
        self, pipeline_config_id: str, criteria: WorkflowCriteria | None = None
    ) -> Iterator[Workflow]:
        """Yield the workflows of a pipeline, as `retrieve_by_application`. Reads every workflow there is."""
        found = map(self.retrieve, self._ids(None))
        return _chosen((one for one in found if one.pipeline_config_id == pipeline_config_id), criteria)

    def get_all_pending_workflows(self, criteria: WorkflowCriteria | None = None) -> Iterator[Workflow]:
        """Yield the workflows of all applications that have not ended, or those of the criteria, newest first."""
        found = map(self.retrieve, self._ids(None))
        if criteria is not None and criteria.statuses is not None:
            return _chosen(found, criteria)
        return _chosen((one for one in found if not one.status.is_complete), criteria)

    def count_by_application(self, application: str) -> int:
        """Return how many workflows of an application there are."""
        return sum(1 for _ in self._ids(application))

    def retrieve_execution_summary(self, execution_id: str) -> Workflow:
        """Return a workflow as it is now; here that costs no more than `retrieve`. Raises WorkflowNotFoundError."""
        return self.retrieve(execution_id)

    def get_upstream_stages(self, execution_id: str, stage_ref_id: str) -> list[StageExecution]:
        """Return the stages that a stage requires. Raises WorkflowNotFoundError, KeyError."""
        return self._held(execution_id, stage_ref_id).upstream_stages()

    def get_downstream_stages(self, execution_id: str, stage_ref_id: str) -> list[StageExecution]:
        """Return the stages that require a stage. Raises WorkflowNotFoundError, KeyError."""
        return self._held(execution_id, stage_ref_id).downstream_stages()

    def get_merged_ancestor_outputs(self, execution_id: str, stage_ref_id: str) -> dict[str, Any]:
        """Return what the stages above a stage have put out, as its tasks see it. Raises as `get_upstream_stages`."""
        return StageContext(self._held(execution_id, stage_ref_id), {}).merge_with_ancestors()

    def get_synthetic_stages(self, execution_id: str, parent_stage_id: str) -> list[StageExecution]:
        """Return the before and after stages of a stage. Raises WorkflowNotFoundError, KeyError."""
        return self._held(execution_id, parent_stage_id).synthetic_stages()

    # -- what is not started may be changed ----------------------------------------------------------------------------

    def store_stage(self, stage: StageExecution, expected_phase: str | None = None, connection: Any = None) -> None:
        """Put a stage in the place of the one with its id. `connection`: as upstream's.

        Args:
            stage: What is put there.
            expected_phase: The status that the one there must have, if that matters.
            connection: As upstream's; without an effect.

        Raises:
            ValueError: its workflow has been started: what its stages are is the engine's from then on.
            ConcurrencyError: another one has been put there since this one was read, or its status is another one.

        """
        del connection
        self.drafts.put_stage(stage, expected_phase)

    def transaction(self, queue: Any = None) -> AbstractContextManager[StoreTransaction]:
        """Do what is said in a block at its end, or not at all: `with store.transaction(queue) as txn`.

        Without a queue, messages go to the one that serves this store, if there is one.
        """
        return transaction(self, self._relay.publisher if queue is None else queue)

    def add_stage(self, stage: StageExecution) -> None:
        """Add a stage to the workflow that it is attached to. Raises ValueError: that has been started."""
        self.drafts.add_stage(stage)

    def remove_stage(self, execution: Workflow, stage_id: str) -> None:
        """Take a stage away. Raises ValueError: the workflow has been started."""
        self.drafts.check(execution.id).remove_stage(stage_id)

    def update_status(self, execution: Workflow) -> None:
        """Keep status and times of a workflow as they are told. Raises ValueError: it has been started."""
        draft = self.drafts.check(execution.id)
        draft.status, draft.start_time, draft.end_time = execution.status, execution.start_time, execution.end_time

    def exists(self, execution_id: str) -> bool:
        """Return whether there is such a workflow."""
        if execution_id in self.drafts:
            return True
        try:
            self.client.handle(execution_id).status()
        except WorkflowNotFoundError:
            return False
        return True

    def delete(self, execution_id: str) -> None:
        """Forget a workflow that was not started. One that was expires by itself, after its retention."""
        self.drafts.forget(execution_id)

    def is_healthy(self) -> bool:
        """Return whether the state server answers."""
        try:
            self.client.store.time_ms()
        except UnreachableError:
            return False
        return True

    # -- control -------------------------------------------------------------------------------------------------------

    def handle(self, workflow: Workflow | str) -> WorkflowHandle:
        """Return the handle of a workflow that was started; looks nowhere."""
        return self.client.handle(workflow if isinstance(workflow, str) else workflow.id)

    def pause(self, execution_id: str, paused_by: str = "") -> Outcome:
        """Hold a workflow, in the name of a user; one that is only stored does not start before it is resumed."""
        if execution_id in self.drafts:
            return self.drafts.pause(execution_id, paused_by)
        return self.handle(execution_id).pause(user=paused_by or None)

    def resume(self, execution_id: str, user: str = "") -> Outcome:
        """Let a paused workflow go on."""
        del user
        return self.drafts.resume(execution_id) if execution_id in self.drafts else self.handle(execution_id).resume()

    def cancel(self, execution_id: str, canceled_by: str = "", reason: str = "") -> Outcome:
        """End a workflow CANCELED, in the name of a user; one that is only stored does not start any more."""
        if execution_id in self.drafts:
            return self.drafts.cancel(execution_id, canceled_by, reason)
        return self.handle(execution_id).cancel(reason, user=canceled_by or None)

    def wait(self, workflow: Workflow | str, timeout: float | None = None) -> Workflow:
        """Wait until a workflow has ended and return it (`timeout` in s). Raises TimeoutError."""
        return retold(self.handle(workflow).wait(timeout))

    def _held(self, workflow_id: str, stage_id: str) -> StageExecution:
        """Return a stage that keeps its workflow with it."""
        workflow = self.retrieve(workflow_id)
        stage = stage_of(workflow, stage_id)
        stage.set_execution_strong(workflow)
        return stage

    def _known(self, workflow_id: str) -> WorkflowHandle:
        handle = self.client.handle(workflow_id)
        handle.status()
        return handle

    def ids(self) -> Iterator[str]:
        """Yield the ids of the workflows that were started, newest first."""
        yield from (workflow_id for workflow_id in self._ids(None) if workflow_id not in self.drafts)

    def _ids(self, application: str | None) -> Iterator[str]:
        yield from (draft.id for draft in self.drafts.of(application))
        cursor = None
        while True:
            page = self.client.list(application=application, limit=_PAGE, cursor=cursor)
            yield from (line.id for line in page.items)
            cursor = page.cursor
            if cursor is None:
                return


def forget_memory() -> None:
    """Forget what the stores in this process' memory have that are made by a name."""
    _NAMED.clear()
    _WAITING.clear()


def _kept_as(url: str) -> _Kept:
    """Return what is kept in memory under the name that stands in the URL; without a name something new."""
    name = url.partition("://")[2]
    if name not in _NAMED:
        kept = _Kept(MemoryStore(lambda: time.time_ns() // 1000))
        if not name:
            return kept
        _NAMED[name] = kept
    return _NAMED[name]


def _place(settings: Settings) -> tuple[str, str]:
    return settings.redis_url, settings.namespace


class _Relay:
    """Publishes wherever a queue says; while none has, the keeper of any worker finds what is owed."""

    def __init__(self) -> None:
        self.publisher: Publisher | None = None

    def publish(self, batch: list[Outgoing] | Any) -> None:
        if self.publisher is not None:
            self.publisher.publish(batch)


def _chosen(found: Iterator[Workflow], criteria: WorkflowCriteria | None) -> Iterator[Workflow]:
    """Return those that the criteria are about; one without a start is in any window."""
    if criteria is None:
        return found
    first, last = criteria.start_time_after or 0, criteria.start_time_before or _END
    wanted = (one for one in found if criteria.statuses is None or one.status in criteria.statuses)
    started = (one for one in wanted if one.start_time is None or first <= one.start_time <= last)
    return islice(started, criteria.page_size or None)


def stage_of(workflow: Workflow, stage_id: str) -> StageExecution:
    """Return a stage by its id or `ref_id`. Raises KeyError: there is none."""
    for stage in workflow.stages:
        if stage_id in (stage.id, stage.ref_id):
            return stage
    known = ", ".join(stage.ref_id for stage in workflow.stages)
    raise KeyError(f"workflow {workflow.id} has no stage {stage_id!r}; its stages: {known}")


def create_store(url: str, create_tables: bool = True) -> RedisWorkflowStore:
    """Return a store by its URL."""
    return RedisWorkflowStore(url, create_tables)
