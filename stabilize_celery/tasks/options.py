"""How a registered task is executed: limits, retries, queue."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypedDict

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.limits import MAX_PAUSE_MS
from stabilize_celery.models.problems import shown

__all__ = ["OptionFields", "TaskOptions"]


_LIMITS = (
    ("max_attempts", 1, math.inf, int),
    ("max_lost", 1, math.inf, int),
    ("backoff_s", 0, MAX_PAUSE_MS / 1000, (int, float)),
    ("backoff_max_s", 0, MAX_PAUSE_MS / 1000, (int, float)),
)
_NEEDED = ("max_attempts", "backoff_s", "backoff_max_s")
_SLOWEST, _FASTEST = 1e-5, 1e5
"""Executions per second that can be told apart (count)."""


class OptionFields(TypedDict, total=False):
    """The fields of `TaskOptions` as keyword arguments of a decorator."""

    timeout_s: float | None
    max_attempts: int
    backoff_s: float
    backoff_max_s: float
    retry_on: type[BaseException] | Iterable[type[BaseException]]
    queue: str | None
    max_lost: int | None
    rate_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How the tasks of one registration are executed.

    Args:
        timeout_s: How long one execution of the body may take (s); None: no limit of its own. What takes longer is
            asked to stop, and does not count any more: see `Task.on_timeout`. A task without one is TERMINAL, or tried
            again if `retry_on` has `TaskTimeoutError`.
        max_attempts: Tries of a body that fails with a transient error, the first included (count).
        backoff_s: Pause before the second try (s), doubled for each further one.
        backoff_max_s: The longest pause (s).
        retry_on: Exceptions that are transient here, beside those that always are: a class, or several.
        queue: The Celery queue its messages go to; None: the workers' usual one.
        max_lost: Tries that may be lost with their worker before the task is TERMINAL (count); None: the workers'
            setting.
        rate_per_s: Executions of this type per second over all workers, evenly spread (count); None: no limit. What is
            too early rests, without a worker, until its turn.

    Raises:
        ConfigurationError: one is out of its range; the text names it.

    """

    timeout_s: float | None = None
    max_attempts: int = 10
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    retry_on: tuple[type[BaseException], ...] = field(default=())
    queue: str | None = None
    max_lost: int | None = None
    rate_per_s: float | None = None

    def __post_init__(self) -> None:
        for name, lowest, highest, kind in _LIMITS:
            value = getattr(self, name)
            if value is None and name not in _NEEDED:
                continue
            if not isinstance(value, kind) or not _is_between(value, lowest, highest):
                what = "a whole number" if kind is int else "a number"
                most = "" if highest == math.inf else f" and at most {highest:.0f}"
                raise ConfigurationError(
                    f"task option {name} must be {what} of at least {lowest}{most}, not {shown(value)}"
                )
        object.__setattr__(self, "retry_on", _exceptions(self.retry_on))
        if self.rate_per_s is not None and not _is_between(self.rate_per_s, _SLOWEST, _FASTEST):
            raise ConfigurationError(
                f"task option rate_per_s must be {_SLOWEST} to {_FASTEST}, not {self.rate_per_s!r}"
            )
        if self.timeout_s is not None and not _is_between(self.timeout_s, 0, math.inf, is_open=True):
            raise ConfigurationError(f"task option timeout_s must be above 0, or None, not {self.timeout_s!r}")
        if self.queue is not None and not _is_name(self.queue):
            told = f"the name of a queue, or None for the workers' usual one, not {shown(self.queue)}"
            raise ConfigurationError(f"task option queue must be {told}")


def _is_between(value: object, lowest: float, highest: float, *, is_open: bool = False) -> bool:
    """Whether it is a number (NaN is none) in this range; `is_open`: without its bounds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return lowest < value < highest if is_open else lowest <= value <= highest


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _exceptions(given: object) -> tuple[type[BaseException], ...]:
    """Return the classes in `retry_on`, given as one or several."""
    kinds = (given,) if isinstance(given, type) else tuple(given) if isinstance(given, Iterable) else (given,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigurationError(f"task option retry_on must hold exception classes, not {kind!r}")
    return kinds
