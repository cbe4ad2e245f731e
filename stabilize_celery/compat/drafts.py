"""Workflows that are stored and not started: they may be changed, paused and cancelled before the engine has them."""

from copy import deepcopy

from stabilize_celery.client.outcomes import Outcome
from stabilize_celery.errors import ConcurrencyError
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow

__all__ = ["Drafts"]

_MOST_NOTED = 200_000
"""Of so many stages and tasks it is remembered whose they are (count)."""
_MAY_START = (WorkflowStatus.NOT_STARTED, WorkflowStatus.RUNNING)
"""What a workflow that is only stored may be told to be: upstream's are RUNNING when they are resumed."""


class Drafts:
    """The workflows of one place that wait for their start, and whose the stages and tasks are that were seen there."""

    def __init__(self) -> None:
        self._workflows: dict[str, Workflow] = {}
        self._owners: dict[str, str] = {}
        """Id of a stage or task to workflow id, of the newest that were stored or started here."""

    def __contains__(self, workflow_id: str) -> bool:
        return workflow_id in self._workflows

    def of(self, application: str | None) -> list[Workflow]:
        """Return those of an application, or all, in the order in which they were stored."""
        return [one for one in list(self._workflows.values()) if application in (None, one.application)]

    def get(self, workflow_id: str) -> Workflow | None:
        """Return the workflow itself, if it waits here."""
        return self._workflows.get(workflow_id)

    def keep(self, workflow: Workflow) -> None:
        """Keep a workflow as it is now."""
        draft = deepcopy(workflow)
        for stage in draft.stages:
            stage.requisite_stage_ref_ids = set(stage.requisite_stage_ref_ids)
        self._workflows[workflow.id] = draft
        self.note(workflow)

    def forget(self, workflow_id: str) -> None:
        """Keep a workflow no more, if it was kept: it is started, or deleted."""
        self._workflows.pop(workflow_id, None)

    def note(self, workflow: Workflow) -> None:
        """Remember whose the stages and tasks of a workflow are."""
        for stage in workflow.stages:
            self._owners |= dict.fromkeys([stage.id, *(task.id for task in stage.tasks)], workflow.id)
        while len(self._owners) > _MOST_NOTED:
            del self._owners[next(iter(self._owners))]

    def owner_of(self, entity_id: str) -> str | None:
        """Return the id of the workflow whose stage or task that is, of those that were stored or started here."""
        return self._owners.get(entity_id)

    # -- changes -------------------------------------------------------------------------------------------------------

    def check(self, workflow_id: str) -> Workflow:
        """Return the workflow itself. Raises ValueError: it is started, or not stored here."""
        if workflow_id not in self._workflows:
            raise ValueError(
                f"workflow {workflow_id!r} is not stored here, or has been started: its state is the engine's. Act "
                "on it by cancel, pause, signals and restart"
            )
        return self._workflows[workflow_id]

    def check_stage(self, stage: StageExecution, expected_phase: str | None = None) -> Workflow:
        """Return the workflow in which `put_stage` may put a stage. Raises as that does."""
        draft = self.check(self.owner_of(stage.id) or _workflow_of(stage))
        kept = next((one for one in draft.stages if one.id == stage.id), stage)
        if kept.version != stage.version:
            raise ConcurrencyError(
                f"stage {stage.ref_id!r}: version {stage.version} was read, and {kept.version} is stored: read it again"
            )
        if expected_phase not in (None, kept.status.name):
            raise ConcurrencyError(f"stage {stage.ref_id!r} is {kept.status.name} by now, not {expected_phase}")
        return draft

    def put_stage(self, stage: StageExecution, expected_phase: str | None = None) -> None:
        """Put a stage in the place of the one with its id.

        Raises:
            ValueError: its workflow has been started: what its stages are is the engine's from then on.
            ConcurrencyError: another one has been put there since this one was read, or its status is another one.

        """
        draft = self.check_stage(stage, expected_phase)
        stage.version += 1
        draft.stages[:] = [deepcopy(stage) if one.id == stage.id else one for one in draft.stages]
        for one in draft.stages:
            one.execution = draft

    def add_stage(self, stage: StageExecution) -> None:
        """Add a stage to the workflow that it is attached to. Raises ValueError: that has been started."""
        draft = self.check(_workflow_of(stage))
        draft.add_stage(deepcopy(stage))
        self.note(draft)

    # -- control -------------------------------------------------------------------------------------------------------

    def pause(self, workflow_id: str, paused_by: str) -> Outcome:
        """Hold a workflow that is here: it does not start before it is resumed."""
        draft = self._workflows[workflow_id]
        if draft.status not in _MAY_START:
            return Outcome(False, f"it is {draft.status}")
        draft.pause(paused_by)
        return Outcome(True, "held before its start")

    def resume(self, workflow_id: str) -> Outcome:
        """Let a workflow that is here be started."""
        draft = self._workflows[workflow_id]
        if draft.status is not WorkflowStatus.PAUSED:
            return Outcome(False, "it has not been started")
        draft.resume()
        return Outcome(True, "it may be started")

    def cancel(self, workflow_id: str, canceled_by: str, reason: str) -> Outcome:
        """End a workflow that is here: it does not start any more."""
        draft = self._workflows[workflow_id]
        if draft.status is WorkflowStatus.CANCELED:
            return Outcome(False, "it is CANCELED already")
        draft.status = WorkflowStatus.CANCELED
        draft.cancel(canceled_by, reason)
        for stage in draft.stages:
            stage.status = WorkflowStatus.CANCELED
        return Outcome(True, "cancelled before its start")


def _workflow_of(stage: StageExecution) -> str:
    return stage.execution.id if stage.has_execution() else ""
