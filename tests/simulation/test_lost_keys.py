"""A workflow whose encryption key is lost: it waits for whoever has the key; cancelled, it goes and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.engine.handler import FOR_KEY_HOLDERS_MS
from stabilize_celery.engine.sections import section_thread
from stabilize_celery.runtime.definitions import Definitions
from stabilize_celery.store.cipher import KeyRing
from stabilize_celery.store.vault import Vault
from tests.simulation.clinic import Clinic, clinic, gate
from tests.simulation.stories import stage, workflow

OURS, LOST = {"ours": b"o" * 32}, {"lost": b"l" * 32}
SHAPES: dict[str, Callable[[], list[Any]]] = {
    "has not begun": lambda: [stage("a"), stage("b", "a")],
    "waits": lambda: [gate("a"), stage("b", "a")],
    "waits in a mutex": lambda: [gate("a", mutex_key="k"), stage("b", "a")],
    "polls": lambda: [stage("a", does="wait", context={"duration_s": 10**9}), stage("b", "a")],
    "has a time-out": lambda: [stage("a", does="approval", context={"signal": "go", "stageTimeoutMs": 10**9})],
}


def uses(patient: Clinic, keys: dict[str, bytes]) -> None:
    """Let the fleet have these keys, and forget what it has read."""
    patient.simulation.store._vault = Vault(KeyRing(keys))
    patient.simulation.runtime.unit.definitions = Definitions()


def sealed(*stages: Any, begins: bool = True) -> Clinic:
    """A workflow whose key nobody has any more."""
    patient = clinic()
    uses(patient, LOST)
    patient.start(*stages)
    if begins:
        patient.run()
    uses(patient, OURS)
    return patient


def left(patient: Clinic) -> list[str]:
    """The keys that there are of it."""
    return sorted(key.decode() for key in patient.simulation.store._wire.scan("*") if patient.id.encode() in key)


def pass_time(patient: Clinic, ms: int) -> None:
    simulation = patient.simulation
    simulation.drain(until_ms=simulation.store.time_ms() + ms)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cancelled_one_goes_with_its_retention(shape: str) -> None:
    """As `doctor` advises. Who waits for what it holds goes on long before."""
    patient = sealed(*SHAPES[shape](), begins=shape != "has not begun")
    simulation = patient.simulation
    patient.ask(outside.cancel, "the key is lost", "ops")
    waits = simulation.start(workflow(stage("next", mutex_key="k")))

    pass_time(patient, 2 * FOR_KEY_HOLDERS_MS + simulation.settings.lock_look_ms)
    assert simulation.read(waits).status.name == "SUCCEEDED"
    pass_time(patient, simulation.settings.retention_ms + 2 * FOR_KEY_HOLDERS_MS)

    assert left(patient) == []
    assert list(simulation.store.owed()) == []
    assert simulation.store.dead_letters() == []


def test_a_section_is_given_up_with_the_workflow() -> None:
    """Which it was is sealed, too: what is known of it by its own name stays, and holds nobody up."""
    patient = sealed(gate("a", mutex_key="k", mutex_section="s"), stage("b", "a"))
    simulation = patient.simulation
    patient.ask(outside.cancel, "the key is lost", "ops")
    waits = simulation.start(workflow(stage("next", mutex_key="k")))

    pass_time(patient, simulation.settings.retention_ms + 3 * FOR_KEY_HOLDERS_MS + simulation.settings.lock_look_ms)

    assert simulation.finish(waits).status.name == "SUCCEEDED"
    assert [key for key in left(patient) if section_thread("s") not in key] == []
    assert patient.owed() == []


def test_one_whose_end_tells_why_goes_too() -> None:
    """The reason is sealed, and stands in the record that everybody looks at first."""
    patient = clinic()
    uses(patient, LOST)
    patient.start(gate("a"))
    patient.run()
    patient.ask(outside.cancel, "told under the lost key", "ops")
    uses(patient, OURS)

    pass_time(patient, patient.simulation.settings.retention_ms + 3 * FOR_KEY_HOLDERS_MS)

    assert left(patient) == []
    assert list(patient.simulation.store.owed()) == []


def test_whoever_has_the_key_clears_it_first() -> None:
    """Who lacks it does nothing for a while: it would give back less, and call no hooks."""
    patient = sealed(gate("a", mutex_key="k"), stage("b", "a"))
    patient.ask(outside.cancel, "", "ops")
    pass_time(patient, FOR_KEY_HOLDERS_MS // 2)
    assert patient.owed("Clear") == ["Clear"]

    uses(patient, {**OURS, **LOST})
    pass_time(patient, FOR_KEY_HOLDERS_MS // 2)

    assert patient.events("lock.released")
    assert patient.statuses == {"a": "CANCELED", "b": "SKIPPED"}


def test_while_it_runs_nothing_of_it_is_lost() -> None:
    """A worker without the key leaves all of it as it is; with the key it goes on."""
    patient = sealed(stage("a"), stage("b", "a"), begins=False)
    pass_time(patient, 60_000)
    assert patient.simulation.store.dead_letters() == []

    uses(patient, {**OURS, **LOST})

    assert patient.simulation.finish(patient.id).status.name == "SUCCEEDED"
