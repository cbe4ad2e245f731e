"""What an exception of a task's body means: try again or give up, when, and what to keep of it. Pure."""

import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stabilize_celery.errors import (
    PermanentError,
    StabilizeError,
    TransientError,
    find_in_chain,
    is_transient,
    truncate_error,
)
from stabilize_celery.models.limits import MAX_TIME_MS
from stabilize_celery.models.redaction import KnownSecrets
from stabilize_celery.tasks.cancellation import TaskCancelledError
from stabilize_celery.tasks.options import TaskOptions

__all__ = ["AskedAgainError", "Failure", "FailureKind", "FinalError", "backoff_ms", "classify_exception"]

_MAX_MESSAGE_BYTES = 4_000
_TRACEBACK_HEAD = 3_000
_TRACEBACK_TAIL = 9_000
"""How much of a long traceback is kept (characters): where it began, and, more of it, where it was raised."""
_MAX_DOUBLINGS = 60
_NONE = KnownSecrets()
_LONGEST_S = MAX_TIME_MS / 1000


class AskedAgainError(TransientError):
    """The task's own code counts its tries, and asks for one more: the limit of its registration is not asked."""


class FinalError(PermanentError):
    """What the task's code raised ends it, whatever it is; it is told as it was raised, with `note` behind it."""

    def __init__(self, raised: BaseException, note: str = "") -> None:
        super().__init__(f"{raised}{note}")
        self.raised = raised
        self.note = note


class FailureKind(StrEnum):
    """Whether a failed body is tried again."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed try of a body.

    Args:
        retry_after_ms: When the error asks to be tried again (ms from now); None: after the back-off.
        context_update: What the error wants merged into the stage's context before the next try.

    """

    kind: FailureKind
    message: str
    traceback: str
    exception_type: str
    retry_after_ms: int | None = None
    context_update: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_transient(self) -> bool:
        """Whether the body is to be tried again."""
        return self.kind is FailureKind.TRANSIENT


def classify_exception(
    error: BaseException, options: TaskOptions, attempt: int, secrets: KnownSecrets = _NONE
) -> Failure:
    """Return what the exception of try number `attempt` (from 1) means; after the last try all is permanent.

    `secrets`: what its texts do not tell. They are hidden before a text is cut: half a secret would not be found.
    """
    again = _may_help(error, options)
    raised, note = (error.raised, error.note) if isinstance(error, FinalError) else (error, "")
    said = raised.text if isinstance(raised, StabilizeError) else str(raised)
    told = secrets.text_without(f"{said or type(raised).__name__}{note}")
    message = truncate_error(told, _MAX_MESSAGE_BYTES)
    if again and attempt >= options.max_attempts and not isinstance(error, AskedAgainError):
        again = False
        message = f"{message} (given up after {attempt} tries)"
    asked = find_in_chain(error, TransientError)
    return Failure(
        kind=FailureKind.TRANSIENT if again else FailureKind.PERMANENT,
        message=message,
        traceback=_traceback_text(raised, secrets),
        exception_type=_type_name(raised),
        retry_after_ms=_retry_after_ms(asked) if again else None,
        context_update=asked.context_update if isinstance(asked, TransientError) else {},
    )


def backoff_ms(attempt: int, base_s: float, cap_s: float, jitter: float) -> int:
    """Return the pause after failed try number `attempt` (from 1), in ms.

    Doubles from `base_s` up to `cap_s`; `jitter`, in [0, 1), places it in the upper half of that.
    """
    full_s = min(cap_s, base_s * 2.0 ** min(max(0, attempt - 1), _MAX_DOUBLINGS))
    return round(full_s * 1000 * (0.5 + jitter / 2))


def _may_help(error: BaseException, options: TaskOptions) -> bool:
    # A TransientError is said on purpose, whatever else is in the chain; so is a PermanentError.
    if isinstance(error, TransientError):
        return True
    if isinstance(error, PermanentError | TaskCancelledError):
        return False
    return isinstance(error, options.retry_on) or is_transient(error)


def _retry_after_ms(asked: BaseException | None) -> int | None:
    after = asked.retry_after if isinstance(asked, TransientError) else None
    # Users' code is not checked, and its mistake about the pause is not to hide the error that it raises.
    if not isinstance(after, int | float) or math.isnan(after):
        return None
    return max(0, round(min(after, _LONGEST_S) * 1000))


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _traceback_text(error: BaseException, secrets: KnownSecrets) -> str:
    told = secrets.text_without("".join(traceback.format_exception(error)))
    text = told.encode(errors="replace").decode()
    left_out = len(text) - _TRACEBACK_HEAD - _TRACEBACK_TAIL
    if left_out <= 0:
        return text
    return f"{text[:_TRACEBACK_HEAD]}\n… {left_out} characters left out …\n{text[-_TRACEBACK_TAIL:]}"
