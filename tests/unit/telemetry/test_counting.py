"""What is counted when workflows run: a whole fleet in memory, with the observer that a worker has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import SetFields
from stabilize_celery.errors import TransientError
from stabilize_celery.models.messages import StartStage
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.verdicts import entry_key
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Transaction, partition_slot
from stabilize_celery.telemetry.catalogue import CATALOGUE
from stabilize_celery.telemetry.counting import CountingObserver
from stabilize_celery.telemetry.fleet_gauges import FleetGauges
from stabilize_celery.telemetry.tally import Count, Tally
from stabilize_celery.testing import Simulation
from tests.simulation.stories import stage, workflow


class Counts:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.tally = Tally()

    def add(self, counts: Sequence[Count]) -> None:
        self.tally.add(counts)

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        return {
            labels: series.count if CATALOGUE[found].buckets else series.total
            for found, labels, series in self.tally.read()
            if found == name
        }


def fail_once() -> Any:
    tries = Counter[str]()

    def work(stage: Any) -> dict[str, Any]:
        tries[stage.ref_id] += 1
        if tries[stage.ref_id] == 1 and stage.ref_id == "b":
            raise TransientError("not yet")
        return {}

    return work


def counted(flow: Workflow, tasks: dict[str, Any]) -> tuple[Simulation, Counts]:
    simulation, counts = Simulation(1, tasks), Counts()
    simulation.runtime.unit.observer = CountingObserver(counts)
    simulation.finish(simulation.start(flow))
    return simulation, counts


def test_deliveries_are_counted_by_type_and_outcome() -> None:
    """Each stage starts once; nothing failed, nothing was lost to others."""
    _, counts = counted(workflow(stage("a"), stage("b", "a")), {"work": fail_once()})
    messages = counts.of("stabilize_messages")

    assert messages["StartStage", "applied"] == 2
    assert messages["RunTask", "applied"] == 3
    assert {outcome for _, outcome in messages} <= {"applied", "nothing"}


def test_what_a_duplicate_does_is_nothing() -> None:
    """It is a delivery all the same."""
    simulation, counts = counted(workflow(stage("a")), {"work": lambda _: {}})
    before = counts.of("stabilize_messages").get(("StartStage", "nothing"), 0)

    simulation.runtime.handle(StartStage(workflow_id="simulated-1", ref_id="a", thread="t"))

    assert counts.of("stabilize_messages")["StartStage", "nothing"] == before + 1


def test_each_handled_message_has_a_latency() -> None:
    """As many as were applied: who finds nothing owed does not count."""
    _, counts = counted(workflow(stage("a"), stage("b", "a")), {"work": lambda _: {}})
    applied = counts.of("stabilize_messages")

    assert counts.of("stabilize_start_latency_seconds")["StartStage",] == applied["StartStage", "applied"]
    assert counts.of("stabilize_start_latency_seconds")["RunTask",] == applied["RunTask", "applied"]


def test_a_message_that_was_lost_has_waited_since_it_was_sent_first(monkeypatch: Any) -> None:
    """A broker that lost everything for 70 s shows: not only the moment since the last copy."""
    simulation, counts = Simulation(1, {"work": lambda _: {}}), Counts()
    simulation.runtime.unit.observer = CountingObserver(counts)
    back_us, bring = simulation.now_us + 70_000_000, simulation._deliver_later
    monkeypatch.setattr(
        simulation, "_deliver_later", lambda message: bring(message) if simulation.now_us >= back_us else None
    )

    simulation.finish(simulation.start(workflow(stage("a"))))

    (waited_s,) = (
        series.total
        for name, labels, series in counts.tally.read()
        if (name, labels) == ("stabilize_start_latency_seconds", ("StartStage",))
    )
    assert waited_s >= 70


def test_bodies_are_counted_by_how_they_ended() -> None:
    """With those that are tried again, by their type."""
    _, counts = counted(workflow(stage("a"), stage("b", "a")), {"work": fail_once()})

    assert counts.of("stabilize_tasks") == {("work", "SUCCEEDED"): 2, ("work", "RETRY"): 1}
    assert counts.of("stabilize_task_retries") == {("work",): 1}
    assert counts.of("stabilize_task_seconds") == {("work",): 3}


def test_ends_of_stages_and_workflows_are_counted() -> None:
    """Also those that end badly."""
    _, counts = counted(
        workflow(stage("a"), stage("b", "a", does="bad")), {"work": lambda _: {}, "bad": lambda _: 1 / 0}
    )

    assert counts.of("stabilize_stages_ended") == {("completed",): 1, ("failed",): 1}
    assert counts.of("stabilize_workflows_ended") == {("TERMINAL",): 1}


def test_a_handler_that_raises_counts_as_failed(monkeypatch: Any) -> None:
    """It is a bug, and what the alert asks about."""
    simulation, counts = Simulation(1, {"work": lambda _: {}}), Counts()
    simulation.runtime.unit.observer = CountingObserver(counts)
    simulation.start(workflow(stage("a")))

    def broken(message: Any) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(simulation.runtime, "_handled", broken)
    simulation.runtime.handle(StartStage(workflow_id="simulated-1", ref_id="a", thread="t"))

    assert counts.of("stabilize_messages") == {("StartStage", "failed"): 1}


def test_the_gauges_of_the_namespace_are_read_from_its_state() -> None:
    """Workflows by status, dead letters, workers, queues, waits."""
    simulation, _ = counted(workflow(stage("a")), {"work": lambda _: {}})
    simulation.start(
        {
            "stages": [
                {"ref_id": "a", "tasks": [{"name": "t", "implementing_class": "approval"}], "context": {"signal": "go"}}
            ]
        }
    )
    simulation.store.announce("w@h", {"queues": "stabilize.work\nother"})
    gauges = FleetGauges(simulation.store, simulation.settings, lambda queues: dict.fromkeys(queues, 3), walks=True)

    found = {(name, *labels): value for name, labels, value in gauges.read()}

    assert found["stabilize_up",] == 1
    assert found["stabilize_workflows", "SUCCEEDED"] == 1
    assert found["stabilize_workflows", "RUNNING"] == 1
    assert found["stabilize_workers",] == 1
    assert found["stabilize_consumers", "stabilize.work"] == 1
    assert found["stabilize_consumers", "stabilize.control"] == 0
    assert found["stabilize_queue_length", "stabilize.control"] == 3
    assert found["stabilize_dead_letters",] == found["stabilize_mutex_waiters",] == 0
    assert {name for name, *_ in found} <= set(CATALOGUE)


def test_the_oldest_owed_message_is_told_by_when_it_became_due() -> None:
    """Nobody delivers: what the start owes gets older."""
    simulation = Simulation(1, {"work": lambda _: {}})
    simulation.start(workflow(stage("a")))
    simulation.advance_us(90_000_000)
    gauges = FleetGauges(simulation.store, simulation.settings, lambda _: {})

    found = {name: value for name, _, value in gauges.read()}

    assert 89 < found["stabilize_oldest_owed_seconds"] < 92
    assert found["stabilize_overdue_seconds"] > 80


def test_a_message_that_stays_in_its_queue_gets_older_at_every_look(monkeypatch: Any) -> None:
    """The keeper looks at it more and more seldom; its age is told all the time, as an alert asks for minutes of it."""
    simulation = Simulation(1, {"work": lambda _: {}})
    monkeypatch.setattr(simulation, "publish", lambda _: None)
    simulation.start(workflow(stage("a")))
    simulation.pass_time(310_000)
    gauges = FleetGauges(simulation.store, simulation.settings, lambda _: {}, clock=lambda: simulation.now_ms / 1000)
    ages = []
    for _ in range(60):
        simulation.pass_time(5_000)
        ages += [value for name, _, value in gauges.read() if name == "stabilize_oldest_owed_seconds"]

    assert min(ages) > 300
    assert ages == sorted(ages)


def test_a_message_that_waits_behind_many_that_run_is_found() -> None:
    """Claims stand where messages stand that wait; however many there are, none of them waits."""
    simulation = Simulation(1, {"work": lambda _: {}}, settings=Settings(partitions=1))
    store = simulation.store
    for _ in range(300):
        simulation.start(workflow(stage("a")))
    _, due = store.first_due([0], 1_000)
    for entry in due[0]:
        claim = SetFields(entry_key(entry.workflow_id, entry.name), ENTRY.encode(own="w:1/1"))
        with store.session(partition_slot(0)) as session:
            session.commit(Transaction(changes=[claim]))
    simulation.start(workflow(stage("a")))
    simulation.advance_us(60_000_000)
    gauges = FleetGauges(store, simulation.settings, lambda _: {})

    (age,) = (value for name, _, value in gauges.read() if name == "stabilize_oldest_owed_seconds")
    assert 59 < age < 62


def test_a_timer_is_nothing_that_waits_for_a_worker() -> None:
    """Nor is what is to be forgotten, or looked at, at a time of its own."""
    simulation, _ = counted(workflow(stage("a")), {"work": lambda _: {}})
    simulation.start(workflow(stage("a", does="wait", context={"seconds": 3_600})))
    simulation.pass_time(60_000)
    gauges = FleetGauges(simulation.store, simulation.settings, lambda _: {})

    assert [value for name, _, value in gauges.read() if name == "stabilize_oldest_owed_seconds"] == [0.0]
