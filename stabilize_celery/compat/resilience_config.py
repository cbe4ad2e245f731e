"""Upstream's settings of bulkheads and circuit breakers: accepted, and without an effect here.

Here `rate_per_s` limits a task type across all workers, `mutex_key` with `mutex_limit` limits stages, and the pause
that a `TransientError` asks for is honoured.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from stabilize_celery.errors import ConfigurationError

__all__ = ["BulkheadConfig", "ResilienceConfig"]

_SIZES: Mapping[str, int] = {"shell": 5, "python": 3, "http": 10, "docker": 3, "ssh": 5}
"""How many at once, of each ready-made task type (count)."""


def _fingerprint(config: object) -> str:
    return hashlib.sha256(repr(config).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class BulkheadConfig:
    """How many tasks of a type at once, how many wait (counts), and for how long (s)."""

    max_concurrent: int = 5
    max_queue_size: int = 20
    timeout_seconds: float = 14_400.0

    def config_fingerprint(self) -> str:
        """Return a text that differs where a value does."""
        return _fingerprint(self)


@dataclass(frozen=True)
class ResilienceConfig:
    """What upstream's `RunTaskHandler` is set with. A share of failures opens a circuit for some seconds."""

    bulkheads: tuple[tuple[str, BulkheadConfig], ...] = tuple(
        (name, BulkheadConfig(max_concurrent=size)) for name, size in _SIZES.items()
    )
    circuit_failure_threshold: Fraction = Fraction(1, 2)
    circuit_cooldown_seconds: float = 30.0
    circuit_cache_size: int = 1000
    database_url: str | None = None

    @classmethod
    def from_env(cls) -> "ResilienceConfig":
        """Read it from the environment. Raises ConfigurationError: a number is none."""
        return cls(
            bulkheads=tuple(
                (name, BulkheadConfig(int(_number(f"STABILIZE_BULKHEAD_{name.upper()}_MAX_CONCURRENT", size))))
                for name, size in _SIZES.items()
            ),
            circuit_failure_threshold=Fraction(round(_number("STABILIZE_CIRCUIT_FAILURE_THRESHOLD", 0.5) * 10), 10),
            circuit_cooldown_seconds=_number("STABILIZE_CIRCUIT_COOLDOWN_SECONDS", 30.0),
            circuit_cache_size=int(_number("STABILIZE_CIRCUIT_CACHE_SIZE", 1000)),
            database_url=os.environ.get("MG_DATABASE_URL"),
        )

    def get_bulkhead(self, task_type: str) -> BulkheadConfig | None:
        """Return that of a task type; None: it has none."""
        return self.bulkheads_dict().get(task_type)

    def bulkheads_dict(self) -> dict[str, BulkheadConfig]:
        """Return all of them by task type."""
        return dict(self.bulkheads)

    def config_fingerprint(self) -> str:
        """Return a text that differs where a value does."""
        return _fingerprint(self)


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    try:
        return default if text is None else float(text)
    except ValueError:
        raise ConfigurationError(f"{variable} must be a number, not {text!r}") from None
