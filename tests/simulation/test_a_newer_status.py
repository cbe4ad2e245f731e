"""A workflow in a status that only a newer version knows: older workers leave it alone until one that knows it comes."""

from __future__ import annotations

import pytest

from stabilize_celery.client.why.explain import explain
from stabilize_celery.engine import outside, places
from stabilize_celery.engine.steps import SetFields
from stabilize_celery.errors import RecoveryError
from tests.simulation.clinic import Clinic, clinic, gate
from tests.simulation.stories import stage

DAY_MS = 24 * 3600 * 1000


def hibernating() -> Clinic:
    patient = clinic().start(gate("a"), stage("b", "a"))
    patient.run()
    patient.write(SetFields(places.WORKFLOW, {"status": "HIBERNATING"}))
    return patient


def test_it_outlives_every_retention_and_goes_on_later() -> None:
    """It has no end, so it has no retention; what is owed in it rests, and nothing of it is taken for damage."""
    patient = hibernating()
    patient.ask(outside.signal, "a", "go", None)
    simulation = patient.simulation

    simulation.drain(until_ms=simulation.store.time_ms() + DAY_MS)

    assert patient.surveyed(mends=True) == []
    assert simulation.store.dead_letters() == []
    patient.write(SetFields(places.WORKFLOW, {"status": "RUNNING"}))
    assert simulation.finish(patient.id).status.name == "SUCCEEDED"


@pytest.mark.parametrize("mends", [False, True])
def test_a_survey_says_nothing_about_it(mends: bool) -> None:
    """What is owed there, and what would have to be, is not known here."""
    patient = hibernating()

    assert patient.surveyed(mends=mends) == []


def test_who_asks_is_told_to_update() -> None:
    """And finds nothing of it changed."""
    patient = hibernating()

    with pytest.raises(RecoveryError, match="'HIBERNATING'"):
        patient.simulation.read(patient.id)
    reasons = explain(patient.simulation.store, patient.id, patient.simulation.settings)
    assert "stuck" not in {reason.kind for reason in reasons}
