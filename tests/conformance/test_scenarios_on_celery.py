"""The 43 control-flow patterns on real Celery workers and a real Redis, once each, in every mode."""

from pathlib import Path

import pytest

from stabilize_celery.settings import MODES
from stabilize_celery.testing.conformance.celery_backend import CeleryBackend
from stabilize_celery.testing.conformance.report import told
from stabilize_celery.testing.conformance.scenario import load_scenarios

HERE = Path(__file__).parent


@pytest.mark.real
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", MODES)
def test_scenarios_hold_on_real_workers(mode: str) -> None:
    """One fleet runs every scenario; what is listed as not done yet does not count here."""
    paths = [HERE / "scenarios.json", HERE / "more_scenarios.json"]
    not_yet = set((HERE / "not_yet.txt").read_text().split())
    chosen = [(file, one) for file, path in enumerate(paths) for one in load_scenarios(path) if one.id not in not_yet]

    with CeleryBackend(paths, mode) as backend:
        verdicts = list(backend.verdicts(chosen, seeds=1))

    assert [told(verdict) for verdict in verdicts if not verdict.has_passed] == []
