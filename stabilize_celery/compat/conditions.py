"""Conditions: what is to be said of a thing, each with a reason, a message and the time at which it changed.

Plain values for programs that keep them in a context or in outputs (`to_list`, `from_list`); the engine has its own
statuses and reads none of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

__all__ = ["Condition", "ConditionReason", "ConditionSet", "ConditionType"]


class ConditionType(Enum):
    """What is usually said; any text may be."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    AVAILABLE = "Available"
    VERIFIED = "Verified"
    FAILED = "Failed"
    CONFIG_VALID = "ConfigValid"


class ConditionReason(Enum):
    """Usual reasons; any text may be one."""

    TASKS_SUCCEEDED = "TasksSucceeded"
    VERIFICATION_PASSED = "VerificationPassed"
    CONFIG_VALID = "ConfigValid"
    STAGE_COMPLETED = "StageCompleted"
    WORKFLOW_COMPLETED = "WorkflowCompleted"
    INITIALIZING = "Initializing"
    IN_PROGRESS = "InProgress"
    WAITING_FOR_UPSTREAM = "WaitingForUpstream"
    VERIFYING = "Verifying"
    TASK_FAILED = "TaskFailed"
    VERIFICATION_FAILED = "VerificationFailed"
    CONFIG_ERROR = "ConfigError"
    TIMEOUT = "Timeout"
    CANCELED = "Canceled"
    UPSTREAM_FAILED = "UpstreamFailed"
    UNKNOWN_ERROR = "UnknownError"


_TYPES = {one.value: one for one in ConditionType}
_REASONS = {one.value: one for one in ConditionReason}


@dataclass
class Condition:
    """One thing that is so, or is not. `observed_generation`: how often it was updated (count)."""

    type: ConditionType | str
    status: bool
    reason: ConditionReason | str
    message: str = ""
    last_transition_time: datetime = field(default_factory=lambda: datetime.now(UTC))
    observed_generation: int = 0

    def __post_init__(self) -> None:
        """Take usual texts for what they stand for."""
        self.type = _TYPES.get(self.type, self.type) if isinstance(self.type, str) else self.type
        self.reason = _REASONS.get(self.reason, self.reason) if isinstance(self.reason, str) else self.reason

    @classmethod
    def ready(cls, status: bool, reason: ConditionReason | str, message: str = "") -> "Condition":
        """Return: it is ready, or not."""
        return cls(ConditionType.READY, status, reason, message)

    @classmethod
    def progressing(cls, status: bool, reason: ConditionReason | str, message: str = "") -> "Condition":
        """Return: it goes on, or not."""
        return cls(ConditionType.PROGRESSING, status, reason, message)

    @classmethod
    def verified(cls, status: bool, reason: ConditionReason | str, message: str = "") -> "Condition":
        """Return: it was checked and is right, or not."""
        return cls(ConditionType.VERIFIED, status, reason, message)

    @classmethod
    def failed(cls, reason: ConditionReason | str, message: str) -> "Condition":
        """Return: it failed."""
        return cls(ConditionType.FAILED, True, reason, message)

    @classmethod
    def config_valid(
        cls, status: bool, reason: ConditionReason | str = ConditionReason.CONFIG_VALID, message: str = ""
    ) -> "Condition":
        """Return: its configuration is sound, or not."""
        return cls(ConditionType.CONFIG_VALID, status, reason, message)

    def update(
        self, status: bool | None = None, reason: ConditionReason | str | None = None, message: str | None = None
    ) -> "Condition":
        """Return it with other values, one generation later; its time changes with its status alone."""
        has_changed = status is not None and status != self.status
        return replace(
            self,
            status=self.status if status is None else status,
            reason=self.reason if reason is None else reason,
            message=self.message if message is None else message,
            last_transition_time=datetime.now(UTC) if has_changed else self.last_transition_time,
            observed_generation=self.observed_generation + 1,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "type": _text(self.type),
            "status": self.status,
            "reason": _text(self.reason),
            "message": self.message,
            "lastTransitionTime": self.last_transition_time.isoformat(),
            "observedGeneration": self.observed_generation,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Condition":
        """Return what `to_dict` gave."""
        at = data.get("lastTransitionTime")
        when = datetime.fromisoformat(at) if isinstance(at, str) else at or datetime.now(UTC)
        message, generation = data.get("message", ""), data.get("observedGeneration", 0)
        return cls(data["type"], data["status"], data["reason"], message, when, generation)


class ConditionSet:
    """Conditions, one of each type."""

    def __init__(self, conditions: Sequence[Condition] | None = None) -> None:
        self._conditions = {condition.type: condition for condition in conditions or ()}

    def set(self, condition: Condition) -> None:
        """Add a condition, in place of the one of its type."""
        self._conditions[condition.type] = condition

    def get(self, condition_type: ConditionType | str) -> Condition | None:
        """Return the condition of a type; None: there is none."""
        return self._conditions.get(condition_type)

    def remove(self, condition_type: ConditionType | str) -> None:
        """Forget the condition of a type, if there is one."""
        self._conditions.pop(condition_type, None)

    def all(self) -> list[Condition]:
        """Return all conditions."""
        return list(self._conditions.values())

    def clear(self) -> None:
        """Forget all conditions."""
        self._conditions.clear()

    @property
    def is_ready(self) -> bool:
        """Whether it is said to be ready."""
        return self._says(ConditionType.READY)

    @property
    def is_progressing(self) -> bool:
        """Whether it is said to go on."""
        return self._says(ConditionType.PROGRESSING)

    @property
    def is_verified(self) -> bool:
        """Whether it is said to have been checked."""
        return self._says(ConditionType.VERIFIED)

    @property
    def has_failed(self) -> bool:
        """Whether it is said to have failed."""
        return self._says(ConditionType.FAILED)

    @property
    def is_config_valid(self) -> bool:
        """Whether nothing is said against its configuration."""
        return self._says(ConditionType.CONFIG_VALID, unsaid=True)

    def to_list(self) -> list[dict[str, Any]]:
        """Return all as JSON has them."""
        return [condition.to_dict() for condition in self]

    @classmethod
    def from_list(cls, data: Sequence[Mapping[str, Any]]) -> "ConditionSet":
        """Return what `to_list` gave."""
        return cls([Condition.from_dict(one) for one in data])

    def _says(self, condition_type: ConditionType, *, unsaid: bool = False) -> bool:
        condition = self.get(condition_type)
        return unsaid if condition is None else condition.status

    def __len__(self) -> int:
        return len(self._conditions)

    def __contains__(self, condition_type: object) -> bool:
        return condition_type in self._conditions

    def __iter__(self) -> Iterator[Condition]:
        return iter(self.all())


def _text(value: Enum | str) -> str:
    return str(value.value) if isinstance(value, Enum) else value
