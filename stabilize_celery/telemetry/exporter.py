"""Prometheus: all metrics as text, and a small server for them. Needs the extra `[metrics]`."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.telemetry.catalogue import CATALOGUE, Metric
from stabilize_celery.telemetry.tally import Count, Series, Tally

__all__ = ["CONTENT_TYPE", "Exporter"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
Source = Callable[[], Sequence[Count]]


class Exporter(Collector):
    """Shows a tally, and what its sources say at each scrape: gauges, and counters that are kept elsewhere."""

    def __init__(self, tally: Tally, sources: Sequence[Source]) -> None:
        self._tally = tally
        self._sources = sources
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._server: tuple[WSGIServer, threading.Thread] | None = None

    def describe(self) -> list[Family]:
        """Return nothing: the registry must not ask the sources when it is made."""
        return []

    def collect(self) -> Iterator[Family]:
        """Yield all metrics as they are now."""
        told = [count for source in self._sources for count in source()]
        series = list(self._tally.read()) + [(name, labels, Series(value)) for name, labels, value in told]
        for metric in CATALOGUE.values():
            lines = [(labels, one) for name, labels, one in series if name == metric.name]
            if lines or (metric.kind == "counter" and not metric.labels):
                yield _family(metric, lines or [((), Series())])

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def serve(self, host: str, port: int) -> int:
        """Serve them under `/metrics` until `close`; return the port.

        Raises:
            ConfigurationError: the port can't be had.

        """
        try:
            self._server = start_http_server(port, host, registry=self._registry)
        except OSError as error:
            raise ConfigurationError(
                f"metrics can't be served at {host}:{port}: {error.strerror or error}. Each worker on a host needs a "
                "STABILIZE_METRICS_PORT of its own; 0 turns its metrics off"
            ) from error
        return int(self._server[0].server_port)

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join(1.0)
            self._server = None


def _family(metric: Metric, lines: Iterable[tuple[tuple[str, ...], Series]]) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.told, labels=metric.labels)
        for labels, series in lines:
            histogram.add_metric(labels, list(_up_to(metric, series)), series.total)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.told, labels=metric.labels)
    for labels, series in lines:
        family.add_metric(labels, series.total)
    return family


def _up_to(metric: Metric, series: Series) -> Iterator[tuple[str, float]]:
    """Yield each bucket's bound, and how many values are not above it."""
    count = 0
    for bound, inside in zip((*map(str, metric.buckets), "+Inf"), series.buckets, strict=True):
        count += inside
        yield bound, float(count)
