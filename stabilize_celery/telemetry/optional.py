"""Modules that need an extra: loaded when a setting asks for them, so that nobody else needs the packages."""

import importlib
import importlib.util
from typing import Any

from stabilize_celery.errors import ConfigurationError

__all__ = ["exporter_module", "tracing_module"]


def exporter_module(asked_by: str) -> Any:
    """Return `telemetry.exporter`.

    Raises:
        ConfigurationError: `prometheus_client` is not installed; the text names what asked for it.

    """
    return _load("stabilize_celery.telemetry.exporter", "prometheus_client", "metrics", asked_by)


def tracing_module(asked_by: str) -> Any:
    """Return `telemetry.tracing`.

    Raises:
        ConfigurationError: OpenTelemetry's SDK is not installed; the text names what asked for it.

    """
    return _load("stabilize_celery.telemetry.tracing", "opentelemetry", "otel", asked_by)


def _load(module: str, package: str, extra: str, asked_by: str) -> Any:
    if importlib.util.find_spec(package) is None:
        raise ConfigurationError(f"{asked_by} needs {package}: pip install 'stabilize-celery[{extra}]'")
    return importlib.import_module(module)
