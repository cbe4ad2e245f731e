"""Upstream's `HandlerConfig`, read from the same variables; the engine has settings of its own (docs/operations.md)."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from functools import cache

from stabilize_celery.errors import ConfigurationError

__all__ = ["BackoffConfig", "HandlerConfig", "get_handler_config", "reset_handler_config"]

_VARIABLES: Mapping[str, str] = {
    "concurrency_max_retries": "STABILIZE_HANDLER_MAX_RETRIES",
    "concurrency_min_delay_ms": "STABILIZE_HANDLER_MIN_DELAY_MS",
    "concurrency_max_delay_ms": "STABILIZE_HANDLER_MAX_DELAY_MS",
    "concurrency_backoff_factor": "STABILIZE_HANDLER_BACKOFF_FACTOR",
    "concurrency_jitter": "STABILIZE_HANDLER_JITTER",
    "error_handling_max_retries": "STABILIZE_ERROR_MAX_RETRIES",
    "error_handling_min_delay_ms": "STABILIZE_ERROR_MIN_DELAY_MS",
    "error_handling_max_delay_ms": "STABILIZE_ERROR_MAX_DELAY_MS",
    "error_handling_backoff_factor": "STABILIZE_ERROR_BACKOFF_FACTOR",
    "error_handling_jitter": "STABILIZE_ERROR_JITTER",
    "max_stage_wait_retries": "STABILIZE_MAX_STAGE_WAIT_RETRIES",
    "signal_buffer_max": "STABILIZE_SIGNAL_BUFFER_MAX",
    "default_task_timeout_seconds": "STABILIZE_DEFAULT_TASK_TIMEOUT_S",
    "task_backoff_min_delay_ms": "STABILIZE_TASK_BACKOFF_MIN_MS",
    "task_backoff_max_delay_ms": "STABILIZE_TASK_BACKOFF_MAX_MS",
    "handler_retry_delay_seconds": "STABILIZE_HANDLER_RETRY_DELAY_S",
    "poll_frequency_ms": "STABILIZE_PROCESSOR_POLL_MS",
    "max_workers": "STABILIZE_PROCESSOR_MAX_WORKERS",
    "default_page_size": "STABILIZE_DEFAULT_PAGE_SIZE",
}


@dataclass(frozen=True)
class BackoffConfig:
    """How pauses between tries grow (ms)."""

    min_delay_ms: int = 100
    max_delay_ms: int = 1000
    factor: float = 2.0
    jitter: float = 0.25

    def config_fingerprint(self) -> str:
        """Return a text that differs where a value does."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class HandlerConfig:
    """What upstream's handlers are set with. Here `max_workers` and `task_backoff_…` have an effect, on a processor."""

    concurrency_max_retries: int = 3
    concurrency_min_delay_ms: int = 100
    concurrency_max_delay_ms: int = 1000
    concurrency_backoff_factor: float = 2.0
    concurrency_jitter: float = 0.25
    error_handling_max_retries: int = 10
    error_handling_min_delay_ms: int = 25
    error_handling_max_delay_ms: int = 10_000
    error_handling_backoff_factor: float = 2.0
    error_handling_jitter: float = 0.3
    max_stage_wait_retries: int = 240
    signal_buffer_max: int = 1000
    default_task_timeout_seconds: float = 14_400.0
    task_backoff_min_delay_ms: int = 1000
    task_backoff_max_delay_ms: int = 60_000
    handler_retry_delay_seconds: float = 15.0
    poll_frequency_ms: int = 50
    max_workers: int = 10
    default_page_size: int = 100

    @classmethod
    def from_env(cls) -> "HandlerConfig":
        """Read it from the environment. Raises ConfigurationError: a number is none."""
        given: dict[str, int | float] = {}
        for item in fields(cls):
            text = os.environ.get(_VARIABLES[item.name])
            if text is not None:
                given[item.name] = _number(_VARIABLES[item.name], text, type(item.default))
        return cls(**given)  # type: ignore[arg-type]  # each as its default is

    def get_backoff_config(self) -> BackoffConfig:
        """Return the pauses after conflicts."""
        return BackoffConfig(
            self.concurrency_min_delay_ms,
            self.concurrency_max_delay_ms,
            self.concurrency_backoff_factor,
            self.concurrency_jitter,
        )

    def get_error_handling_backoff_config(self) -> BackoffConfig:
        """Return the pauses after failures to record an error."""
        return BackoffConfig(
            self.error_handling_min_delay_ms,
            self.error_handling_max_delay_ms,
            self.error_handling_backoff_factor,
            self.error_handling_jitter,
        )

    def config_fingerprint(self) -> str:
        """Return a text that differs where a value does."""
        return hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:16]


def _number(variable: str, text: str, kind: type) -> int | float:
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        raise ConfigurationError(f"{variable} must be a number, not {text!r}") from None


@cache
def get_handler_config() -> HandlerConfig:
    """Return the environment's, read once."""
    return HandlerConfig.from_env()


def reset_handler_config() -> None:
    """Let the environment be read again."""
    get_handler_config.cache_clear()
