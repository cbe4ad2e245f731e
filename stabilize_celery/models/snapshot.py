"""Frozen copies of a stage's or task's state, safe to keep and to pass around."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stabilize_celery.models.status import WorkflowStatus

__all__ = ["FrozenItems", "StageStateSnapshot", "TaskStateSnapshot", "freeze"]

FrozenItems = tuple[tuple[str, Any], ...]


def freeze(values: Mapping[str, Any]) -> FrozenItems:
    """Return the items sorted by key; nested lists and dicts stay what they are."""
    return tuple(sorted(values.items(), key=lambda item: item[0]))


@dataclass(frozen=True)
class StageStateSnapshot:
    """A stage at one moment; times in epoch milliseconds."""

    id: str
    ref_id: str
    status: WorkflowStatus
    version: int
    context: FrozenItems
    outputs: FrozenItems
    start_time: int | None = None
    end_time: int | None = None
    parent_stage_id: str | None = None

    @property
    def phase_version(self) -> tuple[str, int]:
        """The status' name and the version, to compare with a later state."""
        return (self.status.name, self.version)

    def context_dict(self) -> dict[str, Any]:
        """Return the context as a dict of its own."""
        return dict(self.context)

    def outputs_dict(self) -> dict[str, Any]:
        """Return the outputs as a dict of its own."""
        return dict(self.outputs)


@dataclass(frozen=True)
class TaskStateSnapshot:
    """A task at one moment; times in epoch milliseconds."""

    id: str
    name: str
    status: WorkflowStatus
    version: int
    implementing_class: str = ""
    start_time: int | None = None
    end_time: int | None = None
    exception_details: FrozenItems = ()

    @property
    def phase_version(self) -> tuple[str, int]:
        """The status' name and the version, to compare with a later state."""
        return (self.status.name, self.version)

    def exception_dict(self) -> dict[str, Any]:
        """Return the exception's details as a dict of its own."""
        return dict(self.exception_details)
