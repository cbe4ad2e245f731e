"""The 43 control-flow patterns on real Celery workers and a real Redis: each with every message sent, and in one more mode.

All of them in every way where `CONFORMANCE_SEEDS` is set (`make conformance`). The simulator runs them in every mode.
"""

import os
from pathlib import Path

import pytest

from stabilize_celery.settings import CONTINUATION, FUSED, PER_MESSAGE
from stabilize_celery.testing.conformance.celery_backend import CeleryBackend
from stabilize_celery.testing.conformance.report import told
from stabilize_celery.testing.conformance.scenario import load_scenarios

HERE = Path(__file__).parent
EVEN, ODD = slice(0, None, 2), slice(1, None, 2)
TAKEN, DELIVERED = "taken", "delivered"
PARTS = {
    (PER_MESSAGE, DELIVERED): EVEN,
    (PER_MESSAGE, TAKEN): ODD,
    (FUSED, TAKEN): EVEN,
    (CONTINUATION, TAKEN): ODD,
}
"""Which scenarios run in a mode: what modes change is how messages travel, so neighbours, much alike, share them.

Messages that are delivered come to a process through Celery, each of them; what is taken it takes off the broker itself.
"""


@pytest.mark.real
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("mode", "way"), PARTS)
def test_scenarios_hold_on_real_workers(mode: str, way: str) -> None:
    """One fleet runs them all; what is listed as not done yet does not count here."""
    paths = [HERE / "scenarios.json", HERE / "more_scenarios.json"]
    not_yet = set((HERE / "not_yet.txt").read_text().split())
    chosen = [(file, one) for file, path in enumerate(paths) for one in load_scenarios(path) if one.id not in not_yet]
    part = slice(None) if os.environ.get("CONFORMANCE_SEEDS") else PARTS[mode, way]

    with CeleryBackend(paths, mode, takes=way == TAKEN) as backend:
        verdicts = list(backend.verdicts(chosen[part], seeds=1))

    assert [told(verdict) for verdict in verdicts if not verdict.has_passed] == []
