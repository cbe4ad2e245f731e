"""What needs an extra: loaded when a setting asks for it, so that nobody else needs the packages."""

import importlib
import importlib.util
from typing import Any

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.settings import ON, Settings

__all__ = ["exporter_module", "modules_for", "require_packages"]


def modules_for(settings: Settings) -> tuple[Any, Any]:
    """Return `telemetry.exporter` and `telemetry.tracing`; None in place of what no setting asks for.

    Raises:
        ConfigurationError: what one asks for is not installed; the text names it, and the command that installs it.

    """
    exporting = exporter_module("STABILIZE_METRICS_PORT") if settings.metrics_port else None
    tracing = None
    if settings.traces == ON:
        require_packages("STABILIZE_TRACES", "otel", "opentelemetry", "opentelemetry.sdk")
        tracing = importlib.import_module("stabilize_celery.telemetry.tracing")
    return exporting, tracing


def exporter_module(asked_by: str) -> Any:
    """Return `telemetry.exporter`.

    Raises:
        ConfigurationError: `prometheus_client` is not installed; the text names what asked for it.

    """
    require_packages(asked_by, "metrics", "prometheus_client")
    return importlib.import_module("stabilize_celery.telemetry.exporter")


def require_packages(asked_by: str, extra: str, *packages: str) -> None:
    """Look whether packages are installed; those inside of others stand behind them.

    Raises:
        ConfigurationError: some are not; the text names them, what asked for them, and the extra that has them.

    """
    missing: list[str] = []
    for package in packages:
        if package.rpartition(".")[0] not in missing and importlib.util.find_spec(package) is None:
            missing.append(package)
    if missing:
        raise ConfigurationError(f"{asked_by} needs {', '.join(missing)}: pip install 'stabilize-celery[{extra}]'")
