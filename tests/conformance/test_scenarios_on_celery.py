"""The 43 control-flow patterns on real Celery workers and a real Redis, once each."""

from pathlib import Path

import pytest

from stabilize_celery.testing.conformance.celery_backend import CeleryBackend
from stabilize_celery.testing.conformance.report import told
from stabilize_celery.testing.conformance.scenario import load_scenarios

HERE = Path(__file__).parent


@pytest.mark.real
@pytest.mark.timeout(400)
def test_scenarios_hold_on_real_workers() -> None:
    """One fleet runs every scenario; what is listed as not done yet does not count here."""
    path = HERE / "scenarios.json"
    not_yet = set((HERE / "not_yet.txt").read_text().split())
    scenarios = [scenario for scenario in load_scenarios(path) if scenario.id not in not_yet]

    with CeleryBackend([path], [scenarios]) as backend:
        verdicts = list(backend.verdicts([(0, scenario) for scenario in scenarios], seeds=1))

    assert [told(verdict) for verdict in verdicts if not verdict.has_passed] == []
