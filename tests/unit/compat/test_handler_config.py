"""Upstream's settings of handlers: the same names, defaults and variables."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from stabilize_celery.compat.resilience.config import HandlerConfig, get_handler_config, reset_handler_config

from stabilize_celery.compat import QueueProcessorConfig
from stabilize_celery.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    reset_handler_config()
    yield
    reset_handler_config()


def test_it_is_read_from_the_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is reset; a processor takes its part of it."""
    monkeypatch.setenv("STABILIZE_PROCESSOR_MAX_WORKERS", "3")
    monkeypatch.setenv("STABILIZE_HANDLER_RETRY_DELAY_S", "2.5")
    first = get_handler_config()
    monkeypatch.setenv("STABILIZE_PROCESSOR_MAX_WORKERS", "4")

    processor = QueueProcessorConfig.from_handler_config()
    assert get_handler_config() is first
    assert (processor.max_workers, processor.retry_delay) == (3, timedelta(seconds=2.5))
    reset_handler_config()
    assert get_handler_config().max_workers == 4


def test_pauses_and_fingerprint_are_made_of_its_values() -> None:
    """A fingerprint is the same for the same values only."""
    config = HandlerConfig(concurrency_min_delay_ms=7, error_handling_jitter=0.5)

    assert config.get_backoff_config().min_delay_ms == 7
    assert config.get_error_handling_backoff_config().jitter == 0.5
    assert config.config_fingerprint() == HandlerConfig(3, 7, error_handling_jitter=0.5).config_fingerprint()
    assert config.config_fingerprint() != HandlerConfig().config_fingerprint()


def test_a_number_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable's name."""
    monkeypatch.setenv("STABILIZE_DEFAULT_PAGE_SIZE", "many")
    with pytest.raises(ConfigurationError, match="STABILIZE_DEFAULT_PAGE_SIZE must be a number, not 'many'"):
        HandlerConfig.from_env()
