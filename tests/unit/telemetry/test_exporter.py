"""What Prometheus reads."""

from __future__ import annotations

import subprocess
import sys
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.settings import Settings
from stabilize_celery.telemetry import optional
from stabilize_celery.telemetry.catalogue import CATALOGUE
from stabilize_celery.telemetry.exporter import Exporter
from stabilize_celery.telemetry.serving import Serving
from stabilize_celery.telemetry.tally import Tally
from stabilize_celery.telemetry.telemetry import Telemetry


def everything() -> Tally:
    tally = Tally()
    tally.add([(metric.name, metric.labels, 0.3) for metric in CATALOGUE.values()])
    return tally


def test_every_metric_is_shown_under_the_names_that_the_catalogue_tells() -> None:
    """Dashboards and alert rules are held to these names."""
    shown = {
        sample.name
        for family in text_string_to_metric_families(Exporter(everything(), ()).text().decode())
        for sample in family.samples
    }

    assert shown == {name for metric in CATALOGUE.values() for name in metric.shown}


def test_a_histogram_counts_up_to_each_bound() -> None:
    """And all of them at the end."""
    tally = Tally()
    tally.add([("stabilize_start_latency_seconds", ("RunTask",), value) for value in (0.001, 0.02, 99_999.0)])
    lines = Exporter(tally, ()).text().decode()

    assert 'stabilize_start_latency_seconds_bucket{le="0.005",type="RunTask"} 1.0' in lines
    assert 'stabilize_start_latency_seconds_bucket{le="0.025",type="RunTask"} 2.0' in lines
    assert 'stabilize_start_latency_seconds_bucket{le="+Inf",type="RunTask"} 3.0' in lines


def test_what_sources_say_is_asked_at_each_scrape() -> None:
    """Gauges are as they are now."""
    answers = iter([1.0, 2.0])
    exporter = Exporter(Tally(), (lambda: [("stabilize_workers", (), next(answers))],))

    assert b"stabilize_workers 1.0" in exporter.text()
    assert b"stabilize_workers 2.0" in exporter.text()


def test_a_port_that_is_taken_is_told_with_its_setting() -> None:
    """The first one serves on."""
    first = Exporter(everything(), ())
    port = first.serve("127.0.0.1", 0)
    try:
        with pytest.raises(ConfigurationError, match="STABILIZE_METRICS_PORT"):
            Exporter(Tally(), ()).serve("127.0.0.1", port)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert b"stabilize_messages_total" in answer.read()
    finally:
        first.close()


def test_a_worker_whose_port_is_taken_goes_on_and_serves_once_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    """Its workflows matter more than its numbers: one warning, which says what to set."""
    first, second = Exporter(everything(), ()), Exporter(everything(), ())
    port = first.serve("127.0.0.1", 0)
    serving = Serving(lambda: second.serve("127.0.0.1", port), retry_s=0.01)
    try:
        serving.start()
        (warning,) = [record.getMessage() for record in caplog.records]
        first.close()

        assert "STABILIZE_METRICS_PORT of its own" in warning
        assert "goes on without" in warning
        assert serving.join(10)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert b"stabilize_messages_total" in answer.read()
    finally:
        serving.close()
        second.close()


def test_who_waits_for_its_port_can_end() -> None:
    """It tries no longer."""
    first = Exporter(Tally(), ())
    port = first.serve("127.0.0.1", 0)
    serving = Serving(lambda: Exporter(Tally(), ()).serve("127.0.0.1", port), retry_s=3600)
    try:
        serving.start()
        serving.close(within_s=10)

        assert serving.join(0)
    finally:
        first.close()


def test_nothing_is_made_unless_a_setting_asks() -> None:
    """Off, it costs nothing."""
    assert Telemetry.of(Settings()) is None


def test_what_is_asked_for_and_not_installed_is_told_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting, the package, the extra."""
    monkeypatch.setattr(optional.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(ConfigurationError, match=r"STABILIZE_METRICS_PORT needs prometheus_client.*\[metrics\]"):
        Telemetry.of(Settings(metrics_port=9_100))
    with pytest.raises(ConfigurationError, match=r"STABILIZE_TRACES needs opentelemetry.*\[otel\]"):
        Telemetry.of(Settings(traces="on"))


def test_traces_need_the_sdk_beside_the_api_which_others_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named, not what is there."""
    monkeypatch.setattr(optional.importlib.util, "find_spec", lambda name: None if name.endswith(".sdk") else name)

    with pytest.raises(ConfigurationError, match=r"^STABILIZE_TRACES needs opentelemetry\.sdk: pip .*\[otel\]"):
        Telemetry.of(Settings(traces="on"))


def test_the_page_names_its_extra_where_it_is_not_installed() -> None:
    """To who builds it into a program of their own."""
    code = (
        "import importlib.util as util, sys\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *given: None if name == 'starlette' else found(name, *given)\n"
        "from stabilize_celery.errors import ConfigurationError\n"
        "try:\n    from stabilize_celery.web import make_web_app\n"
        "except ConfigurationError as error:\n    print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert told == "the page needs starlette: pip install 'stabilize-celery[web]'\n"
