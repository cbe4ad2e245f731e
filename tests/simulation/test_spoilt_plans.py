"""A workflow of which Redis holds something that can't be read any more: it can be ended, and leaves nothing behind."""

from __future__ import annotations

import pytest

from stabilize_celery.client.dead_letters import drop
from stabilize_celery.engine import outside, places
from stabilize_celery.engine.steps import Change, DeleteFields, SetFields
from tests.simulation.clinic import Clinic, clinic, gate
from tests.simulation.stories import stage, workflow

GARBAGE = b"\x91\x01"
SPOILT: dict[str, Change] = {
    "plan": SetFields(places.DEFINITION, {"s:a": GARBAGE}),
    "plan is gone": DeleteFields(places.DEFINITION, ("s:a",)),
    "context": SetFields(places.DEFINITION, {"x:a": b"\xc1"}),
    "plan of the whole": SetFields(places.DEFINITION, {"meta": GARBAGE}),
    "all of it": SetFields(places.DEFINITION, {"s:a": GARBAGE, "x:a": b"\xc1", "meta": GARBAGE}),
}


def after(patient: Clinic) -> None:
    """Nothing is left of it in the end, and nobody had to be asked."""
    simulation = patient.simulation
    simulation.drain(until_ms=2**43)
    assert simulation.store.dead_letters() == []
    assert list(simulation.store.owed()) == []


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_a_spoilt_workflow_is_cancelled_whole(spoilt: Change) -> None:
    """Who waits for what it holds goes on."""
    patient = clinic().start(gate("a", mutex_key="k"), stage("b", "a"))
    patient.run()
    patient.write(spoilt)
    waits = patient.simulation.start(workflow(stage("next", mutex_key="k")))

    patient.ask(outside.cancel, "", "ops")

    assert patient.simulation.finish(waits).status.name == "SUCCEEDED"
    after(patient)


def test_what_is_dropped_of_a_spoilt_workflow_ends_it_whole() -> None:
    """The message that can't be handled is given up; nothing else is left to give up."""
    patient = clinic().start(gate("a"), stage("b", "a"))
    patient.run()
    patient.write(SPOILT["all of it"])
    patient.ask(outside.signal, "a", "go", None)
    simulation = patient.simulation
    while not (letters := simulation.store.dead_letters()):
        assert simulation.step()

    assert drop(simulation.runtime, f"{patient.id}/{letters[0].name}")
    after(patient)
