"""Checks of a stage's outputs, made after its last task has succeeded and before anything downstream sees them.

A stage asks for one by `verification` in its context: see `tasks/verification_settings.py`. Outputs that fail are not
kept, and the stage fails; where a check can't tell yet, only the check is made again.
"""

from abc import ABC, abstractmethod
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeAlias

from typing_extensions import override

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.problems import Suggester
from stabilize_celery.models.stage import StageExecution

__all__ = [
    "SHARED",
    "CallableVerifier",
    "OutputVerifier",
    "Verifier",
    "VerifierFunction",
    "VerifierRegistry",
    "VerifyResult",
    "VerifyStatus",
]


class VerifyStatus(Enum):
    """What a check found."""

    OK = "OK"
    RETRY = "RETRY"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True)
class VerifyResult:
    """The finding of one check, with a message for people and details for programs."""

    status: VerifyStatus
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When the check was made."""

    @classmethod
    def ok(cls, message: str = "Verification passed") -> "VerifyResult":
        """Return: the outputs are right."""
        return cls(VerifyStatus.OK, message)

    @classmethod
    def retry(
        cls, message: str = "Verification pending, will retry", details: Mapping[str, Any] | None = None
    ) -> "VerifyResult":
        """Return: can't be told yet, check again later; the task itself is not run again."""
        return cls(VerifyStatus.RETRY, message, dict(details or {}))

    @classmethod
    def failed(cls, message: str, details: Mapping[str, Any] | None = None) -> "VerifyResult":
        """Return: the outputs are wrong, the stage fails."""
        return cls(VerifyStatus.FAILED, message, dict(details or {}))

    @classmethod
    def skipped(cls, message: str = "Verification skipped") -> "VerifyResult":
        """Return: there was nothing to check."""
        return cls(VerifyStatus.SKIPPED, message)

    @property
    def is_ok(self) -> bool:
        """Whether the outputs are right. Of skipped checks nothing is known; the stage goes on all the same."""
        return self.status is VerifyStatus.OK

    @property
    def is_retry(self) -> bool:
        """Whether to check again later."""
        return self.status is VerifyStatus.RETRY

    @property
    def is_failed(self) -> bool:
        """Whether the outputs are wrong."""
        return self.status is VerifyStatus.FAILED

    @property
    def is_terminal(self) -> bool:
        """Whether this is the last word."""
        return not self.is_retry


class Verifier(ABC):
    """A check of a stage's outputs."""

    @abstractmethod
    def verify(self, stage: StageExecution) -> VerifyResult:
        """Look at `stage.outputs` and say what was found."""

    @property
    def max_retries(self) -> int:
        """How often to check again at most."""
        return 3

    @property
    def retry_delay_seconds(self) -> float:
        """Pause before checking again (s)."""
        return 1.0


VerifierFunction: TypeAlias = Callable[[StageExecution], VerifyResult]


class OutputVerifier(Verifier):
    """Checks that outputs are there, and of the right type."""

    def __init__(
        self, required_keys: Sequence[str] | None = None, type_checks: Mapping[str, type] | None = None
    ) -> None:
        self.required_keys = list(required_keys or ())
        self.type_checks = dict(type_checks or {})

    @override
    def verify(self, stage: StageExecution) -> VerifyResult:
        missing = [key for key in self.required_keys if key not in stage.outputs]
        if missing:
            told = f"stage {stage.ref_id!r}: Missing required outputs: {', '.join(missing)}"
            return VerifyResult.failed(told, {"missing_keys": missing})
        wrong = [
            f"{key}: expected {expected.__name__}, got {type(stage.outputs[key]).__name__}"
            for key, expected in self.type_checks.items()
            if key in stage.outputs and not isinstance(stage.outputs[key], expected)
        ]
        if wrong:
            return VerifyResult.failed(
                f"stage {stage.ref_id!r}: Type errors: {'; '.join(wrong)}", {"type_errors": wrong}
            )
        return VerifyResult.ok("All required outputs present with correct types")


class CallableVerifier(Verifier):
    """A plain function as a check; `retry_delay` in seconds."""

    def __init__(self, func: VerifierFunction, max_retries: int = 3, retry_delay: float = 1.0) -> None:
        self._func = func
        self._max_retries = max_retries
        self._retry_delay = retry_delay

    @override
    def verify(self, stage: StageExecution) -> VerifyResult:
        return self._func(stage)

    @property
    @override
    def max_retries(self) -> int:
        return self._max_retries

    @property
    @override
    def retry_delay_seconds(self) -> float:
        return self._retry_delay


class VerifierRegistry:
    """The verifiers that a worker knows by name; a stage names one in `context["verification"]`.

    `beyond`: where to look for names that are not here.
    """

    def __init__(self, beyond: "VerifierRegistry | None" = None) -> None:
        self._verifiers: ChainMap[str, Verifier] = ChainMap({}, *(beyond.layers if beyond is not None else ()))

    @property
    def layers(self) -> Sequence[MutableMapping[str, Verifier]]:
        """Where names are looked for, one after another; the first is this one's own."""
        return self._verifiers.maps

    def register(self, name: str, verifier: Verifier | VerifierFunction) -> None:
        """Make a verifier, or a function as one, known as `name`; a later one replaces an earlier one."""
        self._verifiers[name] = verifier if isinstance(verifier, Verifier) else CallableVerifier(verifier)

    def get(self, name: str) -> Verifier:
        """Return the verifier known as `name`.

        Raises:
            ConfigurationError: there is none.

        """
        found = self._verifiers.get(name)
        if found is None:
            raise ConfigurationError(
                f"no verifier {name!r} is registered on this worker{Suggester(self._verifiers).suggest(name)}"
            )
        return found

    def has(self, name: str) -> bool:
        """Return whether a verifier is known as `name`."""
        return name in self._verifiers

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        return tuple(sorted(self._verifiers))


SHARED = VerifierRegistry()
"""Those of `register_verifier`: every registry of this process finds them."""
